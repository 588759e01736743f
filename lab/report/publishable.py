"""Why evidence may not be published: it is not whole, not of the code at hand, or not what its budget asks for."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from lab.evidence.lineage import read_followed
from lab.evidence.provenance import is_commit
from lab.evidence.records import EvidenceError, read_json
from lab.evidence.schemas import Evidence, Images, Origin, TuningSweep, check_recipe
from lab.experiment import Experiment
from lab.report.published import (
    FULL_DIGEST,
    SUBSET_DIGEST,
    set_otherwise,
    staleness,
    staleness_of_tuning,
)

LEAST_SEEDS = {"quick": 10, "full": 5}
IMAGES = {"quick": ("subset", SUBSET_DIGEST), "full": ("full", FULL_DIGEST)}


def find(experiment: Experiment, logs: Path, name: str, budget: str = "quick") -> tuple[Path | None, list[str]]:
    """The newest `name` ("evidence.json" or "tuning.json") of a budget under `logs` that may be published, and a
    sentence for each newer one that may not. Nobody wants to publish what is of smoke, such as runs for floors."""
    passed_over: list[str] = []
    for path in sorted((logs / experiment.name).glob(f"*/{name}"), reverse=True):
        if budget_of(path) == "smoke" or (budget_of(path) == "full") != (budget == "full"):
            continue
        reasons = objections(experiment, path)
        if not reasons:
            return path, passed_over
        passed_over.append(f"{path} is passed over: {' '.join(reasons)}")
    return None, passed_over


def budget_of(path: Path) -> str:
    """The budget of a file of evidence or of a sweep; empty where it does not say."""
    try:
        found = read_json(path)
    except EvidenceError:
        return ""
    return str(found.get("budget")) if isinstance(found, dict) else ""


def objections(experiment: Experiment, path: Path) -> list[str]:
    """Why a file of evidence may not be published, in sentences; empty if it may."""
    try:
        if path.name == "tuning.json":
            return _objections_to_tuning(experiment, read_followed(path, TuningSweep))
        found = read_followed(path, Evidence)
    except EvidenceError as error:
        return [str(error)]
    if problem := check_recipe(found, experiment.name, experiment.names):
        return [f"It can't be used: {problem}."]
    reasons = _objections_to_origin(experiment, found)
    if others := set_otherwise(experiment, found):
        reasons.append(f"Its {', '.join(others)} are not those of budget {found.budget}.")
    elif why := staleness(experiment, found):
        reasons.append(f"It is stale: {why}. Measure again.")
    if set(found.variants) != set(experiment.published_at(found.budget)):
        reasons.append("It lacks some of the variants.")
    if any(record.status == "failed" for record in found.records):
        reasons.append("It has failed runs: add --resume to its command.")
    first, many = experiment.first_seed, len(found.seeds)
    least = LEAST_SEEDS.get(found.budget, 10)
    if found.seeds != list(range(first, first + many)) or many < least:
        reasons.append(f"It has {many} seeds, and {least} from {first} on are the least.")
    return reasons


def _objections_to_origin(experiment: Experiment, found: Origin) -> list[str]:
    """Of which code, images and settings a file of evidence or of a sweep is."""
    reasons = []
    budget = found.budget
    source, digest = IMAGES.get(budget, IMAGES["quick"])
    if budget not in ("quick", "full") or (budget == "full" and not experiment.at_full):
        reasons.append("It is not of budget quick" + (", nor of full." if experiment.at_full else "."))
    if found.data != Images(source=source, train_images=None, split_seed=None):
        reasons.append(f"Its images are not those of budget {budget}.")
    elif found.data_digest != digest:
        reasons.append("Its images are not the bundled ones, or not those of all of CIFAR-10, by their digest.")
    if found.keras != {"floatx": "float32", "image_data_format": "channels_last"}:
        reasons.append("It was measured with other settings of Keras.")
    if found.model:
        reasons.append("It is of a reader's own model.")
    commit = str(found.commit)
    if commit.endswith("+changes"):
        reasons.append("It was measured by code that is not committed.")
    elif not is_commit(commit):
        reasons.append(f"There is no commit {commit[:40]!r}.")
    return reasons


def _objections_to_tuning(experiment: Experiment, found: TuningSweep) -> list[str]:
    if problem := check_recipe(found, experiment.name):
        return [f"It can't be used: {problem}."]
    reasons = _objections_to_origin(experiment, found)
    budget = "full" if found.budget == "full" else "quick"
    if why := staleness_of_tuning(experiment, found):
        reasons.append(f"It is stale: {why}. Measure again.")
    if experiment.tuning:
        defaults = _as_read_back(experiment.config_at(budget))
        if others := set_otherwise(experiment, found):
            reasons.append(f"Its {', '.join(others)} are not those of budget {budget}.")
        whole = [replace(record, config={**defaults, **record.config}) for record in found.search]
        if found.winners != experiment.tuning.at(budget).winners(whole):
            reasons.append("Its winners are not those of its own trials.")
    if set(found.variants) != set(experiment.swept_at(budget)) and not experiment.table:
        reasons.append("It lacks some of the variants.")
    if any(record.status == "failed" for record in found.search + found.curve):
        reasons.append("It has failed runs: add --resume to its command.")
    return reasons


def _as_read_back(config: Any) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(config).items()}
