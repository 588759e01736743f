"""Links from one version of the code to the next, between which numbers were shown to be the same to the bit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.harness.evidence.records import EvidenceError, read_json

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
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(link, dict) and set(link) >= _NEEDED for link in found):
        raise EvidenceError(f"{path} is no list of links between versions: restore it from git.")
    return found


_NEEDED = {"from", "to", "config", "commit", "dropped"}


def followed(found: Any, along: Sequence[Link]) -> Any:
    """Evidence, a sweep or floors as if they were of the newest version that links lead to.

    Settings that the recipe has been given since have the values that they were shown to make no difference with.
    Metrics that can't be the same to the bit, such as times, are left behind.
    """
    if not isinstance(found, dict):
        return found
    for link in along:
        if found.get("code") != link["from"]:
            continue
        found = {**found, "code": link["to"], "carried": link["commit"]}
        if "records" not in found:
            continue
        found["config"] = link["config"]
        found["records"] = [
            {
                **record,
                "config": {**link["config"], **{k: v for k, v in record["config"].items() if k in link["config"]}},
                "metrics": {name: v for name, v in record["metrics"].items() if name not in link["dropped"]},
            }
            for record in found["records"]
        ]
    return found
