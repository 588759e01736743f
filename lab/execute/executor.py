"""Does jobs in worker processes, side by side, and survives what dies."""

import concurrent.futures
import errno
import itertools
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import filelock
import pebble

from lab.evidence.records import explain
from lab.evidence.schemas import Record
from lab.execute.job import Job, failed, run_job
from lab.execute.start import worker_context
from pipelines.errors import MachineError, UsageError

RUNS_PER_WORKER = 12  # Each `fit` leaves 12 to 39 MB behind in its process, whatever is cleared.
NO_SHARED_MEMORY = "There is no room in /dev/shm, through which processes talk: make some (in a container: --shm-size)."

Outcome = tuple[Job, list[Record]]
Result = TypeVar("Result")
Started = Callable[[Job], None]


def side_by_side(work: list[Job], workers: int, gpus: int, started: Started) -> Generator[Outcome, None, None]:
    """Do `work` in worker processes, one to a GPU where there are some; yield each job when it is done.

    A worker that dies takes its own job down, and is replaced. When the caller stops early, so do all workers.

    Raises:
        MachineError: processes can't talk to one another here.
    """
    waiting = iter(work)
    running: dict[concurrent.futures.Future, Job] = {}
    with tempfile.TemporaryDirectory(prefix="workers-", ignore_cleanup_errors=True) as scratch:
        pool = pebble.ProcessPool(
            max_workers=min(workers, len(work)),
            max_tasks=RUNS_PER_WORKER,
            initializer=_prepare,
            initargs=(scratch, gpus),
            context=worker_context(gpus),
        )

        def begin(count: int) -> None:
            """The pool holds as many jobs as it has workers, so that those that it holds have begun."""
            for job in itertools.islice(waiting, count):
                started(job)
                running[pool.schedule(_work, args=[job])] = job

        try:
            begin(workers)
            while running:
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                begin(len(done))
                for future in done:
                    job = running.pop(future)
                    yield job, _records(future, job)
        except OSError as error:
            if error.errno == errno.ENOSPC and error.filename is None:  # Of a semaphore.
                raise MachineError(NO_SHARED_MEMORY) from error
            raise
        finally:
            pool.stop()
            pool.join()


def apart(what: str, work: Callable[..., Result], *arguments: object, gpus: int = 0) -> Result:
    """Call a function of a module in a worker process of its own, which then ends; what it prints is not shown.

    Raises:
        UsageError: the process ended before the function did; the sentence begins with `what`.
        Exception: whatever the function raised.
    """
    with tempfile.TemporaryDirectory(prefix="workers-", ignore_cleanup_errors=True) as scratch:
        context = worker_context(gpus)
        pool = pebble.ProcessPool(max_workers=1, initializer=_prepare, initargs=(scratch, gpus), context=context)
        try:
            return pool.schedule(work, args=arguments).result()
        except pebble.ProcessExpired as error:
            raise UsageError(f"{what}: the process that tried it ended ({_cause_of_death(error.exitcode)}).") from error
        finally:
            pool.stop()
            pool.join()


def _records(future: concurrent.futures.Future, job: Job) -> list[Record]:
    try:
        return future.result()
    except pebble.ProcessExpired as error:
        return failed(job, f"its worker died ({_cause_of_death(error.exitcode)})")
    except Exception as error:  # What was done can't be sent back, say.
        return failed(job, explain(error))


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"ended by signal {-exitcode}{', probably out of memory' if exitcode == -9 else ''}"
    return f"exit code {exitcode}"


# In a worker.


def _prepare(scratch: str, gpus: int) -> None:
    """Set a new worker up: end with the first process, print nothing yet, and see one GPU of its own at most."""
    tempfile.tempdir = os.environ["TMPDIR"] = scratch  # TensorFlow leaves files in it.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    leave = os._exit
    # Pebble would wait for ever for what a worker that ends with 0 was to do.
    os._exit = lambda status: leave(status or 1)
    # A worker that has done its share may end with 0. Finalizers run only at such an end.
    multiprocessing.util.Finalize(None, setattr, args=(os, "_exit", leave), exitpriority=1)
    _print_to(os.devnull)
    if gpus:
        see_only(take_gpu(Path(scratch), gpus))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    multiprocessing.connection.wait([parent.sentinel])  # type: ignore[union-attr]
    os._exit(1)


def _work(job: Job) -> list[Record]:
    """Do `job`, with all that is printed going to its log file."""
    _print_to(job.log)
    return run_job(job)


def _print_to(path: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


_held: list[filelock.FileLock] = []  # The lock on this worker's GPU, which the system takes back when it ends.


def take_gpu(scratch: Path, gpus: int) -> int:
    """The position of a GPU that no other worker has. One that ended frees its own, however it ended."""
    while True:
        for gpu in range(gpus):
            lock = filelock.FileLock(scratch / f"gpu-{gpu}", blocking=False)
            try:
                lock.acquire()
            except filelock.Timeout:
                continue
            _held.append(lock)
            return gpu
        time.sleep(0.1)


def see_only(gpu: int) -> None:
    """Use one of the machine's GPUs, by its position, and no more of its memory than is needed."""
    import tensorflow as tf

    device = tf.config.list_physical_devices("GPU")[gpu]
    tf.config.set_visible_devices(device, "GPU")
    tf.config.experimental.set_memory_growth(device, True)
