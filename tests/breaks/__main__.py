"""Apply breaks to a copy of the source, one at a time, and require the named tests to fail.

python -m tests.breaks               the whole table
python -m tests.breaks --draw 8      eight of it, drawn anew each time
python -m tests.breaks --draw 2/4    the second quarter of it
python -m tests.breaks --only TEXT   those whose file or text contains TEXT
"""

import argparse
import random
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.breaks.planting import complaint_about
from tests.breaks.row import Break
from tests.breaks.table import BREAKS


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
