"""Variants along axes: every combination of some settings, each with a name."""

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any


def grid(**axes: Mapping[str, Any]) -> dict[str, SimpleNamespace]:
    """All combinations of the axes' values, by name, such as `VARIANTS["residual_deep"].depth`.

    An axis is a mapping label -> value. A variant's name is made of its labels, in the axes' order, but for empty ones.

    >>> list(grid(kind={"plain": 0, "residual": 1}, depth={"": 2, "deep": 6}))
    ['plain', 'plain_deep', 'residual', 'residual_deep']
    """
    found = {}
    for choice in itertools.product(*(axis.items() for axis in axes.values())):
        settings = zip(axes, (value for _, value in choice), strict=True)
        found["_".join(label for label, _ in choice if label)] = SimpleNamespace(**dict(settings))
    return found
