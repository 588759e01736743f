"""Whether what was asked for can be done: seeds, settings, flags that do not go together, before anything is run."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lab.evidence.provenance import cores
from lab.evidence.records import LOOKS
from lab.execute.own_model import check_own_model, own_model
from lab.experiment import BUDGETS, BudgetName, Experiment
from lab.settings import Settings
from pipelines import sources
from pipelines.errors import UsageError

MOST_SEEDS = 10_000
MOST_TRIALS = 10_000
LARGEST_SEED = 2**32 - 1  # NumPy and Keras take no larger one.
JOBS_A_CORE = 8
# The smallest values of fields of a recipe's Config; of all others it is 0, unless the recipe says otherwise.
LEAST = {"epochs": 1, "batch_size": 1}
MOST = 1_000_000  # Of each of them.


def seeds_of(
    experiment: Experiment, budget: BudgetName, given: int | Sequence[int] | None, first: int | None = None
) -> tuple[int, ...]:
    """The seeds of a comparison: so many from the recipe's first one on, or from `first`, or as given.

    Raises:
        UsageError: too many or none, one below 0, or one twice.
    """
    if given is None:
        given = BUDGETS[budget].seeds
    how_many = given if isinstance(given, int) else len(given)
    if not 1 <= how_many <= MOST_SEEDS:
        raise UsageError(f"--seeds must be from 1 to {MOST_SEEDS:,}, not {how_many}.")
    first = experiment.first_seed if first is None else first
    seeds = tuple(range(first, first + given)) if isinstance(given, int) else tuple(map(int, given))
    if min(seeds) < 0 or max(seeds) > LARGEST_SEED or len(set(seeds)) < len(seeds):
        shown = ", ".join(map(str, seeds[:5])) + ", …" * (len(seeds) > 5)
        raise UsageError(f"Seeds are whole numbers from 0 to {LARGEST_SEED:,}, each once, not {shown}.")
    return seeds


def variants_of(
    experiment: Experiment, budget: BudgetName, given: str | Sequence[str], possible: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The variants of an invocation: as given, `all`, or by default the usual ones.

    Of a sweep or a search `possible` are those that it is about, and by default all of them.

    Raises:
        UsageError: there is no such variant, or it is none of those.
    """
    given = (given,) if isinstance(given, str) else tuple(given)
    if given == ("all",) and "all" not in experiment.names:  # Where a variant is called so, it is meant.
        given = tuple(experiment.names if possible is None else possible)
    if not given:
        given = tuple(experiment.usual(budget) if possible is None else possible)
    if unknown := [name for name in given if name not in experiment.names]:
        raise UsageError(f"There is no variant {unknown[0]!r}: use any of {', '.join(experiment.names)}, or all.")
    if possible is not None and (without := [name for name in given if name not in possible]):
        raise UsageError(f"{without[0]} has nothing to tune or to search for: use any of {', '.join(possible)}.")
    return tuple(name for name in experiment.names if name in given)


def default_config(experiment: Experiment, budget: BudgetName, data: sources.Request) -> Any:
    """The recipe's Config at a budget, without the target that was set for CIFAR-10 where images are others."""
    config = experiment.config_at(budget)
    return config if data.is_cifar10 or not hasattr(config, "target") else dataclasses.replace(config, target=None)


def check(experiment: Experiment, asked: Settings, config: Any) -> None:
    """Whether what was asked can be, as far as can be told without the images.

    Raises:
        UsageError, RequestError: it can't.
    """
    most = JOBS_A_CORE * cores()
    if asked.jobs is not None and not 1 <= asked.jobs <= most:
        raise UsageError(f"--jobs must be from 1 to {most} ({JOBS_A_CORE} for each core), not {asked.jobs}.")
    split_seed = asked.data.split_seed
    if split_seed is not None and not 0 <= split_seed <= LARGEST_SEED:
        raise UsageError(f"--split-seed must be from 0 to {LARGEST_SEED:,}, not {split_seed}.")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        least = {**LEAST, **experiment.least}.get(field.name, 0)
        if isinstance(value, (int, float)) and not least <= value <= MOST:  # Nor is what is no number.
            raise UsageError(f"--{field.name.replace('_', '-')} must be from {least} to {MOST:,}, not {value}.")
    if getattr(config, "tuned_at", "quick") not in ("quick", "full"):
        raise UsageError(f"--tuned-at must be quick or full, not {config.tuned_at!r}.")
    if asked.model and experiment.model is None:
        raise UsageError(f"The question of {experiment.name} is about its own models: leave --model out.")
    if asked.model:
        try:
            own_model(asked.model)
        except ValueError as error:
            raise UsageError(str(error)) from error
    if asked.reference and not asked.board:
        raise UsageError("--reference goes with --board: add that, or leave --reference out.")
    if asked.board and not asked.log:
        raise UsageError("--board shows TensorBoard's files: leave --no-log out.")
    if asked.action == "tune":
        _check_tune(experiment, asked, config)
    for flag, path in (("logdir", str(asked.logdir)), ("save", asked.save)):
        check_folder(flag, path)
    sources.check_request(asked.data)


def check_folder(flag: str, path: str) -> None:
    """Whether a folder that is to be written to may be called so: TensorFlow writes to names of UTF-8 alone.

    Raises:
        UsageError: it may not, or it is a file.
    """
    if not path.isprintable():  # What is no UTF-8 isn't either.
        raise UsageError(f"--{flag} {path!r} has a character that can't be printed: name another folder.")
    try:
        is_file = path and Path(path).exists() and not Path(path).is_dir()
    except OSError as error:
        raise UsageError(f"--{flag} {path!r} can't be looked at ({error.strerror}): name another folder.") from error
    if is_file:
        raise UsageError(f"--{flag} {path} is a file: name a folder.")


def check_sweep(experiment: Experiment, options: Any, config: Any, searching: Any) -> None:
    """Whether a sweep or a search was asked for with flags that it has no use for.

    Raises:
        UsageError: it was.
    """
    if not searching.search and searching.trials != type(searching)().trials:
        raise UsageError("--trials says how long a --search is: add that, or leave --trials out.")
    if not (options.tune or searching.search):
        return
    flag = "--search" if searching.search else "--tune"
    if options.tune and searching.search:
        raise UsageError("--tune and --search are two ways to find settings: leave one of them out.")
    if options.seeds is not None:
        raise UsageError(f"{flag} has seeds of its own: leave --seeds out.")
    for name in ("save", "profile", "board"):
        if getattr(options, name):
            raise UsageError(f"{flag} keeps numbers only: leave --{name} out.")
    if searching.search and not 1 <= searching.trials <= MOST_TRIALS:
        raise UsageError(f"--trials must be from 1 to {MOST_TRIALS:,}, not {searching.trials}.")
    usual = default_config(experiment, options.budget, sources.Request(options.data or "subset"))
    if searching.search:
        for variant in variants_of(experiment, options.budget, options.variants, experiment.searched):
            _check_nothing_chosen("--search", experiment.space_of(variant), config, usual)


def check_until_decided(experiment: Experiment, options: Any, searching: Any) -> None:
    """Whether `--until-decided` was asked for with flags that it has no use for.

    Raises:
        UsageError: it was, or the number is none of the looks, or the recipe's repeats are no seeds.
    """
    most = options.until_decided
    if most is None:
        return
    if most not in LOOKS:
        raise UsageError(f"--until-decided is one of the looks, {', '.join(map(str, LOOKS))}, and not {most}.")
    if experiment.table:
        raise UsageError(
            f"{experiment.name} looks results up, and more of that decides nothing: leave --until-decided out."
        )
    if options.tune or searching.search:
        raise UsageError("--until-decided measures with the settings that there are: leave --tune and --search out.")
    if options.seeds is not None or options.first_seed is not None or options.variants:
        raise UsageError("--until-decided chooses seeds and variants itself: leave --seeds and --variants out.")
    if options.model or options.data or options.budget != "quick":
        raise UsageError(
            "--until-decided goes on from what is published at quick: leave other data and budgets out. (At full all "
            "seeds are one look: --seeds says how many.)"
        )


def _check_nothing_chosen(flag: str, fields: Iterable[str], config: Any, usual: Any) -> None:
    for name in sorted(fields):
        if getattr(config, name) != getattr(usual, name):
            shown = name.replace("_", "-")
            raise UsageError(f"{flag} chooses {shown} itself: leave --{shown} out.")


def _check_tune(experiment: Experiment, asked: Settings, config: Any) -> None:
    if experiment.sweep is None:
        raise UsageError(f"The recipe {experiment.name} has nothing to tune: leave --tune out.")
    usual = default_config(experiment, asked.budget, asked.data)
    ignored = [field.name for field in dataclasses.fields(config)]  # A table is of settings of its own.
    if experiment.tuning:
        ignored = [experiment.tuning.swept, *(name for name, _ in experiment.tuning.second.values())]
    _check_nothing_chosen("--tune", ignored, config, usual)


def check_with_images(experiment: Experiment, asked: Settings, config: Any) -> None:
    """Whether what was asked can be, now that the images are known.

    Raises:
        UsageError: it can't.
    """
    data = sources.load(asked.data)
    batch_size = getattr(config, "batch_size", 1)
    if batch_size > len(data.train):
        raise UsageError(
            f"--batch-size {batch_size:,} is more than the {len(data.train):,} training images: use a smaller one."
        )
    if asked.model:
        try:
            check_own_model(asked.model, asked.variants[0], data)
        except ValueError as error:
            raise UsageError(str(error)) from error
