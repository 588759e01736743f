"""A look through a folder that accounts for each file, and never leaves the folder."""

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import RequestError
from pipelines.names import name_of, shown

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# Folders that programs leave behind. Those whose names begin with a dot are left out, too.
LEFT_BEHIND = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
LEFT_BEHIND |= {"#recycle", "@recycle", "#snapshot", "@recently-snapshot", "thumbnails"}
THUMBS = "thumbs"  # Can be a class, and is left out where no folder is one.
PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
PART_OF = {name: part for part, names in PARTS.items() for name in names}
GLUED = re.compile(rf"\b({'|'.join(PART_OF)})(set|data|images|imgs)\b")  # Two words without a sign between them.
DEEPEST = 50
MOST_LINKS = 10_000  # Links to folders can multiply what is there.


@dataclass
class Found:
    """A folder: the images straight in it, and the folders in it."""

    path: Path
    images: list[Path] = field(default_factory=list)
    folders: list["Found"] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    def all_images(self) -> list[Path]:
        """The images in it and below it."""
        return [*self.images, *(path for inside in self.folders for path in inside.all_images())]


class Passed:
    """What was passed over: how many of each kind, and the first one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, kind: str, path: Path, count: int = 1) -> None:
        self.counts[kind] += count
        self.first.setdefault(kind, name_of(path.relative_to(self.root)))

    def table(self) -> tuple[str, ...]:
        """Lines that say so."""
        rows = [f"{count:8,}  {kind}: {self.first[kind]}" for kind, count in self.counts.most_common()]
        return ("Passed over, with the first one of each kind:", *rows) if rows else ()


class Walk:
    """Looks through a folder once, without ever leaving it."""

    def __init__(self, root: Path, passed: Passed) -> None:
        self.home = root.resolve()
        self.passed = passed
        self.links = 0

    def look(self, folder: Path, depth: int, above: tuple[Path, ...]) -> Found:
        """What is in `folder`; `above` are the folders that it is in, without links."""
        real = folder.resolve()
        of_classes = depth == 0 or (depth == 1 and folder.name.casefold() in PART_OF)
        if depth > DEEPEST:
            raise RequestError(f"Folders in {shown(self.home)} lie more than {DEEPEST} deep: {shown(folder)}.")
        found = Found(folder)
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise RequestError(
                f"The folder {shown(folder)} can't be read ({error.strerror}): let yourself read it, or take it out."
            ) from error
        for entry in inside:
            path = folder / entry.name
            kind = self._kind(entry, path, (*above, real))
            if kind == "folder" and _is_left_behind(entry.name, of_classes):
                self.passed.add("files in hidden folders or thumbnails", path, _count(path))
            elif kind == "folder":
                found.folders.append(self.look(path, depth + 1, (*above, real)))
            elif kind == "file" and entry.name.startswith("."):
                self.passed.add("hidden files", path)
            elif kind == "file" and path.suffix.lower() in ENDINGS:
                found.images.append(path)
            elif kind == "file":
                self.passed.add(name_of(path.suffix.lower()) or "without an ending", path)
            else:
                self.passed.add(kind, path)
        return found

    def _kind(self, entry: os.DirEntry[str], path: Path, above: tuple[Path, ...]) -> str:
        """Whether it is a "file" or a "folder", or else what is passed over."""
        try:
            mode = entry.stat().st_mode
        except OSError:
            return "links that lead nowhere" if entry.is_symlink() else "files that can't be looked at"
        if entry.is_symlink():
            leads = path.resolve()
            if not leads.is_relative_to(self.home):
                raise RequestError(
                    f"{shown(path)} is a link out of the folder, to {shown(leads)}: put what it leads to in its place."
                )
            if leads in above:
                return "links back to a folder that they are in"
            self.links += stat.S_ISDIR(mode)
            if self.links > MOST_LINKS:
                raise RequestError(f"{shown(self.home)} has more than {MOST_LINKS:,} links to folders: take them out.")
        if stat.S_ISDIR(mode):
            return "folder"
        return "file" if stat.S_ISREG(mode) else "neither files nor folders"


def part_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The part that a word of a folder's name tells, and its other words: "seg_train2" is of ("train", ("seg",))."""
    name = GLUED.sub(r"\1 \2", re.sub(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])", " ", name).casefold())
    words = name.split()
    parts = {PART_OF[word] for word in words if word in PART_OF}
    return (parts.pop(), tuple(word for word in words if word not in PART_OF)) if len(parts) == 1 else None


def _is_left_behind(name: str, may_be_class: bool) -> bool:
    name = name.casefold()
    return name.startswith(".") or name in LEFT_BEHIND or (name == THUMBS and not may_be_class)


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def is_folder(path: Path) -> bool:
    """Whether it is a folder; a name that no file can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether it is a file, and no device or pipe, which may have no end."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
