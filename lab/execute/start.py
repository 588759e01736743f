"""How worker processes start: forked where that is safe, spawned elsewhere, and without importing `__main__` again."""

import multiprocessing
import os
import signal
import sys
from multiprocessing import context, spawn
from pathlib import Path
from typing import Any

WORKER = "pebble_pool_worker"  # What pebble calls its processes.
_preparation_data = spawn.get_preparation_data


def _without_main(name: str) -> dict[str, Any]:
    """What `multiprocessing` tells a new process; a worker of ours is not told what `__main__` was.

    It would import it again. A script that calls `measure` outside `if __name__ == "__main__"` would so measure in
    every worker.
    """
    data = _preparation_data(name)
    if name == WORKER:
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
    return data


spawn.get_preparation_data = _without_main


def worker_context(gpus: int) -> context.BaseContext:
    """Workers are forked, on Linux, from one process that has imported TensorFlow and run nothing with it.

    A driver for GPUs may not be forked, and other systems can't, so there each worker imports TensorFlow for itself.
    """
    if gpus or not can_fork():
        return multiprocessing.get_context("spawn")
    start_forkserver()
    return multiprocessing.get_context("forkserver")


def can_fork() -> bool:
    """Whether this system has a process to fork workers from."""
    return sys.platform.startswith("linux") and "forkserver" in multiprocessing.get_all_start_methods()


def start_forkserver() -> None:
    """Start the process that workers are forked from: it imports TensorFlow, and runs nothing with it.

    Called early, it does so while the first process reads the flags, which saves some six seconds. Called again, it
    changes nothing.
    """
    from multiprocessing import forkserver, resource_tracker

    from lab.evidence import code_hash

    code_hash.shared_parts()  # Hash the files before that process imports them: its workers run these versions.
    forkserver.set_forkserver_preload(
        ["lab.execute.job", "keras", "lab.tensorboard.log", "scipy.special", "pipelines.no_exit_hooks"]
    )
    resource_tracker.ensure_running()  # It would let interruptions through again.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C would end it in a traceback.
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fork_early() -> None:
    """Start it where its workers will be needed: not with a GPU (whose driver may not be forked), by Ray, or for what
    is itself a worker of a cluster."""
    others = "ray" in sys.argv or "TF_CONFIG" in os.environ or Path("/proc/driver/nvidia").exists()
    if can_fork() and not others:
        start_forkserver()
