"""`python -m recipes`: list the recipes, run several of them, look at their TensorBoard files, time them."""

import sys

from lab.cli import cookbook
from pipelines import terminal

if __name__ == "__main__":
    sys.exit(terminal.ending(cookbook.main()))
