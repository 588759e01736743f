"""What is published is made aside and put in its place in one step: whoever looks finds the old or the new, whole."""

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

from pipelines.terminal import is_alive

PREFIX = ".publishing."  # Followed by the process's number.
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Of Linux: <fcntl.h> and <linux/fs.h>.


@contextlib.contextmanager
def aside(home: Path) -> Generator[Path, None, None]:
    """A folder beside what is published in `home`, gone at the end; what killed commands have left goes as well."""
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"{PREFIX}*"):
        number = left.name.removeprefix(PREFIX).partition(".")[0]
        if number.isdecimal() and not is_alive(int(number)):
            for old in left.glob("*.before"):  # Taken away, and nothing was put in its place yet.
                place = home / old.name.removesuffix(".before")
                if not place.exists():
                    old.rename(place)
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=f"{PREFIX}{os.getpid()}.") as scratch:
        yield Path(scratch)


def put(new: Path, place: Path) -> None:
    """Put a file or folder that was made aside in its place; what was there is put aside."""
    if new.is_file() or not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        new.replace(place)
        return
    if _exchanged(new, place):
        return
    before = new.with_name(f"{place.name}.before")
    place.rename(before)
    try:
        new.rename(place)
    except OSError:
        before.rename(place)
        raise


def _exchanged(a: Path, b: Path) -> bool:
    """Whether two folders have changed places, in one step: where the system knows no such step they have not."""
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        return rename(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0
    return False
