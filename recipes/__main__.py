"""All recipes at once: list them, run them, publish their evidence.

python -m recipes                          every recipe: its question, its verdicts, how long it takes
python -m recipes --all --budget smoke     run them; further flags go to each of them
python -m recipes NAME NAME --all          run some of them
python -m recipes publish [NAME ...]       newest evidence in logs/ -> results/NAME/ -> README's table
python -m recipes floors NAME              measure what the convergence test may expect, at budget smoke, ten seeds
"""

import argparse
import ast
import importlib
import itertools
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import recipes

# What only lists recipes imports nothing that would import TensorFlow, and so answers at once.
HERE = Path(__file__).parent
COMMANDS = ("list", "publish", "floors")
LOGS = Path("logs")
NAMES = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0, 1 for a failure, 2 for usage, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    words = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    parser = argparse.ArgumentParser(
        prog="python -m recipes",
        usage="python -m recipes [list | publish | floors] [NAME ...] [--all] [--logdir LOGDIR] [-h]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--all", action="store_true", help="run all recipes, or those that are named")
    parser.add_argument("--logdir", type=Path, default=LOGS, help="where the evidence is, or goes with --all")
    options, rest = parser.parse_known_args(arguments[len(words) :])
    command = words.pop(0) if words and words[0] in COMMANDS else "list"

    if rest and not rest[0].startswith("-"):
        parser.error(f"{rest[0]!r} stands behind a flag: names come first")
    if rest and not options.all:
        parser.error(f"unknown flag {rest[0]}; a recipe's own flags go with --all or with `python -m recipes.NAME`")
    if options.all and command != "list":
        parser.error(f"{command} runs no recipe: leave --all out")
    if unknown := [name for name in words if name not in NAMES]:
        parser.error(f"there is no recipe {unknown[0]!r}: use any of {', '.join(NAMES)}")
    names = words or NAMES
    if options.all:
        return run_all(names, rest if options.logdir == LOGS else [*rest, "--logdir", str(options.logdir)])
    if command == "list":
        Console().print(listing(names))
        return 0
    from recipes.harness.evidence import EvidenceError

    try:
        work = publish_all if command == "publish" else measure_floors
        return work(names, options.logdir)
    except EvidenceError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename} could not be written or read: {error.strerror}.", file=sys.stderr)
        return 1


def listing(names: list[str]) -> Table:
    """Question, verdicts and duration of each recipe, from its source and its published summary."""
    table = Table("recipe", "question", "verdicts", "quick takes", show_lines=True)
    for name in names:
        source = (HERE / f"{name}.py").read_text(encoding="utf-8")
        question = (ast.get_docstring(ast.parse(source)) or name).splitlines()[0]
        path = HERE.parent / "results" / name / "summary.json"
        verdicts, duration = "not published yet", ""
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            verdicts = "\n".join(f"{claim['id']} {claim['verdict']}" for claim in found["claims"])
            if found["quick_seconds"]:
                duration = f"about {found['quick_seconds'] / 60:.1f} min"
        table.add_row(name, question, verdicts, duration)
    return table


def run_all(names: list[str], flags: list[str]) -> int:
    """Run recipes from one process, as importing TensorFlow takes long; return the worst exit code."""
    recipes.fork_early()
    from recipes.harness import cli

    return cli.main_of_all([importlib.import_module(f"recipes.{name}").RECIPE for name in names], flags)


def publish_all(names: list[str], logs: Path) -> int:
    """Publish the newest evidence of each recipe and make README's table anew."""
    from recipes.harness import publish

    for name in names:
        recipe = importlib.import_module(f"recipes.{name}").RECIPE
        paths = [path for kind in ("tuning.json", "evidence.json") if (path := publish.find(recipe, logs, kind))]
        publish.publish(recipe, paths)
        for path in paths:
            print(f"{name}: published {path}")
    publish.README.write_text(publish.readme(publish.README.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def measure_floors(names: list[str], logs: Path) -> int:
    """Run each recipe at budget smoke with ten seeds and store the floors of its convergence test."""
    from recipes.harness import publish

    for name in names:
        recipe = importlib.import_module(f"recipes.{name}").RECIPE
        flags = ["--budget", "smoke", "--seeds", str(publish.LEAST_SEEDS), "--logdir", str(logs)]
        if code := run_all([name], flags):
            return code
        newest = max((logs / name).glob("*/evidence.json"))
        print(f"{name}: {publish.write_floors(recipe, newest)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
