"""What tests share: which of the slow ones run, how a recipe is run, and images that are decoded once."""

import dataclasses
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import hypothesis
import pytest

import pipelines  # noqa: F401  Quiets TensorFlow before a test imports it.
from lab.evidence.records import read
from lab.evidence.schemas import Evidence
from lab.execute import executor
from lab.execute.job import run_job
from lab.experiments import NAMES

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # As in the background of a shell. What tests start inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
# With `-n 2`, a file's tests run in one process; files that take long begin first, so that both end together.
LONGEST = ["test_recipes", "test_wiring"]
DRAWN, DRAWS = ("variants", "breaks", "notebooks"), 20  # So many draws cover all of these.


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files, and leave out the slow tests that are not drawn where KERAS_RECIPES_DRAW is set."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    if draw := os.environ.get("KERAS_RECIPES_DRAW"):
        left_out = set(drawn_out([(item.nodeid, slow_kind(item)) for item in items], draw))
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]


def pytest_report_header() -> str:
    draw = os.environ.get("KERAS_RECIPES_DRAW")
    return f"drawn: a twentieth of {', '.join(DRAWN)} by {draw}" if draw else ""


def slow_kind(item: pytest.Item) -> str:
    """The first of a test's markers that are drawn, or "wiring"; empty for tests that always run."""
    mark = next((mark for mark in DRAWN if item.get_closest_marker(mark)), "")
    return "wiring" if mark and item.path.stem == "test_wiring" else mark


def drawn_out(tests: list[tuple[str, str]], draw: str) -> list[str]:
    """The ids of the tests, given with their kinds, that are not in the twentieth that `draw` names.

    `draw` is any text, as a commit's hash, and "+1" to "+19" after it name the others. Each kind is
    divided by itself, in the order of hashes, so that all parts are equally large. A test without a kind is always in.
    """
    text, _, shift = draw.partition("+")
    left_out = []
    for kind in {kind for _, kind in tests if kind}:
        ids = sorted(
            (name for name, own in tests if own == kind),
            key=lambda name: hashlib.sha256(f"{text}/{name}".encode()).digest(),
        )
        left_out += [name for place, name in enumerate(ids) if (place + int(shift or 0)) % DRAWS]
    return left_out


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images are kept in a folder of the tests' own."""
    before = os.environ.get("KERAS_RECIPES_CACHE")
    os.environ["KERAS_RECIPES_CACHE"] = str(tmp_path_factory.getbasetemp().parent / "cache")
    yield
    os.environ.pop("KERAS_RECIPES_CACHE")
    if before:
        os.environ["KERAS_RECIPES_CACHE"] = before


# What `tests/faults` makes up is the same each time, and with `--hypothesis-profile=long` new, and much more of it.
usual = {"deadline": None, "suppress_health_check": list(hypothesis.HealthCheck), "database": None}
hypothesis.settings.register_profile("usual", derandomize=True, max_examples=100, **usual)
hypothesis.settings.register_profile("long", max_examples=5000, print_blob=True, **usual)
hypothesis.settings.load_profile("usual")


def examples(number: int) -> hypothesis.settings:
    """So many examples as a rule, where one takes long, and fifty times as many in the long profile."""
    long = hypothesis.settings().max_examples > 100
    return hypothesis.settings(max_examples=number * (50 if long else 1))


Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `python -m MODULE FLAGS` from the repository."""

    def run(module: str, *flags: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", module, *flags],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def smoke(request, tmp_path_factory) -> Callable[[str], tuple[subprocess.CompletedProcess, Path]]:
    """Run recipes at budget smoke as a user does, once a session; say what was printed and where a recipe logged.

    One command runs all that the selected tests name as a parameter: they import TensorFlow together. With `-n 2` the
    process that asks first runs it, and the other one waits for what it found.
    """

    @functools.cache
    def run(names: tuple[str, ...]) -> tuple[subprocess.CompletedProcess, Path]:
        base = tmp_path_factory.getbasetemp()
        together = base.parent if hasattr(request.config, "workerinput") else base  # That of all processes of `-n 2`.
        of_these = hashlib.sha256(" ".join(names).encode()).hexdigest()[:16]  # All names are too long for a folder's.
        folder = together / "smoke" / of_these
        folder.mkdir(parents=True, exist_ok=True)
        told, logs = folder / "told.json", folder / "logs"
        with filelock.FileLock(folder / "lock"):
            if not told.exists():
                start = [sys.executable, "-m", "recipes", "run", *names, "--budget", "smoke", "--logdir", str(logs)]
                done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, timeout=7200)
                told.write_text(json.dumps([start, done.returncode, done.stdout, done.stderr]))
            return subprocess.CompletedProcess(*json.loads(told.read_text())), logs

    runs_recipes = [item for item in request.session.items if "smoke" in getattr(item, "fixturenames", ())]
    asked = {item.callspec.params.get("name") for item in runs_recipes if hasattr(item, "callspec")}
    selected = tuple(name for name in NAMES if name in asked)

    def of(name: str) -> tuple[subprocess.CompletedProcess, Path]:
        done, logs = run(selected if name in selected else (name,))
        return done, logs / name

    return of


def evidence_in(logs: Path) -> dict:
    """The one evidence.json under `logs`."""
    (path,) = logs.rglob("evidence.json")
    return json.loads(path.read_text(encoding="utf-8"))


def typed_evidence_in(logs: Path) -> Evidence:
    """The same, checked and typed."""
    (path,) = logs.rglob("evidence.json")
    return read(path, Evidence)


def numbers(records: list[dict]) -> dict:
    """What must repeat bit for bit: metrics but for times, curves and per-image correctness, by variant and seed."""
    return {
        (r["variant"], r["seed"]): (
            {name: value for name, value in r["metrics"].items() if "second" not in name},
            r["curves"],
            r["correct"],
        )
        for r in records
    }


def trials_in(logs: Path) -> list[dict[str, Any]]:
    """What KerasTuner has stored of all trials under `logs`."""
    return [json.loads(path.read_text()) for path in sorted(logs.rglob("trial_*/trial.json"))]


@pytest.fixture
def started(monkeypatch):
    """Jobs are done in this process, one by one; what was begun is noted."""
    begun = []

    def one_by_one(work, jobs, gpus, tell):
        for job in work:
            tell(job)
            begun.append(job)
            yield job, run_job(dataclasses.replace(job, alone=True))

    monkeypatch.setattr(executor, "side_by_side", one_by_one)
    monkeypatch.setattr(executor, "apart", lambda what, work, *arguments, gpus=0: work(*arguments))
    return begun
