"""`python -m recipes`: list the recipes, run several of them, look at their TensorBoard files, time them."""

import ast
import itertools
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.throughput import benchmark
from lab.cli import start
from lab.evidence.records import EvidenceError, read
from lab.evidence.schemas import Summary
from lab.experiments import NAMES, load
from pipelines.errors import UsageError

# What only lists recipes imports nothing that would import TensorFlow, and so answers at once.
LOGS = Path("logs")
ROOT = Path(__file__).parents[2]
Names = tyro.conf.Positional[tuple[str, ...]]
Commands = dict[str, Callable[..., int]]


def main(given: list[str] | None = None) -> int:
    """Return the exit code, as `lab.cli.exits` has it."""
    arguments = (sys.argv[1:] if given is None else given) or ["list"]
    first = arguments[0]
    if first == "run" and not {"-h", "--help"} & set(arguments[1:2]):
        names = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments[1:]))
        return run_command(lambda: run_all(known(names) or NAMES, arguments[1 + len(names) :]))
    commands: Commands = {"list": show, "run": run, "board": board, "benchmark": benchmark}
    if first not in commands and first not in ("-h", "--help"):
        arguments = ["list", *arguments]
    return run_command(lambda: dispatch("python -m recipes", __doc__, commands, arguments))


def dispatch(prog: str, description: str | None, commands: Commands, arguments: list[str]) -> int:
    """Call the subcommand that the arguments name, with its flags; return the exit code."""
    if sys.flags.optimize > 1:
        description = "PYTHONOPTIMIZE=2 (or -OO) drops the texts of this help: leave it out to read them."
    return tyro.extras.subcommand_cli_from_dict(
        commands, prog=prog, description=description, args=arguments, use_underscores=False
    )


def run_command(work: Callable[[], int]) -> int:
    """Do something, turn what goes wrong into a sentence, and return the exit code."""
    try:
        return work()
    except (Exception, SystemExit) as error:
        from lab.cli import exits

        code = exits.say(error)
        if code is None:  # A mistake of ours: its traceback is what helps.
            raise
        return code


def known(names: Any) -> list[str]:
    """The names as a list.

    Raises:
        UsageError: there is no such recipe.
    """
    for name in names:
        if name not in NAMES:
            raise UsageError(f"There is no recipe {name!r}: use any of {', '.join(NAMES)}.")
    return list(names)


def show(names: Names = (), /) -> int:
    """Every recipe: its question, its verdicts, how long it takes. This is what happens without a subcommand."""
    Console().print(listing(known(names) or NAMES))
    return 0


def listing(names: list[str]) -> Table:
    """Question, answer, verdicts and duration of each recipe, from its source and its published summary."""
    from lab.report.ledger import totals

    table = Table(show_lines=True)
    table.add_column("recipe", no_wrap=True, min_width=max(map(len, names)))  # A name is there to be typed.
    table.add_column("question and answer", overflow="fold")
    table.add_column("verdicts", max_width=18)
    table.add_column("takes", no_wrap=True)
    for name in names:
        source = (ROOT / "recipes" / f"{name}.py").read_text(encoding="utf-8")
        question = (ast.get_docstring(ast.parse(source)) or name).splitlines()[0]
        path = ROOT / "results" / name / "summary.json"
        answer, verdicts, duration = "", "not published yet", ""
        try:
            if path.exists():
                summary = read(path, Summary)
                found = totals({name: summary})
                counts = {**found.verdicts, "with an earlier version": found.waiting}
                verdicts = "\n".join(f"{number} {word}" for word, number in counts.items() if number)
                answer = f"\n{summary.answer}" if summary.answer and not summary.stale else ""
                duration = f"{summary.quick_seconds / 60:.1f} min" if summary.quick_seconds else ""
        except EvidenceError:
            verdicts = f"its summary is broken: git checkout results/{name}/summary.json"
        table.add_row(name, question + answer, verdicts, duration)
    return table


def run(names: Names = (), /) -> int:
    """Run several recipes, by default all; the flags of `python -m recipes.NAME run` may follow."""
    return run_all(list(names), [])


def run_all(names: list[str], flags: list[str]) -> int:
    """Run recipes from one process, since importing TensorFlow takes long; return the worst exit code."""
    if "--help" not in flags and "-h" not in flags:
        start.fork_early()
    from lab.cli import commands

    return commands.run_all([load(name) for name in names], flags)


def board(
    names: Names = (),
    /,
    reference: bool = False,
    open: bool = False,
    port: int = 0,
    logdir: Path = LOGS,
) -> int:
    """TensorBoard on the newest runs, on this machine alone.

    Args:
        names: which recipes; by default all that have been run.
        reference: show the published curves as well.
        open: open it in a browser.
        port: the port to listen on; by default any free one.
        logdir: where the runs are.
    """
    from lab.tensorboard import server

    if not 0 <= port < 65_536:
        raise UsageError(f"--port must be from 0 to 65535, not {port}.")
    logdir = logdir.expanduser()  # No shell does it behind an equals sign.
    address = server.serve_newest(known(names), logdir, print, reference=reference, port=port)
    if open:
        webbrowser.open(address)
    server.wait(print)
    return 0
