"""Temporary folders of a process, which the next one takes away if that was killed, and only then."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

HELD = ".held"  # Locked as long as the process lives. Numbers of processes would tell nothing between containers.


def make(home: Path, prefix: str) -> tuple[Path, IO[str]]:
    """A new folder in `home`, and the file whose closing gives it free.

    Raises:
        OSError: it can't be made.
    """
    folder = Path(tempfile.mkdtemp(dir=home, prefix=prefix))
    held = (folder / HELD).open("w")
    with contextlib.suppress(OSError):  # A file system without locks: then nobody takes the folder away.
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, held


def abandoned(home: Path, prefix: str) -> Iterator[Path]:
    """The folders that killed processes have left in `home`; each is removed when the next is asked for."""
    for folder in home.glob(f"{prefix}*"):
        if folder.is_symlink():
            continue
        with contextlib.suppress(OSError), (folder / HELD).open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Fails where its process lives.
            if os.fstat(held.fileno()).st_nlink:  # And nobody else has just removed it.
                yield folder
                shutil.rmtree(folder, ignore_errors=True)
