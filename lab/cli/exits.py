"""How a command ends when something goes wrong: in which words, and with which exit code.

0 is done, 1 a failure, 2 usage, 130 Ctrl-C and 143 that it was told to end (`pipelines.terminal` has those two).
"""

import errno
import sys

from lab.evidence.records import EvidenceError, printable
from pipelines.errors import DataError, LibraryError, MachineError, RequestError, UsageError
from pipelines.terminal import say_lost_output

FAILURE, USAGE = 1, 2


def explanation(error: BaseException) -> tuple[int | None, str]:
    """Exit code and sentence for what a user can mend; no code for anything else."""
    if isinstance(error, SystemExit):  # tyro has printed why.
        return (error.code if isinstance(error.code, int) else FAILURE if error.code else 0), ""
    if isinstance(error, (UsageError, RequestError)):
        return USAGE, str(error)
    if isinstance(error, (DataError, EvidenceError, MachineError, LibraryError)):
        return FAILURE, str(error)
    if isinstance(error, MemoryError):
        return FAILURE, "There is not enough memory: ask for less at a time, such as --jobs 1."
    if isinstance(error, (ConnectionError, TimeoutError)) and error.filename is None:
        return FAILURE, "" if isinstance(error, BrokenPipeError) else f"A connection failed ({error}): try again."
    if isinstance(error, OSError):
        why = "the disk is full, so free some space" if error.errno == errno.ENOSPC else error.strerror or str(error)
        return FAILURE, f"{error.filename or 'A file'} could not be written or read: {why}."
    return None, ""


def say(error: BaseException, about: str = "") -> int | None:
    """Print the sentence for an error, if there is one, and return its exit code; None for a mistake of ours.

    The sentence begins with `about`.
    """
    if isinstance(error, OSError) and say_lost_output():
        return FAILURE
    code, sentence = explanation(error)
    if sentence:
        print(printable(f"{about}{sentence}"), file=sys.stderr)
    return code
