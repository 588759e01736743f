"""What a command prints when its runs are done, or when it is stopped. Nothing is decided here."""

import importlib.util
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.cli.validate import default_config
from lab.evidence.records import LOOKS, Record, printable
from lab.evidence.schemas import SearchTrial, TuningSweep
from lab.execute.invocation import Invocation
from lab.measurement import Measured
from lab.report import replication
from lab.report.card import kind_of
from lab.report.published import STALE, Published
from lab.report.report import Report
from lab.settings import LOGS, Settings
from lab.tensorboard.profile import words_in

SHOWN_TRIALS = 10


def say_where(invocations: Sequence[Invocation], console: Console) -> None:
    """After an interruption: nothing is lost, and how to go on."""
    for invocation in invocations:
        done = len(list(invocation.folder.rglob("record.json")))
        console.print(f"\nStopped. {done} finished runs are kept in {invocation.folder}.")
    for command in dict.fromkeys(invocation.header["command"] for invocation in invocations):
        console.print(f"Go on with\n  {command} --resume")


def say_measured(invocation: Invocation, measured: Measured, console: Console) -> None:
    """The published answer and whether these runs agree with it, their own table, and where everything is."""
    experiment, folder, ours = invocation.experiment, measured.folder, measured.report
    if invocation.together:
        console.print(f"\n{invocation.title()}")
    why_not = _not_applying(invocation, measured.published)
    if why_not:
        console.print(f"\nWhat is published does not apply: {why_not}.")
    elif measured.published.evidence is not None:
        theirs = Report(experiment, measured.published.evidence, measured.published.tuning)
        seeds = len(theirs.found["seeds"])
        console.print(f"\nPublished, from {seeds} seeds on {kind_of(theirs.found['machine'])}:")
        for line in [*theirs.brief_lines(), *replication.words(replication.agreement(ours, theirs), theirs)]:
            console.print(line)
    console.print(f"\nYour runs, {len(ours.found['seeds'])} seed{'s' if len(ours.found['seeds']) > 1 else ''}:")
    console.print(_closing_table(ours.table()))
    for line in _remarks(invocation, ours):
        console.print(line)
    if why_not or len(ours.found["seeds"]) >= LOOKS[0]:
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
    """Why published numbers are not about what was run, as the end of a sentence; empty if they are."""
    experiment, asked = invocation.experiment, invocation.settings
    of_them = {"images": not asked.data.is_cifar10, "model": asked.model}
    if own := " and ".join(name for name, is_own in of_them.items() if is_own):
        return f"these are your own {own}"
    if published.evidence is None:
        return f"nothing of {experiment.name} is published yet" + (" at full" if asked.budget == "full" else "")
    if published.stale:
        return f"it was {STALE}"
    if asked.budget != published.evidence["budget"]:
        return f"it is of budget {published.evidence['budget']}, and this is {asked.budget}"
    usual = vars(default_config(experiment, asked.budget, asked.data))
    changed = [f"--{name.replace('_', '-')}" for name, value in vars(invocation.config).items() if value != usual[name]]
    if changed:
        return f"you changed {', '.join(changed)}"
    of_images = [
        {**header["data"], "digest": header["data_digest"]} for header in (invocation.header, published.evidence)
    ]
    if of_images[0] != of_images[1]:
        return "it is of other images, or of another number or split of them"
    return ""


def _own(asked: Settings) -> list[str]:
    """The flags that say what images and which model are the reader's own."""
    flags = [] if asked.data.is_cifar10 else ["--data", asked.data.source]
    flags += ["--image-size", str(asked.data.image_size)] if asked.data.image_size else []
    return [*flags, *(["--model", asked.model] if asked.model else [])]


def _remarks(invocation: Invocation, ours: Report) -> list[str]:
    """What a reader should know of the numbers above."""
    experiment, asked = invocation.experiment, invocation.settings
    if invocation.is_as_published or not experiment.tuning:
        return []
    again = shlex.join(["python", "-m", experiment.command, *_own(asked), "--tune"])
    swept = experiment.tuning.swept
    lines = []
    if stuck := [name for name in _no_better_than_a_guess(ours) if name not in experiment.fails]:
        too_high = f"{'its' if len(stuck) == 1 else 'their'} {swept} may be too high for what you gave"
        lines.append(f"{', '.join(stuck)}: no better than a guess here; {too_high}. Try a tenth of it (--{swept}).")
    return [*lines, f"The {swept}s are the recipe's, tuned on CIFAR-10. To find your own: {again}"]


def _no_better_than_a_guess(ours: Report) -> list[str]:
    """The variants whose mean test accuracy lies within three standard errors of that of guessing, or below."""
    guess, images = 1 / ours.found["classes"], ours.found["test_images"]
    at_most = guess + 3 * (guess * (1 - guess) / images) ** 0.5
    accuracies: dict[str, list[float]] = {}
    for record in ours.found["records"]:
        if "test_accuracy" in record["metrics"]:
            accuracies.setdefault(record["variant"], []).append(record["metrics"]["test_accuracy"])
    return [name for name, values in accuracies.items() if sum(values) / len(values) <= at_most]


def say_tuned(invocation: Invocation, found: TuningSweep, failures: Iterable[Record], console: Console) -> None:
    """Each variant's winning settings."""
    for variant, settings in found["winners"].items():
        shown = ", ".join(f"{key} {value:g}" for key, value in settings.items() if value is not None)
        console.print(f"{variant:>16}  {shown}")
    console.print(f"Evidence     {invocation.folder / 'tuning.json'}")
    _say_unfinished(failures, console)


def say_searched(invocation: Invocation, found: dict[str, list[SearchTrial]], console: Console) -> None:
    """For each variant its best trials, and the command that goes on with the best one."""
    for variant, trials in found.items():
        if not trials:  # A worker of a shared search: its chief tells.
            continue
        rows, best = [], trials[0]
        for trial in trials[:SHOWN_TRIALS]:
            reached = trial["validation_accuracy"]
            epochs = [str(trial["epochs"])] if trial["epochs"] else []
            outcome = trial["status"] if reached is None else f"{reached:.2%}"
            settings = [_shown(trial["settings"][name], 3) for name in best["settings"]]
            rows.append([trial["trial"], *settings, *epochs, outcome])
        header = ["trial", *best["settings"], *(["epochs"] if best["epochs"] else []), "validation accuracy"]
        console.print(f"\n{variant}: the best {len(rows)} of {len(trials)} trials")
        console.print(_closing_table((header, rows)))
        if best["validation_accuracy"] is not None:
            command = ["python", "-m", invocation.experiment.command, "--variants", variant]
            for name, value in best["settings"].items():
                command += [f"--{name.replace('_', '-')}", _shown(value, 6)]
            command += [*_own(invocation.settings), *_changed(invocation, set(best["settings"]))]
            console.print(f"Next         {shlex.join(command)}")
            console.print(f"Figure       {invocation.folder / f'search-{variant}.png'}")
    console.print(f"\nEvidence     {invocation.folder / 'search.json'}")


def _changed(invocation: Invocation, but: set[str]) -> list[str]:
    """The flags for what else is not as by default: the budget, and settings but those that were searched."""
    flags = [] if invocation.settings.budget == "quick" else ["--budget", invocation.settings.budget]
    usual = vars(default_config(invocation.experiment, invocation.settings.budget, invocation.settings.data))
    for name, value in vars(invocation.config).items():
        if name not in but and value != usual[name]:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags


def _shown(value: Any, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _say_unfinished(records: Iterable[Record], console: Console) -> None:
    for record in records:
        if record["status"] != "finished":
            cause = printable(str(record["cause"]))
            console.print(Text(f"{record['variant']} seed {record['seed']} {record['status']}: {cause}", "red"))


def _closing_table(content: tuple[list[str], list[list[str]]]) -> Table:
    header, rows = content
    table = Table(title=None)
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    return table
