"""`python -m lab`: what concerns the published evidence."""

import sys

from lab.cli import laboratory
from pipelines import terminal

if __name__ == "__main__":
    terminal.begin()
    sys.exit(terminal.ending(laboratory.main()))
