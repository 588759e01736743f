"""A recipe's command line: what each subcommand does, and the exit code it ends with."""

import contextlib
import shlex
import sys
from collections.abc import Generator, Sequence

from rich.console import Console

from lab import measurement
from lab.cli import exits, flags, live_table, summary, validate
from lab.cli.flags import parse as parse
from lab.evidence.records import printable
from lab.evidence.schemas import Record
from lab.execute.invocation import CodeChangedError, Invocation
from lab.execute.scheduler import Work, run_jobs
from lab.experiment import Experiment
from lab.experiments import load
from lab.stopping_rule import extend
from pipelines.terminal import ENDED, INTERRUPTED, Ended, begin, ending

NOT_RECORDED = ("--resume", "--board", "--reference")  # They change nothing of what is measured.


def main(experiment: Experiment | str, arguments: Sequence[str] | None = None) -> None:
    """Run the command line of a recipe, by its name or its `Experiment`, and end the process with its exit code."""
    begin()  # Nobody has yet where the recipe is no module of `recipes`.
    found = load(experiment) if isinstance(experiment, str) else experiment
    sys.exit(ending(run(found, arguments)))


def run(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    """Parse the flags, do what they ask, print; return the exit code (`exits`). A failed or diverged run is a 1."""
    return Command([experiment], list(sys.argv[1:] if arguments is None else arguments)).run()


def run_all(experiments: Sequence[Experiment], arguments: Sequence[str]) -> int:
    """Run several experiments with the same flags; return the worst exit code.

    At smoke, where no time counts, all their runs share the workers. At other budgets one experiment follows the other,
    since what takes time is part of their evidence. One that can't go on does not stop the others.
    """
    arguments = list(arguments)
    if flags.given(arguments, "--budget", "quick") == "smoke":
        return Command(experiments, arguments).run()
    worst = 0
    for experiment in experiments:
        worst = max(worst, run(experiment, arguments))
        if worst in (INTERRUPTED, ENDED):
            break
    return worst


class Command:
    """One command line: the invocations that it began, and the worst exit code so far."""

    def __init__(self, experiments: Sequence[Experiment], arguments: list[str]) -> None:
        terminal = sys.stdout.isatty()  # Notebooks and CI ask for colors where there is no cursor to move.
        width = None if terminal else 120
        self.console = Console(highlight=False, markup=False, soft_wrap=True, width=width, force_terminal=terminal)
        self.experiments, self.arguments = experiments, arguments
        self.together = len(experiments) > 1
        names = ["recipes", "run", *(e.name for e in experiments)] if self.together else [experiments[0].command]
        recorded = [argument for argument in arguments if argument not in NOT_RECORDED]
        self.command = shlex.join(["python", "-m", *names, *recorded])
        self.code = 0
        self.said: set[str] = set()
        self.begun: list[Invocation] = []
        self.unreported: list[Invocation] = []

    def say(self, text: str) -> None:
        """Print a sentence, but not again where it holds for several experiments."""
        if text not in self.said:
            self.said.add(text)
            self.console.print(printable(text))

    def run(self) -> int:
        """Do it all; return the exit code."""
        try:
            for experiment in self.experiments:
                with self._explained():
                    self._begin(experiment)
            work: list[Work] = []
            for invocation in self.begun:
                with self._explained([invocation]):
                    work += self._do(invocation)
            if work:
                self._compare(work)
        except KeyboardInterrupt as interruption:
            summary.say_where(self.unreported, self.console)
            return ENDED if isinstance(interruption, Ended) else INTERRUPTED
        finally:
            for invocation in self.begun:
                invocation.end()
        return self.code

    def _begin(self, experiment: Experiment) -> None:
        settings, config = parse(experiment, self.arguments)
        invocation = Invocation.begin(experiment, settings, config, self.command, together=self.together)
        self.begun.append(invocation)
        self.unreported.append(invocation)

    def _do(self, invocation: Invocation) -> list[Work]:
        """Do what an invocation asks for but a comparison, whose work is returned."""
        validate.check_with_images(invocation.experiment, invocation.settings, invocation.config)
        action = invocation.settings.action
        if action == "run":
            if not self.together:
                self.console.print(invocation.title())
            return [measurement.begin_comparison(invocation, self.say)]
        measurement.say_what_listens(invocation, self.say)
        if action == "tune":
            self._tune(invocation)
        elif action == "search":
            self._search(invocation)
        else:
            self._report(invocation, extend(invocation, self.say, live_table.watcher(self.console)))
        return []

    def _compare(self, work: list[Work]) -> None:
        invocations = [one.invocation for one in work]
        wants_board = any(invocation.settings.board for invocation in invocations)
        early = not any(invocation.alone for invocation in invocations)  # Nothing may run beside what is timed.
        if wants_board and early:
            self._board(invocations)
        outcomes = run_jobs(work, live_table.watcher(self.console))
        with self._explained(invocations), contextlib.closing(outcomes):
            for done in outcomes:
                with self._explained([done.invocation]):
                    self._report(done.invocation, done.records())
        if wants_board:
            from lab.tensorboard import server

            if not early:
                self._board(invocations)
            server.wait(self.say)

    def _board(self, invocations: Sequence[Invocation]) -> None:
        from lab.tensorboard import server

        folders = {invocation.experiment.name: invocation.folder for invocation in invocations}
        server.serve_invocations(folders, self.say, reference=invocations[0].settings.reference)

    def _report(self, invocation: Invocation, records: list[Record]) -> None:
        measured = measurement.conclude(invocation, records)
        summary.say_measured(invocation, measured, self.console, self.say)
        self._count(records, invocation.experiment.fails)
        self.unreported.remove(invocation)

    def _tune(self, invocation: Invocation) -> None:
        found, failures = measurement.tune(invocation, self.say, live_table.watcher(self.console))
        summary.say_tuned(invocation, found, failures, self.console)
        self._count(failures)
        self.unreported.remove(invocation)

    def _search(self, invocation: Invocation) -> None:
        from lab.search.search import search  # Imports KerasTuner, which only searches need.

        found = search(invocation, live_table.watcher(self.console), self.say)
        summary.say_searched(invocation, found, self.console)
        self.code = max(self.code, int(any(trials[0].score is None for trials in found.values())))
        self.unreported.remove(invocation)

    def _count(self, records: Sequence[Record], fails: Sequence[str] = ()) -> None:
        """Count runs that failed or diverged, but for variants whose point is that they diverge."""
        expected = {(variant, "diverged") for variant in fails}
        bad = any(r.status != "finished" and (r.variant, r.status) not in expected for r in records)
        self.code = max(self.code, int(bad))

    @contextlib.contextmanager
    def _explained(self, concerned: Sequence[Invocation] = ()) -> Generator[None, None, None]:
        """Turn what goes wrong into a sentence and an exit code, and say where finished runs are."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            code = exits.say(error)
            if code != exits.USAGE and not isinstance(error, CodeChangedError):
                summary.say_where([one for one in concerned if one in self.unreported], self.console)
            if code is None:  # A mistake of ours: its traceback is what helps.
                raise
            self.code = max(self.code, code)
            self.unreported = [one for one in self.unreported if one not in concerned]
