"""Checks of a request before anything runs. Each refusal says which value is wrong and what would do."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from lab.evidence.provenance import cores
from lab.evidence.records import EvidenceError, read
from lab.evidence.schemas import LOOKS, TuningSweep
from lab.execute.own_model import model_file
from lab.experiment import BUDGETS, BudgetName, Experiment
from lab.settings import Settings, flag
from pipelines import sources
from pipelines.errors import UsageError

MOST_SEEDS = 10_000
MOST_TRIALS = 10_000
LARGEST_SEED = 2**32 - 1  # NumPy and Keras take no larger one.
JOBS_A_CORE = 8
# The smallest values of fields of a recipe's Config; of all others it is 0, unless the recipe says otherwise.
LEAST = {"epochs": 1, "batch_size": 1, "images": 1}
MOST = 1_000_000  # Of each of them.


def seeds_of(
    experiment: Experiment, budget: BudgetName, given: int | Sequence[int] | None, first: int | None = None
) -> tuple[int, ...]:
    """The seeds of a comparison: `given` many from `first` on (by default the recipe's first), or those given.

    Raises:
        UsageError: too many or none, one out of bounds, or one twice.
    """
    given = BUDGETS[budget].seeds if given is None else given
    _check_number("--seeds", given if isinstance(given, int) else len(given), 1, MOST_SEEDS)
    first = experiment.first_seed if first is None else first
    seeds = tuple(range(first, first + given)) if isinstance(given, int) else tuple(map(int, given))
    if min(seeds) < 0 or max(seeds) > LARGEST_SEED or len(set(seeds)) < len(seeds):
        shown = ", ".join(map(str, seeds[:5])) + ", …" * (len(seeds) > 5)
        raise UsageError(f"Seeds are whole numbers from 0 to {LARGEST_SEED:,}, each once, not {shown}.")
    return seeds


def variants_of(
    experiment: Experiment,
    budget: BudgetName,
    given: str | Sequence[str],
    possible: Sequence[str] | None = None,
    own_model: bool = False,
) -> tuple[str, ...]:
    """The variants of a command in the recipe's order: those given, `all`, or by default the usual ones.

    `possible` are those that a sweep or a search is about, which does all of them by default. With a model of the
    reader's own, variants that are about a model of theirs are left out: they would be compared with another one.

    Raises:
        UsageError: there is no such variant, or it is none of those.
    """
    given = (given,) if isinstance(given, str) else tuple(given)
    named = given not in ((), ("all",))
    if given == ("all",):
        given = tuple(experiment.names if possible is None else possible)
    if not given:
        given = tuple(experiment.usual(budget) if possible is None else possible)
    if unknown := [name for name in given if name not in experiment.names]:
        raise UsageError(f"There is no variant {unknown[0]!r}: use any of {', '.join(experiment.names)}, or all.")
    if possible is not None and (without := [name for name in given if name not in possible]):
        raise UsageError(f"{without[0]} has nothing to tune or to search for: use any of {', '.join(possible)}.")
    others = [name for name in given if own_model and not experiment.takes_model(name)]
    if others and named:
        raise UsageError(f"{others[0]} has its own model: leave it out, or run without --model.")
    left = tuple(name for name in experiment.names if name in given and name not in others)
    return left or tuple(name for name in experiment.names if name in given)  # `check` refuses where none is left.


def with_tuned(
    experiment: Experiment, settings: Settings, path: Path, variants_given: bool, flags: Collection[str] = ()
) -> Settings:
    """The settings with the winners of a `tuning.json`, for all variants that have one or for those that were given.

    Raises:
        UsageError: the file is of another recipe, other images or another model, lacks a variant, or has what a flag
            sets too.
    """
    try:
        found = read(path.expanduser(), TuningSweep, "name one that `tune` wrote")
    except EvidenceError as error:
        raise UsageError(str(error)) from error
    if found.recipe != experiment.name:
        raise UsageError(f"{path} is of {found.recipe} and not of {experiment.name}.")
    if (found.data.source, found.model.partition(" ")[0]) != (settings.data.source, settings.model):
        model = f" with --model {found.model.partition(' ')[0]}" if found.model else ""
        raise UsageError(f"{path} was found on --data {found.data.source}{model}: use the same here, or tune again.")
    fields = {field.name for field in dataclasses.fields(experiment.config)}
    tuned = {
        variant: {name: value for name, value in winner.items() if name in fields and value is not None}
        for variant, winner in found.winners.items()
    }
    names = settings.variants if variants_given else tuple(name for name in experiment.names if name in tuned)
    if lacking := [name for name in names if name not in tuned]:
        raise UsageError(f"{path} has no settings of {lacking[0]}: tune it, or choose from {', '.join(tuned)}.")
    if together := [name for name in names if not experiment.runs_apart(name)]:
        raise UsageError(f"{', '.join(together)} of {experiment.name} share one config: leave --tuned out.")
    twice = [flag(name) for variant in names for name in tuned[variant] if flag(name) in flags]
    if twice:
        raise UsageError(f"{path} has each variant's own {twice[0]}: leave the flag out.")
    return dataclasses.replace(settings, variants=names, tuned={name: tuned[name] for name in names})


def check(experiment: Experiment, settings: Settings, config: Any) -> None:
    """Check a request as far as that is possible without the images.

    Raises:
        UsageError, RequestError: it can't be done.
    """
    if settings.jobs is not None:
        _check_number("--jobs", settings.jobs, 1, JOBS_A_CORE * cores(), f" ({JOBS_A_CORE} for each core)")
    if settings.data.split_seed is not None:
        _check_number("--split-seed", settings.data.split_seed, 0, LARGEST_SEED)
    if settings.action == "search":
        _check_number("--trials", settings.trials, 1, MOST_TRIALS)
    if settings.action == "extend" and settings.to not in LOOKS:
        raise UsageError(f"--to must be one of {', '.join(map(str, LOOKS))}, not {settings.to}.")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, (int, float)):
            _check_number(flag(field.name), value, {**LEAST, **experiment.least}.get(field.name, 0), MOST)
    if settings.model and not any(map(experiment.takes_model, settings.variants)):
        raise UsageError(f"The question of {experiment.name} is about its own models: leave --model out.")
    if settings.model:
        model_file(settings.model)
    check_folder("--logdir", str(settings.logdir))
    check_folder("--save", settings.save)
    sources.check_request(settings.data)


def _check_number(name: str, value: float, least: float, most: float, why: str = "") -> None:
    if not least <= value <= most:  # NaN is not, either.
        raise UsageError(f"{name} must be from {least:,} to {most:,}{why}, not {value:,}.")


def check_folder(name: str, path: str) -> None:
    """Check the name of a folder that is to be written to. TensorFlow writes to UTF-8 names alone.

    Raises:
        UsageError: it can't be a folder.
    """
    if not path.isprintable():  # What is no UTF-8 isn't either.
        raise UsageError(f"{name} {path!r} has a character that can't be printed: name another folder.")
    try:
        is_file = bool(path) and Path(path).exists() and not Path(path).is_dir()
    except OSError as error:
        raise UsageError(f"{name} {path!r} can't be looked at ({error.strerror}): name another folder.") from error
    if is_file:
        raise UsageError(f"{name} {path} is a file: name a folder.")
