"""What is committed in `results/`, and whether it is of the code at hand."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.evidence.lineage import read_followed
from lab.evidence.provenance import ROOT
from lab.evidence.records import EvidenceError, read
from lab.evidence.schemas import Evidence, Floors, Origin, Record, TuningSweep, check_recipe
from lab.experiment import Experiment

RESULTS = ROOT / "results"
CHANGED = "the code that makes the numbers has changed since"
SUBSET_DIGEST = "d8817bbd963782f8"  # Of the bundled images and labels, decoded.
FULL_DIGEST = "e0fb09a180fee78d"  # Of all of CIFAR-10's.
STALE = "measured with an earlier version of this recipe"


@dataclass(frozen=True)
class Published:
    """A recipe's committed evidence and tuning sweep, as far as there are any, and why each is stale, if it is.

    Stale evidence was measured with an earlier version of the recipe. It is labelled so, and not read anew.
    """

    evidence: Evidence | None
    tuning: TuningSweep | None
    stale: str = ""
    stale_tuning: str = ""

    @classmethod
    def read(cls, experiment: Experiment, results: Path | None = None, budget: str = "quick") -> "Published":
        """What is in `results`/NAME, or of budget full in `results`/NAME/full.

        Raises:
            EvidenceError: a file that is broken.
        """
        folder = (results or RESULTS) / experiment.name
        folder = folder / "full" if budget == "full" else folder
        paths = folder / "evidence.json", folder / "tuning.json"
        found = read_followed(paths[0], Evidence) if paths[0].exists() else None
        tuning = read_followed(paths[1], TuningSweep) if paths[1].exists() else None
        return cls(
            found,
            tuning,
            staleness(experiment, found) if found is not None else "",
            staleness_of_tuning(experiment, tuning) if tuning is not None else "",
        )


def staleness(experiment: Experiment, found: Evidence) -> str:
    """Why evidence is not of the code at hand, as the end of a sentence; empty if it is.

    Raises:
        EvidenceError: it is of the code at hand, and broken.
    """
    if found.code != experiment.code:
        return CHANGED
    if experiment.table and found.table != experiment.table.digest(experiment.name):
        return "the table that it was looked up in is another one now"
    if problem := check_recipe(found, experiment.name, experiment.names):
        raise EvidenceError(f"The published evidence of {experiment.name} can't be used: {problem}.")
    if others := tuned_otherwise(experiment, found.records):
        return f"what was tuned for {', '.join(others)} has changed since"
    if others := set_otherwise(experiment, found):
        return f"the usual {', '.join(others)} of budget {found.budget} changed since"
    return ""


def set_otherwise(experiment: Experiment, found: Origin) -> list[str]:
    """The fields of Config that evidence was measured with other values of than its budget has now.

    Of a field that Config had not then, nothing is known, and nothing need be: code that reads it is other code.
    """
    usual = json.loads(json.dumps(vars(experiment.config_at(found.budget))))
    return [name for name, value in usual.items() if found.config.get(name, value) != value]


def floors_of(experiment: Experiment, results: Path | None = None) -> tuple[Floors | None, str]:
    """The published floors of the convergence test, if there are any, and why they are stale, if they are."""
    folder = (results or RESULTS) / experiment.name
    if not (folder / "floors.json").exists():
        return None, ""
    found = read(folder / "floors.json", Floors, f"`python -m lab floors {experiment.name}`")
    if found.settings != all_settings(experiment):
        return found, "what was tuned has changed since"
    usual = json.loads(json.dumps(vars(experiment.config_at("smoke"))))
    if {name: usual.get(name) for name in found.config} != found.config:
        return found, "the settings at smoke have changed since"
    return found, "" if found.data_digest == SUBSET_DIGEST else "the images are others now"


def all_settings(experiment: Experiment, tuned_at: str = "quick") -> dict[str, Any]:
    """What was tuned for each variant, as JSON holds it."""
    return {name: json.loads(json.dumps(experiment.settings(name, tuned_at))) for name in experiment.names}


def changed_parts(experiment: Experiment, found: Origin) -> list[str]:
    """The functions, classes and constants that are not as they were when evidence was measured."""
    before, now = found.parts, experiment.parts
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name)) if before else []


def tuned_otherwise(experiment: Experiment, records: Iterable[Record]) -> list[str]:
    """The variants whose runs had other settings than the recipe has for them now."""
    changed = set()
    for record in records:
        now = all_settings(experiment, record.config.get("tuned_at", "quick"))
        if record.settings != now[record.variant]:
            changed.add(record.variant)
    return [name for name in experiment.names if name in changed]


def staleness_of_tuning(experiment: Experiment, found: TuningSweep) -> str:
    """The same of a tuning sweep, or of a table."""
    if experiment.sweep is None:
        return "the recipe tunes nothing any more"
    if found.code != experiment.code:
        return "the code that it depends on has changed since"
    return ""
