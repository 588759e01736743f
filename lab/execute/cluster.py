"""A cluster of TensorFlow's: as many workers as TF_CONFIG names, on this machine or on several.

What it cannot do is keep to itself: TensorFlow's servers listen on all addresses of their machine, whatever TF_CONFIG
says, and do what anyone tells them who reaches them.
"""

import contextlib
import hashlib
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

from lab.evidence.provenance import gpus
from lab.execute.subprocesses import end_with_parent
from lab.experiments import load
from pipelines import sources
from pipelines.errors import MachineError, UsageError
from pipelines.terminal import ENDED, INTERRUPTED, Ended, leave

SHAPE = '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
SEED = 1
LINGER = 3.0  # Seconds in which a slower worker fetches the last answer from one that is through.


class WorkerLostError(MachineError):
    """Another worker is gone, and the training can't go on without it."""


def limit_threads(count: int) -> None:
    """Let TensorFlow compute in so many threads, and each operation in one; to be called before anything else of it."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def workers_here(count: int, most: int) -> list[dict[str, str]]:
    """The environments of `count` workers on this machine: TF_CONFIG, with ports that are free just now.

    A single worker is no cluster, and needs no TF_CONFIG. Where there are less than `most` GPUs, as many as the largest
    comparison needs, none is used; else each of several workers sees one.
    """
    devices = len(gpus())
    without = {"CUDA_VISIBLE_DEVICES": "-1"} if devices < most else {}
    if count == 1:
        return [without]
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(devices)))).split(",")
    return [
        {
            "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}),
            **(without or {"CUDA_VISIBLE_DEVICES": visible[index]}),
        }
        for index in range(count)
    ]


def own_task(text: str) -> tuple[int, list[str]]:
    """This worker's number and all workers' addresses, as a TF_CONFIG says.

    Raises:
        UsageError: it is no TF_CONFIG of a cluster of workers.
    """
    try:
        found = json.loads(text)
        workers, task = found["cluster"]["worker"], found["task"]
        ports = [int(address.rpartition(":")[2]) for address in workers]
        whole = set(found["cluster"]) == {"worker"} and task["type"] == "worker" and 0 <= task["index"] < len(workers)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole, ports = False, []
    if not whole or not all(0 < port < 65536 for port in ports):
        raise UsageError(f"TF_CONFIG must be like {SHAPE}, each worker with an index of its own, not {text!r}.")
    return task["index"], workers


@contextlib.contextmanager
def loss_of_workers_noticed() -> Generator[None, None, None]:
    """Turn TensorFlow's errors about its cluster into one of a sentence.

    Raises:
        WorkerLostError: another worker is gone, or never came, or this one's server could not start.
    """
    from tensorflow import errors as tf

    gone = (tf.UnavailableError, tf.AbortedError, tf.CancelledError, tf.InternalError, tf.DeadlineExceededError)
    try:
        yield
    except (*gone, tf.UnknownError) as error:
        reason = (error.message or "").rpartition("}} ")[2].strip().partition("\n")[0][:200]
        raise WorkerLostError(
            "Another worker of the cluster is gone or has not come: start all of them again, and they go on after the "
            f"last epoch that was saved. (TensorFlow says: {reason})"
        ) from error


def agree(strategy: Any, about: str) -> bool:
    """Whether all workers have the same text; each waits for all."""
    import tensorflow as tf

    number = int.from_bytes(hashlib.sha256(about.encode()).digest()[:7], "big")

    @tf.function
    def of_all() -> Any:
        context = tf.distribute.get_replica_context
        found = strategy.run(lambda: context().all_gather(tf.constant([number], tf.int64), axis=0))
        return strategy.experimental_local_results(found)[0]

    return set(of_all().numpy().tolist()) == {number}


def join(name: str) -> None:
    """Be the worker that TF_CONFIG says, with the recipe's usual flags, and end the process with its exit code.

    Without TF_CONFIG this does nothing. The experiment's module has a `train(strategy, data, config, seed, folder)`
    that trains in the folder that all workers share, or goes on with what it finds there, and returns a row for each
    epoch that begins with its loss and its accuracy.
    """
    if "TF_CONFIG" not in os.environ:
        return
    from lab.cli import exits

    try:
        if sys.platform.startswith("linux"):
            _let_a_child_go_on()
        _train_with_others(name)
        code = 0
    except KeyboardInterrupt as interruption:
        code = ENDED if isinstance(interruption, Ended) else INTERRUPTED
    except BaseException as error:
        found = exits.say(error)
        if found is None:  # A mistake of ours: its traceback is what helps.
            traceback.print_exc()
        code = exits.FAILURE if found is None else found
    leave(code)  # TensorFlow's servers would wait for others, who may be gone.


def _let_a_child_go_on() -> None:
    """Return in a child process; this one waits for it, and takes it along where it is told to end.

    While TensorFlow waits for the other workers it heeds no signal, nor lets Python do so. To be called before it has
    done anything.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        leave(code if code >= 0 else 128 - code)
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is told to both.


def _train_with_others(name: str) -> None:
    from lab.cli import flags
    from lab.execute.invocation import check_with_images

    experiment = load(name)
    index, workers = own_task(os.environ["TF_CONFIG"])
    asked, config = flags.parse(experiment, sys.argv[1:])
    meant = json.dumps([len(workers), asdict(config), asdict(asked.data), experiment.code])
    folder = asked.logdir / name / f"cluster-{hashlib.sha256(meant.encode()).hexdigest()[:8]}"  # One training's.
    folder.mkdir(parents=True, exist_ok=True)
    print(
        f"Worker {index} of {len(workers)}: TensorFlow's server listens on port {workers[index].rpartition(':')[2]} of "
        "all addresses of this machine and does what anyone tells it, so let nobody else reach it. Waiting for the "
        "other workers.",
        file=sys.stderr,
        flush=True,
    )
    with loss_of_workers_noticed():
        strategy = experiment.recipe.build_strategy()  # Before anything else of TensorFlow, such as decoding images.
        check_with_images(experiment, asked, config)
        data = sources.load(asked.data)
        saved = sorted(file.name for file in folder.glob("epoch-*"))
        if not agree(strategy, json.dumps([meant, data.digest, saved])):
            raise UsageError(
                f"The workers do not agree: all need the same flags, images and code, and must see what is in {folder}."
            )
        rows = importlib.import_module(experiment.module).train(strategy, data, config, SEED, folder)
        agree(strategy, "the last epoch is saved")
        time.sleep(LINGER)
    if rows:
        loss, accuracy = rows[-1][:2]
        print(f"Trained to epoch {config.epochs}: loss {loss:.4f}, accuracy {accuracy:.1%}. The model is in {folder}.")
    else:
        print(f"All {config.epochs} epochs were trained before. The model is in {folder}.")
