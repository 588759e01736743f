"""What a command prints when its runs are done or when it is stopped. Nothing is decided here."""

import dataclasses
import importlib.util
import shlex
import statistics
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.evidence.records import notes_in, printable, values_of
from lab.evidence.schemas import LOOKS, Record, SearchTrial, TuningSweep
from lab.experiment import Experiment
from lab.report import replication
from lab.report.pages import always
from lab.report.published import STALE, Published
from lab.report.report import Report
from lab.settings import LOGS, Settings, Tuner, default_config, flag
from lab.tensorboard.profile import words_in
from lab.tuning import Tuning

SHOWN_TRIALS = 10
KNOWN = 0.9  # At this training accuracy a training was long enough, and its rate was not too high.
CHANCE = 0.001  # An accuracy that guessing comes to less often than that is better than a guess.
# Flags that do not say under which conditions a run is made.
OTHERWISE = {"seeds", "first_seed", "variants", "trials", "save", "profile", "log", "resume"}


def say_where(folder: Path, command: str, console: Console, taken_over: bool = False) -> None:
    """After an interruption: where the finished runs are, and how to go on. Some may be `taken_over`, as published."""
    done = len(list(folder.rglob("record.json")))
    kept = "1 finished run is" if done == 1 else f"{done} finished runs are"
    published = ", the published ones included" if taken_over else ""
    console.print(f"\nStopped. {kept} kept in {folder}{published}.\nGo on with\n  {command} --resume")


def say_measured(
    report: Report, published: Published, settings: Settings, folder: Path, console: Console, said: set[str]
) -> None:
    """The published answer and whether these runs agree with it, their own table, and where everything is.

    `said` holds the remarks that this command has printed already. They are not repeated.
    """
    why_not = not_applying(report, published, settings)
    if why_not:
        _say_once(f"\nThe published results do not apply: {why_not}.", console, said)
    elif published.evidence is not None:
        theirs = Report(report.experiment, published.evidence, published.tuning)
        console.print(f"\nPublished, from {len(theirs.found.seeds)} seeds on {theirs.found.machine.kind}:")
        if report.experiment.answer:  # `publish` keeps it in the docstring, below the question.
            console.print(" ".join(report.experiment.docstring.split("\n\n")[1].split()))
        agreeing = replication.words(replication.agreement(report, theirs), theirs)
        console.print("\n".join([*theirs.verdict_lines(), *agreeing]))
    seeds = len(report.found.seeds)
    console.print(
        "\nYour runs, 1 seed:" if seeds == 1 else f"\nYour runs, mean ± standard deviation over {seeds} seeds:"
    )
    console.print(_table(*report.table()))
    _say_classes(report, console)
    _say_remarks(report, settings, console, said)
    if why_not or seeds >= LOOKS[0]:
        console.print("\n".join(report.verdict_lines()))
    console.print()
    for name, file in (("Card", "card.md"), ("Figure", "figure.png"), ("Evidence", "evidence.json")):
        if (folder / file).exists():
            console.print(f"{name:<12} {folder / file}")
    saved = [Path(settings.save) / f"{record.variant}-seed-{record.seed}.keras" for record in report.records]
    if settings.save and any(path.exists() for path in saved):
        console.print(f"Models       {settings.save} (docs/your-data.md says how to use them)")
    if settings.log:
        where = [] if settings.logdir == LOGS else ["--logdir", str(settings.logdir)]
        board = shlex.join(["python", "-m", "recipes", "board", report.experiment.name, *where])
        console.print(f"TensorBoard  {board}")
    if settings.log and settings.profile:
        say_profiled(report.experiment.name, report.found.variants, folder, console)
    for note in notes_in(folder):
        console.print(f"Left out     {printable(note)}")
    say_unfinished(report.records, console)


def say_profiled(name: str, variants: Iterable[str], folder: Path, console: Console) -> None:
    """What the profile of each variant's first seed says, and how to see it drawn."""
    said = {variant: words for variant in variants if (words := words_in(folder / variant))}
    for variant, words in said.items():
        console.print(f"Profile      {variant}: {words}")
    if not said:
        console.print(f"Profile      none: no `fit` of {name} is watched step by step.")
    elif importlib.util.find_spec("xprof") is None:
        extra = "python -m pip install -c constraints.txt -e '.[profile]'"
        console.print(Text(f"             To see them drawn on TensorBoard's Profile page: {extra}"))


def not_applying(report: Report, published: Published, settings: Settings) -> str:
    """Why the published numbers are not about these runs, as the end of a sentence; empty if they are."""
    found, theirs = report.found, published.evidence
    own = {"images": not settings.data.is_cifar10, "model": settings.model}
    if words := " and ".join(name for name, is_own in own.items() if is_own):
        return f"these are your own {words}"
    if theirs is None:
        return f"nothing of {report.experiment.name} is published yet"
    if published.stale:
        return f"they were {STALE}"
    if found.budget != theirs.budget:
        return f"they are of budget {theirs.budget}, and this is {found.budget}"
    usual = dataclasses.asdict(default_config(report.experiment, found.budget, settings.data))
    if found.tuned:
        return "each variant has the settings of --tuned"
    if changed := [flag(name) for name, value in found.config.items() if value != usual[name]]:
        return f"you changed {', '.join(changed)}"
    if (found.data, found.data_digest) != (theirs.data, theirs.data_digest):
        return "they are of other images, or of another number or split of them"
    return ""


def _by_guessing(accuracy: float, guess: float, images: int) -> float:
    """The chance that guesses which are right with the probability `guess` come to an accuracy or better."""
    from scipy.special import bdtrc

    right = round(accuracy * images)
    return float(bdtrc(right - 1, images, guess)) if right else 1.0


def _say_once(text: str, console: Console, said: set[str]) -> None:
    if text not in said:
        said.add(text)
        console.print(text)


def _say_classes(report: Report, console: Console) -> None:
    """How good the best guess would be on the reader's own images, and which class each variant knows least."""
    if report.largest_class:
        console.print(printable(always(*report.largest_class)))
    lowest = [f"{variant} {report.lowest_recall(variant)}" for variant in report.recalls]
    if lowest:
        console.print(printable(f"Lowest recall of a class: {'; '.join(lowest)}."))


def _say_remarks(report: Report, settings: Settings, console: Console, said: set[str]) -> None:
    """What a reader should know of numbers on images or of a model of the reader's own."""
    experiment, sweep, found = report.experiment, report.experiment.sweep, report.found
    if not settings.is_own or not isinstance(sweep, Tuning):
        return
    accuracies = values_of(found.records, "test_accuracy").items()
    means = {name: statistics.mean(by_seed.values()) for name, by_seed in accuracies if name not in experiment.fails}
    too_few = _by_guessing(1.0, report.guess, found.test_images) > CHANCE  # To tell the best of models from a guess.
    stuck = [
        name
        for name, mean in means.items()
        if mean <= report.guess or (not too_few and _by_guessing(mean, report.guess, found.test_images) > CHANCE)
    ]
    if too_few and len(stuck) < len(means):
        _say_once(f"{found.test_images:,} test images are too few to tell any model from a guess.", console, said)
    in_training = values_of(found.records, "train_accuracy")
    knows = [name for name in stuck if name in in_training and statistics.mean(in_training[name].values()) > KNOWN]
    for overfits, names in ((True, knows), (False, [name for name in stuck if name not in knows])):
        if names:
            lengths = [
                len(record.curves.get("val_accuracy", ())) for record in found.records if record.variant in names
            ]
            epochs = max(lengths) if "epochs" in found.config else 0
            console.print(
                f"{', '.join(names)}: no clear gain over a guess here. {_remedy(overfits, epochs, sweep.swept)}"
            )
    variants = [name for name in found.variants if name in experiment.swept]
    usual = getattr(default_config(experiment, found.budget, settings.data), sweep.swept, None)
    if variants and not found.tuned and found.config.get(sweep.swept) == usual:  # Else it was given.
        _say_once(f"Each {sweep.swept} is the recipe's, tuned on CIFAR-10. To find your own:", console, said)
        console.print(f"  {command_of(found.command, ['tune', '--variants', *variants], but=sweep.chosen)}")


def _remedy(overfits: bool, epochs: int, swept: str) -> str:
    """What to try where test accuracy is hardly better than a guess."""
    if overfits:
        return "Nearly all training images are answered correctly, so more of them may help, or augmentation."
    longer = f"more epochs than {epochs} (--epochs), or " if epochs else ""
    return f"Try {longer}another {swept} ({flag(swept)}): `tune` compares several."


def say_tuned(
    experiment: Experiment,
    found: TuningSweep,
    failures: Iterable[Record],
    settings: Settings,
    folder: Path,
    console: Console,
) -> None:
    """Each variant's winning settings, and on the reader's own images or model the command that uses them."""
    next_ones = []
    for variant, winner in found.winners.items():
        chosen = {key: value for key, value in winner.items() if value is not None}
        shown = [
            f"{key.replace('_', ' ')} {value:.1%}" if key.endswith("accuracy") else f"{key} {value:g}"
            for key, value in chosen.items()
        ]
        console.print(f"{variant:>16}  {', '.join(shown)}")
        words = [word for key, value in chosen.items() if key in found.config for word in (flag(key), f"{value:g}")]
        next_ones.append(command_of(found.command, ["--variants", variant, *words], but=chosen))
    if settings.is_own and len(next_ones) > 1 and all(map(experiment.runs_apart, found.winners)):
        words = ["--variants", *found.winners, "--tuned", str(folder / "tuning.json")]
        next_ones = [command_of(found.command, words, but=chosen)]
    if settings.is_own:
        console.print("\n".join(f"{'Next' if command == next_ones[0] else '':<12} {command}" for command in next_ones))
    console.print(f"Evidence     {folder / 'tuning.json'}")
    say_unfinished(failures, console)


def say_searched(found: dict[str, list[SearchTrial]], command: str, folder: Path, console: Console) -> None:
    """For each variant its best trials, and the command that goes on with the best one."""
    for variant, trials in found.items():
        best, shown = trials[0], trials[:SHOWN_TRIALS]
        epochs = ["epochs"] if best.epochs else []
        rows = []
        for trial in shown:
            outcome = trial.status if trial.score is None else f"{trial.score:.2%}"
            settings = [_shown(trial.settings[name], 3) for name in best.settings]
            rows.append([trial.trial, *settings, *([str(trial.epochs)] if epochs else []), outcome])
        console.print(f"\n{variant}: the best {len(rows)} of {len(trials)} trials")
        console.print(_table(["trial", *best.settings, *epochs, "validation accuracy"], rows))
        if best.score is not None:
            words = [word for name, value in best.settings.items() for word in (flag(name), _shown(value, 6))]
            again = command_of(command, ["--variants", variant, *words], but=best.settings)
            console.print(f"Next         {again}")
    console.print(f"\nEvidence     {folder / 'search.json'}")


def command_of(command: str, words: Sequence[str], but: Container[str] = ()) -> str:
    """A command of the same experiment that measures under the same conditions as `command`.

    `words` come first; the fields of Config in `but` are left to them.
    """
    python, m, module, *given = shlex.split(command)
    kept, keeps = [], False
    for before, word in zip(["", *given], given, strict=False):
        if word.startswith("--"):
            name = word[2:].partition("=")[0].replace("-", "_").removeprefix("no_")
            keeps = name not in OTHERWISE and name not in but
        if keeps and (before.startswith("--") or word not in get_args(Tuner)):
            kept.append(word)
    return shlex.join([python, m, module, *words, *kept])


def say_unfinished(records: Iterable[Record], console: Console) -> None:
    """Runs that failed or diverged, and why."""
    for record in records:
        if record.status != "finished":
            cause = printable(str(record.cause))
            console.print(Text(f"{record.variant} seed {record.seed} {record.status}: {cause}", "red"))


def _shown(value: Any, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _table(header: list[str], rows: list[list[str]]) -> Table:
    table = Table()
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    return table
