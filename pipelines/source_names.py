"""What can stand behind `--data`, and what is said of what can't."""

import re
import zipfile
from pathlib import Path

from pipelines.errors import RequestError
from pipelines.names import name_of
from pipelines.walking import is_folder

BUNDLED = ("subset", "full")  # CIFAR-10, which recipes are tuned on.
KINDS = ("folder", "csv", "tfds")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
UNPACK = "unpack it, and name the folder that it holds, as folder:PATH"
ADDRESSES = ("http:", "https:", "ftp:", "s3:", "gs:", "hf:")


def path_of(source: str) -> Path:
    """The path of a source such as "folder:PATH"."""
    path = Path(source.partition(":")[2])
    try:
        return path.expanduser()
    except RuntimeError:  # There is no such user.
        return path


def check(source: str) -> None:
    """Raise RequestError where a source is none that can be read; looks at what it names, and reads nothing."""
    kind, _, rest = source.partition(":")
    named = f"'{name_of(source)}'"
    if kind == "tfds" and (community := re.match(r"([^:/]+):[^\W\d]", rest)):
        raise RequestError(
            f"{named} is of the community collection '{community[1]}', which is not read: use a set of "
            "tensorflow-datasets itself, or write its images out as folder:PATH."
        )
    if source in BUNDLED or (kind == "tfds" and rest):
        return
    address = rest if kind in KINDS else source
    if address.lower().startswith(ADDRESSES):
        raise RequestError(f"{named} is an address, and nothing is downloaded from there: download it and {UNPACK}.")
    if kind not in KINDS or not rest:
        known = "'subset', 'full', 'folder:PATH', 'csv:FILE' or 'tfds:NAME'"
        what = _what_is(Path(source).expanduser() if source[:1] != "~" else path_of(f"folder:{source}"))
        raise RequestError(f"There is no data source {named}: {what or f'use {known}'}.")
    path = path_of(source)
    if is_folder(path) == (kind == "folder"):  # What is missing, `folders` and `tables` say.
        if kind == "csv":
            _check_text(path, named)
        return
    if what := _what_is(path):
        raise RequestError(f"'{name_of(path)}' can't be read as a {'folder' if kind == 'folder' else 'table'}: {what}.")


def _check_text(path: Path, named: str) -> None:
    if path.suffix.lower() in (".xls", ".xlsx", ".ods"):
        raise RequestError(f"{named} is a workbook: save its table as CSV (UTF-8), and name that.")
    if path.suffix.lower() in ARCHIVES:
        raise RequestError(f"{named} is an archive: {UNPACK}.")


def _what_is(path: Path) -> str:
    """What a path leads to, and what to write for it; empty where nothing is there."""
    try:
        if path.is_dir():
            return f"it is a folder, so write folder:{name_of(path)}"
        if not path.exists():
            return ""
        if path.suffix.lower() in ARCHIVES or zipfile.is_zipfile(path):
            return f"it is an archive, so {UNPACK}"
        if path.suffix.lower() in (".csv", ".tsv"):
            return f"it is a table, so write csv:{name_of(path)}"
        return "it is a file, so name a folder that holds a folder of images for each class, as folder:PATH"
    except (OSError, ValueError):
        return ""
