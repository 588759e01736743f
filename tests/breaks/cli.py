"""Breaks of lab/cli/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ROWS = [
    *of(
        "lab/cli/validate.py",
        ("not least <= value <= MOST", "value < least", "tests/faults/test_flags.py::test_bounds_and_names"),
        ("or max(seeds) > LARGEST_SEED", "", "tests/faults/test_flags.py::test_bounds_and_names"),
        ("if not path.isprintable():", "if False:", "tests/faults/test_flags.py::test_bounds_and_names"),
    ),
    *of(
        "lab/cli/exits.py",
        ("return USAGE, str(error)", "return FAILURE, str(error)", "tests/faults/test_flags.py::test_any_flag_value"),
    ),
]
