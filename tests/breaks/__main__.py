"""Apply breaks to a copy of the source, one at a time, and require the named tests to fail.

python -m tests.breaks               the whole table
python -m tests.breaks --draw 8      eight of it, drawn anew each time
python -m tests.breaks --draw 2/4    the second quarter of it
python -m tests.breaks --only TEXT   those whose file or text contains TEXT
"""

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.breaks.row import Break
from tests.breaks.table import BREAKS

ROOT = Path(__file__).resolve().parents[2]
# What tells that code has changed, not that it is wrong, is no notice.
NOT_BY = "not stale and not hash and not drifted and not floors_come"


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
    with broken(row) as copy:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command += ["-o", "addopts=", file, "-k", f"{name} and {NOT_BY}"]
        variables = {**os.environ, "PYTHONPATH": str(copy), "PYTEST_ADDOPTS": "", "KERAS_RECIPES_DRAW": ""}
        done = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True, timeout=600)
    if done.returncode == 1 and " failed" in done.stdout:
        return ""
    if done.returncode == 0:
        return f"passed unseen by {row.noticed_by}"
    return f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}"


def check(rows: list[Break], at_once: int) -> list[str]:
    """Try breaks side by side; print how each went, and return a sentence for each that was not noticed."""
    complaints = []
    with ThreadPoolExecutor(at_once) as threads:
        for row, complaint in zip(rows, threads.map(complaint_about, rows), strict=True):
            shown = f"{row.file}: {row.stands.strip()!r} -> {row.instead.strip()!r}"
            print(f"{'NOT NOTICED' if complaint else 'noticed':>11}  {shown}", flush=True)
            if complaint:
                complaints.append(f"{shown}: {complaint}")
    return complaints


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0 if every break was noticed, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.breaks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--draw", metavar="NUMBER", help="how many, at random, or which part, such as 2/4; default: all"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="breaks whose file or text contains it")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time; default: 2")
    options = parser.parse_args(arguments)
    rows = [row for row in BREAKS if any(options.only in text for text in row)]
    if options.draw is not None:
        part, _, parts = options.draw.partition("/")
        rows = rows[int(part) - 1 :: int(parts)] if parts else random.sample(rows, min(int(part), len(rows)))
    complaints = check(rows, max(1, options.jobs))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    print(f"{len(rows) - len(complaints)} of {len(rows)} breaks were noticed.")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
