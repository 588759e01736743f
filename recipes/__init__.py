"""Recipes: one module, one technique. `python -m recipes` lists them."""

import sys

import pipelines  # noqa: F401  Its import hook keeps TensorFlow's start-up messages out of the terminal.

if sys.argv[0] == "-m":  # A command begins: `python -m recipes` or `python -m recipes.NAME`.
    import lab.cli.start  # noqa: F401
