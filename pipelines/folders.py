"""Images of one's own: a folder for each class, PNG or JPEG files of any size in it.

They are found and decoded here; `sources` splits them.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.errors import RequestError

ENDINGS = (".png", ".jpg", ".jpeg")
PARTS = ("train", "validation", "test")
LEAST = 20  # Fewer images can't be split into three parts that tell anything.
AT_ONCE = 2**30  # Bytes of pixels; a larger set is decoded into a file.


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
    inside = {path.name for path in folder.iterdir() if path.is_dir()}
    divided = {"train", "test"} <= inside
    roots = {part: folder / part for part in PARTS if part in inside} if divided else {"train": folder}
    classes = sorted({path.name for root in roots.values() for path in root.iterdir() if _holds_images(path)})
    if not classes:
        raise RequestError(f"The folder {shown} holds no images: it needs a folder of PNG or JPEG files a class.")
    for name in classes:
        if not name.isprintable():
            raise RequestError(f"The folder name {name!r} in {shown} has a character that can't be printed: rename it.")
    if len(classes) < 2:
        raise RequestError(f"The folder {shown} has one class, {classes[0]!r}: there is nothing to tell apart.")
    parts = {
        part: [(path, label) for label, name in enumerate(classes) for path in _images_in(root / name)]
        for part, root in roots.items()
    }
    count = sum(map(len, parts.values()))
    if count < LEAST:
        raise RequestError(f"The folder {shown} has {count} images: at least {LEAST} are needed, five of each class.")
    return Listing(tuple(classes), parts)


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
        images = _room_for((len(files), size, size, 3))
        for i, (path, _) in enumerate(files):
            images[i] = decode(path, size)
        arrays[f"{part}_images"] = images
        arrays[f"{part}_labels"] = np.array([label for _, label in files], dtype=np.int32)
        arrays[f"{part}_ids"] = np.array([path.relative_to(folder).as_posix() for path, _ in files])
    return arrays


def decode(path: Path, size: int) -> np.ndarray:
    """One image uint8 (size, size, 3), resized bilinearly; grey ones get three equal channels.

    Raises:
        RequestError: the file is no image, is not whole, or has other pixels than 8-bit grey or RGB.
    """
    remedy = "convert it to 8-bit RGB or grey, or take it out"
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "L"):
                kind = {"P": "a palette", "RGBA": "an alpha channel", "LA": "an alpha channel", "CMYK": "CMYK colours"}
                pixels = kind.get(image.mode, f"pixels of kind {image.mode}")
                raise RequestError(f"The image {str(path)!r} has {pixels}: {remedy}.")
            if "transparency" in image.info:
                raise RequestError(f"The image {str(path)!r} has a transparent colour: {remedy}.")
            if _bits(path) > 8:
                raise RequestError(f"The image {str(path)!r} has 16 bits a channel: {remedy}.")
            whole = image.convert("RGB")
            whole = whole if whole.size == (size, size) else whole.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(whole)
    except RequestError:
        raise
    except Exception as error:  # Pillow raises many kinds for files that are not what their names say.
        raise RequestError(f"The file {str(path)!r} can't be read as an image: {remedy}.") from error


def _bits(path: Path) -> int:
    """Bits a channel: Pillow reads PNGs of 16 as if they had 8."""
    head = path.open("rb").read(26)
    return head[24] if head[:8] == b"\x89PNG\r\n\x1a\n" else 8


def _holds_images(path: Path) -> bool:
    return path.is_dir() and any(True for _ in _images_in(path))


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
            raise RequestError(f"{str(path)!r} is no file: take it out.")
    return files


def _room_for(shape: tuple[int, ...]) -> np.ndarray:
    """An array in memory, or in a temporary file where it would be too large."""
    if np.prod(shape) <= AT_ONCE:
        return np.empty(shape, np.uint8)
    return np.memmap(tempfile.TemporaryFile(), np.uint8, "w+", shape=shape)
