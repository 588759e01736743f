"""How worker processes start: forked where that is safe, spawned elsewhere, and without importing `__main__` again."""

import multiprocessing
import os
import sys
import threading
from multiprocessing import context, spawn
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # This is imported before anything else, and has to be quick.
    from lab.settings import Start

_this_thread = threading.local()
_preparation_data = spawn.get_preparation_data


def _without_main(name: str) -> dict[str, Any]:
    """What `multiprocessing` tells a new process; a worker of ours is not told what `__main__` was.

    It would import it again. A script that calls `measure` outside `if __name__ == "__main__"` would so measure in
    every worker. Processes that a reader starts, in whatever thread, are told as usual.
    """
    data = _preparation_data(name)
    if getattr(_this_thread, "starts_worker", False):
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
    return data


spawn.get_preparation_data = _without_main


def _start(process: Any, kind: Any) -> Any:
    _this_thread.starts_worker = True
    try:
        return kind._Popen(process)
    finally:
        _this_thread.starts_worker = False


class _Spawned(context.SpawnProcess):
    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802
        return _start(process, context.SpawnProcess)


class _SpawnContext(context.SpawnContext):
    Process = _Spawned


if sys.platform != "win32":

    class _Forked(context.ForkServerProcess):
        @staticmethod
        def _Popen(process: Any) -> Any:  # noqa: N802
            return _start(process, context.ForkServerProcess)

    class _ForkServerContext(context.ForkServerContext):
        Process = _Forked


def worker_context(gpus: int, start: "Start | None" = None) -> context.BaseContext:
    """Workers are forked, on Linux, from one process that has imported TensorFlow and run nothing with it.

    A driver for GPUs may not be forked, and other systems can't, so there each worker imports TensorFlow for itself.
    """
    if start == "spawn" or gpus or not can_fork():
        return _SpawnContext()
    start_forkserver()
    return _ForkServerContext()


def can_fork() -> bool:
    """Whether this system has a process to fork workers from."""
    return sys.platform.startswith("linux") and "forkserver" in multiprocessing.get_all_start_methods()


def start_forkserver() -> None:
    """Start the process that workers are forked from: it imports TensorFlow, and runs nothing with it.

    Called early, it does so while the first process reads the flags, which saves some six seconds. Called again, it
    changes nothing.
    """
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(
        ["lab.execute.job", "keras", "lab.tensorboard.log", "scipy.special", "pipelines.no_exit_hooks"]
    )
    forkserver.ensure_running()


def fork_early() -> None:
    """Start it where its workers will be needed: not with a GPU (whose driver may not be forked), by Ray, or for what
    is itself a worker of a cluster."""
    others = {"ray", "spawn"} & set(sys.argv) or "TF_CONFIG" in os.environ or Path("/proc/driver/nvidia").exists()
    if can_fork() and not others:
        start_forkserver()
