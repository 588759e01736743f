"""A recipe's command line: what each subcommand does, and the exit code it ends with."""

import shlex
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console

from lab import measurement
from lab.cli import exits, live_table
from lab.cli.flags import parse as parse
from lab.evidence.records import printable
from lab.evidence.schemas import Record
from lab.execute.invocation import CodeChangedError, Invocation
from lab.experiment import Experiment
from lab.experiments import load
from lab.report import summary
from lab.stopping_rule import extend
from pipelines.terminal import ENDED, INTERRUPTED, Ended, begin, end_if_told, ending


def main(experiment: Experiment | str, arguments: Sequence[str] | None = None) -> None:
    """Run the command line of a recipe, by its name or its `Experiment`, and end the process with its exit code."""
    begin()  # Nobody has yet where the recipe is no module of `recipes`.
    found = load(experiment) if isinstance(experiment, str) else experiment
    sys.exit(ending(run(found, arguments)))


def run_all(experiments: Sequence[Experiment], arguments: Sequence[str]) -> int:
    """Run one experiment after the other with the same flags; return the worst exit code.

    One that can't go on does not stop the others. A remark that holds for several is printed once.
    """
    worst, said = 0, set[str]()
    for number, experiment in enumerate(experiments, 1):
        worst = max(worst, run(experiment, arguments, said, f"{experiment.name}: " if len(experiments) > 1 else ""))
        if worst in (INTERRUPTED, ENDED):
            if rest := [one.name for one in experiments[number:]]:
                print(f"and then\n  {shlex.join(['python', '-m', 'recipes', 'run', *rest, *arguments])}")
            break
    return worst


def run(
    experiment: Experiment,
    arguments: Sequence[str] | None = None,
    said: set[str] | None = None,
    about: str = "",
) -> int:
    """Parse the flags, do what they ask, print; return the exit code (`exits`). A failed or diverged run is a 1.

    `said` holds the remarks that an earlier recipe of the same command has printed. They are not repeated. A sentence
    that says why nothing can be done begins with `about`.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    terminal = sys.stdout.isatty()  # Notebooks and CI ask for colors where there is no cursor to move.
    width = None if terminal else 120
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width, force_terminal=terminal)
    invocation, command = None, ""
    try:
        end_if_told()
        settings, config = parse(experiment, arguments)
        words = [argument for argument in arguments if argument != "--resume"]
        command = shlex.join(["python", "-m", experiment.command, *words])
        invocation = Invocation.begin(experiment, settings, config, command)
        return _do(invocation, console, set() if said is None else said)
    except KeyboardInterrupt as interruption:
        if invocation:
            summary.say_where(invocation.folder, command, console, invocation.took_over)
        else:
            console.print("\nStopped.")
        return ENDED if isinstance(interruption, Ended) else INTERRUPTED
    except BaseException as error:
        code = exits.say(error, about)
        if invocation and code != exits.USAGE and not isinstance(error, CodeChangedError):
            summary.say_where(invocation.folder, command, console, invocation.took_over)
        if code is None:  # A mistake of ours: its traceback is what helps.
            raise
        return code
    finally:
        if invocation:
            invocation.end()


def _do(invocation: Invocation, console: Console, said: set[str]) -> int:
    """Do what an invocation asks for, print what was found, and return the exit code."""
    settings, folder = invocation.settings, invocation.folder
    action = settings.action
    watch = live_table.watcher(console, "validation" if action in ("tune", "search") else "test")

    def say(text: str) -> None:
        console.print(printable(text))

    measurement.say_what_listens(invocation, say)
    measurement.say_about_model(invocation, say)
    if action == "search":
        from lab.search.search import search  # Imports KerasTuner, which only searches need.

        trials = search(invocation, watch, say)
        summary.say_searched(trials, invocation.header.command, folder, console)
        return int(any(found[0].score is None for found in trials.values()))
    if action == "tune":
        sweep, failures = measurement.tune(invocation, say, watch)
        summary.say_tuned(invocation.experiment, sweep, failures, settings, folder, console)
        return _code_of(failures)
    if action == "extend":
        records = extend(invocation, say, watch)
    else:
        console.print(invocation.title())
        records = measurement.run_comparison(invocation, say, watch)
    measured = measurement.conclude(invocation, records)
    summary.say_measured(measured.report, measured.published, invocation.settings, folder, console, said)
    return _code_of(records, invocation.experiment.fails)


def _code_of(records: Iterable[Record], fails: Sequence[str] = ()) -> int:
    """1 if a run failed or diverged, but for variants whose point is that they diverge."""
    expected = {(variant, "diverged") for variant in fails}
    return int(any(r.status != "finished" and (r.variant, r.status) not in expected for r in records))
