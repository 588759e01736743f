"""Image files to arrays: the one decoder and the one resize, for folders, tables and sets of tensorflow-datasets."""

import io
import itertools
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, WebPImagePlugin  # noqa: F401  Pillow loads the last two when asked.
from rich.console import Console
from rich.progress import Progress

from pipelines import image_cache
from pipelines.errors import RequestError
from pipelines.names import shown

VERSION = 2  # Of the pixels that this module makes of a file. What is kept of an older version is not used.
# Those that Pillow reads by code of its own and of the libraries in it. It hands some others to programs. A phone's MPO
# file is a JPEG with more pictures after it.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MOST_PIXELS = 50_000_000  # A small file can hold a large image.
MOST_THREADS = 8  # Each may hold an image of that size several times over.
AT_A_TIME = 1_000  # Files that wait for a thread.
LISTED = 100  # Bad files in one sentence, where others are good.
FEW_LISTED = 10
DARK = 32  # Of 256: 16-bit images that are nowhere as bright use few of their bits.
BACKGROUND = "white"
ORIENTATION = 0x0112  # The tag of EXIF.
TURNED = range(2, 9)
SIXTEEN = "reduced from 16 to 8 bits a channel"
BEGINNINGS = {  # What files are by their first bytes, in lower case.
    b"\x89png\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"gif8": "GIF",
    b"bm": "BMP",
    b"ii*\0": "TIFF",
    b"mm\0*": "TIFF",
    b"ii+\0": "TIFF",
    b"mm\0+": "TIFF",
    b"\0\0\0\x0cjp  ": "JPEG 2000",
    b"\xffo\xffq": "JPEG 2000",
    b"\0\0\0\x0cjxl ": "JPEG XL",
    b"\xff\n": "JPEG XL",
    b"%pdf": "PDF",
    b"%!ps": "PostScript",
    b"8bps": "PSD",
    b"pk\3\4": "zip",
    b"<svg": "SVG",
    b"<html": "HTML",
    b"<!doctype html": "HTML",
    b"version https://git-lfs": "Git LFS pointer",
}
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class BadImageError(Exception):
    """A file that can't be used, in words that go on after its name."""


def decode(file: Path | bytes, size: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """An image uint8 (size, size, 3), resized bilinearly, and what was done to it that a reader may want to know.

    `file` is where it is, or its content.

    Raises:
        BadImageError: it can't be used.
    """
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadImageError(
                    f"has {image.width:,} × {image.height:,} pixels, and {MOST_PIXELS:,} are the most that are read"
                )
            done = _what_is_lost(image)
            image.draft(None, (2 * size, 2 * size))  # A JPEG is decoded at a half to an eighth of its size.
            if image.getexif().get(ORIENTATION) in TURNED:
                ImageOps.exif_transpose(image, in_place=True)
                done.append("turned as their EXIF data say")
            whole = _rgb(image, done)
            whole = whole if whole.size == (size, size) else whole.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(whole), tuple(done)
    except (BadImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise BadImageError(f"has too many pixels: {MOST_PIXELS:,} are the most that are read") from error
    except Exception as error:  # Pillow raises many kinds for files that are not what their names say.
        if isinstance(error, OSError) and error.errno:
            raise BadImageError(f"can't be opened ({error.strerror})") from error
        raise BadImageError(_what_it_is(file, error)) from error


def _what_is_lost(image: Image.Image) -> list[str]:
    """What of an image does not get into 8 bits a channel of one picture, as far as its header says."""
    lost = []
    if ";16" in repr(getattr(image, "tile", "")) or image.mode.startswith("I;16"):
        lost.append(SIXTEEN)
    if image.format in ("GIF", "PNG", "WEBP", "TIFF") and getattr(image, "is_animated", False):
        lost.append("with several pages or pictures, of which the first is used")
    return lost


def _rgb(image: Image.Image, done: list[str]) -> Image.Image:
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if image.mode in ("I", "F") and not sixteen:
        raise BadImageError(f"has pixels of kind {image.mode}, whose largest value is not known: save it with 8 bits")
    if sixteen:
        if "transparency" in image.info:
            raise BadImageError("has 16 bits and a transparent gray: save it with 8 bits")
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "CMYK":
        done.append("converted from CMYK without a color profile")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            done.append(f"with transparency, put on {BACKGROUND}")
            image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    return image.convert("RGB")


SPELLED = ("HTML", "SVG", "AVIF", "MP4")  # Kinds that are spoken as letters, and begin with a vowel.


def _what_it_is(file: Path | bytes, error: Exception) -> str:
    """What is known of a file that Pillow has refused, by its first bytes."""
    head = file[:1000] if isinstance(file, bytes) else file.open("rb").read(1000)
    if not head:
        return "is empty"
    start = head.lstrip().lower() if head.lstrip()[:1] == b"<" else head.lower()
    kind = next((kind for begin, kind in BEGINNINGS.items() if start.startswith(begin)), "")
    if start[:4] == b"riff" and start[8:12] == b"webp":
        kind = "WEBP"
    if start.startswith((b"<?xml", b"<!--", b"<!doctype svg", b"\xef\xbb\xbf<")) and b"<svg" in start:
        kind = "SVG"
    if start[4:8] == b"ftyp":
        kind = "AVIF" if start[8:11] == b"avi" else "HEIC" if start[8:12] in HEIC else "MP4"
    if kind in FORMATS:
        said = (str(error).strip().splitlines() or [""])[0][:100]
        return f"begins as a {kind} file, but can't be decoded ({type(error).__name__}: {said})"
    if not kind:
        return f"is no image, but begins with {head[:12]!r}"
    return f"is {'an' if kind in SPELLED else 'a'} {kind}{'' if 'pointer' in kind else ' file'}"


def decode_all(
    files: Iterable[Path | bytes], count: int, size: int
) -> tuple[np.ndarray, dict[int, str], tuple[str, ...]]:
    """Decode on all cores: images uint8 (count, size, size, 3), why some places hold none, and sentences on the others.

    A terminal or a notebook shows how far it has come.
    """
    images = image_cache.room_for((count, size, size, 3))
    bad: dict[int, str] = {}
    kinds: Counter[str] = Counter()
    brightest = 0

    def one(numbered: tuple[int, Path | bytes]) -> tuple[int, tuple[str, ...], str]:
        place, file = numbered
        try:
            images[place], done = decode(file, size)
        except BadImageError as error:
            return place, (), str(error)
        return place, done, ""

    console, numbered = Console(stderr=True), enumerate(files)
    with (
        warnings.catch_warnings(),
        Progress(
            console=console, transient=True, disable=not (console.is_interactive or console.is_jupyter)
        ) as progress,
        ThreadPoolExecutor(min(MOST_THREADS, _cores())) as threads,
    ):
        warnings.simplefilter("ignore")  # Of broken EXIF data, and of sizes above a limit that is higher than ours.
        task = progress.add_task("Decoding images", total=count)
        while some := list(itertools.islice(numbered, AT_A_TIME)):
            for place, done, why in threads.map(one, some):
                kinds.update(done)
                if SIXTEEN in done:
                    brightest = max(brightest, int(images[place].max()))
                if why:
                    bad[place] = why
                progress.advance(task)
    notes = [f"Images {kind}: {number:,}." for kind, number in kinds.items()]
    if kinds[SIXTEEN] and brightest < DARK:
        notes.append(
            f"The brightest pixel of these {kinds[SIXTEEN]:,} images is {brightest} of 255, so they are nearly black: "
            "they use few of their 16 bits, and should be rescaled to all of them first."
        )
    return images, bad, tuple(notes)


def bad_files(bad: dict[int, str], names: Sequence[str]) -> np.ndarray:
    """A text for each bad file: its name and what is wrong with it."""
    return np.array([f"{shown(names[place])} {why}" for place, why in sorted(bad.items())], dtype=str)


def in_a_list(bad: Sequence[str] | np.ndarray, most: int = LISTED) -> str:
    """What is wrong, in one sentence that does not get too long."""
    return "; ".join(bad[:most]) + f"; and {len(bad) - most:,} more" * (len(bad) > most)


def settle(arrays: image_cache.Arrays, where: str, skip_bad: bool) -> image_cache.Arrays:
    """Arrays that were read, with a note on the files that are left out of them.

    Raises:
        RequestError: there are some, and they are not to be skipped, or no image of a class would be left.
    """
    bad = arrays["notes_bad"]
    if not len(bad):
        return arrays
    listed = in_a_list(bad)
    labels = np.concatenate([array for name, array in arrays.items() if name.endswith("_labels")])
    total = len(bad) + len(labels)
    if not len(labels):
        raise RequestError(
            f"In {where} none of the {total:,} files can be used: {in_a_list(bad, FEW_LISTED)}. Mend them."
        )
    if lost := np.setdiff1d(np.arange(len(arrays["classes"])), labels).tolist():
        raise RequestError(
            f"In {where} no image of the class {shown(str(arrays['classes'][lost[0]]))} can be used, so mend its files "
            f"or take the class out. Of all {total:,} files {len(bad):,} can't be used: {listed}."
        )
    if not skip_bad:
        raise RequestError(
            f"In {where} {len(bad):,} of {total:,} files can't be used: {listed}. Mend them or take them out, or add "
            "--skip-bad (in Python skip_bad=True) to go on without them."
        )
    note = f"{len(bad):,} of {total:,} files can't be used and {'is' if len(bad) == 1 else 'are'} left out: {listed}."
    return {**arrays, "notes": np.array([*arrays["notes"], note], dtype=str)}


def keep_only(images: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The images at `places`, which ascend, moved to the front of the same memory or file."""
    if len(places) == len(images):
        return images
    for to, place in enumerate(places):
        images[to] = images[place]
    return images[: len(places)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
