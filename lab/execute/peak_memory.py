"""What a call takes of memory, in a process of its own: one that has trained before has memory left over."""

import importlib
from collections.abc import Callable

from lab.core.memory import PeakMemory
from lab.execute.subprocesses import together

SECONDS = 600


def memory_of(work: Callable[..., Callable[[], object]], *arguments: object) -> float:
    """MiB that the call of what `work(*arguments)` returns takes at most, above what was held before it.

    `work` is a function of a module, and its arguments are what JSON can hold: numbers, strings, lists of those.

    Raises:
        RuntimeError: the process failed, was ended by a signal (memory that is not there), or took too long.
    """
    try:
        (mib,) = together(peak_of, work.__module__, work.__qualname__, arguments, seconds=SECONDS)
    except RuntimeError as error:
        raise RuntimeError(f"memory could not be measured: {error}") from error
    return mib


def peak_of(module: str, name: str, arguments: list) -> float:
    """The same in this process."""
    call = getattr(importlib.import_module(module), name)(*arguments)
    peak = PeakMemory()
    call()
    return peak.mib()
