"""Order: fast checks first, then what trains, then convergence of all recipes, then processes, notebooks, the browser.

A new file of tests needs no entry here: it runs among the fast ones.
"""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pipelines  # noqa: F401  Quiets TensorFlow before a test imports it.
from recipes.__main__ import NAMES
from recipes.harness.running import worker
from recipes.harness.running.job import carry_out

ROOT = Path(__file__).resolve().parents[1]
LATE = ["test_board", "test_distributed", "test_recipes", "test_optimizers", "test_search_live", "test_search"]
LATE += ["test_harness", "test_breaks", "test_own_data", "test_notebooks", "test_dashboard"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast files first; with `-n 2` a file's tests stay in one process, and so do all that look at the smoke runs."""
    items.sort(key=lambda item: LATE.index(item.path.stem) if item.path.stem in LATE else -1)
    of_smoke = {item.path for item in items if "smoke" in getattr(item, "fixturenames", ())}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("smoke" if item.path in of_smoke else item.path.stem))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images are kept in a folder of the tests' own."""
    before = os.environ.get("KERAS_RECIPES_CACHE")
    os.environ["KERAS_RECIPES_CACHE"] = str(tmp_path_factory.getbasetemp().parent / "cache")
    yield
    os.environ.pop("KERAS_RECIPES_CACHE")
    if before:
        os.environ["KERAS_RECIPES_CACHE"] = before


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

    One command runs all that the selected tests name as a parameter: they import TensorFlow together.
    """

    @functools.cache
    def run(names: tuple[str, ...]) -> tuple[subprocess.CompletedProcess, Path]:
        logs = tmp_path_factory.mktemp("smoke")
        start = [sys.executable, "-m", "recipes", *names, "--all", "--budget", "smoke", "--logdir", str(logs)]
        return subprocess.run(start, cwd=ROOT, capture_output=True, text=True, timeout=1800), logs

    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    selected = tuple(name for name in NAMES if name in asked)

    def of(name: str) -> tuple[subprocess.CompletedProcess, Path]:
        done, logs = run(selected if name in selected else (name,))
        return done, logs / name

    return of


def evidence_in(logs: Path) -> dict:
    """The one evidence.json under `logs`."""
    (path,) = logs.rglob("evidence.json")
    return json.loads(path.read_text(encoding="utf-8"))


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

    def one_by_one(work, jobs, gpus, tell, start=None):
        for job in work:
            tell(job)
            begun.append(job)
            yield job, carry_out(dataclasses.replace(job, alone=True))

    monkeypatch.setattr(worker, "side_by_side", one_by_one)
    return begun
