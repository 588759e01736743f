"""What a call takes of memory, in a process of its own: one that has trained before has memory left over."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable

from recipes.harness.running.memory import PeakMemory

SECONDS = 600


def memory_of(work: Callable[..., Callable[[], object]], *arguments: object) -> float:
    """MiB that the call of what `work(*arguments)` returns takes at most, above what was held before it.

    `work` is a function of a module, and its arguments are what JSON can hold: numbers, strings, lists of those.

    Raises:
        RuntimeError: the process failed, was ended by a signal (memory that is not there), or took too long.
    """
    order = json.dumps([work.__module__, work.__qualname__, arguments])
    command = [sys.executable, "-m", "recipes.harness.alone", order]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"the process that measures memory took longer than {SECONDS} s") from error
    if done.returncode < 0:
        raise RuntimeError(f"the process that measures memory was ended by signal {-done.returncode}")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise RuntimeError(f"the process that measures memory failed: {last}")
    return float(done.stdout.split()[-1])


def main(order: str) -> None:
    """Print the MiB of what was ordered."""
    module, name, arguments = json.loads(order)
    call = getattr(importlib.import_module(module), name)(*arguments)
    peak = PeakMemory()
    call()
    print(peak.mib())


if __name__ == "__main__":
    main(sys.argv[1])
