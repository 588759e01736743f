"""What is compared to test each recipe's advice: a module a recipe, each with its `EXPERIMENT`."""

import importlib
from pathlib import Path
from typing import Any

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def load(name: str) -> Any:
    """The `EXPERIMENT` of a recipe by its name, or of a module of your own by its dotted name."""
    return importlib.import_module(name if "." in name else f"{__name__}.{name}").EXPERIMENT
