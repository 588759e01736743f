"""Links from one version of the code to the next, between which numbers were shown to be the same to the bit."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from lab.evidence.records import read
from lab.evidence.schemas import Config, Evidence, Link, Origin

NAME = "attested.json"
Found = TypeVar("Found", bound=Origin)


def links(folder: Path) -> list[Link]:
    """What has been attested of a recipe, oldest first.

    Raises:
        EvidenceError: the file is broken.
    """
    path = folder / NAME
    return read(path, list[Link], "restore it from git") if path.exists() else []


def read_followed(path: Path, kind: type[Found]) -> Found:
    """A recipe's published evidence or sweep, as `followed` has them.

    Raises:
        EvidenceError: a file is broken.
    """
    return followed(read(path, kind), links(path.parent))


def followed(found: Found, along: Sequence[Link]) -> Found:
    """Evidence or a sweep as if it were of the newest version that links lead to.

    Settings that the recipe has been given since have the values that they were shown to make no difference with.
    Metrics that can't be the same to the bit, such as times, are left behind.
    """
    for link in along:
        if found.code != link.before:
            continue
        found = replace(found, code=link.after, carried=link.commit)
        if isinstance(found, Evidence):
            records = [
                replace(
                    record,
                    config=_with_new_fields(record.config, link),
                    metrics={name: value for name, value in record.metrics.items() if name not in link.dropped},
                )
                for record in found.records
            ]
            found = replace(found, config=_with_new_fields(found.config, link), records=records)
    return found


def _with_new_fields(config: Config, link: Link) -> Config:
    """A config with the fields of the newer version, each with its own value if it has one."""
    return {name: config.get(name, value) for name, value in link.config.items()}
