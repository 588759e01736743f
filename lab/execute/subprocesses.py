"""Processes of an experiment's own: for what a process can be only once, such as a worker of a cluster."""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.core.memory import peak_of

GRACE = 40.0  # Seconds for the others to end by themselves after one has failed; they notice within about ten.
DAY = 86400.0
MEMORY_SECONDS = 600.0
START = "import sys; from lab.execute.subprocesses import answer; answer(*sys.argv[1:])"
PR_SET_PDEATHSIG = 1


def together(
    work: Callable[..., object],
    *arguments: object,
    environments: Sequence[Mapping[str, str]] = ({},),
    log: Path | None = None,
    seconds: float = DAY,
) -> list[Any]:
    """Call `work(*arguments)` in a new process for each of the environments, at the same time; return what they return.

    Args:
        work: a function of a module. Its arguments, and what it returns, are what JSON can hold.
        environments: variables that each process has over and above this one's.
        log: a file that what they print is added to, each process its own: "NAME-0.log" and so on beside it.
        seconds: how long all may take.

    All of them have ended when this returns, and on Linux they end when the calling process does.

    Raises:
        RuntimeError: one failed, was ended by a signal (memory that is not there), or all took too long.
    """
    order = json.dumps([work.__module__, work.__qualname__, arguments])
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as ending:
        answers = [Path(scratch) / f"answer-{number}" for number in range(len(environments))]
        home, stem = (Path(scratch), "process") if log is None else (log.parent, log.stem)
        home.mkdir(parents=True, exist_ok=True)
        logs, running = [home / f"{stem}-{number}.log" for number in range(len(environments))], []
        for environment, answer, path in zip(environments, answers, logs, strict=True):
            process = subprocess.Popen(
                [sys.executable, "-c", START, order, str(answer)],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=ending.enter_context(path.open("a")),
                stderr=subprocess.STDOUT,
            )
            ending.callback(process.wait)
            ending.callback(process.kill)
            running.append(process)
        _wait_for(running, logs, seconds)
        return [json.loads(path.read_text()) for path in answers]


def memory_of(work: Callable[..., Callable[[], object]], *arguments: object) -> float:
    """MiB that the call of what `work(*arguments)` returns takes at most, above what was held before it.

    It is made in a process of its own: one that has trained before has memory left over. `work` is a function of a
    module, and its arguments are what JSON can hold: numbers, strings, lists of those.

    Raises:
        RuntimeError: the process failed, was ended by a signal (memory that is not there), or took too long.
    """
    (mib,) = together(peak_of, work.__module__, work.__qualname__, arguments, seconds=MEMORY_SECONDS)
    return mib


def _wait_for(running: Sequence[subprocess.Popen], logs: Sequence[Path], seconds: float) -> None:
    """Wait until all have ended, or one has failed and the others had their time to notice."""
    deadline, first = time.monotonic() + seconds, None
    codes: list[int | None] = [None]
    while time.monotonic() < deadline:
        codes = [process.poll() for process in running]
        if first is None and any(codes):
            first, deadline = next(number for number, code in enumerate(codes) if code), time.monotonic() + GRACE
        if None not in codes:
            break
        time.sleep(0.05)
    if first is not None:
        code, printed = codes[first] or 0, logs[first].read_text(errors="replace").strip().splitlines()
        how = f"was ended by signal {-code}" if code < 0 else f"failed: {(printed or ['nothing was printed'])[-1]}"
        raise RuntimeError(f"process {first} of {len(running)} {how}")
    if None in codes:
        raise RuntimeError(f"a process of its own took longer than {seconds:g} s and was ended")


# In such a process.


def answer(order: str, path: str) -> None:
    """Do what was ordered and write what it returned."""
    end_with_parent()
    code = 0
    try:
        module, name, arguments = json.loads(order)
        found = getattr(importlib.import_module(module), name)(*arguments)
        Path(path).write_text(json.dumps(found))
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Servers of TensorFlow may wait for others that have gone already.


def end_with_parent() -> None:
    """On Linux, let the system end this process with its parent: while TensorFlow waits for the other workers of a
    cluster, no thread of Python's runs that could."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
