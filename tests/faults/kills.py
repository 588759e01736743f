"""`kill -9` at random moments of what takes long, and going on: the same bits, nothing done twice, nothing left behind.

python -m tests.faults.kills --times 40 --seed 1

Each time one of KINDS is begun in a folder of its own, its first process is killed (and none of its children, which
nobody then tells to end), and the same command is given again with --resume.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lab.evidence.carry_over import differences
from lab.evidence.records import read
from lab.evidence.schemas import Evidence, Search, TuningSweep
from lab.experiments import load
from tests.conftest import ROOT

MARK = "KERAS_RECIPES_KILLS"  # A variable that all processes of a command inherit: so they are found again.
PATIENCE = 200.0  # Seconds for a command to begin.
CHILDREN_END = 10.0  # Seconds that processes may take to see that the first one is gone.


@dataclass(frozen=True)
class Kind:
    """What is killed: a module and its flags, and what is to be the same: a file's name and what counts of it."""

    module: str
    flags: tuple[str, ...]
    written: str

    def command(self, logs: Path, *more: str) -> list[str]:
        return [sys.executable, "-m", self.module, *self.flags, "--logdir", str(logs), *more]


SMOKE = ("--budget", "smoke", "--jobs", "2")
KINDS = {
    "run": Kind("recipes.sequential", (*SMOKE, "--variants", "linear", "dense_65", "convnet"), "evidence.json"),
    "tuning": Kind("recipes.sequential", ("tune", *SMOKE, "--variants", "linear"), "tuning.json"),
    "search": Kind("recipes.search", (*SMOKE, "--variants", "grid", "random"), "evidence.json"),
    "trials": Kind(
        "recipes.optimizers", ("search", "bayesian", "--trials", "4", *SMOKE, "--variants", "adam"), "search.json"
    ),
    "distributed": Kind("recipes.distributed", (*SMOKE, "--variants", "one_device", "workers_2"), "evidence.json"),
}


def outcome(kind: Kind, logs: Path) -> Any:
    """What a finished command has found, as far as it must be the same each time."""
    (path,) = logs.rglob(kind.written)
    if kind.written == "tuning.json":
        sweep = read(path, TuningSweep)
        return sweep.winners, sweep.search, sweep.curve
    if kind.written == "search.json":  # Which of two trials that ran side by side ended first is not told.
        (trials,) = read(path, Search).found.values()
        return sorted(map(str, trials))
    return read(path, Evidence).records


def wrong_of(kind: Kind, whole: Any, resumed: Any) -> list[str]:
    if kind.written == "evidence.json":
        return differences(whole, resumed, load(kind.module.rpartition(".")[2]).timed)
    return [] if whole == resumed else ["What was found is something else."]


def finished_runs(logs: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in logs.rglob("record.json")}


def marked(mark: str) -> list[psutil.Process]:
    """The processes that a command has left."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def broken_files(folder: Path) -> list[str]:
    """The JSON files under their own names that are not whole."""
    wrong = []
    for path in folder.rglob("*.json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            wrong.append(f"{path} is not whole.")
    return wrong


def killed(
    command: list[str], after: float, cwd: Path = ROOT, begun: Callable[[], bool] = lambda: True
) -> tuple[bool, list[str]]:
    """Start a command and kill it so many seconds after it has begun; whether it was still there, and what it has left
    running."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command, cwd=cwd, env={**os.environ, MARK: mark}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not begun() and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    was_there = process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + CHILDREN_END
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    names = []
    for child in left:
        with contextlib.suppress(psutil.Error):
            names.append(f"{' '.join(child.cmdline())[:100]} is still there after {CHILDREN_END:g} s.")
            child.kill()
    return was_there, names


class Killer:
    """Kills commands of a kind; what they find undisturbed, and how long that takes, is measured once."""

    def __init__(self, name: str, folder: Path) -> None:
        self.kind, self.folder = KINDS[name], folder / name
        began = time.monotonic()
        self._done(self.kind.command(self.folder / "whole"))
        self.seconds = time.monotonic() - began
        self.whole = outcome(self.kind, self.folder / "whole")

    def _done(self, command: list[str]) -> subprocess.CompletedProcess:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def once(self, chance: random.Random) -> tuple[str, list[str]]:
        """Kill once and go on; say when it was, and what was wrong."""
        logs, after = self.folder / uuid.uuid4().hex, chance.uniform(0.1, 1.0) * self.seconds
        was_there, wrong = killed(self.kind.command(logs), after)
        wrong += broken_files(logs)
        before = finished_runs(logs)
        begun = was_there and list(logs.rglob("invocation.json"))
        done = subprocess.run(
            self.kind.command(logs, *(["--resume"] if begun else [])), cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            return f"after {after:.1f} s", [
                *wrong,
                f"exit code {done.returncode}: {(done.stdout + done.stderr)[-500:]}",
            ]
        if begun:
            again = finished_runs(logs)
            wrong += [f"{path} was done again." for path in before if again.get(path) != before[path]]
        if was_there:
            wrong += wrong_of(self.kind, self.whole, outcome(self.kind, logs))
        shutil.rmtree(logs)
        kept = f"{len(before)} runs kept" if was_there else "it had ended"
        return f"after {after:.1f} of {self.seconds:.1f} s, {kept}", wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    chance, failures = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: Killer(name, Path(scratch)) for name in options.kinds}
        for number in range(options.times):
            name = options.kinds[number % len(options.kinds)]
            when, wrong = made[name].once(chance)
            failures += bool(wrong)
            print(f"{number + 1:>3} {name:<12} {when}: {' '.join(wrong) or 'as undisturbed'}", flush=True)
    print(f"{options.times} kills, {failures} of them with something wrong.")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
