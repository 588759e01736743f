"""`lab.measure`: what a recipe's command does, called from Python or a notebook."""

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lab.cli import live_table, validate
from lab.execute.invocation import Invocation
from lab.experiment import BudgetName, Experiment
from lab.experiments import NAMES
from lab.measurement import (
    Measured,
    MeasurementError,
    conclude,
    found,
    run_comparison,
    say_about_model,
    say_what_listens,
)
from lab.settings import FITTING, LOGS, Settings, default_config, images_of
from pipelines import sources
from pipelines.errors import UsageError


def measure(
    experiment: Experiment | str,
    *,
    budget: BudgetName = "quick",
    variants: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    data: str | None = None,
    train_images: int | None = None,
    split_seed: int | None = None,
    image_size: int | None = None,
    skip_bad: bool = False,
    model: str = "",
    save: str | Path = "",
    logdir: str | Path = LOGS,
    jobs: int | None = None,
    log: bool = True,
    **config: Any,
) -> Measured:
    """Run a recipe as its command line does, with a live view in a notebook, and return what was found.

    Args:
        experiment: the recipe's name, such as "optimizers", or your own `Experiment`.
        variants: which; by default those of a plain run, and all of them with ["all"].
        seeds: how many, from the recipe's first one on, or which.
        data: "subset", "full", "folder:PATH", "csv:FILE" or "tfds:NAME"; the default is the budget's.
        skip_bad: leave out files that can't be used as images.
        model: your own function in place of the recipe's `build_model`, as "FILE.py:FUNCTION".
        save: a folder for the trained models, one `.keras` file per run, and their classes in `classes.json`.
        config: fields of the recipe's Config.

    Raises:
        UsageError, RequestError: the request can't be done.
        DataError: the images are missing or broken.
        MeasurementError: every run failed.
    """
    given = {name: value for name, value in locals().items() if name not in ("experiment", "config")}
    experiment, console = found(experiment), Console()
    if experiment.module == "__main__":
        raise UsageError("An Experiment of a notebook or script can't be sent to other processes: put it in a module.")
    images = images_of(budget, experiment, data, train_images, split_seed, image_size, skip_bad)
    chosen = validate.seeds_of(experiment, budget, seeds)
    names = validate.variants_of(experiment, budget, variants, own_model=bool(model))
    asked: dict[str, Any] = {"logdir": Path(logdir), "jobs": jobs, "model": model, "save": str(save), "log": log}
    settings = Settings(
        budget, chosen, names, images, **asked, fits=tuple(name for name in FITTING if name not in config)
    )
    try:
        its_config = dataclasses.replace(default_config(experiment, budget, images), **config)
    except TypeError as error:
        raise UsageError(f"{experiment.name} has no such setting ({error}).") from error
    validate.check(experiment, settings, its_config)
    sources.say_once.cache_clear()  # A cell of a notebook may be run again.
    invocation = Invocation.begin(experiment, settings, its_config, _call(experiment, {**given, **config}))
    try:
        say_what_listens(invocation, console.print)
        say_about_model(invocation, console.print)
        records = run_comparison(invocation, console.print, live_table.watcher(console))
        if all(record.status == "failed" for record in records):
            cause, log_file = records[0].cause, invocation.folder / "workers.log"
            raise MeasurementError(f"All {len(records)} runs failed, the first with: {cause}. See {log_file}.")
        return conclude(invocation, records)
    finally:
        invocation.end()


def _call(experiment: Experiment, given: dict[str, Any]) -> str:
    """The call of `measure`, with all arguments that have not their default."""
    usual = {name: parameter.default for name, parameter in inspect.signature(measure).parameters.items()}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    said = [f"{name}={value!r}" for name, value in plain.items() if repr(value) != repr(usual.get(name, plain))]
    name = experiment.name if experiment.name in NAMES else experiment.module
    return f"measure({', '.join([repr(name), *said])})"
