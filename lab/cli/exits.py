"""How a command ends when something goes wrong: in which words, and with which exit code.

0 is done, 1 a failure, 2 usage, 130 Ctrl-C and 143 that it was told to end (`pipelines.terminal` has those two).
"""

import errno
import sys

from lab.evidence.records import EvidenceError, printable
from pipelines.errors import DataError, LibraryError, MachineError, RequestError, UsageError

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
        full = " The disk is full: free some space, then add --resume." if error.errno == errno.ENOSPC else ""
        return FAILURE, f"{error.filename or 'A file'} could not be written or read: {error.strerror or error}.{full}"
    return None, ""


def say(error: BaseException) -> int | None:
    """Print the sentence for an error, if there is one, and return its exit code; None for a mistake of ours."""
    code, sentence = explanation(error)
    if sentence:
        print(printable(sentence), file=sys.stderr)
    return code
