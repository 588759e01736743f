"""Decoded images, kept on disk so that each process need not decode them again.

In the folder that the variable KERAS_RECIPES_CACHE names, or else keras-recipes in the user's cache folder; deleting it
costs nothing but the time to decode. Where nothing can be written, images are decoded in each process.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

VERSION = 1  # Of what decoding yields.
AT_ONCE = 2**30  # Bytes of pixels that are decoded in memory. A larger set is decoded into a file.

Arrays = dict[str, np.ndarray]


def folder() -> Path:
    """Where arrays are kept."""
    named = os.environ.get("KERAS_RECIPES_CACHE")
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else (Path(home) if home else Path.home() / ".cache") / "keras-recipes"


def get(key: str, make: Callable[[], Arrays]) -> tuple[Arrays, str]:
    """The arrays that `make` once made for `key`, and a hash of their contents: 16 hexadecimal digits.

    They are read from the disk, or made now where they are not there, or not whole.
    """
    place = folder() / hashlib.sha256(f"{VERSION} {key}".encode()).hexdigest()[:24]
    found = _read(place)
    if found is not None:
        return found
    made = make()
    sums = {name: _sum(array) for name, array in made.items()}
    try:
        _write(place, made, sums)
    except OSError:  # No home, a full disk, no permission.
        return made, _digest(made, sums)
    return _read(place) or (made, _digest(made, sums))


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


def _digest(arrays: Arrays, sums: dict[str, str]) -> str:
    """A hash of all but the notes."""
    whole = hashlib.sha256()
    for name in sorted(name for name in arrays if not name.startswith("notes")):
        whole.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape} {sums[name]}".encode())
    return whole.hexdigest()[:16]


def _sum(array: np.ndarray) -> str:
    whole = hashlib.sha256()
    for start in range(0, len(array), 10_000):
        whole.update(np.ascontiguousarray(array[start : start + 10_000]).tobytes())
    return whole.hexdigest()


def _read(place: Path) -> tuple[Arrays, str] | None:
    """The arrays in a folder and their hash; None where they are not all there, or not as they were written."""
    try:
        sums = json.loads((place / "sums.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in sums}
        if "classes" in arrays and all(_sum(array) == sums[name] for name, array in arrays.items()):
            return arrays, _digest(arrays, sums)
    except Exception:  # Whatever was left there by a loss of power, or put there by somebody.
        pass
    return None


def _write(place: Path, arrays: Arrays, sums: dict[str, str]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=".decoding."))
    try:
        for name, array in arrays.items():
            np.save(scratch / f"{name}.npy", array, allow_pickle=False)
        (scratch / "sums.json").write_text(json.dumps(sums), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        scratch.replace(place)  # Fails where another process has been as quick.
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
