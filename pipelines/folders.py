"""The reader's own images: a folder for each class, as they are or within `train`, `val` and `test`.

Every file below the folder is accounted for: it is an image of a class, or it is counted with what was passed over.
`walking` finds the files, `listed` reads them, and `sources` splits them.
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.errors import RequestError
from pipelines.listed import Listing, check_count
from pipelines.names import check_names, equal_numbers, in_order, name_of, shown
from pipelines.walking import PART_OF, PARTS, Found, Passed, Walk, is_folder, part_of

OUTSIDE = "images in no folder of a class"
FOLDS = re.compile(r"(fold|split|cv|part|set|run|batch|train|val|test|dev)", re.IGNORECASE)
READABLE = "PNG, JPEG, WebP, BMP, GIF or TIFF"


def listing(folder: Path) -> Listing:
    """What is in `folder`: classes, or parts with the classes in each.

    Raises:
        RequestError: it is missing, empty, of one class or nearly so, or not divided into classes.
    """
    if not is_folder(folder):
        raise RequestError(
            f"There is no folder {shown(folder)}: name one that holds a folder for each class, as folder:PATH."
        )
    if folder.resolve() == Path(folder.resolve().anchor):
        raise RequestError(f"{shown(folder)} holds all that is on this machine: name a folder of images.")
    passed = Passed(folder)
    top = Walk(folder, passed).look(folder, 0, ())
    roots, notes = _roots(top, passed)
    notes += [note for root in roots.values() for note in _on_folds(root)]
    classes, of_class = _classes(folder, top, roots, passed)
    parts = {
        part: sorted(((path, label) for path, label in of_class[part]), key=lambda one: (one[1], one[0].parts))
        for part in roots
    }
    check_count(folder, sum(map(len, parts.values())))
    deeper = Counter(
        len(path.relative_to(root.path).parts) > 2 for part, root in roots.items() for path, _ in parts[part]
    )[True]
    if deeper:
        notes.append(f"In folders within the folder of their class: {deeper:,} images.")
    return Listing(folder, classes, parts, (*notes, *equal_numbers(classes), *passed.table()))


def _roots(top: Found, passed: Passed) -> tuple[dict[str, Found], list[str]]:
    """Which folder holds the classes of each part, and a sentence where there are parts. What is beside is passed over.

    Raises:
        RequestError: there is no training part, or a part twice, or images lie straight in parts.
    """
    here = shown(top.path)
    folders = [_unwrapped(folder) for folder in top.folders]
    named = _named_as_parts([folder for folder in folders if folder.all_images()])
    divided = {
        part: found
        for part, of_part in named.items()
        if (found := [folder for folder in of_part if any(inside.all_images() for inside in folder.folders)])
    }
    if not divided:
        flat = [folder for of_part in named.values() for folder in of_part]
        others = [folder for folder in folders if folder not in flat and folder.all_images()]
        if flat and (len(flat) > 1 or not others):
            names = " and ".join(shown(folder.name) for folder in flat)
            raise RequestError(
                f"In {here} the images lie straight in {names}, so their classes are not known: put them into a folder "
                "for each class there."
            )
        for path in top.images:
            passed.add(OUTSIDE, path)
        return {"train": top}, []
    for part, found in divided.items():
        if len(found) > 1:
            names = " and ".join(shown(folder.name) for folder in found)
            raise RequestError(f"In {here} both {names} would be the {part} part: take one out.")
    roots = {part: found[0] for part, found in divided.items()}
    if "train" not in roots:
        names = " and ".join(shown(root.name) for root in roots.values())
        raise RequestError(
            f"In {here} there are images in {names}, but no folder `train` with a folder for each class: add one, or "
            "name a folder that holds the classes themselves."
        )
    for path in [*top.images, *(path for root in roots.values() for path in root.images)]:
        passed.add(OUTSIDE, path)
    for folder in folders:
        if folder not in roots.values():
            is_part = any(folder in of_part for of_part in named.values())
            for path in folder.all_images():
                passed.add(OUTSIDE if is_part else f"images in {shown(folder.name)}, beside the parts", path)
    said = ", ".join(f"{shown(root.name)} is the {part} part" for part, root in roots.items())
    notes = [f"The folder is divided: {said}."]
    only = _only_folder(roots["train"])
    if only and sum(bool(inside.all_images()) for inside in only.folders) > 1:
        notes.append(f"The classes are the folders in {shown(only.name)}.")
        for part, root in roots.items():
            inside = _only_folder(root)
            roots[part] = inside if inside and inside.name == only.name else root
    return roots, notes


def _only_folder(folder: Found) -> Found | None:
    """The folder in it, where no other one has images."""
    found = [inside for inside in folder.folders if inside.all_images()]
    return found[0] if len(found) == 1 else None


def _named_as_parts(folders: list[Found]) -> dict[str, list[Found]]:
    """The folders that are parts by their names, such as "train", or "seg_train" where there is a "seg_test".

    Of "train_station", "test_tube" and "bottle" none is.
    """
    named = {part: [folder for folder in folders if PART_OF.get(folder.name.casefold()) == part] for part in PARTS}
    told = [(*words, folder) for folder in folders if (words := part_of(folder.name))]
    alike = len({others for _, others, _ in told}) == 1 or len(told) == len(folders)
    if alike and len({part for part, _, _ in told}) > 1:
        for part in PARTS:
            named[part] = named[part] or [folder for of, _, folder in told if of == part]
    return named


def _unwrapped(folder: Found) -> Found:
    """A folder, or the one of its name that is all that it holds, as some archives are packed."""
    while len(folder.folders) == 1 and not folder.images and folder.folders[0].name == folder.name:
        (folder,) = folder.folders
    return folder


def _on_folds(root: Found) -> list[str]:
    """A sentence where folders of two classes hold the same folders, which may be the classes themselves.

    Raises:
        RequestError: their names say that they are folds of one set.
    """
    seen: dict[tuple[str, str], Found] = {}
    for folder in root.folders:
        for pair in itertools.pairwise(sorted(inside.name for inside in folder.folders if inside.all_images())):
            other = seen.setdefault(pair, folder)
            if other is not folder:
                both = (
                    f"both {shown(other.name)} and {shown(folder.name)} hold the folders {shown(pair[0])} and "
                    f"{shown(pair[1])}"
                )
                if all(FOLDS.match(one.name) for one in (other, folder)):
                    raise RequestError(
                        f"In {shown(root.path)} {both}, so they look like parts of one set and not like classes: name "
                        f"one, as folder:{name_of(other.path)}, or call them `train` and `test`."
                    )
                return [f"Careful: {both}. If those are the classes, name one, as folder:{name_of(other.path)}."]
    return []


def _classes(
    folder: Path, top: Found, roots: dict[str, Found], passed: Passed
) -> tuple[tuple[str, ...], dict[str, Iterator[tuple[Path, int]]]]:
    """The names of the classes in order, and the files of each part with their classes.

    Raises:
        RequestError: there are fewer than two, one has no image, or two have nearly the same name.
    """
    here = shown(folder)
    images: dict[str, dict[str, list[Path]]] = {part: {} for part in roots}
    without: dict[str, Found] = {}
    for part, root in roots.items():
        for inside in root.folders:
            name, files = name_of(inside.name), inside.all_images()
            if files:
                images[part].setdefault(name, []).extend(files)
            else:
                without.setdefault(name, inside)
    classes = tuple(in_order({name for found in images.values() for name in found}))
    if not classes:
        raise RequestError(
            f"{here} has no folder of images for each class ({READABLE} files). It holds {_contents(folder)}."
        )
    check_names(folder, classes)
    if lost := [name for name in without if name not in classes]:
        raise RequestError(
            f"In {here} no image was found for the class {shown(lost[0])}: its folder holds "
            f"{_counted(_files(without[lost[0]].path))}. Formats that are read are {READABLE}. Convert its images, or "
            "take the folder out."
        )
    if len(classes) < 2:
        (only,) = roots["train"].folders if len(roots["train"].folders) == 1 else (None,)
        if only and sum(bool(inside.all_images()) for inside in only.folders) > 1:
            raise RequestError(
                f"{here} has one folder, {shown(only.name)}, and the folders of the classes are in that: name it "
                f"instead, as folder:{name_of(only.path)}."
            )
        raise RequestError(
            f"{here} has images of one class only, {shown(classes[0])}: two are needed. It holds {_contents(folder)}."
        )
    label = {name: number for number, name in enumerate(classes)}
    return classes, {
        part: ((path, label[name]) for name, files in found.items() for path in files) for part, found in images.items()
    }


def _contents(folder: Path) -> str:
    """How many files of which endings are in a folder and in each of its folders, such as "3 .txt; in 'a' 25 .heic"."""
    with os.scandir(folder) as entries:
        inside = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    said = [_counted(path for path in folder.iterdir() if not path.is_dir())]
    said += [f"in {shown(name)} {_counted(_files(folder / name))}" for name in inside[:5]]
    if len(inside) > 5:
        said.append(f"and {len(inside) - 5:,} more folders")
    return "; ".join(said)


def _files(folder: Path) -> Iterator[Path]:
    return (Path(where) / name for where, _, names in os.walk(folder) for name in names)


def _counted(files: Iterable[Path]) -> str:
    endings = Counter(
        name_of(path.suffix.lower()) or "without ending" for path in itertools.islice(files, 10_000)
    ).most_common()
    said = [f"{count:,} {ending}" for ending, count in endings[:4]]
    return (
        ", ".join([*said, f"{sum(count for _, count in endings[4:]):,} others"] if endings[4:] else said) or "no files"
    )
