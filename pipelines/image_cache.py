"""Decoded images, kept on disk so that each process need not decode them again.

In the folder that the variable KERAS_RECIPES_CACHE names, or else keras-recipes in the user's cache folder; deleting it
costs nothing but the time to decode. Where nothing can be written, images are decoded in each process.
"""

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

VERSION = 1  # Of what decoding yields.
AT_ONCE = 2**30  # Bytes of pixels that are decoded in memory. A larger set is decoded into a file.
CHECKED_BYTES = 2**29  # Files up to this size are hashed whenever they are read; larger ones after `forget`.

Arrays = dict[str, np.ndarray]


def folder() -> Path:
    """Where arrays are kept."""
    named = os.environ.get("KERAS_RECIPES_CACHE")
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else (Path(home) if home else Path.home() / ".cache") / "keras-recipes"


def get(key: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays that `make` once made for `key`, as they are on disk; made now where they are not, or not whole."""
    place = folder() / hashlib.sha256(f"{VERSION} {key}".encode()).hexdigest()[:24]
    found = _read(place)
    if found is not None:
        return found
    made = make()
    try:
        _write(place, made)
    except OSError:  # No home, a full disk, no permission.
        return made
    return _read(place) or made


def room_for(shape: tuple[int, ...]) -> np.ndarray:
    """An array uint8 of this shape, in memory, or in a temporary file where it would be too large.

    Raises:
        OSError: the disk is full.
    """
    if np.prod(shape) <= AT_ONCE:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:  # The array keeps it open.
        if hasattr(os, "posix_fallocate"):  # Else a full disk would end the process with a signal.
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
        else:
            file.truncate(int(np.prod(shape)))
        return np.memmap(file, np.uint8, "r+", shape=shape)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """A hash of the arrays' contents: 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        whole.update(f"{name} {array.dtype.str} {array.shape} {_digest_of(array)}".encode())
    return whole.hexdigest()[:16]


def forget() -> None:
    """Hash large files again the next time that they are read."""
    _checked.cache_clear()


def _digest_of(array: np.ndarray) -> str:
    name = getattr(array, "filename", None)
    if name is None or array.nbytes <= CHECKED_BYTES or not Path(str(name)).exists():
        return _sum(array)
    return _checked(str(name), Path(str(name)).stat().st_mtime_ns)


def _sum(array: np.ndarray) -> str:
    whole = hashlib.sha256()
    for start in range(0, len(array), 10_000):
        whole.update(np.ascontiguousarray(array[start : start + 10_000]).tobytes())
    return whole.hexdigest()


@functools.lru_cache(maxsize=64)
def _checked(path: str, changed: int) -> str:
    return _sum(np.load(path, mmap_mode="r", allow_pickle=False))


def _read(place: Path) -> Arrays | None:
    """The arrays in a folder; None where they are not all there, or not as they were written."""
    try:
        sums = json.loads((place / "sums.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in sums}
        whole = all(_digest_of(arrays[name]) == digest for name, digest in sums.items())
    except Exception:  # Whatever was left there by a loss of power, or put there by somebody.
        return None
    return arrays if whole and "classes" in arrays else None


def _write(place: Path, arrays: Arrays) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=".decoding."))
    try:
        for name, array in arrays.items():
            np.save(scratch / f"{name}.npy", array, allow_pickle=False)
        sums = {name: _sum(array) for name, array in arrays.items()}
        (scratch / "sums.json").write_text(json.dumps(sums), encoding="utf-8")
        if _read(place) is not None:  # Another process has been as quick.
            shutil.rmtree(scratch, ignore_errors=True)
            return
        shutil.rmtree(place, ignore_errors=True)
        scratch.replace(place)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
