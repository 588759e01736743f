"""Links from one version of the code to the next, between which numbers were shown to be the same to the bit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.evidence.records import read_json
from lab.evidence.schemas import complaint_of_links, read_whole

NAME = "attested.json"
Link = dict[str, Any]


def links(folder: Path) -> list[Link]:
    """What has been attested of a recipe, oldest first.

    Raises:
        EvidenceError: the file is broken.
    """
    path = folder / NAME
    if not path.exists():
        return []
    found: list[Link] = read_whole(path, complaint_of_links, "restore it from git")
    return found


def read(path: Path) -> Any:
    """A recipe's published evidence, sweep or floors, of quick or in the folder of full, as `followed` has them.

    Raises:
        EvidenceError: a file is broken.
    """
    home = path.parent.parent if path.parent.name == "full" else path.parent
    return followed(read_json(path), links(home))


def followed(found: Any, along: Sequence[Link]) -> Any:
    """Evidence, a sweep or floors as if they were of the newest version that links lead to.

    Settings that the recipe has been given since have the values that they were shown to make no difference with.
    Metrics that can't be the same to the bit, such as times, are left behind. What is of budget full is carried by runs
    at quick, which go through the same code.
    """
    if not isinstance(found, dict):
        return found
    for link in along:
        if found.get("code") != link["from"]:
            continue
        found = {**found, "code": link["to"], "carried": link["commit"]}
        if "records" not in found:
            continue
        found["config"] = _with_new_fields(found["config"], link)
        found["records"] = [
            {
                **record,
                "config": _with_new_fields(record["config"], link),
                "metrics": {name: v for name, v in record["metrics"].items() if name not in link["dropped"]},
            }
            for record in found["records"]
        ]
    return found


def _with_new_fields(config: dict[str, Any], link: Link) -> dict[str, Any]:
    """A config with the fields of the newer version, each with its own value if it has one."""
    return {name: config.get(name, value) for name, value in link["config"].items()}
