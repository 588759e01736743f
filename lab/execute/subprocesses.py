"""Processes of a recipe's own: for what a process can be only once, such as a worker of a cluster."""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

GRACE = 40.0  # Seconds for the others to end by themselves after one has failed; they notice within about ten.
SECONDS = 86400.0
START = "import sys; from lab.execute.subprocesses import answer; answer(*sys.argv[1:])"
LAST_LINES = 2000  # Characters of a log in which the last line is looked for.


def together(
    work: Callable[..., object],
    *arguments: object,
    environments: Sequence[Mapping[str, str]] = ({},),
    log: Path | None = None,
    seconds: float = SECONDS,
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
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as open_files:
        answers = [Path(folder) / f"answer-{number}" for number in range(len(environments))]
        home = Path(folder) if log is None else log.parent
        home.mkdir(parents=True, exist_ok=True)
        stem = "process" if log is None else log.stem
        logs = [home / f"{stem}-{number}.log" for number in range(len(environments))]
        running = []
        try:
            for environment, path_of_answer, path in zip(environments, answers, logs, strict=True):
                running.append(
                    subprocess.Popen(
                        [sys.executable, "-c", START, order, str(path_of_answer)],
                        env={**os.environ, **environment},
                        stdin=subprocess.PIPE,  # Closed when this process ends, however it does.
                        stdout=open_files.enter_context(path.open("a")),
                        stderr=subprocess.STDOUT,
                    )
                )
            complaint = _watch(running, logs, seconds)
        finally:
            for process in running:
                process.kill()
            for process in running:
                process.wait()
                if process.stdin:
                    process.stdin.close()
        if complaint:
            raise RuntimeError(complaint)
        return [json.loads(path_of_answer.read_text()) for path_of_answer in answers]


def _watch(running: Sequence[subprocess.Popen], logs: Sequence[Path], seconds: float) -> str:
    """Wait until all have ended, or one has failed and the others had their time; return what went wrong."""
    latest = time.monotonic() + seconds
    first: int | None = None
    while None in [process.poll() for process in running]:
        failed = [number for number, process in enumerate(running) if process.returncode]
        if failed and first is None:
            first, latest = failed[0], time.monotonic() + GRACE
        if time.monotonic() > latest:
            break
        time.sleep(0.05)
    failed = [number for number, process in enumerate(running) if process.returncode]
    if first is None and not failed:
        slow = any(process.returncode is None for process in running)
        return f"a process of its own took longer than {seconds:g} s and was ended" if slow else ""
    number = failed[0] if first is None else first
    code, whose = running[number].returncode, f"process {number} of {len(running)}"
    if code < 0:
        return f"{whose} was ended by signal {-code}"
    return f"{whose} failed: {_last_line(logs[number])}"


def _last_line(path: Path) -> str:
    text = path.read_text(errors="replace")[-LAST_LINES:]
    return (text.strip().splitlines() or ["nothing was printed"])[-1]


def answer(order: str, path: str) -> None:
    """Do what was ordered and write what it returned."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
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


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
