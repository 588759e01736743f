"""What is published is made aside and then put in its place: whoever looks finds the old or the new, whole."""

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Generator
from pathlib import Path

from pipelines import scratch

PREFIX = ".publishing."
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Of Linux: <fcntl.h> and <linux/fs.h>.


@contextlib.contextmanager
def aside(home: Path) -> Generator[Path, None, None]:
    """A folder beside what is published in `home`, gone at the end; what killed commands have left goes as well."""
    home.mkdir(parents=True, exist_ok=True)
    scratch.remove_abandoned(home, PREFIX)
    folder, held = scratch.make(home, PREFIX)
    try:
        (folder / "new").mkdir()
        yield folder / "new"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        held.release()


def put(new: Path, place: Path) -> None:
    """Put a file or folder that was made aside in its place; what was there is put aside.

    In one step, but for folders where the system can't exchange two: there it takes two, and between them a kill leaves
    the place empty until the next command puts the old one back.
    """
    if new.is_file() or not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        new.replace(place)
        return
    if _exchanged(new, place):
        return
    before = new.with_name(f"{place.name}.before")
    try:
        place.rename(before)
        new.rename(place)
    except BaseException:
        if before.exists() and not place.exists():
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
