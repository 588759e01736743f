"""What happens while Python still looks for the module of a command: it begins, and its workers' parent is started."""

import re
import sys
from multiprocessing import forkserver
from pathlib import Path

from pipelines import terminal


def start_forkserver() -> None:
    """Start the process that workers are forked from: it imports TensorFlow, and runs nothing with it.

    Called early, it does so beside the process that reads the flags, which saves some six seconds. Called again, it
    changes nothing.
    """
    forkserver.set_forkserver_preload(["lab.execute.job", "keras", "tensorflow", "tensorflow_datasets"])
    forkserver.ensure_running()


def fork_early() -> None:
    """Start it where its workers will be needed: on Linux, without a GPU (whose driver may not be forked) or Ray."""
    if (
        sys.platform.startswith("linux")
        and not {"ray", "spawn"} & set(sys.argv)
        and not Path("/proc/driver/nvidia").exists()
    ):
        start_forkserver()


if sys.argv[0] == "-m":  # A command begins: `python -m recipes` or `python -m recipes.NAME`.
    terminal.begin()
# While Python looks for the module of `python -m recipes.NAME`, before that imports Keras, argv begins with "-m".
if sys.argv[0] == "-m" and any(re.fullmatch(r"recipes\.\w+", argument) for argument in sys.orig_argv):
    fork_early()
