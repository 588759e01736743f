"""The reader's own images in a table: a CSV file with a column `path`, relative to it, and a column `label`."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import RequestError
from pipelines.listed import Listing, check_count
from pipelines.names import check_names, equal_numbers, in_order, name_of, shown
from pipelines.walking import is_file, is_folder

COLUMNS = ("path", "label")
MOST_LISTED = 10  # Bad rows in one sentence.
NEGATIVE = r"-[0-9]+(\.0*)?"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def listing(table: Path, skip_bad: bool = False) -> Listing:
    """The files and labels in a table, which has a row for each image.

    With `skip_bad`, rows that can't be used are left out, and said.

    Raises:
        RequestError: it is no such table, or rows can't be used, or one leads out of the table's folder.
    """
    bad: dict[str, list[str]] = {}  # By kind.
    notes: list[str] = []
    labels: dict[Path, dict[str, int]] = {}  # By file, and then the row that has this label first.
    rows_of: Counter[Path] = Counter()
    lost: set[str] = set()  # Labels of files that are not there.
    rows = again = backslashes = 0
    root, home = table.parent, table.parent.resolve()
    for row, cells in _rows(table, notes):
        rows += 1
        if len(cells) != len(COLUMNS) or not all(cells):
            what = "lacks a path or a label" if len(cells) < 3 else "has too many cells"
            bad.setdefault(what, []).append(f"row {row} {what}")
            continue
        named, label = cells
        path = root / named
        there = is_file(path)
        if not there and is_file(slashed := root / named.replace("\\", "/")):
            path, there, backslashes = slashed, True, backslashes + 1
        real = path.resolve() if there else path
        if there and not real.is_relative_to(home):
            raise RequestError(
                f"Row {row} of {shown(table)} leads out of the table's folder, to {shown(real)}: put the table above "
                "all images that it names."
            )
        if not there:
            what = "a folder" if is_folder(path) else "which is no file there"
            if re.match(r"[A-Za-z]:[\\/]|\\\\", named):
                what = "a Windows path, and not one relative to the table"
            bad.setdefault(what, []).append(f"row {row} names {shown(named)}, {what}")
            lost |= set() if re.fullmatch(NEGATIVE, label) else {label}
        elif re.fullmatch(NEGATIVE, label):
            what = f"has the label {label}, and a class has no negative number"
            bad.setdefault("negative", []).append(f"row {row} {what}")
        else:
            rows_of[real] += 1
            of_file = labels.setdefault(real, {})
            again += label in of_file
            of_file.setdefault(label, row)
    known = {label for of_file in labels.values() for label in of_file}
    files: dict[Path, str] = {}
    for path, of_file in labels.items():
        said = " and ".join(f"{shown(label)} (row {row})" for label, row in of_file.items())
        several = any(known.issuperset(words) for label in of_file if len(words := re.split(r"[|,;]", label)) > 1)
        if len(of_file) > 1 or several:
            bad.setdefault("several", []).append(f"{shown(path.relative_to(home))} has several labels, {said}")
        else:
            files[path] = next(iter(of_file))
    lost -= set(files.values())
    notes += _settle(table, bad, rows, rows - sum(rows_of[path] for path in files), lost, skip_bad)
    if backslashes:
        notes.append(f"Backslashes in paths are read as slashes: {backslashes:,} rows.")
    if again:
        notes.append(f"Rows that say the same as an earlier one: {again:,}. Each such image is used once.")
    classes = tuple(in_order(set(files.values())))
    check_names(table, classes)
    if len(classes) < 2:
        raise RequestError(f"{shown(table)} has {len(classes)} classes with images: two are needed.")
    check_count(table, len(files))
    notes += equal_numbers(classes)
    number = {name: place for place, name in enumerate(classes)}
    train = sorted(((path, number[name]) for path, name in files.items()), key=lambda one: (one[1], one[0].parts))
    return Listing(home, classes, {"train": train}, tuple(notes))


def _settle(
    table: Path, bad: dict[str, list[str]], rows: int, left_out: int, lost: set[str], skip_bad: bool
) -> list[str]:
    """A sentence on rows that are left out, of which there are few or else one of each kind is named."""
    if not bad:
        return []
    texts = [text for of_kind in bad.values() for text in of_kind]
    if len(texts) > MOST_LISTED:
        texts = [of[0] + f", and {len(of) - 1:,} more like it" * (len(of) > 1) for of in bad.values()]
    listed = "; ".join(texts)
    if left_out == rows:
        raise RequestError(f"In {shown(table)} none of the {rows:,} rows can be used: {listed}. Mend the table.")
    if lost:
        raise RequestError(
            f"In {shown(table)} no row of the class {shown(min(lost))} can be used, so mend its rows or take them out. "
            f"Of all {rows:,} rows {left_out:,} can't be used: {listed}."
        )
    if skip_bad:
        return [
            f"{left_out:,} of {rows:,} rows of the table can't be used and {'is' if left_out == 1 else 'are'} left "
            f"out: {listed}."
        ]
    raise RequestError(
        f"In {shown(table)} {left_out:,} of {rows:,} rows can't be used: {listed}. Mend the table, or add --skip-bad "
        "(in Python skip_bad=True) to go on without these images."
    )


def _rows(table: Path, notes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The number of each row, as a spreadsheet counts, with its path and label."""
    here = shown(table)
    if not is_file(table):
        raise RequestError(f"There is no table {here}: name a file, as csv:FILE.")
    try:
        text = table.read_text(encoding="utf-8-sig")  # With or without the mark that Excel begins a file with.
    except UnicodeDecodeError as error:
        raise RequestError(f"{here} is not written in UTF-8: save it as CSV UTF-8.") from error
    except OSError as error:
        raise RequestError(f"The table {here} can't be read ({error.strerror}).") from error
    first, _, rest = text.partition("\n")
    if told := re.fullmatch(r'"?sep=([,;\t])"?\r?', first, re.IGNORECASE):  # A line for Excel, which does not show it.
        text, separator = rest, told[1]
    else:
        separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [cell.strip().casefold() for cell in next(reader, [])]
        if any(header.count(name) != 1 for name in COLUMNS):
            there = ", ".join(repr(name_of(cell)[:40]) for cell in header[:10]) or "nothing"
            raise RequestError(
                f"The first row of {here} has {there}: it must name one column 'path' and one 'label', divided by "
                "commas, semicolons or tabs."
            )
        if separator != ",":
            notes.append(f"The table's columns are divided by {SEPARATORS[separator]}.")
        if others := [name_of(name) for name in header if name not in COLUMNS]:
            notes.append(f"Columns of the table that are not used: {', '.join(map(repr, others[:10]))}.")
        places = [header.index(name) for name in COLUMNS]
        for cells in reader:
            if any(cell.strip() for cell in cells):
                whole = len(cells) == len(header)
                named = [cells[place].strip() if place < len(cells) else "" for place in places]
                yield reader.line_num, [named[0], name_of(named[1])] if whole or len(cells) < len(header) else cells
    except csv.Error as error:
        raise RequestError(f"Row {reader.line_num} of {here} is no row of a CSV file ({error}).") from error
