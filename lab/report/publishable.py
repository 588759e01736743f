"""Why evidence may not be published: it is stale, not whole, or not what its budget asks for."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from lab.evidence.lineage import read_followed
from lab.evidence.provenance import is_commit
from lab.evidence.records import EvidenceError, read
from lab.evidence.schemas import Evidence, Images, Trial, TuningSweep, check_recipe
from lab.evidence.staleness import as_read_back, set_otherwise, staleness
from lab.experiment import BudgetName, Experiment

SUBSET_DIGEST = "d8817bbd963782f8"  # Of the bundled images and labels, decoded.
FULL_DIGEST = "e0fb09a180fee78d"  # Of all of CIFAR-10's.
DIGESTS = {"subset": SUBSET_DIGEST, "full": FULL_DIGEST}
LEAST_SEEDS = 10
KINDS: dict[str, type[Evidence | TuningSweep]] = {"evidence.json": Evidence, "tuning.json": TuningSweep}
KERAS = {"floatx": "float32", "image_data_format": "channels_last"}


def find(experiment: Experiment, logs: Path, name: str) -> tuple[Path | None, list[str]]:
    """The newest file of `name`, "evidence.json" or "tuning.json", under `logs` that may be published.

    Also returns a sentence for each newer one that may not. Runs at other budgets than quick, and those on a reader's
    own images or with a reader's own model are never meant.
    """
    passed_over: list[str] = []
    for path in sorted((logs / experiment.name).glob(f"*/{name}"), reverse=True):
        other, own = False, False  # What is neither, or broken, is said below.
        with contextlib.suppress(EvidenceError):
            found = read(path, dict[str, Any])
            other = found.get("budget") in ("smoke", "full")
            images = found.get("data")
            own = bool(found.get("model")) or (isinstance(images, dict) and images.get("source") not in DIGESTS)
        if other or own:
            continue
        if not (reasons := objections(experiment, path)):
            return path, passed_over
        passed_over.append(f"{path} is skipped: {' '.join(reasons)}")
    return None, passed_over


def objections(experiment: Experiment, path: Path) -> list[str]:
    """Why a file of evidence or of a sweep may not be published, in sentences; empty if it may."""
    try:
        found = read_followed(path, KINDS[path.name])
    except EvidenceError as error:
        return [str(error)]
    if problem := check_recipe(found, experiment.name, experiment.names):
        return [f"{path} can't be used: {problem}."]
    problems = _of_origin(experiment, found)
    if isinstance(found, TuningSweep):
        runs = [*found.search, *found.curve]
        lacking = set() if experiment.table else set(experiment.swept) - set(found.variants)
        if experiment.tuning:
            won = winners_of(experiment, found.search, found.budget)
            problems["Its winners are not those of its own trials."] = found.winners != won
    else:
        runs = list(found.records)
        lacking = set(experiment.names) - set(found.variants)
        first, many = experiment.first_seed, len(found.seeds)
        few = found.seeds != list(range(first, first + many)) or many < LEAST_SEEDS
        counts = Counter(run.variant for run in runs)
        short = [name for name in counts if counts[name] < many and name not in experiment.apart]
        dropped = bool(short) and found.until_decided is None
        problems[f"It lacks seeds of variants that are timed: {', '.join(sorted(short))}."] = dropped
        problems["Its variants have settings of their own, from --tuned."] = bool(found.tuned)
        problems[f"It has {many} seeds; at least {LEAST_SEEDS} are needed, from {first} on."] = few
    problems[f"It lacks some of the variants: {', '.join(sorted(lacking))}."] = bool(lacking)
    problems["It has failed runs: repeat its command with --resume."] = any(run.status == "failed" for run in runs)
    return [sentence for sentence, is_so in problems.items() if is_so]


def winners_of(experiment: Experiment, trials: Sequence[Trial], budget: BudgetName) -> dict[str, dict[str, Any]]:
    """variant -> the winning settings of a sweep's trials as a file holds them, and the mean that they reached."""
    assert experiment.tuning is not None
    defaults = as_read_back(vars(experiment.config_at(budget)))
    whole = [structs.replace(trial, config={**defaults, **trial.config}) for trial in trials]
    return experiment.tuning.winners(whole)


def _of_origin(experiment: Experiment, found: Evidence | TuningSweep) -> dict[str, bool]:
    """Objections to the code, the images and the settings, and whether each is one."""
    source = experiment.images
    other_images = found.data != Images(source=source, train_images=None, split_seed=None)
    commit = str(found.commit)
    changed = commit.endswith("+changes")
    has_settings = found.kind == "comparison" or experiment.tuning is not None
    others = set_otherwise(experiment, found) if has_settings and not other_images else []
    why = "" if others else staleness(experiment, found)
    return {
        f"Its budget is {found.budget}, which is not published.": found.budget != "quick",
        f"Its images are not those of budget {found.budget}.": other_images,
        "Its images are not CIFAR-10's, by their digest.": not other_images and found.data_digest != DIGESTS[source],
        "It was measured with other settings of Keras.": found.keras != KERAS,
        "It was measured with a reader's own model.": bool(found.model),
        "It was measured with code that is not committed.": changed,
        f"There is no commit {commit[:40]!r}.": not changed and not is_commit(commit),
        f"Its {', '.join(others)} are not those of budget {found.budget}.": bool(others),
        f"It is stale: {why}. Measure again.": bool(why),
    }
