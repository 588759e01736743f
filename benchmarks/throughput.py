"""How fast two nets train here, side by side with other ways to train the same nets on the same images.

python -m recipes benchmark                       both nets on one core and on all
python -m recipes benchmark --torch PYTHON        with the PyTorch of another environment's interpreter
python -m recipes benchmark --nets small --cores 1
python -m recipes benchmark --against CHECKOUT    whole commands here and in another checkout, in turn:
                                                  before and after a change, and where the time goes

The nets are the small one of recipes/optimizers.py and the strong one of recipes/strong_baseline.py. Contestants are
our training, plain Keras, PyTorch eager, and PyTorch compiled by torch.compile, which needs a C++ compiler. Each is a
process with as many threads as cores, and sees no GPU. They train a few epochs each, in turn and in a new order each
round, with nothing beside them: what slows the machine for a while slows all alike. Tracing and compiling come before,
and do not count. Ours has faster algorithms than the others. To compare the libraries, compare plain Keras with
PyTorch. The intervals do not cover how speeds differ between starts of a process.
"""

import contextlib
import json
import math
import os
import random
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.contestants import KERAS, NETS, TORCH
from pipelines.errors import MachineError, UsageError

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def processes(names: dict[str, str], net: str, cores: int) -> Iterator[dict[str, subprocess.Popen]]:
    """A process for each contestant, name -> interpreter, once it has trained an epoch.

    Whichever does not start, other than ours, is left out, and why is printed.

    Raises:
        MachineError: ours did not start, or another trains another number of weights.
    """
    running: dict[str, subprocess.Popen] = {}
    weights: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        _write_images(Path(folder))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(cores))
        # Without this, torch.compile leaves processes running that would disturb the others.
        variables = {**os.environ, **threads, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        # Cores are compared, so that none gets a GPU.
        variables |= {"BENCHMARK_IMAGES": folder, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        try:
            for name, interpreter in names.items():
                errors = Path(folder, f"{name}.txt")
                start = [interpreter, "-m", "benchmarks.contestants", name, net, str(cores)]
                with errors.open("w") as stderr:
                    process = subprocess.Popen(
                        start, env=variables, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
                    )
                running[name] = process
                ready = next((line for line in process.stdout or [] if line.startswith("ready ")), "")
                if ready:
                    weights[name] = ready.split()[1]
                    continue
                code = running.pop(name).wait()
                why = _last_error(errors.read_text(errors="replace")) or f"exit code {code}"
                if name == "ours":
                    raise MachineError(f"ours did not start: {why}")
                print(f"\n{name} is left out of the {_shown(net, cores)}, since it did not start: {why}", flush=True)
            if len(set(weights.values())) > 1:
                counts = ", ".join(f"{count} of {name}" for name, count in weights.items())
                raise MachineError(f"The contestants train different nets, by the number of weights: {counts}.")
            yield running
        finally:
            for process in running.values():
                process.kill()
                process.wait()


def _last_error(printed: str) -> str:
    """The line of a traceback that names the error, or the last line of anything else."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (errors or lines or [""])[-1]


def _write_images(folder: Path) -> None:
    from pipelines import sources

    train = sources.load().train
    np.save(folder / "images.npy", train.images)
    np.save(folder / "labels.npy", train.labels)


def interpreters(torch_python: str) -> dict[str, str]:
    """Whose Python runs which contestant. Without PyTorch, its contestants are left out, and why is printed."""
    names = dict.fromkeys(KERAS, sys.executable)
    if shutil.which(torch_python) is None:
        raise UsageError(f"--torch: {torch_python} is no Python interpreter.")
    if subprocess.run([torch_python, "-c", "import torch"], capture_output=True).returncode == 0:
        return names | dict.fromkeys(TORCH, torch_python)
    print(f"PyTorch is left out: {torch_python} can't import torch. Name another interpreter with --torch.")
    return names


def race(rounds: int, names: dict[str, str], net: str, cores: int) -> dict[str, list[float]]:
    """Seconds of each round by contestant."""
    with processes(names, net, cores) as running:
        seconds: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(rounds):
            for name, process in random.sample(list(running.items()), len(running)):
                assert process.stdin is not None
                assert process.stdout is not None
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write("\n")
                    process.stdin.flush()
                if not (answer := process.stdout.readline()):
                    raise MachineError(f"{name} ended in the middle: start the benchmark again.")
                seconds[name].append(float(answer))
    return seconds


def report_race(seconds: dict[str, list[float]], net: str, cores: int) -> None:
    """Print the table of one net on so many cores."""
    size = NETS[net]
    images = size.images // size.batch * size.batch * size.epochs
    print(f"\n{_shown(net, cores)}, {images:,} images a round")
    for name, times in seconds.items():
        spread = f"({images / max(times):,.0f} to {images / min(times):,.0f})"
        speed = f"{name:>16} {images / statistics.median(times):>8,.0f} images/s {spread:<18}"
        faster = ["ours"] * (name != "ours") + ["plain Keras"] * (name in TORCH and "plain Keras" in seconds)
        compared = []
        for one in faster:
            ratios = [theirs / mine for mine, theirs in zip(seconds[one], times, strict=True)]
            low, high = interval(ratios)
            compared.append(f"{one} is {statistics.median(ratios):.2f} times as fast ({low:.2f} to {high:.2f})")
        print(f"{speed}  {', '.join(compared)}".rstrip(), flush=True)


def _shown(net: str, cores: int) -> str:
    return f"{net} net on {cores} {'core' if cores == 1 else 'cores'}"


def interval(ratios: list[float]) -> tuple[float, float]:
    """Between which two of the ratios their true median lies, with 95 % confidence if there are at least six.

    Each ratio is above the median with probability one half, so the number of those above it is binomial.
    """
    count, left_out = len(ratios), 0
    while 2 * sum(math.comb(count, above) for above in range(left_out + 2)) <= 0.05 * 2**count:
        left_out += 1
    ordered = sorted(ratios)
    return ordered[left_out], ordered[-1 - left_out]


def available() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compare(checkout: Path, flags: str, rounds: int) -> int:
    """Run the same command in both checkouts in turn; print how long each takes, and what for."""
    found: dict[str, list[dict]] = {"ours": [], "theirs": []}
    for number in range(rounds):
        turns = [("ours", ROOT), ("theirs", checkout)]
        for who, folder in turns if number % 2 == 0 else reversed(turns):
            evidence = _run_in(folder, flags)
            if evidence is None:
                return 1
            found[who].append(evidence)
            print(f"round {number + 1}: {who:>6} {evidence['whole']:6.1f} s, {_speed(evidence):,.0f} images/s")
    pairs = list(zip(found["ours"], found["theirs"], strict=True))
    for name, value in (("time", lambda one: one["whole"]), ("images/s", _speed)):
        ratios = [value(mine) / value(other) for mine, other in pairs]
        print(f"{name}, ours over theirs: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    for who, evidences in found.items():
        print(f"of the workers' time, {who}: {shares(evidences)}")
    weights = [[record["weights"] for record in evidence["records"]] for evidence in pairs[0]]
    print(f"the same weights: {'yes' if weights[0] == weights[1] else 'no'}")
    return 0


def _run_in(folder: Path, flags: str) -> dict | None:
    """The evidence of `recipes.optimizers` of a checkout, and how long the whole command took."""
    with tempfile.TemporaryDirectory() as logs:
        command = [sys.executable, "-m", "recipes.optimizers", *shlex.split(flags), "--logdir", logs]
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True
        )
        elapsed = time.perf_counter() - start
        paths = list(Path(logs).rglob("evidence.json"))
        if done.returncode != 0 or not paths:
            print(f"{shlex.join(command)} in {folder} failed:\n{done.stdout}{done.stderr}", file=sys.stderr)
            return None
        return json.loads(paths[0].read_text()) | {"whole": elapsed}


def _speed(found: dict) -> float:
    return statistics.median(record["metrics"]["images_per_second"] for record in found["records"])


def shares(evidences: list[dict]) -> str:
    """What workers spent their time on."""
    total: dict[str, float] = {}
    for record in (record for found in evidences for record in found["records"]):
        for name, seconds in record["seconds"].items():
            total[name] = total.get(name, 0.0) + seconds
    whole = total.pop("total")
    total["unaccounted"] = whole - sum(total.values())
    return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in sorted(total.items(), key=lambda x: -x[1]))


FLAGS = "--variants sgd momentum rmsprop adam adamw muon --epochs 5 --seeds 2"


def benchmark(
    rounds: int | None = None,
    torch: str = sys.executable,
    nets: tuple[str, ...] = tuple(NETS),
    cores: tuple[int, ...] = (),
    against: Path | None = None,
    flags: str = FLAGS,
) -> int:
    """Images/s through training, paired with other ways to do it.

    Args:
        rounds: by default 11 epochs, or 3 whole commands.
        torch: a Python interpreter that has PyTorch.
        nets: which nets to train, of small and strong.
        cores: on how many cores; by default on one, and then on all that there are.
        against: another checkout, such as one before a change: whole commands are timed there and here, in turn.
        flags: those of recipes.optimizers, with --against, as in --flags='--seeds 2'.
    """
    most = available()
    cores = cores or (1, most)
    if rounds is not None and rounds < 1:
        raise UsageError(f"--rounds must be at least 1, not {rounds}.")
    for net in nets:
        if net not in NETS:
            raise UsageError(f"--nets: there is no net {net!r}, use any of {', '.join(NETS)}.")
    for count in cores:
        if not 1 <= count <= most:
            raise UsageError(f"--cores must be from 1 to {most}, which is all that there are, not {count}.")
    if against is None:
        names = interpreters(torch)
        pairs = list(dict.fromkeys((net, count) for net in nets or NETS for count in cores))
        for net, count in pairs:
            report_race(race(rounds or 11, names, net, count), net, count)
        interval = "the range" if rounds and rounds < 6 else "a 95 % interval"
        print(f"\nSpeeds are medians over the rounds, with the range. Ratios are medians over them, with {interval}.")
        return 0
    if not (against / "recipes" / "optimizers.py").is_file():
        raise UsageError(f"--against: {against} is no checkout of this project, since it has no recipes/optimizers.py.")
    return compare(against.resolve(), flags, rounds or 3)
