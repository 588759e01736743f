"""Names of files and classes as they are compared, sorted and shown."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipelines.errors import RequestError


def shown(path: Path | str) -> str:
    """A path or a name as it is written in a sentence."""
    return f"'{name_of(path)}'"


def name_of(path: Path | str) -> str:
    """A name that can be printed: characters that can't be are escaped, and equal ones are written alike."""
    text = unicodedata.normalize("NFC", path if isinstance(path, str) else path.as_posix())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted, with the numbers in them by their value: "2" before "10"."""
    return sorted(names, key=lambda name: ([_value(word) for word in re.split(r"([0-9]+)", name)], name))


def _value(word: str) -> Any:
    return int(word) if word.isdecimal() and word.isascii() and len(word) < 100 else word


def equal_numbers(classes: Iterable[str]) -> list[str]:
    """A note on names that are equal as numbers, such as "1", "01" and "1.0"."""
    by_value: dict[float, list[str]] = {}
    for name in classes:
        if re.fullmatch(r"[0-9]{1,15}(\.[0-9]*)?", name):
            by_value.setdefault(float(name), []).append(name)
    alike = [" and ".join(map(shown, names)) for names in by_value.values() if len(names) > 1]
    return [f"Careful: classes whose names are equal as numbers, {'; '.join(alike[:5])}."] if alike else []


def check_names(where: Path, classes: Iterable[str]) -> None:
    """Raise RequestError where names differ in case only: some file systems and some readers take them for one."""
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise RequestError(
                f"In {shown(where)} the names of the classes {shown(other)} and {shown(name)} differ in case only: "
                "rename one."
            )
