"""From what was asked to what was found: `measure(RECIPE, budget="smoke")` in Python, and the command line's work."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from rich.console import Console

from lab.cli import live_table
from lab.cli.validate import check, check_with_images, default_config, seeds_of, variants_of
from lab.evidence.records import read, write_json
from lab.evidence.schemas import LOOKS, Evidence, Record, Summary, Trial, TuningSweep
from lab.execute.invocation import Invocation
from lab.execute.job import Job, read_progress
from lab.execute.ray import starts_a_cluster
from lab.execute.scheduler import Work, run_jobs
from lab.experiment import BudgetName, Experiment
from lab.report.card import markdown, markdown_table
from lab.report.published import RESULTS, STALE, Published
from lab.report.report import Report
from lab.settings import LOGS, Settings, images_of
from lab.tuning import Tuning
from pipelines import sources
from pipelines.errors import RequestError, UsageError


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


def advice(experiment: Experiment) -> Rows:
    """The recipe's claims as they are published, each with its verdict and numbers: a table for notebooks.

    Raises:
        UsageError: nothing of the recipe is published.
    """
    path = RESULTS / experiment.name / "summary.json"
    if not path.exists():
        raise UsageError(f"Nothing of {experiment.name} is published yet: measure it first.")
    summary = read(path, Summary, f"git checkout results/{experiment.name}/summary.json")
    stale = f" ({STALE})" if summary["stale"] else ""
    return Rows(
        {
            "claim": claim["id"],
            "advice": claim["text"],
            "verdict": claim["verdict"] + stale,
            "measured": "; ".join(claim["numbers"]),
        }
        for claim in summary["claims"]
    )


def measure(
    experiment: Experiment,
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
        variants: which; by default those that a plain run of the recipe has, and all of them with ["all"].
        seeds: how many, from the recipe's first one on, or which.
        data: "subset", "full", "folder:PATH" or "tfds:NAME"; the default is the budget's.
        model: a function of your own in the place of the recipe's `build_model`, as "FILE.py:FUNCTION".
        save: a folder for the trained models, one `.keras` file a run.
        config: fields of the recipe's Config.

    Raises:
        UsageError, RequestError: what was asked for can't be.
        DataError: the images are missing or broken.
    """
    if experiment.module == "__main__":
        raise UsageError("A recipe that is defined in a notebook can't be sent to other processes: put it in a module.")
    images = images_of(budget, source=data, train_images=train_images, image_size=image_size)
    settings = Settings(
        budget=budget,
        seeds=seeds_of(experiment, budget, seeds),
        variants=variants_of(experiment, budget, variants),
        data=images,
        logdir=Path(logdir),
        jobs=jobs,
        model=model,
        save=str(save),
        log=log,
    )
    try:
        chosen = dataclasses.replace(default_config(experiment, budget, images), **config)
    except TypeError as error:
        raise UsageError(f"{experiment.name} has no such setting ({error}).") from error
    check(experiment, settings, chosen)
    console = Console()
    command = f"measure({experiment.name}.EXPERIMENT, budget={budget!r}, …)"
    invocation = Invocation.begin(experiment, settings, chosen, command)
    try:
        (work,) = run_jobs([begin_comparison(invocation, console.print)], watcher(console))
        return conclude(invocation, work.records())
    finally:
        invocation.end()


def watcher(console: Console) -> Callable[[list[Job], int], Any]:
    """What shows jobs under way on a console."""

    @contextlib.contextmanager
    def watch(jobs: list[Job], at_once: int) -> Generator[Any, None, None]:
        with live_table.watching(console, jobs, at_once, read_progress) as shown:
            if not any(job.logging for job in jobs):
                yield shown
                return
            from lab.tensorboard.following import following

            with following(shown, jobs) as follower:
                yield follower

    return watch


def begin_comparison(invocation: Invocation, say: Callable[[str], None]) -> Work:
    """The work of a comparison: what is to be done of it, and what is kept."""
    check_with_images(invocation.experiment, invocation.settings, invocation.config)
    if len(invocation.settings.seeds) >= LOOKS[0]:
        say_if_not_committed(invocation, say)
    say_what_listens(invocation, say)
    if opening := [name for name in invocation.variants if name in invocation.experiment.opens]:
        say(
            f"{', '.join(opening)}: TensorFlow's servers listen on all addresses of this machine, whatever they are "
            "told, and do what anyone tells them who reaches them. They end with the runs."
        )
    return Work.of(invocation, invocation.plan(), say)


def say_what_listens(invocation: Invocation, say: Callable[[str], None]) -> None:
    """Say before it starts that a cluster of Ray's is reached from other machines."""
    if invocation.settings.backend == "ray" and starts_a_cluster():
        say(
            "Ray's servers listen on all addresses of this machine, whatever they are told, and do what anyone tells "
            "them who knows the token that is made for this command. They end with the runs."
        )


def say_if_not_committed(invocation: Invocation, say: Callable[[str], None]) -> None:
    """Say before a long measurement, and not when it is to be published, that it can't be."""
    if str(invocation.header.commit).endswith("+changes"):
        say("The code is not committed: what is measured by it can't be published.")


def conclude(invocation: Invocation, records: list[Record]) -> Measured:
    """Write the evidence, the card and the figure, and what TensorBoard lays variants side by side with.

    Raises:
        EvidenceError: the code was changed while the command ran.
    """
    experiment, folder = invocation.experiment, invocation.folder
    invocation.check_code()
    found = Evidence(
        **structs.asdict(invocation.header),
        variants=list(invocation.variants),
        seeds=list(invocation.settings.seeds),
        elapsed_seconds=invocation.elapsed(),
        records=records,
    )
    write_json(folder / "evidence.json", found)
    published = Published.read(experiment, budget=invocation.settings.budget)
    applies = invocation.is_as_published and not published.stale_tuning
    report = Report(experiment, found, published.tuning if applies else None)
    report.write_figure(folder / "figure.png")
    (folder / "card.md").write_text(markdown(report), encoding="utf-8")
    if any(comparison.n > 1 for judgement in report.judgements() for comparison in judgement.comparisons):
        report.write_forest(folder / "forest.png")
    if invocation.settings.log:
        from lab.tensorboard import callback, comparison

        configs = [record["config"] for record in records]
        columns = list(dict.fromkeys(name for config in configs for name in config if config[name] is not None))
        metrics = list(dict.fromkeys(name for record in records for name in record["metrics"]))
        callback.write_overview(folder, invocation.variants, invocation.settings.seeds, columns, metrics)
        card = markdown(report, with_figure=False)
        callback.write_text(folder, "card", card)
        data = sources.load(invocation.settings.data)
        comparison.write_finished(folder, report, card, data.test, data.classes, samples_of(invocation, data))
    return Measured(report, folder, published)


def samples_of(invocation: Invocation, data: sources.Data) -> dict[str, np.ndarray]:
    """Some of the images that each variant is trained on, as its feed hands them on, where the recipe says how."""
    feed, config = invocation.experiment.feed, invocation.config
    if feed is None:
        return {}
    try:
        return {name: np.asarray(next(iter(feed(name, data, config)))[0]) for name in invocation.variants}
    except RequestError:  # Fewer images than a sample has.
        return {}


def tune(invocation: Invocation, console: Console, say: Callable[[str], None]) -> tuple[TuningSweep, list[Record]]:
    """Do the recipe's tuning sweep and write it; return what was written, and the records of trials that failed."""
    experiment, sweep = invocation.experiment, invocation.experiment.sweep
    assert sweep is not None
    if isinstance(sweep, Tuning):
        sweep = sweep.at(invocation.settings.budget)
    check_with_images(experiment, invocation.settings, invocation.config)
    say_if_not_committed(invocation, say)
    say_what_listens(invocation, say)

    def trials(wanted: list[tuple[str, int, dict[str, Any]]]) -> list[Record]:
        jobs = []
        for variant, seed, fields in wanted:
            name = ",".join(f"{key}={value:g}" for key, value in fields.items())
            jobs.append(invocation.job((variant,), seed, fields, invocation.folder / name))
        (work,) = run_jobs([Work.of(invocation, jobs, say)], watcher(console))
        return work.records()

    search, curve = sweep.carry_out(invocation.variants, trials)
    invocation.check_code()
    found = TuningSweep(
        **structs.asdict(invocation.header),
        variants=list(invocation.variants),
        worker_seconds=round(sum(record.seconds.get("total", 0.0) for record in (*search, *curve)), 1),
        winners=sweep.winners(search),
        search=[_brief(experiment, record) for record in search],
        curve=[_brief(experiment, record) for record in curve],
    )
    write_json(invocation.folder / "tuning.json", found)
    return found, [record for record in (*search, *curve) if record.status == "failed"]


def _brief(experiment: Experiment, record: Record) -> Trial:
    """What is kept of a trial: settings other than the defaults, and metrics but for times, which were shared."""
    defaults = {} if experiment.table else dataclasses.asdict(experiment.config())
    return Trial(
        variant=record.variant,
        seed=record.seed,
        config={key: value for key, value in record.config.items() if value != defaults.get(key)},
        status=record.status,
        cause=record.cause,
        metrics={key: value for key, value in record.metrics.items() if "second" not in key},
    )


@contextlib.contextmanager
def ended(invocations: Sequence[Invocation]) -> Generator[None, None, None]:
    """Give the invocations' folders free at the end of the block."""
    try:
        yield
    finally:
        for invocation in invocations:
            invocation.end()
