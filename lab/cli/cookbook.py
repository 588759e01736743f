"""All recipes at once: list them, run them, publish their evidence.

python -m recipes                        every recipe: its question, its verdicts, how long it takes
python -m recipes --all --budget smoke   run them; further flags go to each of them
python -m recipes NAME NAME --all        run some of them
python -m recipes status [NAME ...]      what is published, what of it is stale, and what mends it
python -m recipes attest [NAME ...]      carry it over a change of code that changes no number
python -m recipes publish [NAME ...]     newest evidence in logs/ -> results/NAME/ -> README
python -m recipes floors NAME            measure what the convergence test may expect
python -m recipes benchmark              images/s through training, paired with other ways to do it
python -m recipes board [NAME ...]       TensorBoard on the newest runs, on this machine alone
"""

import argparse
import ast
import itertools
import json
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.cli import start
from lab.experiments import NAMES, load

# What only lists recipes imports nothing that would import TensorFlow, and so answers at once.
COMMANDS = ("list", "status", "attest", "publish", "floors", "benchmark", "board")
LOGS = Path("logs")
ROOT = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code, as `lab.cli.exits` has it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["benchmark"]:
        from benchmarks import throughput

        return explained(lambda: throughput.main(arguments[1:]))
    words = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    parser = argparse.ArgumentParser(
        prog="python -m recipes",
        usage="python -m recipes [list | status | attest | publish | floors | benchmark | board] "
        "[NAME ...] [--all] [--reference] [--open] [--picture PATH] [--port PORT] [--logdir LOGDIR] [-h]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--all", action="store_true", help="run all recipes, or those that are named")
    help_ = "where the evidence is, or goes with --all"
    parser.add_argument("--logdir", type=Path, default=LOGS, help=help_)
    parser.add_argument("--reference", action="store_true", help="with board: the published curves, too")
    parser.add_argument("--open", action="store_true", help="with board: open it in a browser")
    parser.add_argument("--picture", type=Path, help="with board: save its first screen, and end")
    parser.add_argument("--port", type=int, default=0, help="with board: default, any free one")
    options, rest = parser.parse_known_args(arguments[len(words) :])
    options.logdir = options.logdir.expanduser()  # No shell does it behind an equals sign.
    command = words.pop(0) if words and words[0] in COMMANDS else "list"

    if rest and not rest[0].startswith("-"):
        parser.error(f"{rest[0]!r} stands behind a flag: names come first")
    if rest and not options.all:
        parser.error(f"unknown flag {rest[0]}: a recipe's own flags go with --all")
    if options.all and command != "list":
        parser.error(f"{command} runs no recipe: leave --all out")
    if unknown := [name for name in words if name not in NAMES]:
        parser.error(f"there is no recipe {unknown[0]!r}: use any of {', '.join(NAMES)}")
    names = words or NAMES
    if command == "board":
        return explained(lambda: board(words, options))
    if options.reference or options.open or options.picture or options.port:
        parser.error("--reference, --open, --picture and --port go with board")
    if options.all:
        return run_all(names, rest if options.logdir == LOGS else [*rest, "--logdir", str(options.logdir)])
    if command == "list":
        Console().print(listing(names))
        return 0
    return explained(lambda: carry_out(command, names, options.logdir))


def board(names: list[str], options: argparse.Namespace) -> int:
    """Serve the newest runs of recipes, by default of all that have any, and with --reference published curves."""
    from lab.tensorboard import server

    if not 0 <= options.port < 65_536:
        print(f"--port must be from 0 to 65535, not {options.port}.", file=sys.stderr)
        return 2
    if options.picture and not options.picture.parent.is_dir():
        print(f"--picture: there is no folder {options.picture.parent}.", file=sys.stderr)
        return 2
    folders, seeds, missing = {}, {}, []
    for name in names or NAMES:
        newest = server.newest(options.logdir, name)
        if newest is not None:
            folders[f"{name}/here"], seeds[name] = newest / server.comparison.FOLDER, newest
        if options.reference:
            folders |= server.references([name])
        if not any(key.startswith(f"{name}/") for key in folders):
            missing.append(name)
    if missing and (names or not folders):
        print(
            f"There are no TensorBoard files of {', '.join(missing)} under {options.logdir}: run "
            f"`python -m recipes.{missing[0]}` first, or look at the published curves with --reference.",
            file=sys.stderr,
        )
        return 1
    address = server.serve(folders, seeds, print, options.port)
    if options.picture:
        server.take_picture(address, options.picture)
        return 0
    if options.open:
        webbrowser.open(address)
    server.wait(print)
    return 0


def carry_out(command: str, names: list[str], logs: Path) -> int:
    """Do what concerns evidence."""
    work = {
        "status": status,
        "attest": attest_all,
        "publish": publish_all,
        "floors": measure_floors,
    }[command]
    return work(names, logs)


def explained(work: Callable[[], int]) -> int:
    """Do something, turn what goes wrong into a sentence, and return the exit code."""
    try:
        return work()
    except Exception as error:
        from lab.cli import exits

        code = exits.say(error)
        if code is None:  # A mistake of ours: its traceback is what helps.
            raise
        return code


def listing(names: list[str]) -> Table:
    """Question, verdicts and duration of each recipe, from its source and its published summary."""
    table = Table("recipe", "question", "verdicts", "quick takes", show_lines=True)
    for name in names:
        source = (ROOT / "recipes" / f"{name}.py").read_text(encoding="utf-8")
        question = (ast.get_docstring(ast.parse(source)) or name).splitlines()[0]
        path = ROOT / "results" / name / "summary.json"
        verdicts, duration = "not published yet", ""
        if path.exists():
            try:
                verdicts, duration = summarized(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError, OverflowError):
                verdicts = f"its summary is broken: git checkout results/{name}/summary.json"
        table.add_row(name, question, verdicts, duration)
    return table


def summarized(found: dict) -> tuple[str, str]:
    """A recipe's verdicts, a line each, and how long it takes, from its published summary."""
    lines = [f"{claim['id']} {claim['verdict']}" for claim in found["claims"]]
    if found["stale"]:
        lines.append("(measured with an earlier version of this recipe)")
    seconds = found["quick_seconds"]
    return "\n".join(lines), f"about {seconds / 60:.1f} min" if seconds else ""


def run_all(names: list[str], flags: list[str]) -> int:
    """Run recipes from one process, since importing TensorFlow takes long; the worst exit code."""
    if "--help" not in flags and "-h" not in flags:
        start.fork_early()
    from lab.cli import commands

    return commands.run_all([load(name) for name in names], flags)


def status(names: list[str], logs: Path) -> int:
    """Print what of each recipe is current, stale or missing."""
    from lab.report import publish

    for name in names:
        for line in publish.status_of(load(name)):
            print(f"{name:<20} {line}")
    return 0


def attest_all(names: list[str], logs: Path) -> int:
    """Carry the evidence of each recipe over to the code at hand, where that changes no number."""
    from lab.cli import exits
    from lab.evidence.carry_over import carry_over
    from lab.evidence.records import EvidenceError

    code = 0
    for name in names:
        try:
            print(f"{name} {carry_over(load(name), print)}.")
        except EvidenceError as error:
            code = exits.say(error) or code
    return code


def publish_all(names: list[str], logs: Path) -> int:
    """Publish the newest evidence of each recipe and make README's parts anew."""
    from lab.cli import exits
    from lab.evidence.records import EvidenceError, printable
    from lab.report import front_page, publish, publishable

    code = 0
    if not logs.is_dir():
        print(f"There is no folder {logs}: nothing new is published.", file=sys.stderr)
        code = 1
    for name in names:
        experiment, paths = load(name), []
        for kind, budget in itertools.product(("tuning.json", "evidence.json"), ("quick", "full")):
            path, passed_over = publishable.find(experiment, logs, kind, budget)
            paths += [path] if path else []
            for sentence in passed_over:
                print(printable(sentence), file=sys.stderr)
                code = 1
        try:
            done = publish.publish(experiment, paths)
        except EvidenceError as error:
            code = exits.say(error) or code
            continue
        print(f"{name}: {', '.join(map(str, paths)) or 'nothing new'}; {done}")
        if not front_page.has_chapter(name):
            print(f"{name} is in no chapter of README: add it to {front_page.WHERE}.", file=sys.stderr)
            code = 1
    publish.publish_front()
    return code


def measure_floors(names: list[str], logs: Path) -> int:
    """Run recipes at budget smoke with ten seeds and store the floors of their convergence test."""
    from lab.report import publish

    with_floors = [name for name in names if load(name).floor]
    flags = [
        "--budget",
        "smoke",
        "--seeds",
        str(publish.LEAST_SEEDS),
        "--no-log",
        "--logdir",
        str(logs),
    ]
    if code := run_all(with_floors, flags):
        return code
    for name in with_floors:
        newest = max((logs / name).glob("*/evidence.json"))
        print(f"{name}: {publish.write_floors(load(name), newest)}")
    return 0
