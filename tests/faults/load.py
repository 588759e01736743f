"""What many runs, many invocations and many workers cost: a benchmark, with the bound that each number should keep.

python -m tests.faults.load
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from lab.cli.validate import JOBS_A_CORE
from lab.evidence.provenance import cores
from tests.conftest import ROOT

GUESS = [sys.executable, "-m", "tests.toys.guess", "--no-log"]
INVOCATIONS = 5000
MIB = 2**20


def watched(command: list[str]) -> tuple[float, float, float]:
    """Seconds that a command takes, the most MiB of its first process, and of all of its processes together."""
    began, first, everything = time.monotonic(), 0.0, 0.0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                own = parent.memory_info().rss
                family = [own, *(own_memory(child) for child in parent.children(recursive=True))]
                first, everything = max(first, own), max(everything, sum(family))
            except psutil.Error:
                pass
            time.sleep(0.2)
        assert process.returncode == 0, process.stderr.read() if process.stderr else ""
    return time.monotonic() - began, first / MIB, everything / MIB


def own_memory(process: psutil.Process) -> int:
    """Bytes that a process shares with no other: forked workers share TensorFlow."""
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def report(what: str, value: float, unit: str, bound: float) -> bool:
    kept = value <= bound
    print(f"{what:<62} {value:>8.1f} {unit:<4} bound {bound:>6g}{'' if kept else '  NOT KEPT'}", flush=True)
    return kept


def many_runs(folder: Path) -> bool:
    few = watched([*GUESS, "--seeds", "10", "--jobs", "2", "--logdir", str(folder / "few")])
    many = watched([*GUESS, "--seeds", "150", "--jobs", "2", "--logdir", str(folder / "many")])
    kept = report("300 runs in one invocation: its first process", many[1], "MiB", 1000)
    kept &= report("  more than with 20 runs", many[1] - few[1], "MiB", 20)
    return kept & report("  each run more", (many[0] - few[0]) / 280, "s", 0.1)


def many_workers(folder: Path) -> bool:
    most = JOBS_A_CORE * cores()
    seconds, _, memory = watched([*GUESS, "--seeds", "100", "--jobs", str(most), "--logdir", str(folder / "workers")])
    kept = report(f"200 runs with --jobs {most}, the most here: all processes", memory, "MiB", 1000 + 120 * most)
    return kept & report("  time", seconds, "s", 60)


def many_invocations(folder: Path) -> bool:
    logs = folder / "invocations"
    flags = [*GUESS, "--seeds", "1", "--logdir", str(logs)]
    alone = watched(flags)[0]
    (one,) = (logs / "guess").iterdir()
    header = json.loads((one / "invocation.json").read_text())
    for number in range(INVOCATIONS):
        copy = logs / "guess" / f"20200101-{number // 3600:02}{number // 60 % 60:02}{number % 60:02}"
        copy.mkdir()
        shutil.copyfile(one / "evidence.json", copy / "evidence.json")
        (copy / "invocation.json").write_text(json.dumps({**header, "code": str(number)}))
    shutil.copytree(logs / "guess", logs / "sequential")
    kept = report(
        f"a run in a folder of {INVOCATIONS:,} invocations, more than alone", watched(flags)[0] - alone, "s", 2
    )
    kept &= report("  the same with --resume", watched([*flags, "--resume"])[0] - alone, "s", 5)
    listing = [sys.executable, "-m", "recipes", "list", "--logdir", str(logs)]
    kept &= report("  python -m recipes", watched(listing)[0], "s", 3)
    began = time.monotonic()
    board = [sys.executable, "-m", "recipes", "board", "sequential", "--logdir", str(logs)]
    subprocess.run(board, cwd=ROOT, capture_output=True)  # Of all of these none has a log: it says so.
    kept &= report("  python -m recipes board", time.monotonic() - began, "s", 15)
    publish = [sys.executable, "-c", FIND.format(logs=str(logs))]
    return kept & report("  what publish finds to publish, all of it unfit", watched(publish)[0], "s", 20)


FIND = """
from pathlib import Path
from lab.experiments import load
from lab.report import objections
path, passed_over = objections.find(load("sequential"), Path({logs!r}), "evidence.json")
assert path is None and len(passed_over) > 5000 - 2
"""


def four_at_once(folder: Path) -> bool:
    logs = folder / "four"
    began = time.monotonic()
    commands = [
        subprocess.Popen([*GUESS, "--seeds", "5", "--logdir", str(logs)], cwd=ROOT, stdout=subprocess.DEVNULL)
        for _ in range(4)
    ]
    codes = [command.wait() for command in commands]
    whole = [json.loads(path.read_text()) for path in logs.rglob("evidence.json")]
    assert codes == [0] * 4
    assert [len(found["records"]) for found in whole] == [10] * 4
    return report("four invocations at once in one folder, each whole", time.monotonic() - began, "s", 60)


def main() -> int:
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        parts = [part(Path(scratch)) for part in (many_runs, many_workers, many_invocations, four_at_once)]
    return int(not all(parts))


if __name__ == "__main__":
    sys.exit(main())
