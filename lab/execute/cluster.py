"""A cluster of TensorFlow's: as many workers as TF_CONFIG names, on this machine or on several.

What it cannot do is keep to itself: TensorFlow's servers listen on all addresses of their machine, whatever TF_CONFIG
says, and do what anyone tells them who reaches them.
"""

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.core.run import Run
from lab.evidence.provenance import gpus
from lab.evidence.records import read_json, write_json
from lab.execute.subprocesses import end_with_parent
from lab.experiment import Experiment
from lab.experiments import load
from pipelines import batches, sources
from pipelines.errors import MachineError, UsageError
from pipelines.terminal import ENDED, INTERRUPTED, Ended, leave

SHAPE = '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'


SEED = 1
LINGER = 30.0  # Seconds, at most, that a worker waits for the others at the end.


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
        cluster, task = found["cluster"], found["task"]
        workers, index = cluster["worker"], task["index"]
        whole = set(cluster) == {"worker"} and task["type"] == "worker" and workers[index] and index >= 0
        ports = [int(address.rpartition(":")[2]) for address in workers]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        whole, ports = False, []
    if not whole or not all(0 < port < 65536 for port in ports):
        raise UsageError(f"TF_CONFIG must be like {SHAPE}, each worker with an index of its own, not {text!r}.")
    return index, workers


@contextlib.contextmanager
def loss_of_workers_noticed() -> Generator[None, None, None]:
    """Turn TensorFlow's errors about its cluster into one of a sentence.

    Raises:
        WorkerLostError: another worker is gone, or never came, or this one's server could not start.
    """
    import tensorflow as tf

    gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)
    try:
        yield
    except (*gone, tf.errors.DeadlineExceededError, tf.errors.UnknownError) as error:
        reason = (error.message or "").rpartition("}} ")[2].strip().splitlines() or ["no reason given"]
        raise WorkerLostError(
            "Another worker of the cluster is gone or has not come, and training can't go on without it: start all of "
            f"them again, and they go on after the last epoch that was saved. (TensorFlow says: {reason[0][:200]})"
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


def leave_together(folder: Path, index: int, workers: int) -> None:
    """Wait until all workers are through: one that left at once would take the last answer from a slower one.

    Each says so by a file in the folder that they share, and has removed that of an earlier training at its start.
    """
    _through(folder, index).touch()
    deadline = time.monotonic() + LINGER
    while time.monotonic() < deadline and not all(_through(folder, other).exists() for other in range(workers)):
        time.sleep(0.05)


def _through(folder: Path, index: int) -> Path:
    return folder / f"worker-{index}-is-through"


def follow(run: Run, model: Any, data: sources.Data, folder: Path, rows: Sequence[Sequence[float]]) -> dict[str, float]:
    """Log a training of other processes, from the models that it has left, and return the last one's scores.

    Args:
        model: compiled, and with the same layers.
        folder: where the models are, `epoch-0001.keras` and so on.
        rows: the loss and accuracy of each epoch, and whatever else.
    """
    validation = batches.evaluation(data.validation)
    for epoch in run.epochs(model, data, len(rows)):
        model.load_weights(folder / f"epoch-{epoch + 1:04}.keras")
        loss, accuracy = rows[epoch][:2]
        run.epoch(validation, loss=loss, accuracy=accuracy)
    return run.scores(model, data)


def join(
    name: str,
    build_strategy: Callable[[], Any],
    train: Callable[..., Sequence[Sequence[float]]],
    arguments: Sequence[str] | None = None,
) -> None:
    """Be the worker that TF_CONFIG says, with the recipe's usual flags, and end the process with its exit code.

    `train(strategy, data, config, seed, folder)` trains in the folder that all workers share, or goes on with what it
    finds there, and returns a row for each epoch that begins with its loss and its accuracy.
    """
    from lab.cli import exits

    try:
        if sys.platform.startswith("linux"):
            _let_a_child_go_on()
        given = list(sys.argv[1:] if arguments is None else arguments)
        print(_trained(load(name), build_strategy, train, given))
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
    """Return in a child process; this one waits for it, and ends at once when it is told to.

    While TensorFlow waits for the other workers it heeds no signal, nor lets Python do so. To be called before it has
    done anything.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is told to both.
        return
    try:
        _, status = os.waitpid(child, 0)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    code = os.waitstatus_to_exitcode(status)
    leave(code if code >= 0 else 128 - code)


def _trained(
    experiment: Experiment, build_strategy: Callable[[], Any], train: Callable[..., Any], arguments: list[str]
) -> str:
    """Train with the others, and return what came of it."""
    from lab.cli import commands, validate

    index, workers = own_task(os.environ["TF_CONFIG"])
    asked, config = commands.parse(experiment, arguments)[:2]
    folder = asked.logdir / experiment.name / "cluster"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"workers": len(workers), "config": asdict(config), "data": asdict(asked.data)}
    _check_same(folder / "settings.json", settings)
    _through(folder, index).unlink(missing_ok=True)
    print(
        f"Worker {index} of {len(workers)}: TensorFlow's server listens on port {workers[index].rpartition(':')[2]} of "
        "all addresses of this machine and does what anyone tells it, so let nobody else reach it. Waiting for the "
        "other workers.",
        file=sys.stderr,
        flush=True,
    )
    with loss_of_workers_noticed():
        strategy = build_strategy()  # Before anything else of TensorFlow, such as decoding images.
        validate.check_with_images(experiment, asked, config)
        data = sources.load(asked.data)
        saved = sorted(path.name for path in folder.glob("epoch-*"))
        if not agree(strategy, json.dumps([settings, data.digest, experiment.code, saved])):
            raise UsageError(
                f"The workers do not agree: all need the same flags, images and code, and must see what is in {folder}."
            )
        if index == 0:
            write_json(folder / "settings.json", settings)
        rows = train(strategy, data, config, SEED, folder)
        agree(strategy, "the last epoch is saved")
        leave_together(folder, index, len(workers))
    if not rows:
        return f"All {config.epochs} epochs were trained before. The model is in {folder}."
    loss, accuracy = rows[-1][:2]
    return f"Trained to epoch {config.epochs}: loss {loss:.4f}, accuracy {accuracy:.1%}. The model is in {folder}."


def _check_same(path: Path, settings: dict[str, Any]) -> None:
    """A folder has one training, with the settings that its first worker wrote down."""
    if path.exists() and read_json(path) != json.loads(json.dumps(settings)):
        raise UsageError(
            f"{path.parent} holds a training with other settings ({path.name} says which): name another --logdir, or "
            "give the same flags."
        )
