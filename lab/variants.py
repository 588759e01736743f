"""Variants along axes: every combination of some settings, each with a name."""

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any


class Grid(dict[str, SimpleNamespace]):
    """Variant name -> its settings by axis, such as `VARIANTS["residual_deep"].depth`; `axes` has each axis' labels."""

    axes: Mapping[str, Mapping[str, Any]]


def grid(**axes: Any) -> Grid:
    """All combinations of the axes' values; a variant's name is made of their labels, in the axes' order.

    An axis is a mapping label -> value, where an empty label is left out of the names, or a tuple: the labels are then
    its values, and for (False, True) "no_AXIS" and "AXIS".

    >>> list(grid(kind={"plain": 0, "residual": 1}, depth=(2, 6)))
    ['plain_2', 'plain_6', 'residual_2', 'residual_6']
    """
    found = Grid()
    found.axes = {name: _labelled(name, values) for name, values in axes.items()}
    for choice in itertools.product(*(axis.items() for axis in found.axes.values())):
        name = "_".join(label for label, _ in choice if label)
        found[name] = SimpleNamespace(**dict(zip(axes, (value for _, value in choice), strict=True)))
    return found


def _labelled(axis: str, values: Any) -> Mapping[str, Any]:
    if isinstance(values, Mapping):
        return values
    if set(values) == {False, True} and all(isinstance(value, bool) for value in values):
        return {axis if value else f"no_{axis}": value for value in values}
    return {str(value): value for value in values}
