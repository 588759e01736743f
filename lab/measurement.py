"""From a checked request to what was found: the work of commands and of `lab.measure`."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from lab.evidence.records import NOTES, by_product, read, write_json
from lab.evidence.schemas import LOOKS, Evidence, Record, Summary, Trial, TuningSweep
from lab.execute.invocation import Invocation
from lab.execute.job import Job
from lab.execute.ray import starts_a_cluster
from lab.execute.scheduler import run_jobs
from lab.experiment import Experiment
from lab.experiments import NAMES, load
from lab.report.card import markdown
from lab.report.pages import effect_text, markdown_table, shown
from lab.report.published import RESULTS, STALE, Published
from lab.report.report import Report
from lab.report.summary import not_applying
from lab.tuning import Tuning
from pipelines import sources
from pipelines.errors import RequestError, UsageError

Say = Callable[[str], None]
Watch = Callable[[list[Job], int], Any]


class MeasurementError(RuntimeError):
    """Every run failed, so there is nothing to return."""


class Rows(list):
    """Dicts with the same keys, which a notebook shows as a table."""

    def _repr_markdown_(self) -> str:
        return markdown_table(list(self[0]), [list(row.values()) for row in self]) if self else ""


@dataclasses.dataclass(frozen=True, repr=False)
class Measured:
    """What was found. All of it is also in `folder`, with TensorBoard's files beside it."""

    report: Report
    folder: Path
    published: Published

    def __repr__(self) -> str:
        found, unfinished = self.report.found, sum(record.status != "finished" for record in self.records)
        runs = f"{len(found.seeds)} seeds of {', '.join(found.variants)}"
        return (
            f"{found.recipe} at {found.budget}: {runs}{f', not finished: {unfinished}' if unfinished else ''}\n"
            f"in {self.folder}. Look at .table(), .figure(), .verdicts() and .records."
        )

    @property
    def records(self) -> list[Record]:
        """A record for each run: variant, seed, metrics, curves and more."""
        return self.report.records

    def table(self) -> Rows:
        """Each variant's mean and standard deviation: a list of dicts, which notebooks show as a table."""
        header, rows = self.report.table()
        return Rows(dict(zip(header, row, strict=True)) for row in rows)

    def figure(self) -> Any:
        """The recipe's figure, drawn from these runs, as a matplotlib figure."""
        return self.report.figure()

    def verdicts(self) -> dict[str, str]:
        """Claim's id -> the verdict of these runs."""
        return {judgement.claim.id: judgement.verdict for judgement in self.report.judgements}


def advice(experiment: Experiment | str, results: Path | None = None) -> Rows:
    """The published claims and verdicts of a recipe, which a notebook shows as a table."""
    experiment = found(experiment)
    path = (results or RESULTS) / experiment.name / "summary.json"
    if not path.exists():
        raise UsageError(f"Nothing of {experiment.name} is published yet: measure it first.")
    summary = read(path, Summary, f"git checkout results/{experiment.name}/summary.json")
    stale = f" ({STALE})" if summary.stale else ""
    return Rows(
        {
            "claim": one.id,
            "advice": one.text,
            "verdict": one.strongest.verdict + stale,
            "effect": "; ".join(effect_text(one, effect, named=True) for effect in one.strongest.effects),
        }
        for one in summary.claims
    )


def found(experiment: Experiment | str) -> Experiment:
    """An experiment, by itself, by its recipe's name or by the dotted name of a module of your own."""
    if isinstance(experiment, Experiment):
        return experiment
    if "." not in experiment and experiment not in NAMES:
        raise UsageError(f"There is no recipe {experiment!r}: use one of {', '.join(NAMES)}.")
    loaded: Experiment = load(experiment)
    return loaded


def run_comparison(invocation: Invocation, say: Say, watch: Watch) -> list[Record]:
    """Do the runs of a comparison, but for those that are kept; return the records of all."""
    if len(invocation.settings.seeds) >= LOOKS[0]:
        say_if_not_committed(invocation, say)
    return run_jobs(invocation, invocation.plan(invocation.variants, invocation.settings.seeds), say, watch)


def say_what_listens(invocation: Invocation, say: Say) -> None:
    """Say before servers start that other machines reach."""
    everywhere = "servers listen on all addresses of this machine, which can't be changed, and obey anyone who"
    experiment, settings = invocation.experiment, invocation.settings
    variants = experiment.names if settings.action == "extend" else invocation.variants
    if opening := [name for name in variants if name in experiment.opens]:
        say(f"{', '.join(opening)}: TensorFlow's {everywhere} reaches them. They end with the runs.")
    if settings.backend == "ray" and starts_a_cluster():
        say(f"Ray's {everywhere} knows the token that is made for this command. They end with the runs.")


def say_about_model(invocation: Invocation, say: Say) -> None:
    """Say what looks wrong with a reader's model, and which variants it can't stand in for."""
    for remark in invocation.model.remarks:
        say(remark)
    experiment = invocation.experiment
    if invocation.settings.model and (without := [n for n in experiment.names if not experiment.takes_model(n)]):
        say(f"Left out, since they are about models of their own: {', '.join(without)}.")


def say_if_not_committed(invocation: Invocation, say: Say) -> None:
    """Say before a long measurement, and not when it is to be published, that it can't be."""
    if str(invocation.header.commit).endswith("+changes"):
        say("The code is not committed, so what it measures can't be published.")


def conclude(invocation: Invocation, records: list[Record]) -> Measured:
    """Write the evidence, the card, the figures and TensorBoard's comparison of the variants.

    Raises:
        EvidenceError: the code was changed while the command ran.
    """
    invocation.check_code()
    folder = invocation.folder
    found = Evidence(
        **structs.asdict(invocation.header),
        variants=list(invocation.variants),
        seeds=list(invocation.settings.seeds),
        elapsed_seconds=invocation.elapsed(),
        records=records,
        elsewhere=invocation.elsewhere,
    )
    write_json(folder / "evidence.json", found)
    published = Published.read(invocation.experiment)
    report = Report(invocation.experiment, found)
    if not published.stale_tuning and not not_applying(report, published, invocation.settings):
        report = Report(invocation.experiment, found, published.tuning)
    (folder / NOTES).unlink(missing_ok=True)  # Of an earlier attempt.
    with by_product(folder, "figure"):
        report.write_figure(folder)
    with by_product(folder, "card"):
        (folder / "card.md").write_text(markdown(report), encoding="utf-8")
    if invocation.settings.log:
        with by_product(folder, "comparison for TensorBoard"):
            from lab.tensorboard import comparison

            data = sources.load(invocation.settings.data)
            card = markdown(report, with_figure=False)
            comparison.write_finished(folder, report, card, data, samples_of(invocation, data))
    return Measured(report, folder, published)


def samples_of(invocation: Invocation, data: sources.Data) -> dict[str, np.ndarray]:
    """Some of the images that each variant is trained on, as its feed delivers them, where the recipe has a feed."""
    feed, config = invocation.experiment.feed, invocation.config
    if feed is None and invocation.experiment.trains_on_batches:
        feed = functools.partial(_lab_feed, invocation.experiment)
    if feed is None:
        return {}
    try:
        return {name: np.asarray(next(iter(feed(name, data, config)))[0]) for name in invocation.variants}
    except RequestError:  # Fewer images than a sample has.
        return {}


def _lab_feed(experiment: Experiment, variant: str, data: sources.Data, config: Any) -> Any:
    from pipelines import batches

    config = experiment.config_of(variant, config)
    return batches.training(data.train, 12, seed=1, shift=config.shift, flip=config.flip == "yes")


def tune(invocation: Invocation, say: Say, watch: Watch) -> tuple[TuningSweep, list[Record]]:
    """Do the recipe's tuning sweep and write it; return what was written, and the records of trials that failed."""
    experiment, sweep = invocation.experiment, invocation.experiment.sweep
    assert sweep is not None
    say_if_not_committed(invocation, say)

    def trials(wanted: list[tuple[str, int, dict[str, Any]]]) -> list[Record]:
        jobs = []
        for variant, seed, fields in wanted:
            name = ",".join(f"{key}={shown(value)}" for key, value in fields.items())
            jobs.append(invocation.job((variant,), seed, fields, invocation.folder / name))
        return run_jobs(invocation, jobs, say, watch)

    if isinstance(sweep, Tuning):
        last = "the best three at more seeds" if sweep.finalists else "two values of a second setting"
        say(f"First a grid of {sweep.swept}, then {'what the best leave open, then ' * bool(sweep.widenings)}{last}.")
        # On the reader's own images the curve would test no claim.
        search, curve = sweep.sweep(invocation.variants, trials, with_curve=not invocation.settings.is_own)
    else:
        search, curve = sweep.sweep(invocation.variants, trials)
    both = [*search, *curve]
    invocation.check_code()
    found = TuningSweep(
        **structs.asdict(invocation.header),
        variants=list(invocation.variants),
        worker_seconds=round(sum(record.seconds.get("total", 0.0) for record in both), 1),
        winners=sweep.winners(search),
        search=[_brief(experiment, record) for record in search],
        curve=[_brief(experiment, record) for record in curve],
    )
    write_json(invocation.folder / "tuning.json", found)
    return found, [record for record in both if record.status == "failed"]


def _brief(experiment: Experiment, record: Record) -> Trial:
    """What is kept of a trial: settings other than the defaults, and metrics but for times, which were shared."""
    defaults = {} if experiment.table else dataclasses.asdict(experiment.config())
    kept = {name: getattr(record, name) for name in Trial.__struct_fields__}
    kept["config"] = {key: value for key, value in record.config.items() if value != defaults.get(key)}
    kept["metrics"] = {key: value for key, value in record.metrics.items() if "second" not in key}
    return Trial(**kept)
