"""Why evidence may not be published: it is stale, not whole, or not what its budget asks for."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from lab.evidence import code_hash
from lab.evidence.lineage import read_followed
from lab.evidence.provenance import is_commit
from lab.evidence.records import EvidenceError, read
from lab.evidence.schemas import Evidence, Images, Origin, Record, Trial, TuningSweep, check_recipe
from lab.experiment import Experiment

SUBSET_DIGEST = "d8817bbd963782f8"  # Of the bundled images and labels, decoded.
FULL_DIGEST = "e0fb09a180fee78d"  # Of all of CIFAR-10's.
IMAGES = {"quick": ("subset", SUBSET_DIGEST), "full": ("full", FULL_DIGEST)}
LEAST_SEEDS = {"quick": 10, "full": 5}
KERAS = {"floatx": "float32", "image_data_format": "channels_last"}


def staleness(experiment: Experiment, found: Evidence | TuningSweep) -> str:
    """Why evidence or a sweep is not of the code at hand, as the end of a sentence; empty if it is.

    Raises:
        EvidenceError: it is of the code at hand, but of another recipe.
    """
    if found.code != experiment.code:
        return "the code that makes the numbers has changed since"
    if problem := check_recipe(found, experiment.name, experiment.names):
        raise EvidenceError(f"What is published of {experiment.name} can't be used: {problem}.")
    if isinstance(found, TuningSweep):
        return "" if experiment.sweep else "the recipe tunes nothing any more"
    if experiment.table and found.table != experiment.table.digest(experiment.name):
        return "its table of results has changed since"
    if others := tuned_otherwise(experiment, found.records):
        return f"what was tuned for {', '.join(others)} has changed since"
    if others := set_otherwise(experiment, found):
        return f"the default of {', '.join(others)} at budget {found.budget} has changed since"
    return ""


def set_otherwise(experiment: Experiment, found: Origin) -> list[str]:
    """The fields of Config that were measured with another value than they have now at that budget.

    A field that Config did not have then can't differ: code that reads it changes the hash.
    """
    usual = _as_read_back(vars(experiment.config_at(found.budget)))
    return [name for name, value in usual.items() if found.config.get(name, value) != value]


def tuned_otherwise(experiment: Experiment, records: Iterable[Record]) -> list[str]:
    """The variants whose runs had other tuned settings than the recipe has for them now."""
    changed = set()
    for record in records:
        now = experiment.settings(record.variant, record.config.get("tuned_at", "quick"))
        if record.settings != _as_read_back(now):
            changed.add(record.variant)
    return [name for name in experiment.names if name in changed]


def _as_read_back(content: Any) -> Any:
    """Content as a file of JSON has it: with lists for tuples."""
    return msgspec.json.decode(msgspec.json.encode(content))


def changed_parts(experiment: Experiment, found: Origin) -> list[str]:
    """The functions, classes and constants that are not as they were when evidence was measured."""
    return code_hash.changed(found.parts, experiment.parts) if found.parts else []


class _Header(msgspec.Struct):
    budget: str = ""


def find(experiment: Experiment, logs: Path, name: str, budget: str = "quick") -> tuple[Path | None, list[str]]:
    """The newest file of `name`, "evidence.json" or "tuning.json", of a budget under `logs` that may be published.

    Also returns a sentence for each newer one that may not. Runs at smoke, as for floors, are never meant.
    """
    passed_over: list[str] = []
    for path in sorted((logs / experiment.name).glob(f"*/{name}"), reverse=True):
        try:
            its_budget = read(path, _Header).budget
        except EvidenceError:
            its_budget = ""  # What is wrong with it is said below.
        if its_budget == "smoke" or (its_budget == "full") != (budget == "full"):
            continue
        reasons = objections(experiment, path)
        if not reasons:
            return path, passed_over
        passed_over.append(f"{path} is passed over: {' '.join(reasons)}")
    return None, passed_over


def objections(experiment: Experiment, path: Path) -> list[str]:
    """Why a file of evidence or of a sweep may not be published, in sentences; empty if it may."""
    kind: type[Evidence | TuningSweep] = TuningSweep if path.name == "tuning.json" else Evidence
    try:
        found = read_followed(path, kind)
    except EvidenceError as error:
        return [str(error)]
    if problem := check_recipe(found, experiment.name, experiment.names):
        return [f"{path} can't be used: {problem}."]
    of_kind = _of_sweep(experiment, found) if isinstance(found, TuningSweep) else _of_evidence(experiment, found)
    return [*_of_origin(experiment, found), *of_kind]


def _of_origin(experiment: Experiment, found: Evidence | TuningSweep) -> list[str]:
    """Objections to the code, the images and the settings."""
    reasons = []
    if found.budget not in (("quick", "full") if experiment.at_full else ("quick",)):
        reasons.append(f"Its budget is {found.budget}, which is not published.")
    source, digest = IMAGES.get(found.budget, IMAGES["quick"])
    if found.data != Images(source=source, train_images=None, split_seed=None):
        reasons.append(f"Its images are not those of budget {found.budget}.")
    elif found.data_digest != digest:
        reasons.append("The hash of its images is not that of the bundled images, or of all of CIFAR-10.")
    if found.keras != KERAS:
        reasons.append("It was measured with other settings of Keras.")
    if found.model:
        reasons.append("It was measured with a reader's own model.")
    commit = str(found.commit)
    if commit.endswith("+changes"):
        reasons.append("It was measured with code that is not committed.")
    elif not is_commit(commit):
        reasons.append(f"There is no commit {commit[:40]!r}.")
    if (found.kind == "comparison" or experiment.tuning) and (others := set_otherwise(experiment, found)):
        reasons.append(f"Its {', '.join(others)} are not those of budget {found.budget}.")
    elif why := staleness(experiment, found):
        reasons.append(f"It is stale: {why}. Measure again.")
    return reasons


def _of_evidence(experiment: Experiment, found: Evidence) -> list[str]:
    first, many, least = experiment.first_seed, len(found.seeds), LEAST_SEEDS.get(found.budget, 10)
    reasons = _of_runs(found.records, set(experiment.published_at(found.budget)) - set(found.variants))
    if found.seeds != list(range(first, first + many)) or many < least:
        reasons.append(f"It has {many} seeds; at least {least} are needed, from {first} on.")
    return reasons


def _of_sweep(experiment: Experiment, found: TuningSweep) -> list[str]:
    lacking = set() if experiment.table else set(experiment.swept_at(found.budget)) - set(found.variants)
    reasons = _of_runs([*found.search, *found.curve], lacking)
    if experiment.tuning:
        defaults = _as_read_back(vars(experiment.config_at(found.budget)))
        whole = [structs.replace(trial, config={**defaults, **trial.config}) for trial in found.search]
        if found.winners != experiment.tuning.at(found.budget).winners(whole):
            reasons.append("Its winners are not those of its own trials.")
    return reasons


def _of_runs(runs: Iterable[Trial], lacking: set[str]) -> list[str]:
    reasons = [f"It lacks some of the variants: {', '.join(sorted(lacking))}."] if lacking else []
    if any(run.status == "failed" for run in runs):
        reasons.append("It has failed runs: repeat its command with --resume.")
    return reasons
