"""Recipes that are run as commands by tests, and are none of the cookbook's."""

import sys

from lab.cli import start

if sys.argv[0] == "-m":  # `python -m tests.toys.NAME` begins, as `python -m recipes.NAME` does.
    start.fork_early()
