"""Carries jobs out, side by side or on a Ray cluster, and survives what dies."""

import contextlib
import errno
import logging
import multiprocessing
import multiprocessing.connection
import os
import queue
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

import pebble

from lab.cli import start as startup
from lab.evidence.records import Record, explain
from lab.execute.job import Job, carry_out, failed
from lab.settings import Start
from pipelines.errors import MachineError, UsageError

# Each `fit` leaves 12 to 39 MB behind in its process, whatever is cleared.
RUNS_PER_WORKER = 12
NO_SHARED_MEMORY = "there is no room in /dev/shm, through which processes talk: make some (in a container: --shm-size)"
LOOKS_EVERY = 0.5  # Seconds.
MOST_STOPPED = 30.0  # Seconds that a worker may stand still (SIGSTOP, a debugger) while this process does not.
REACHES = 5.0  # Seconds, within which a cluster must answer.

Outcome = tuple[Job, list[Record]]
Started = Callable[[Job], None]


def side_by_side(
    work: list[Job], jobs: int, gpus: int, started: Started, start: Start | None = None
) -> Generator[Outcome, None, None]:
    """Do `work` in `jobs` worker processes, one to a GPU where there are some; yield each when it is done.

    A worker that dies takes its own job down, and is replaced; so does one that stands still for `MOST_STOPPED`. When
    the caller stops early, so do all workers.
    """
    marks = tempfile.mkdtemp(prefix="workers-")
    workers: queue.SimpleQueue[tuple[pebble.ProcessPool, Path]] = queue.SimpleQueue()
    context = _context(gpus, start)
    pools = [
        pebble.ProcessPool(
            max_workers=1,
            max_tasks=RUNS_PER_WORKER,
            initializer=_prepare,
            initargs=(slot if gpus else None, f"{marks}/{slot}"),
            context=context,
        )
        for slot in range(min(jobs, len(work)))
    ]
    for slot, pool in enumerate(pools):
        workers.put((pool, Path(marks, str(slot))))

    stopping = threading.Event()

    def do(job: Job) -> Outcome:
        pool, mark = workers.get()
        still, ended = 0.0, False
        try:
            started(job)
            future = pool.schedule(_do, args=[job])
            while not stopping.is_set():  # A pool that is stopped says nothing more of what was in flight.
                with contextlib.suppress(FutureTimeout):
                    return job, future.result(timeout=LOOKS_EVERY)
                # Counted in looks, so that Ctrl-Z, which stops this process as well, is no reason.
                still = still + LOOKS_EVERY if _stands_still(mark) else 0.0
                if still >= MOST_STOPPED and not ended:
                    os.kill(int(mark.read_text()), signal.SIGKILL)
                    ended = True
            return job, failed(job, "stopped")
        except pebble.ProcessExpired as error:
            if ended:
                return job, failed(job, f"its worker was stopped for {MOST_STOPPED:g} s by a signal, and was ended")
            return job, failed(job, f"its worker died ({_cause_of_death(error.exitcode)})")
        except CancelledError:
            return job, failed(job, "stopped")
        except OSError as error:
            no_semaphore = error.errno == errno.ENOSPC and error.filename is None
            return job, failed(job, NO_SHARED_MEMORY if no_semaphore else explain(error))
        except Exception as error:
            return job, failed(job, explain(error))
        finally:
            workers.put((pool, mark))

    threads = ThreadPoolExecutor(max(1, len(pools)))
    try:
        for future in as_completed([threads.submit(do, job) for job in work]):
            yield future.result()
    finally:
        stopping.set()
        threads.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.stop()
            pool.join()
        shutil.rmtree(marks, ignore_errors=True)


def _stands_still(mark: Path) -> bool:
    """Whether the process whose number a file holds is stopped, as far as the system tells."""
    try:
        status = Path("/proc", mark.read_text(), "stat").read_text()
    except (OSError, ValueError):
        return False
    return status.rpartition(")")[2].split()[0] in "Tt"


def on_ray(work: list[Job], jobs: int, gpus: int, started: Started) -> Generator[Outcome, None, None]:
    """Do `work` on the Ray cluster that RAY_ADDRESS names, or on a local one of `jobs` workers.

    Ray's servers listen on all of the machine's addresses and can't be told otherwise, so the local one takes orders
    from nobody who does not know a token that is made for it.

    Raises:
        ImportError: Ray is not installed.
        MachineError: nobody answers at that address.
    """
    local: dict[str, Any] = {}
    address = os.environ.get("RAY_ADDRESS", "local")
    if not starts_a_cluster() and address != "auto":
        _check_reached(address)
    if starts_a_cluster():
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        local = {"num_cpus": jobs, "_node_ip_address": "127.0.0.1"}
    import ray

    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **local)
        except ConnectionError as error:
            raise MachineError(f"No Ray cluster answers at RAY_ADDRESS={address}: start it, or unset that.") from error
    remote = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=0, max_calls=RUNS_PER_WORKER)(carry_out)
    waiting = {}
    try:
        for job in work:
            started(job)
            waiting[remote.remote(job)] = job
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done)
            try:
                yield job, ray.get(done)
            except ray.exceptions.RayError as error:
                yield job, failed(job, f"its worker died ({type(error).__name__})")
    finally:
        ray.shutdown()


def starts_a_cluster() -> bool:
    """Whether `on_ray` starts one of its own: no other is named."""
    return os.environ.get("RAY_ADDRESS", "local") in ("", "local")


def _check_reached(address: str) -> None:
    """Ray itself would try for two minutes before it says that nobody answers."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    host = host.strip("[]")
    if not (host and port.isdecimal() and int(port) < 65536):
        raise UsageError(f"RAY_ADDRESS must be HOST:PORT, ray://HOST:PORT, auto or local, not {address!r}.")
    try:
        socket.create_connection((host, int(port)), timeout=REACHES).close()
    except (OSError, UnicodeError) as error:  # Some names can't be any host's.
        raise MachineError(
            f"No Ray cluster answers at RAY_ADDRESS={address} ({error}): start it, or unset that variable."
        ) from error


def _context(gpus: int, start: Start | None) -> Any:
    """How workers come to be: forked, on Linux, from one process that has imported TensorFlow and run nothing with it.

    A driver for GPUs may not be forked, and other systems can't, so there each worker imports TensorFlow for itself.
    """
    can_fork = "forkserver" in multiprocessing.get_all_start_methods() and sys.platform.startswith("linux")
    if start == "spawn" or gpus or not can_fork:
        return multiprocessing.get_context("spawn")
    startup.start_forkserver()
    return multiprocessing.get_context("forkserver")


def _prepare(gpu: int | None, mark: str) -> None:
    """Set a new worker up: end with the parent, see one GPU at most, and leave its number in the file `mark`."""
    with contextlib.suppress(OSError):  # No room: then nobody sees whether it stands still.
        Path(mark).write_text(str(os.getpid()))
    tempfile.tempdir = os.environ["TMPDIR"] = str(Path(mark).parent)  # TensorFlow leaves files in it.
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])  # type: ignore[union-attr]
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _print_to(os.devnull)  # Until there is a job.
    if gpu is not None:
        see_only(gpu)


def _do(job: Job) -> list[Record]:
    """Do `job`, with all that is printed going to its log file."""
    _print_to(job.log)
    return carry_out(job)


def _print_to(path: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def see_only(gpu: int) -> None:
    """Use one of the machine's GPUs, by its position, and no more of its memory than is needed."""
    import tensorflow as tf

    device = tf.config.list_physical_devices("GPU")[gpu]
    tf.config.set_visible_devices(device, "GPU")
    tf.config.experimental.set_memory_growth(device, True)


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        hint = ", perhaps for want of memory" if exitcode == -9 else ""
        return f"ended by signal {-exitcode}{hint}"
    return f"exit code {exitcode}"
