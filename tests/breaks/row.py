"""A row of the table of breaks."""

from typing import NamedTuple


class Break(NamedTuple):
    """A small bug to plant in a copy of the checkout, and the test that must fail then."""

    file: str
    stands: str  # Text that stands once in the file.
    instead: str  # The bug that takes its place.
    noticed_by: (
        str  # A test file and a test's name, or how the name begins: "tests/test_x.py::test_y", "...::test_y[case]".
    )


def of(file: str, *rows: tuple[str, str, str]) -> list[Break]:
    """The breaks of one file: (what stands there, what takes its place, the test that must notice)."""
    return [Break(file, *row) for row in rows]
