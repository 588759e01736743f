"""The beginning and the end of a command: its output, its signals, its temporary folder and its proxies."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from pipelines.errors import LibraryError

INTERRUPTED, ENDED = 130, 143  # Exit codes of a shell for SIGINT and SIGTERM.
SCRATCH = "keras-recipes-"  # The prefix of temporary folders.
LONGEST = 60  # Characters of a path. Worker processes have sockets below it, whose names may have 107.


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP: the command ends as it does for Ctrl-C, with another exit code."""


@functools.cache
def begin() -> None:
    """Prepare this process to be a command. A second call does nothing."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # A terminal without "×" shows "?".
    explain_interruption()
    try:
        Path.cwd()
    except FileNotFoundError:  # Libraries ask for it, too.
        raise LibraryError("The working folder has been deleted: change to one that is there.") from None
    own_scratch()
    os.environ["MPLBACKEND"] = "agg"  # Figures are files, whatever backend the user has set.


def keep_loopback_direct() -> None:
    """Exempt loopback from a proxy in the environment, for this process and those that it starts.

    Tuners, clusters and TensorBoard talk through 127.0.0.1. gRPC would send even that to a proxy, and wait for minutes.
    """
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        hosts = [host.strip() for host in (os.environ.get(name) or given).split(",") if host.strip()]
        if hosts != ["*"]:  # That exempts every host, but only if it stands alone.
            hosts += [host for host in ("127.0.0.1", "localhost", "::1") if host not in hosts]
        os.environ[name] = ",".join(hosts)


def ending(code: int) -> int:
    """Flush standard output and return the exit code of a command that comes to `code`.

    It is 1 with a sentence where not all could be printed. A reader of a pipe who has seen enough is no failure.
    """
    lost = say_lost_output()
    return code or int(lost is not None and not isinstance(lost, BrokenPipeError))


def say_lost_output() -> OSError | None:
    """Flush standard output. If that fails, say so once, and discard the rest: Python would flush again at its exit."""
    try:
        print(end="", flush=True)
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        if not isinstance(error, BrokenPipeError):
            print(f"Some output could not be printed: {error.strerror}. What was done is kept.", file=sys.stderr)
        return error
    return None


def explain_interruption() -> None:
    """End the process with a word for Ctrl-C, SIGTERM and SIGHUP, and with a sentence for a library that won't load."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if _told:  # A library may have made something else of it.
            kind = _told[0]
        if issubclass(kind, KeyboardInterrupt):
            said, code = "\nStopped.\n", ENDED if issubclass(kind, Ended) else INTERRUPTED
        elif issubclass(kind, LibraryError):
            said, code = f"{error}\n", 1
        elif issubclass(kind, MemoryError) or "failed to map segment" in str(error):  # What the dynamic linker says.
            said, code = f"A library could not be loaded ({str(error) or 'out of memory'}).\n", 1
        else:
            before(kind, error, trace)
            return
        with contextlib.suppress(OSError):
            os.write(2, said.encode())
        leave(code)  # Python would end itself with SIGINT, and wait for other threads.

    sys.excepthook = hook
    for number in {signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)}:  # Windows has no SIGHUP.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # nohup ignores SIGHUP.
            signal.signal(number, _end)


_told: list[type[KeyboardInterrupt]] = []  # What this process was told to end by.


def _end(number: int, frame: Any) -> None:
    _told.append(KeyboardInterrupt if number == signal.SIGINT else Ended)
    if number != signal.SIGINT:
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # A terminal that closes sends both.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # A second one ends the process at once.
    raise _told[-1]


def end_if_told() -> None:
    """Raise an interruption again that a library has swallowed while it was imported."""
    if _told:
        raise _told[0]


def leave(code: int) -> None:
    """End this process now, whatever its threads and servers wait for, and remove its temporary folder."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _remove_scratch()
    os._exit(code)


def own_scratch() -> None:
    """Give this command and its workers a temporary folder of their own, which is removed at the end.

    TensorFlow leaves files there when a process ends early.
    """
    try:
        home = tempfile.gettempdir()
        if len(home) + len(SCRATCH) > LONGEST:
            return
        folder = tempfile.mkdtemp(dir=home, prefix=SCRATCH)
    except OSError:  # No room, or nowhere to write. Whoever needs a temporary file will say so.
        return
    os.environ.setdefault("RAY_TMPDIR", home)  # Ray's sockets have long names of their own.
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    _own.append((os.getpid(), folder))


_own: list[tuple[int, str]] = []  # The process that made the folder, and the folder.


def _remove_scratch() -> None:
    for process, folder in _own:
        if process == os.getpid():  # And not a process that was forked from it.
            shutil.rmtree(folder, ignore_errors=True)


atexit.register(_remove_scratch)  # As early as this, since exit hooks run last to first: others have files there.
