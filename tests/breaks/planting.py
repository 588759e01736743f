"""Plant a bug in a copy of the source, and see whether a test notices it."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.breaks.row import Break

ROOT = Path(__file__).resolve().parents[2]
# What tells that code has changed, not that it is wrong, is no notice.
NOT_BY = ("stale", "hash", "drifted", "floors_come")
OURS = ("benchmarks", "lab", "pipelines", "recipes", "tests")
PRINTED = "printed.txt"
SECONDS = 600


@contextlib.contextmanager
def broken(row: Break) -> Iterator[Path]:
    """A copy of the checkout with one break in it."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        leave_out = shutil.ignore_patterns(
            ".git", ".venv", "logs", "__pycache__", ".mypy_cache", ".ruff_cache", "data", "notebooks"
        )
        shutil.copytree(ROOT, copy, ignore=leave_out)
        (copy / "pipelines" / "data").symlink_to(ROOT / "pipelines" / "data")
        path = copy / row.file
        text = path.read_text(encoding="utf-8")
        if text.count(row.stands) != 1:
            raise ValueError(f"{row.file} has {text.count(row.stands)} places that read {row.stands!r}: one is needed.")
        path.write_text(text.replace(row.stands, row.instead), encoding="utf-8")
        yield copy


def complaint_about(row: Break) -> str:
    """Why a break was not noticed as it should have been; empty if it was."""
    file, _, name = row.noticed_by.partition("::")
    context = multiprocessing.get_context("forkserver" if sys.platform.startswith("linux") else "spawn")
    context.set_forkserver_preload(["tests.breaks.preloaded"])
    with broken(row) as copy:
        arguments = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", file]
        (copy / PRINTED).touch()
        process = context.Process(target=_pytest, args=(copy, [*arguments, "-k", " and not ".join([name, *NOT_BY])]))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        printed = (copy / PRINTED).read_text(encoding="utf-8", errors="replace")
    if process.exitcode == 1 and " failed" in printed:
        return ""
    if process.exitcode == 0:
        return f"passed unseen by {row.noticed_by}"
    return f"pytest ended with {process.exitcode}: {printed[-500:]}"


def _pytest(copy: Path, arguments: list[str]) -> None:
    """Run pytest on a copy, in this process, which has nothing of ours imported but to come here."""
    os.setsid()
    descriptor = os.open(copy / PRINTED, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    os.chdir(copy)
    sys.path[:] = [str(copy), *(folder for folder in sys.path if Path(folder).resolve() != ROOT)]
    os.environ.update({"PYTHONPATH": str(copy), "PYTEST_ADDOPTS": "", "KERAS_RECIPES_DRAW": ""})
    import pytest

    code = pytest.main(arguments)
    sys.stdout.flush()
    os._exit(code)
