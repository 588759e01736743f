"""From what was asked to what was found: `measure(RECIPE, budget="smoke")` in Python, and the command line's work."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines import sources
from recipes.harness.declaring.recipe import BUDGETS, BudgetName, Recipe
from recipes.harness.evidence.records import Record, write_json
from recipes.harness.reporting import view
from recipes.harness.reporting.card import markdown, markdown_table
from recipes.harness.reporting.published import Published
from recipes.harness.reporting.report import Report
from recipes.harness.running.invocation import Asked, Invocation, UsageError, default_data
from recipes.harness.running.job import Job, read_progress
from recipes.harness.running.own_model import check_own_model, own_model
from recipes.harness.running.schedule import Work, carry_out

LOGS = Path("logs")
MOST_SEEDS = 10_000
# The smallest values of fields of a recipe's Config; of all others it is 0, unless the recipe says otherwise.
LEAST = {"epochs": 1, "batch_size": 1}


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found: all of it is also in `folder`, with TensorBoard's files beside it."""

    report: Report
    folder: Path
    published: Published

    @property
    def records(self) -> list[Record]:
        """A record a run: variant, seed, metrics, curves and more."""
        return self.report.records

    def table(self) -> Any:
        """Each variant's mean and standard deviation: a pandas DataFrame, or without pandas a list of dicts, which
        notebooks show as a table."""
        header, rows = self.report.table()
        table = [dict(zip(header, row, strict=True)) for row in rows]
        try:
            import pandas
        except ImportError:
            return Rows(table)
        return pandas.DataFrame(table).set_index(header[0])

    def figure(self) -> Any:
        """The recipe's figure, drawn from these runs, as a matplotlib figure."""
        return self.report.figure()

    def verdicts(self) -> dict[str, str]:
        """Claim's id -> what these runs say of it."""
        return {judgement.claim.id: judgement.verdict for judgement in self.report.judgements()}


class Rows(list):
    """Dicts with the same keys, that a notebook shows as a table."""

    def _repr_markdown_(self) -> str:
        return markdown_table(list(self[0]), [list(row.values()) for row in self]) if self else ""


def measure(
    recipe: Recipe,
    *,
    budget: BudgetName = "quick",
    variants: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    data: str | None = None,
    train_images: int | None = None,
    image_size: int | None = None,
    model: str = "",
    save: str | Path = "",
    logdir: str | Path = LOGS,
    jobs: int | None = None,
    log: bool = True,
    **config: Any,
) -> Measured:
    """Run a recipe as its command line does, with a live view in a notebook, and return what was found.

    Args:
        seeds: how many, from 1 on, or which.
        data: "subset", "full", "folder:PATH" or "tfds:NAME"; the default is the budget's.
        model: a function of your own in the place of the recipe's `build_model`, as "FILE.py:FUNCTION".
        save: a folder for the trained models, one `.keras` file a run.
        config: fields of the recipe's Config.

    Raises:
        UsageError, RequestError: what was asked for can't be.
        DataError: the images are missing or broken.
    """
    if recipe.module == "__main__":
        raise UsageError("A recipe that is defined in a notebook can't be sent to other processes: put it in a module.")
    images = default_data(budget, source=data, train_images=train_images, image_size=image_size)
    asked = Asked(
        budget=budget,
        seeds=seeds_of(budget, seeds),
        variants=tuple(variants),
        data=images,
        logdir=Path(logdir),
        jobs=jobs,
        model=model,
        save=str(save),
        log=log,
    )
    try:
        chosen = dataclasses.replace(default_config(recipe, budget, images), **config)
    except TypeError as error:
        raise UsageError(f"{recipe.name} has no such setting ({error}).") from error
    check(recipe, asked, chosen)
    console = Console()
    command = f"measure({recipe.name}.RECIPE, budget={budget!r}, …)"
    invocation = Invocation.begin(recipe, asked, chosen, command)
    try:
        (work,) = carry_out([begin_comparison(invocation, lambda text: None)], watcher(console))
        return conclude(invocation, work.records())
    finally:
        invocation.end()


def seeds_of(budget: BudgetName, given: int | Sequence[int] | None) -> tuple[int, ...]:
    """The seeds of a comparison: 1 to so many, or as given.

    Raises:
        UsageError: too many or none, one below 0, or one twice.
    """
    if given is None:
        given = BUDGETS[budget].seeds
    how_many = given if isinstance(given, int) else len(given)
    if not 1 <= how_many <= MOST_SEEDS:
        raise UsageError(f"--seeds must be from 1 to {MOST_SEEDS:,}, not {how_many}.")
    seeds = tuple(range(1, 1 + given)) if isinstance(given, int) else tuple(map(int, given))
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UsageError(f"Seeds are whole numbers from 0 on, each once, not {list(seeds)}.")
    return seeds


def default_config(recipe: Recipe, budget: BudgetName, data: sources.Request) -> Any:
    """The recipe's Config at a budget, without the target that was set for CIFAR-10 where images are others."""
    config = recipe.config_at(budget)
    return config if data.is_cifar10 or not hasattr(config, "target") else dataclasses.replace(config, target=None)


def check(recipe: Recipe, asked: Asked, config: Any) -> None:
    """Whether what was asked can be, as far as can be told without the images.

    Raises:
        UsageError, RequestError: it can't.
    """
    if unknown := [name for name in asked.variants if name not in recipe.names]:
        raise UsageError(f"There is no variant {unknown[0]!r}: use any of {', '.join(recipe.names)}.")
    if asked.jobs is not None and asked.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {asked.jobs}.")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        least = {**LEAST, **recipe.least}.get(field.name, 0)
        if isinstance(value, (int, float)) and not (math.isfinite(value) and value >= least):
            raise UsageError(f"--{field.name.replace('_', '-')} must be at least {least} and finite, not {value}.")
    if asked.model and recipe.model is None:
        raise UsageError(f"The question of {recipe.name} is about its own models: leave --model out.")
    if asked.model:
        try:
            own_model(asked.model)
        except ValueError as error:
            raise UsageError(str(error)) from error
    if asked.tune:
        _check_tune(recipe, asked, config)
    if asked.logdir.exists() and not asked.logdir.is_dir():
        raise UsageError(f"--logdir {asked.logdir} is a file: name a folder.")
    sources.check_request(asked.data)


def _check_tune(recipe: Recipe, asked: Asked, config: Any) -> None:
    if recipe.sweep is None:
        raise UsageError(f"The recipe {recipe.name} has nothing to tune: leave --tune out.")
    usual = default_config(recipe, asked.budget, asked.data)
    ignored = [field.name for field in dataclasses.fields(config)]  # A table is of settings of its own.
    if recipe.tuning:
        ignored = [recipe.tuning.swept, *(name for name, _ in recipe.tuning.second.values())]
    for name in ignored:
        if getattr(config, name) != getattr(usual, name):
            raise UsageError(f"--tune chooses {name.replace('_', '-')} itself: leave --{name.replace('_', '-')} out.")


def check_with_images(recipe: Recipe, asked: Asked, config: Any) -> None:
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
            check_own_model(asked.model, (asked.variants or recipe.names)[0], data)
        except ValueError as error:
            raise UsageError(str(error)) from error


def watcher(console: Console) -> Callable[[list[Job], int], Any]:
    """What shows jobs under way on a console."""
    return lambda jobs, at_once: view.watching(console, jobs, at_once, read_progress)


def begin_comparison(invocation: Invocation, say: Callable[[str], None]) -> Work:
    """The work of a comparison: what is to be done of it, and what is kept."""
    check_with_images(invocation.recipe, invocation.asked, invocation.config)
    return Work.of(invocation, invocation.plan(), say)


def conclude(invocation: Invocation, records: list[Record]) -> Measured:
    """Write the evidence, the card and the figure, and what TensorBoard lays variants side by side with.

    Raises:
        EvidenceError: the code was changed while the command ran.
    """
    recipe, folder = invocation.recipe, invocation.folder
    invocation.check_code()
    found = {
        **invocation.header,
        "variants": list(invocation.variants),
        "seeds": list(invocation.asked.seeds),
        "elapsed_seconds": invocation.elapsed(),
        "records": records,
    }
    write_json(folder / "evidence.json", found)
    published = Published.read(recipe)
    applies = invocation.is_as_published and not published.stale_tuning
    report = Report(recipe, found, published.tuning if applies else None)
    report.write_figure(folder / "figure.png")
    (folder / "card.md").write_text(markdown(report), encoding="utf-8")
    if invocation.asked.log:
        from recipes.harness.reporting import board

        columns = [*invocation.header["config"], *(recipe.table.fields if recipe.table else ())]
        metrics = list(dict.fromkeys(name for record in records for name in record["metrics"]))
        board.write_overview(folder, invocation.variants, invocation.asked.seeds, columns, metrics)
        board.write_text(folder, "card", markdown(report, with_figure=False))
    return Measured(report, folder, published)


def tune(invocation: Invocation, console: Console, say: Callable[[str], None]) -> tuple[dict[str, Any], list[Record]]:
    """Do the recipe's tuning sweep and write it; return what was written, and the records of trials that failed."""
    recipe, sweep = invocation.recipe, invocation.recipe.sweep
    assert sweep is not None
    check_with_images(recipe, invocation.asked, invocation.config)

    def trials(wanted: list[tuple[str, int, dict[str, Any]]]) -> list[Record]:
        jobs = []
        for variant, seed, fields in wanted:
            name = ",".join(f"{key}={value:g}" for key, value in fields.items())
            jobs.append(invocation.job((variant,), seed, fields, invocation.folder / name))
        (work,) = carry_out([Work.of(invocation, jobs, say)], watcher(console))
        return work.records()

    search, curve = sweep.carry_out(invocation.variants, trials)
    invocation.check_code()
    found = {
        **invocation.header,
        "variants": list(invocation.variants),
        "worker_seconds": round(sum(record["seconds"].get("total", 0.0) for record in (*search, *curve)), 1),
        "winners": sweep.winners(search),
        "search": [_brief(recipe, record) for record in search],
        "curve": [_brief(recipe, record) for record in curve],
    }
    write_json(invocation.folder / "tuning.json", found)
    return found, [record for record in (*search, *curve) if record["status"] == "failed"]


def _brief(recipe: Recipe, record: Record) -> Record:
    """What is kept of a trial: settings other than the defaults, and metrics but for times, which were shared."""
    defaults = {} if recipe.table else dataclasses.asdict(recipe.config())
    config = {key: value for key, value in record["config"].items() if value != defaults.get(key)}
    metrics = {key: value for key, value in record["metrics"].items() if "second" not in key}
    return {
        **{key: record[key] for key in ("variant", "seed", "status", "cause")},
        "metrics": metrics,
        "config": config,
    }


@contextlib.contextmanager
def ended(invocations: Sequence[Invocation]) -> Generator[None, None, None]:
    """Give the invocations' folders free at the end of the block."""
    try:
        yield
    finally:
        for invocation in invocations:
            invocation.end()
