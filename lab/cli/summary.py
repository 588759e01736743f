"""What a command prints when its runs are done or when it is stopped. Nothing is decided here."""

import importlib.util
import shlex
from collections.abc import Container, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.cli.validate import default_config, flag
from lab.evidence.records import printable
from lab.evidence.schemas import LOOKS, Record, SearchTrial, TuningSweep
from lab.execute.invocation import Invocation, same
from lab.measurement import Measured
from lab.report import replication
from lab.report.published import STALE, Published
from lab.report.report import Report, kind_of
from lab.settings import LOGS, Settings, images_of
from lab.tensorboard.profile import words_in
from lab.tuning import Tuning

SHOWN_TRIALS = 10


def say_where(invocation: Invocation, console: Console) -> None:
    """After an interruption: where the finished runs are, and how to go on."""
    done = len(list(invocation.folder.rglob("record.json")))
    console.print(f"\nStopped. {done} finished runs are kept in {invocation.folder}.")
    console.print(f"Go on with\n  {invocation.header.command} --resume")


def say_measured(invocation: Invocation, measured: Measured, console: Console) -> None:
    """The published answer and whether these runs agree with it, their own table, and where everything is."""
    experiment, folder, ours = invocation.experiment, measured.folder, measured.report
    why_not = _not_applying(invocation, measured.published)
    if why_not:
        console.print(f"\nThe published results do not apply: {why_not}.")
    elif measured.published.evidence is not None:
        theirs = Report(experiment, measured.published.evidence, measured.published.tuning)
        seeds = len(theirs.found.seeds)
        console.print(f"\nPublished, from {seeds} seeds on {kind_of(theirs.found.machine)}:")
        for line in [
            *theirs.verdict_lines(brief=True),
            *replication.words(replication.agreement(ours, theirs), theirs),
        ]:
            console.print(line)
    seeds = len(ours.found.seeds)
    console.print(f"\nYour runs, {seeds} seed{'s' if seeds > 1 else ''}:")
    console.print(_table(*ours.table()))
    _say_remarks(invocation, ours, console)
    if why_not or seeds >= LOOKS[0]:
        for line in ours.verdict_lines():
            console.print(line)
    console.print(f"\nFigure       {folder / 'figure.png'}\nEvidence     {folder / 'evidence.json'}")
    if invocation.settings.save:
        console.print(f"Models       {invocation.settings.save}")
    if invocation.settings.log:
        where = [] if invocation.settings.logdir == LOGS else ["--logdir", str(invocation.settings.logdir)]
        console.print(f"TensorBoard  {shlex.join(['python', '-m', 'recipes', 'board', experiment.name, *where])}")
        if invocation.settings.profile:
            _say_profiled(invocation, console)
    _say_unfinished(measured.records, console)


def _say_profiled(invocation: Invocation, console: Console) -> None:
    """What the profile of each variant's first seed says, and how to see it drawn."""
    said = {variant: words_in(invocation.folder / variant) for variant in invocation.variants}
    for variant, words in said.items():
        if words:
            console.print(f"Profile      {variant}: {words}")
    if not any(said.values()):
        console.print(f"Profile      none: no `fit` of {invocation.experiment.name} is watched step by step.")
    elif importlib.util.find_spec("xprof") is None:
        extra = "python -m pip install -c constraints.txt -e '.[profile]'"
        console.print(Text(f"             To see them drawn on TensorBoard's Profile page: {extra}"))


def _not_applying(invocation: Invocation, published: Published) -> str:
    """Why the published numbers are not about these runs, as the end of a sentence; empty if they are."""
    experiment, settings = invocation.experiment, invocation.settings
    own = {"images": not settings.data.is_cifar10, "model": settings.model}
    if words := " and ".join(name for name, is_own in own.items() if is_own):
        return f"these are your own {words}"
    if published.evidence is None:
        return f"nothing of {experiment.name} is published yet" + (" at full" if settings.budget == "full" else "")
    if published.stale:
        return f"they were {STALE}"
    if settings.budget != published.evidence.budget:
        return f"they are of budget {published.evidence.budget}, and this is {settings.budget}"
    if changed := _changed(invocation):
        return f"you changed {', '.join(map(flag, changed))}"
    if not same(invocation.header, published.evidence, ("data", "data_digest")):
        return "they are of other images, or of another number or split of them"
    return ""


def _say_remarks(invocation: Invocation, ours: Report, console: Console) -> None:
    """What a reader should know of the numbers above."""
    experiment = invocation.experiment
    if invocation.is_as_published or not isinstance(experiment.sweep, Tuning):
        return
    swept = experiment.sweep.swept
    if stuck := [name for name in _no_better_than_a_guess(ours) if name not in experiment.fails]:
        too_high = f"{'its' if len(stuck) == 1 else 'their'} {swept} may be too high for your images or model"
        console.print(f"{', '.join(stuck)}: no better than a guess here; {too_high}. Try a tenth of it (--{swept}).")
    if variants := [name for name in invocation.variants if name in experiment.swept_at(invocation.settings.budget)]:
        console.print(f"Each {swept} is the recipe's, tuned on CIFAR-10. To find your own:")
        console.print(f"  {command_of(invocation, ['tune', '--variants', *variants], but=experiment.sweep.chosen)}")


def _no_better_than_a_guess(ours: Report) -> list[str]:
    """The variants whose mean test accuracy lies within three standard errors of that of guessing, or below."""
    guess, images = 1 / ours.found.classes, ours.found.test_images
    at_most = guess + 3 * (guess * (1 - guess) / images) ** 0.5
    accuracies: dict[str, list[float]] = {}
    for record in ours.found.records:
        if "test_accuracy" in record.metrics:
            accuracies.setdefault(record.variant, []).append(record.metrics["test_accuracy"])
    return [name for name, values in accuracies.items() if sum(values) / len(values) <= at_most]


def say_tuned(invocation: Invocation, found: TuningSweep, failures: Iterable[Record], console: Console) -> None:
    """Each variant's winning settings."""
    for variant, settings in found.winners.items():
        shown = ", ".join(f"{key} {value:g}" for key, value in settings.items() if value is not None)
        console.print(f"{variant:>16}  {shown}")
    console.print(f"Evidence     {invocation.folder / 'tuning.json'}")
    _say_unfinished(failures, console)


def say_searched(invocation: Invocation, found: dict[str, list[SearchTrial]], console: Console) -> None:
    """For each variant its best trials, and the command that goes on with the best one."""
    for variant, trials in found.items():
        rows, best = [], trials[0]
        for trial in trials[:SHOWN_TRIALS]:
            reached = trial.score
            epochs = [str(trial.epochs)] if trial.epochs else []
            outcome = trial.status if reached is None else f"{reached:.2%}"
            settings = [_shown(trial.settings[name], 3) for name in best.settings]
            rows.append([trial.trial, *settings, *epochs, outcome])
        header = ["trial", *best.settings, *(["epochs"] if best.epochs else []), "validation accuracy"]
        console.print(f"\n{variant}: the best {len(rows)} of {len(trials)} trials")
        console.print(_table(header, rows))
        if best.score is not None:
            words = ["--variants", variant]
            for name, value in best.settings.items():
                words += [flag(name), _shown(value, 6)]
            console.print(f"Next         {command_of(invocation, words, but=set(best.settings))}")
    console.print(f"\nEvidence     {invocation.folder / 'search.json'}")


def command_of(invocation: Invocation, words: Sequence[str], but: Container[str] = ()) -> str:
    """A command for the same experiment that measures under the same conditions.

    `words` come first; the fields of Config in `but` are left to them.
    """
    settings = invocation.settings
    images = images_of(settings.budget, settings.data.source)
    usual, flags = Settings("quick", (), (), images), list(words)
    for name in ("budget", "model", "jobs", "backend", "logdir"):
        if (value := getattr(settings, name)) != getattr(usual, name):
            flags += [flag(name), str(value)]
    if settings.data.source != images_of(settings.budget).source:
        flags += ["--data", settings.data.source]
    for name in ("train_images", "split_seed", "image_size"):
        if (value := getattr(settings.data, name)) != getattr(images, name):
            flags += [flag(name), str(value)]
    for name, value in _changed(invocation).items():
        if name not in but:
            flags += _spelled(name, value)
    return shlex.join(["python", "-m", invocation.experiment.command, *flags])


def _changed(invocation: Invocation) -> dict[str, Any]:
    """The fields of the recipe's Config that are not as by default."""
    settings = invocation.settings
    usual = vars(default_config(invocation.experiment, settings.budget, settings.data))
    return {name: value for name, value in vars(invocation.config).items() if value != usual[name]}


def _spelled(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag(name) if value else flag(f"no_{name}")]
    return [flag(name), *(map(str, value) if isinstance(value, (tuple, list)) else [str(value)])]


def _shown(value: Any, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _say_unfinished(records: Iterable[Record], console: Console) -> None:
    for record in records:
        if record.status != "finished":
            cause = printable(str(record.cause))
            console.print(Text(f"{record.variant} seed {record.seed} {record.status}: {cause}", "red"))


def _table(header: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=None)
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    return table
