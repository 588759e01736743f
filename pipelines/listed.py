"""Files with classes, wherever they were listed, and the arrays that are made of them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines import decoding
from pipelines.errors import RequestError
from pipelines.names import name_of, shown

LEAST = 20  # Fewer images can't be split into three parts that tell anything.


@dataclass(frozen=True)
class Listing:
    """Files by part, as (file, class index) pairs in order, with the names of the classes and what a reader is told."""

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, list[tuple[Path, int]]]
    notes: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """The names of all files, part by part, as `name_of` gives them."""
        return [name_of(path.relative_to(self.root)) for files in self.parts.values() for path, _ in files]


def check_count(where: Path, count: int) -> None:
    """Raise RequestError where there are too few images to learn from."""
    if count < LEAST:
        raise RequestError(f"{shown(where)} has {count} images: {LEAST} are needed, and five of each class.")


def fingerprint(found: Listing) -> str:
    """A hash of the files' names, sizes and times of change.

    `cp -p` keeps a file's size and mtime, but not its ctime.
    """
    whole = hashlib.sha256(repr(found.classes).encode())
    for part, files in found.parts.items():
        for path, label in files:
            status = path.stat()
            whole.update(f"{part} {path!r} {label} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
    return whole.hexdigest()


def read(found: Listing, size: int) -> dict[str, np.ndarray]:
    """All images, resized to `size` × `size`: for each part images uint8 (n, size, size, 3), labels int32 (n,), ids.

    "notes" are sentences on files that were converted, and "notes_bad" is about those that can't be used.
    """
    files = [one for of_part in found.parts.values() for one in of_part]
    names = found.names()
    images, bad, notes = decoding.decode_all((path for path, _ in files), len(files), size)
    good = np.array([place for place in range(len(files)) if place not in bad], dtype=int)
    images = decoding.keep_only(images, good)
    labels = np.array([label for _, label in files], dtype=np.int32)[good]
    ids = np.array(names)[good]
    arrays: dict[str, np.ndarray] = {"classes": np.array(found.classes), "notes": np.array(notes, dtype=str)}
    arrays["notes_bad"] = decoding.bad_files(bad, names)
    part_of = np.repeat(np.arange(len(found.parts)), [len(of_part) for of_part in found.parts.values()])[good]
    for number, part in enumerate(found.parts):
        places = slice(*np.searchsorted(part_of, [number, number + 1]))
        arrays |= {f"{part}_images": images[places], f"{part}_labels": labels[places], f"{part}_ids": ids[places]}
    return arrays


def settle(found: Listing, arrays: dict[str, np.ndarray], skip_bad: bool) -> dict[str, np.ndarray]:
    """What was read of a listing, with all of its notes.

    Raises:
        RequestError: files can't be used and are not to be skipped, or too few are left.
    """
    arrays = decoding.settle(arrays, shown(found.root), skip_bad)
    check_count(found.root, sum(len(arrays[f"{part}_labels"]) for part in found.parts))
    return {**arrays, "notes": np.array([*found.notes, *arrays["notes"]], dtype=str)}
