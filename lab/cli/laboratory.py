"""`python -m lab`: check, publish and renew the published evidence."""

import shlex
import sys
from pathlib import Path

import tyro

from lab.cli.cookbook import LOGS, Commands, Names, dispatch, known, run_all, run_command
from lab.experiments import NAMES, load


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code, as `lab.cli.exits` has it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    commands: Commands = {"status": status, "publish": publish, "attest": attest, "floors": floors, "join": join}
    return run_command(lambda: dispatch("python -m lab", __doc__, commands, arguments or ["--help"]))


def status(names: Names = (), /) -> int:
    """What of each recipe is published, what is stale, and which command mends it."""
    from lab.report import publish

    for name in known(names) or NAMES:
        for line in publish.status_of(load(name)):
            print(f"{name:<{max(map(len, NAMES))}} {line}")
    return 0


def attest(names: Names = (), /) -> int:
    """Carry evidence over a change of code that changes no number."""
    from lab.cli import exits
    from lab.evidence.carry_over import carry_over
    from lab.evidence.records import EvidenceError

    code = 0
    for name in known(names) or NAMES:
        try:
            print(f"{name} {carry_over(load(name), print)}.")
        except EvidenceError as error:
            code = exits.say(error) or code
    return code


def publish(names: Names = (), /, logdir: Path = LOGS) -> int:
    """Publish the newest evidence of each recipe: logs/ to results/NAME/, README and the other generated pages.

    Args:
        names: which recipes; by default all.
        logdir: where the evidence is.
    """
    from lab.cli import exits
    from lab.evidence.records import EvidenceError, printable
    from lab.report import publish as publishing
    from lab.report import publishable

    code, logdir = 0, logdir.expanduser()  # No shell does it behind an equals sign.
    if not logdir.is_dir():
        print(f"There is no folder {logdir}: nothing new is published.", file=sys.stderr)
        code = 1
    asked = known(names) or NAMES
    for name in publishing.in_order(asked):
        experiment, paths = load(name), []
        for kind in ("tuning.json", "evidence.json") if name in asked else ():
            path, passed_over = publishable.find(experiment, logdir, kind)
            paths += [path] if path else []
            for sentence in passed_over:
                print(printable(sentence), file=sys.stderr)
                code = 1
        try:
            print(f"{name}: {', '.join(map(str, paths)) or 'nothing new'}; {publishing.publish(experiment, paths)}")
        except EvidenceError as error:
            code = exits.say(error) or code
    publishing.publish_front()
    return code


def join(files: tyro.conf.Positional[tuple[Path, ...]], /, logdir: Path = LOGS) -> int:
    """Put evidence that was measured in parts into one file, where `publish` finds it.

    Args:
        files: evidence of different seeds, or tuning sweeps of different variants.
        logdir: where the result goes.
    """
    from lab.cli import exits
    from lab.evidence.records import EvidenceError, write_json
    from lab.evidence.schemas import Evidence
    from lab.execute.invocation import new_folder
    from lab.execute.joining import joined

    try:
        found = joined(files)
    except EvidenceError as error:
        return exits.say(error) or 1
    name, of = "tuning.json", f"{len(found.variants)} variants"
    if isinstance(found, Evidence):
        name, of = "evidence.json", f"{of} at {len(found.seeds)} seeds"
    path = new_folder(logdir.expanduser() / found.recipe) / name
    write_json(path, found)
    print(f"{path}: {of}.")
    return 0


def floors(names: Names = (), /, logdir: Path = LOGS, resume: bool = False) -> int:
    """Measure what the convergence tests may expect: the variants of a plain run at budget smoke, with ten seeds.

    The tests hold all other variants above 1.5 times chance.

    Args:
        names: which recipes; by default all that have floors.
        logdir: where the runs go.
        resume: keep the finished runs of a command that was interrupted.
    """
    from lab.report.floors import LEAST_SEEDS, write_floors

    with_floors = [name for name in known(names) or NAMES if load(name).floor]
    if without := [name for name in names if name not in with_floors]:
        print(f"Without a floor, since they train to no accuracy that a test could expect: {', '.join(without)}.")
    flags = ["--budget", "smoke", "--seeds", str(LEAST_SEEDS), "--no-log", "--logdir", str(logdir)]
    for name in with_floors:
        words = [*flags, "--variants", *load(name).usual("quick"), *(["--resume"] if resume else [])]
        if code := run_all([name], words):
            where = [] if logdir == LOGS else ["--logdir", str(logdir)]
            again = shlex.join(["python", "-m", "lab", "floors", name, *where, "--resume"])
            print(f"No floors of {name} were written. To finish the runs and write them: {again}", file=sys.stderr)
            return code
        newest = max((logdir / name).glob("*/evidence.json"))
        print(f"{name}: {write_floors(load(name), newest)}")
    return 0
