"""Temporary folders that are locked while their process lives, so that the next process can remove what is left."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import filelock

HELD = ".held"  # The lock. Process ids would not do: containers that share a folder have their own.


def make(home: Path, prefix: str) -> tuple[Path, filelock.FileLock]:
    """Return a new folder in `home`, and the lock that keeps it while it is held.

    Raises:
        OSError: it can't be made.
    """
    folder = Path(tempfile.mkdtemp(dir=home, prefix=prefix))
    lock = filelock.FileLock(folder / HELD, thread_local=False)
    with contextlib.suppress(OSError, NotImplementedError):  # The file system has no locks.
        lock.acquire(timeout=0)
    return folder, lock


def remove_abandoned(home: Path, prefix: str) -> None:
    """Remove the folders of `make` in `home` whose processes are gone."""
    for folder in home.glob(f"{prefix}*"):
        held = folder / HELD
        if folder.is_symlink() or not held.is_file():
            continue
        with contextlib.suppress(OSError, NotImplementedError), filelock.FileLock(held).acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
