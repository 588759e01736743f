"""A recipe's command line: flags and exit codes."""

import contextlib
import dataclasses
import itertools
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from lab import measurement
from lab.cli import exits, summary, validate
from lab.cli.flags import Options, Searching
from lab.evidence.records import Record, printable
from lab.execute.invocation import CodeChangedError, Invocation
from lab.execute.scheduler import Work, run_jobs
from lab.experiment import BUDGETS, Experiment
from lab.experiments import load
from lab.settings import Action, Settings, images_of
from lab.stopping_rule import until_decided
from pipelines.terminal import ENDED, INTERRUPTED, Ended, begin, ending

UNSAID = ("--resume", "--board", "--reference")  # These change nothing of what a command measures.


def main(name: str, arguments: Sequence[str] | None = None) -> None:
    """Run the command line of a recipe, by name, and end the process with its exit code."""
    begin()  # Where the recipe is no module of `recipes`, nobody has yet.
    sys.exit(ending(run(load(name), arguments)))


def run(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    """Parse flags, measure, print; return the exit code, as `exits` has it: 1 also for a failed or diverged run."""
    return _run([experiment], list(sys.argv[1:] if arguments is None else arguments))


def run_all(recipes: Sequence[Experiment], arguments: Sequence[str]) -> int:
    """Do several recipes with the same flags; return the worst exit code.

    At smoke, where no time counts, all their runs go side by side in the same workers. At other budgets one recipe
    follows the other, for what takes time is part of their evidence. A recipe that can't go on stops no other.
    """
    arguments = list(arguments)
    if _given(arguments, "--budget", "quick") == "smoke" and not {"--tune", "--search"} & set(arguments):
        return _run(recipes, arguments)
    worst = 0
    for experiment in recipes:
        worst = max(worst, run(experiment, arguments))
        if worst in (INTERRUPTED, ENDED):
            break
    return worst


def _run(recipes: Sequence[Experiment], arguments: list[str]) -> int:
    terminal = sys.stdout.isatty()  # Notebooks and CI ask for colors where there is no cursor to move.
    width = None if terminal else 120
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width, force_terminal=terminal)
    say = lambda text: console.print(printable(text))  # noqa: E731
    together = len(recipes) > 1
    what = ["recipes", *(experiment.name for experiment in recipes), "--all"] if together else [recipes[0].command]
    command = shlex.join(["python", "-m", *what, *(argument for argument in arguments if argument not in UNSAID)])
    codes: list[int] = []
    begun: list[Invocation] = []  # And not yet reported.
    locked: list[Invocation] = []
    todo: list[Work] = []
    try:
        with measurement.ended(locked):
            for experiment in recipes:
                with _explained(codes):
                    settings, config = parse(experiment, arguments)
                    begun.append(Invocation.begin(experiment, settings, config, command, together=together))
                    locked.append(begun[-1])
            for invocation in list(begun):
                with _explained(codes, [invocation], console):
                    if invocation.settings.action == "search":
                        codes.append(_search(invocation, console, say))
                    elif invocation.settings.action == "tune":
                        found, failures = measurement.tune(invocation, console, say)
                        summary.say_tuned(invocation, found, failures, console)
                        codes.append(_code_of(failures))
                    elif invocation.settings.action == "extend":
                        measurement.say_if_not_committed(invocation, say)
                        records = until_decided(invocation, say, measurement.watcher(console))
                        codes.append(_say(invocation, records, console))
                    else:
                        if not together:
                            console.print(invocation.title())
                        todo.append(measurement.begin_comparison(invocation, say))
            begun[:] = [work.invocation for work in todo]  # The others have had their say.
            served = _board(begun, say) if not any(invocation.alone for invocation in begun) else None
            outcomes = run_jobs(todo, measurement.watcher(console))
            with _explained(codes, begun, console), contextlib.closing(outcomes) as complete:
                for work in complete:
                    with _explained(codes, [work.invocation], console):
                        codes.append(_say(work.invocation, work.records(), console))
                        begun.remove(work.invocation)
            if served or _board(locked, say):
                _wait(say)
    except KeyboardInterrupt as interruption:
        summary.say_where(begun, console)
        return ENDED if isinstance(interruption, Ended) else INTERRUPTED
    return max(codes, default=0)


def _board(invocations: Sequence[Invocation], say: Callable[[str], None]) -> bool:
    """Start TensorBoard on invocations, where it was asked for."""
    if not any(invocation.settings.board for invocation in invocations):
        return False
    from lab.tensorboard import server

    folders = {invocation.experiment.name: invocation.folder for invocation in invocations}
    server.serve_invocations(folders, say, reference=invocations[0].settings.reference)
    return True


def _wait(say: Callable[[str], None]) -> None:
    from lab.tensorboard import server

    server.wait(say)


def _say(invocation: Invocation, records: list[Record], console: Console) -> int:
    measured = measurement.conclude(invocation, records)
    summary.say_measured(invocation, measured, console)
    return _code_of(measured.records, invocation.experiment.fails)


def _search(invocation: Invocation, console: Console, say: Callable[[str], None]) -> int:
    from lab.search.search import search  # Imports KerasTuner, which only searches need.

    settings = invocation.settings
    validate.check_with_images(invocation.experiment, settings, invocation.config)
    measurement.say_what_listens(invocation, say)
    found = search(invocation, settings.tuner, settings.trials, console, say)
    summary.say_searched(invocation, found, console)
    return int(any(trials and trials[0]["validation_accuracy"] is None for trials in found.values()))


def _code_of(records: Sequence[Record], fails: Sequence[str] = ()) -> int:
    """1 where a run failed or diverged; not where a variant diverged whose point is that it fails."""
    expected = {(variant, "diverged") for variant in fails}
    bad = [r for r in records if r["status"] != "finished" and (r["variant"], r["status"]) not in expected]
    return int(bool(bad))


@contextlib.contextmanager
def _explained(
    codes: list[int], concerned: Sequence[Invocation] = (), console: Console | None = None
) -> Generator[None, None, None]:
    """Turn what goes wrong into a sentence and an exit code, and say where the finished runs of those concerned are."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        code = exits.say(error)
        if console is not None and code != exits.USAGE and not isinstance(error, CodeChangedError):
            summary.say_where(concerned, console)
        if code is None:  # A mistake of ours: its traceback is what helps.
            raise
        codes.append(code)


def _given(arguments: Sequence[str], flag: str, default: str) -> str:
    """The value of a flag, before all flags are parsed: other flags' defaults hang on it."""
    value = next((after for name, after in itertools.pairwise(arguments) if name == flag), default)
    return next((given.split("=", 1)[1] for given in arguments if given.startswith(f"{flag}=")), value)


def parse(experiment: Experiment, arguments: list[str]) -> tuple[Settings, Any]:
    """Flags as `Settings` and the recipe's own `Config`.

    Raises:
        UsageError: a value that can't be.
        SystemExit: tyro found an unknown flag or a value of the wrong type (2), or printed the help (0).
    """
    budget: Any = _given(arguments, "--budget", "quick")
    images = images_of(budget if budget in BUDGETS else "quick", _given(arguments, "--data", ""))
    parts: dict[str, Any] = {"options": Options(), "config": validate.default_config(experiment, budget, images)}
    if experiment.searched:
        parts["searching"] = Searching()
    flags = dataclasses.make_dataclass(
        "Flags",
        [
            (name, tyro.conf.OmitArgPrefixes[type(part)], dataclasses.field(default=part))  # type: ignore[misc]
            for name, part in parts.items()
        ],
    )
    parsed: Any = tyro.cli(
        flags,
        prog=f"python -m {experiment.command}",
        description=experiment.question,
        args=arguments,
        use_underscores=False,
    )
    searching = getattr(parsed, "searching", Searching())
    return _settings(experiment, parsed.options, parsed.config, searching), parsed.config


def _settings(experiment: Experiment, options: Options, config: Any, searching: Searching) -> Settings:
    validate.check_sweep(experiment, options, config, searching)
    possible = experiment.searched if searching.search else None
    if options.tune and experiment.sweep:
        possible = experiment.swept_at(options.budget)
    extends = options.until_decided is not None
    action: Action = "tune" if options.tune else "search" if searching.search else "extend" if extends else "run"
    settings = Settings(
        budget=options.budget,
        seeds=validate.seeds_of(experiment, options.budget, options.seeds, options.first_seed),
        variants=validate.variants_of(experiment, options.budget, options.variants, possible),
        data=images_of(options.budget, options.data, options.train_images, options.split_seed, options.image_size),
        logdir=options.logdir.expanduser(),
        action=action,
        jobs=options.jobs,
        backend=options.backend,
        start=options.start,
        model=options.model,
        save=str(Path(options.save).expanduser()) if options.save else "",
        resume=options.resume,
        profile=options.profile,
        log=options.log,
        board=options.board,
        reference=options.reference,
        tuner=searching.search or "random",
        trials=searching.trials,
        to=options.until_decided or 40,
    )
    validate.check(experiment, settings, config)
    validate.check_until_decided(experiment, options, searching)
    return settings
