"""Where a command prints to: a terminal or a pipe that may be closed, full, or unable to show a character.

None of that is a reason to lose what a command does beside printing.
"""

import errno
import os
import sys
from types import TracebackType
from typing import Any

INTERRUPTED = 130


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
    """Let Ctrl-C end a command that has just begun in a word, where nothing else waits for it yet."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, trace)
            return
        sys.stdout.flush()
        os.write(2, b"\nStopped.\n")
        os._exit(INTERRUPTED)  # Python would else end itself by the signal.

    sys.excepthook = hook
