"""What is committed in `results/`, and whether it is of the code at hand."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.harness.declaring.recipe import Recipe
from recipes.harness.evidence.provenance import ROOT
from recipes.harness.evidence.records import EvidenceError, Record, complaint_of_evidence, read_json

RESULTS = ROOT / "results"
STALE = "measured with an earlier version of this recipe"


@dataclass(frozen=True)
class Published:
    """A recipe's committed evidence and tuning sweep, as far as there are any, and why each is stale, if it is.

    Stale evidence was measured with an earlier version of the recipe. It is labelled so, and not read anew.
    """

    evidence: dict[str, Any] | None
    tuning: dict[str, Any] | None
    stale: str = ""
    stale_tuning: str = ""

    @classmethod
    def read(cls, recipe: Recipe, results: Path | None = None) -> "Published":
        """What is in `results`/NAME.

        Raises:
            EvidenceError: a file that is broken.
        """
        folder = (results or RESULTS) / recipe.name
        found, tuning = (
            read_json(folder / name) if (folder / name).exists() else None for name in ("evidence.json", "tuning.json")
        )
        return cls(
            found,
            tuning,
            staleness(recipe, found) if found is not None else "",
            staleness_of_tuning(recipe, tuning) if tuning is not None else "",
        )


def staleness(recipe: Recipe, found: dict[str, Any]) -> str:
    """Why evidence is not of the code at hand, as the end of a sentence; empty if it is.

    Raises:
        EvidenceError: it is of the code at hand, and broken.
    """
    if not isinstance(found, dict) or found.get("code") != recipe.code:
        return "the code that makes the numbers has changed since"
    if recipe.table and found.get("table") != recipe.table.digest(recipe.name):
        return "the table that it was looked up in is another one now"
    if problem := complaint_of_evidence(found, recipe.name, recipe.names):
        raise EvidenceError(f"The published evidence of {recipe.name} can't be used: {problem}.")
    if others := tuned_otherwise(recipe, found["records"]):
        return f"what was tuned for {', '.join(others)} has changed since"
    return ""


def tuned_otherwise(recipe: Recipe, records: list[Record]) -> list[str]:
    """The variants whose runs had other settings than the recipe has for them now."""
    now = {name: json.loads(json.dumps(recipe.settings(name))) for name in recipe.names}
    changed = {record["variant"] for record in records if record["settings"] != now[record["variant"]]}
    return [name for name in recipe.names if name in changed]


def staleness_of_tuning(recipe: Recipe, found: dict[str, Any]) -> str:
    """The same of a tuning sweep, or of a table."""
    if recipe.sweep is None:
        return "the recipe tunes nothing any more"
    if not isinstance(found, dict) or found.get("code") != recipe.code_of("tuning"):
        return "the code that it depends on has changed since"
    return ""
