"""Recipes: one module, one question, answered by measuring. `python -m recipes` lists them."""

import pipelines  # noqa: F401  Its import hook keeps TensorFlow's start-up messages out of the terminal.
