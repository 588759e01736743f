"""What a command finds around it: a terminal or a pipe that may be closed, full, or unable to show a character; signals
that end it; a folder for temporary files.

None of that is a reason to lose what a command does, or to leave anything behind.
"""

import errno
import os
import shutil
import signal
import sys
import tempfile
from multiprocessing import util
from pathlib import Path
from types import TracebackType
from typing import Any

from pipelines import scratch
from pipelines.errors import LibraryError

INTERRUPTED, ENDED = 130, 143
SCRATCH = "keras-recipes-"  # What names of temporary folders begin with.
LONGEST = 60  # Characters: processes talk through sockets in that folder, whose names may not be long.


class Ended(KeyboardInterrupt):
    """The command was told to end, by `kill` or since its terminal was closed: as with Ctrl-C, nothing is lost."""


class Tolerant:
    """A text stream that drops what can't be written, and remembers why."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                return int(self.stream.write(text))
            except OSError as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self.stream.flush()
            except OSError as error:
                self.error = error


def begin() -> None:
    """Make this process a command, once: its output, its signals, a temporary folder, and figures that are files."""
    if isinstance(sys.stdout, Tolerant):
        return
    settle()
    explain_interruption()
    own_scratch()
    os.environ["MPLBACKEND"] = "agg"  # Whatever the user's other programs draw on.


def settle() -> None:
    """Let this process print wherever its output goes: nowhere, to a full disk, to a terminal that knows only ASCII."""
    while True:  # What was closed would else be the number of the next file that is opened.
        number = os.open(os.devnull, os.O_RDWR)
        if number > 2:
            os.close(number)
            break
        os.set_inheritable(number, True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream: Any = getattr(sys, name)
        if isinstance(stream, Tolerant):
            continue
        if stream is None:
            stream = os.fdopen(number, "w", closefd=False)
        elif name == "stdout" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
        setattr(sys, name, Tolerant(stream))


def ending(code: int) -> int:
    """The exit code of a command that comes to `code`: a failure, with a sentence, if not all could be printed.

    Whoever reads a pipe may stop reading: that is no failure.
    """
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if error is None or error.errno == errno.EPIPE:
        return code
    print(f"Not all could be printed: {error.strerror}. What else was done is kept.", file=sys.stderr)
    return max(code, 1)


def explain_interruption() -> None:
    """Let Ctrl-C end a command that has just begun in a word, where nothing else waits for it yet, and `kill` as well.

    A library that can't be loaded is a sentence.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        short = "failed to map segment" in str(error) or issubclass(kind, MemoryError)
        if issubclass(kind, KeyboardInterrupt):
            said, code = "\nStopped.", ENDED if issubclass(kind, Ended) else INTERRUPTED
        elif issubclass(kind, LibraryError):
            said, code = str(error), 1
        elif short:
            said, code = f"A library could not be loaded ({error}): memory is short (see ulimit -v).", 1
        else:
            before(kind, error, trace)
            return
        os.write(2, f"{said}\n".encode())
        leave(code)  # Python would else end itself by the signal.

    sys.excepthook = hook
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # Under nohup it is ignored.
            signal.signal(number, _end)


def leave(code: int) -> None:
    """End this process now, whatever its threads and servers wait for, and leave no temporary folder behind."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    _leave_nothing()
    os._exit(code)


def _end(number: int, frame: Any) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # One is enough, but for whoever insists.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Ended


def own_scratch() -> None:
    """Give this command and its workers a temporary folder of their own, and take it away at the end.

    TensorFlow leaves files there in processes that end early. What commands have left that were killed goes, too.
    """
    try:
        home = Path(tempfile.gettempdir())
        for _ in scratch.abandoned(home, SCRATCH):
            pass
        if len(str(home)) + len(SCRATCH) > LONGEST:
            return
        folder, held = scratch.make(home, SCRATCH)
    except OSError:  # No room, or nowhere to write. Whoever needs it will say so.
        return
    os.environ.setdefault("RAY_TMPDIR", str(home))  # Its sockets have long names of their own.
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # Where it was is remembered.
    _folders[folder] = held
    util.Finalize(None, _leave_nothing, exitpriority=-200)  # After those of multiprocessing, which has files there.


_folders: dict[Path, Any] = {}  # And the open files that say that they are in use.


def _leave_nothing() -> None:
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)
