"""The reader's own images: a folder for each class, with PNG or JPEG files of any size.

They are found and decoded here; `sources` splits them.
"""

import hashlib
import itertools
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines import image_cache
from pipelines.errors import RequestError

ENDINGS = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")  # Pillow hands some others to programs that run what is in them.
PARTS = ("train", "validation", "test")
LEAST = 20  # Fewer images can't be split into three parts that tell anything.
MOST_PIXELS = 50_000_000  # A small file can hold a large image.
BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"%PDF": "PDF",
    b"<html": "HTML",
    b"<!doctype html": "HTML",
    b"version https://git-lfs": "Git LFS pointer",
}


@dataclass(frozen=True)
class Listing:
    """The files of a folder: class names in order, and for each part (file, class index) pairs in order."""

    classes: tuple[str, ...]
    parts: dict[str, list[tuple[Path, int]]]


def listing(folder: Path) -> Listing:
    """What is in `folder`: classes, or `train` and `test` (and `validation`) with the classes in each.

    Raises:
        RequestError: it is missing, empty, of one class or nearly so, or a name in it will not do.
    """
    shown = repr(str(folder))
    if not folder.is_dir():
        raise RequestError(f"There is no folder {shown}: name one that holds a folder for each class.")
    inside = _folders_in(folder)
    divided = {"train", "test"} <= inside
    roots = {part: folder / part for part in PARTS if part in inside} if divided else {"train": folder}
    named = {part: _folders_in(root) for part, root in roots.items()} if divided else {"train": inside}
    classes = sorted({name for part, names in named.items() for name in names if _images_in(roots[part] / name)})
    if not classes:
        raise RequestError(
            f"The folder {shown} has no folder of PNG or JPEG files for each class (or `train` and `test` with these). "
            f"It holds {_contents(folder)}."
        )
    for name in classes:
        if not name.isprintable():
            raise RequestError(f"The folder name {name!r} in {shown} has a character that can't be printed: rename it.")
    if len(classes) < 2:
        raise RequestError(
            f"The folder {shown} has PNG or JPEG files of one class only, {classes[0]!r}: two are needed. It holds "
            f"{_contents(folder)}."
        )
    parts = {
        part: [(path, label) for label, name in enumerate(classes) for path in _images_in(root / name)]
        for part, root in roots.items()
    }
    for files in parts.values():
        _check_links(folder, files)
    count = sum(map(len, parts.values()))
    if count < LEAST:
        raise RequestError(f"The folder {shown} has {count} images: {LEAST} are needed, and five of each class.")
    return Listing(tuple(classes), parts)


def _folders_in(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_dir()}


def _contents(folder: Path) -> str:
    """How many files of which endings are in a folder and in each of its folders, such as "3 .txt; in 'a' 25 .webp"."""
    inside = sorted(_folders_in(folder))
    said = [_counted(path for path in folder.iterdir() if not path.is_dir())]
    said += [
        f"in {name!r} {_counted(path for path in (folder / name).rglob('*') if not path.is_dir())}"
        for name in inside[:5]
    ]
    if len(inside) > 5:
        said.append(f"and {len(inside) - 5:,} more folders")
    return "; ".join(said)


def _counted(files: Iterable[Path]) -> str:
    endings = Counter(path.suffix.lower() or "without ending" for path in itertools.islice(files, 10_000))
    return ", ".join(f"{count:,} {ending!a}".replace("'", "") for ending, count in endings.most_common(4)) or "no files"


def _check_links(folder: Path, files: list[tuple[Path, int]]) -> None:
    """Refuse links out of the folder: who made it may not have other files of this machine drawn in figures."""
    home = folder.resolve()
    homes = {parent: parent.resolve() for parent in {path.parent for path, _ in files}}
    for path, _ in files:
        if path.is_symlink() or not homes[path.parent].is_relative_to(home):
            leads = path.resolve()
            if not leads.is_relative_to(home):
                raise RequestError(
                    f"{str(path)!r} is a link out of the folder, to {str(leads)!r}: put the file itself in its place."
                )


def fingerprint(found: Listing) -> str:
    """A hash of the files' names, sizes and times of change."""
    whole = hashlib.sha256(repr(found.classes).encode())
    for part, files in found.parts.items():
        for path, label in files:
            status = path.stat()
            whole.update(f"{part} {path!r} {label} {status.st_size} {status.st_mtime_ns}".encode())
    return whole.hexdigest()


def read(folder: Path, size: int) -> dict[str, np.ndarray]:
    """All images, resized to `size` × `size`: for each part images uint8 (n, size, size, 3), labels int32 (n,), ids.

    Raises:
        RequestError: as `listing`, or a file is no image that can be used.
    """
    found = listing(folder)
    arrays: dict[str, np.ndarray] = {"classes": np.array(found.classes)}
    for part, files in found.parts.items():
        images = image_cache.room_for((len(files), size, size, 3))
        for i, (path, _) in enumerate(files):
            images[i] = decode(path, size)
        arrays[f"{part}_images"] = images
        arrays[f"{part}_labels"] = np.array([label for _, label in files], dtype=np.int32)
        arrays[f"{part}_ids"] = np.array([path.relative_to(folder).as_posix() for path, _ in files])
    return arrays


def decode(path: Path, size: int) -> np.ndarray:
    """One image uint8 (size, size, 3), resized bilinearly; gray ones get three equal channels.

    Raises:
        RequestError: the file is no image, is not whole, or has other pixels than 8-bit gray or RGB.
    """
    remedy = "convert it to 8-bit RGB or gray, or take it out"
    smaller = f"make it smaller ({MOST_PIXELS:,} at most), or take it out"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # The limit here is a lower one.
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise RequestError(f"The image {str(path)!r} has {image.width} × {image.height} pixels: {smaller}.")
                if image.mode not in ("RGB", "L"):
                    kind = {"P": "a palette", "RGBA": "an alpha channel", "LA": "an alpha channel"}
                    pixels = {**kind, "CMYK": "CMYK colors"}.get(image.mode, f"pixels of kind {image.mode}")
                    raise RequestError(f"The image {str(path)!r} has {pixels}: {remedy}.")
                if "transparency" in image.info:
                    raise RequestError(f"The image {str(path)!r} has a transparent color: {remedy}.")
                if _bits(path) > 8:
                    raise RequestError(f"The image {str(path)!r} has 16 bits a channel: {remedy}.")
                whole = image.convert("RGB")
                whole = whole if whole.size == (size, size) else whole.resize((size, size), Image.Resampling.BILINEAR)
                return np.asarray(whole)
    except RequestError:
        raise
    except Image.DecompressionBombError as error:
        raise RequestError(f"The image {str(path)!r} has too many pixels: {smaller}.") from error
    except Exception as error:  # Pillow raises many kinds for files that are not what their names say.
        if isinstance(error, OSError) and error.errno:  # The file can't be read, whatever is in it.
            raise
        raise RequestError(
            f"The file {str(path)!r} {_what_it_is(path, error)}: take it out, or put a PNG or JPEG file in its place."
        ) from error


def _what_it_is(path: Path, error: Exception) -> str:
    """What is known of a file that Pillow has refused, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return "is empty"
    kind = next((kind for begin, kind in BEGINNINGS.items() if head.lstrip().lower().startswith(begin.lower())), "")
    if kind in FORMATS:
        return f"begins as a {kind} file, but can't be decoded ({type(error).__name__}: {str(error).splitlines()[0]})"
    return f"is a {kind} file" if kind else f"is no PNG or JPEG file, but begins with {head[:12]!r}"


def _bits(path: Path) -> int:
    """Bits a channel: Pillow reads PNGs of 16 as if they had 8."""
    head = path.open("rb").read(26)
    return head[24] if head[:8] == b"\x89PNG\r\n\x1a\n" else 8


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    )
    for path in files:
        if not path.name.isprintable():
            raise RequestError(f"The file name {path.name!r} has a character that can't be printed: rename it.")
        if not path.is_file():
            what = "a folder" if path.is_dir() else "neither a file nor a folder"
            raise RequestError(f"{str(path)!r} is {what}: take it out, or rename it.")
    return files
