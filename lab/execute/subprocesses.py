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
import threading
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
LAST_LINES = 2000  # Characters of a log in which the last line is looked for.
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

    All of them have ended when this returns, and they end when the calling process does.

    Raises:
        RuntimeError: one failed, was ended by a signal (memory that is not there), or all took too long.
    """
    order = json.dumps([work.__module__, work.__qualname__, arguments])
    with tempfile.TemporaryDirectory() as scratch:
        home, stem = (Path(scratch), "process") if log is None else (log.parent, log.stem)
        home.mkdir(parents=True, exist_ok=True)
        logs = [home / f"{stem}-{number}.log" for number in range(len(environments))]
        answers = [Path(scratch) / f"answer-{number}" for number in range(len(environments))]
        with contextlib.ExitStack() as ending:
            running = [
                _started([order, str(answer)], environment, path, ending)
                for environment, answer, path in zip(environments, answers, logs, strict=True)
            ]
            _wait_for(running, logs, seconds)
        return [json.loads(path.read_text()) for path in answers]


def memory_of(work: Callable[..., Callable[[], object]], *arguments: object) -> float:
    """MiB that the call of what `work(*arguments)` returns takes at most, above what was held before it.

    It is made in a process of its own: one that has trained before has memory left over. `work` is a function of a
    module, and its arguments are what JSON can hold: numbers, strings, lists of those.

    Raises:
        RuntimeError: the process failed, was ended by a signal (memory that is not there), or took too long.
    """
    try:
        (mib,) = together(peak_of, work.__module__, work.__qualname__, arguments, seconds=MEMORY_SECONDS)
    except RuntimeError as error:
        raise RuntimeError(f"memory could not be measured: {error}") from error
    return mib


def _started(
    arguments: list[str], environment: Mapping[str, str], log: Path, ending: contextlib.ExitStack
) -> subprocess.Popen:
    """A process that `ending` ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,  # Closed when this process ends, however it does.
        stdout=ending.enter_context(log.open("a")),
        stderr=subprocess.STDOUT,
    )
    ending.enter_context(process)  # Closes its input, and waits.
    ending.callback(process.kill)
    return process


def _wait_for(running: Sequence[subprocess.Popen], logs: Sequence[Path], seconds: float) -> None:
    """Wait until all have ended, or one has failed and the others had their time to notice."""
    latest, first = time.monotonic() + seconds, None
    while None in [process.poll() for process in running] and time.monotonic() < latest:
        if first is None and (first := _failed(running)) is not None:
            latest = time.monotonic() + GRACE
        time.sleep(0.05)
    first = _failed(running) if first is None else first
    if first is not None:
        code, whose = running[first].returncode, f"process {first} of {len(running)}"
        ended = f"was ended by signal {-code}" if code < 0 else f"failed: {_last_line(logs[first])}"
        raise RuntimeError(f"{whose} {ended}")
    if any(process.returncode is None for process in running):
        raise RuntimeError(f"a process of its own took longer than {seconds:g} s and was ended")


def _failed(running: Sequence[subprocess.Popen]) -> int | None:
    """The number of a process that failed, the first one of them."""
    return next((number for number, process in enumerate(running) if process.returncode), None)


def _last_line(path: Path) -> str:
    text = path.read_text(errors="replace")[-LAST_LINES:]
    return (text.strip().splitlines() or ["nothing was printed"])[-1]


# In such a process.


def answer(order: str, path: str) -> None:
    """Do what was ordered and write what it returned."""
    end_with_parent()
    threading.Thread(target=_end_with_input, daemon=True).start()
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


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
