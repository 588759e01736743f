"""Order: fast checks first, then convergence of all recipes, then searches, the harness in processes, notebooks."""

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

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ["test_recipes", "test_optimizers", "test_search_live", "test_dashboard"]
ORDER = ["test_project", "test_claims", "test_tuning", "test_evidence", "test_data", "test_feed", "test_published"]
ORDER += ["test_board", *SMOKE, "test_search", "test_harness", "test_notebooks"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(item.path.stem))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n 2` the tests of a file stay in one process, and all files that look at the smoke runs in the same."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.split("::")[0]).stem
            return "smoke" if file in SMOKE else file

    config.option.loadscopereorder = False  # In ORDER, not by their number.
    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def decoded_once() -> Iterator[None]:
    """Keep decoded images, by the data set's name, for the next test that asks; their files are looked at all the same.

    A test that wants other images decodes them under another name.
    """
    from pipelines import cifar10

    decode, kept = cifar10._decode, {}

    def decode_once(builder: Any, part: str) -> cifar10.Split:
        key = builder.name, part
        if key not in kept:
            kept[key] = decode(builder, part)
        return kept[key]

    cifar10._decode = decode_once
    yield
    cifar10._decode = decode


Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `python -m MODULE FLAGS` from the repository with its logs in a folder of the test's own."""

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

    One command runs all that the selected tests name: they import TensorFlow together.
    """

    @functools.cache
    def run(names: tuple[str, ...]) -> tuple[subprocess.CompletedProcess, Path]:
        logs = tmp_path_factory.mktemp("smoke")
        start = [sys.executable, "-m", "recipes", *names, "--all", "--budget", "smoke", "--logdir", str(logs)]
        return subprocess.run(start, cwd=ROOT, capture_output=True, text=True, timeout=1800), logs

    selected = tuple(name for name in NAMES if any(name in item.nodeid for item in request.session.items))

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


def trials_in(logs: Path) -> list[dict]:
    """What KerasTuner has stored of all trials under `logs`."""
    return [json.loads(path.read_text()) for path in sorted(logs.rglob("trial_*/trial.json"))]
