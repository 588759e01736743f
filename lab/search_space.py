"""What `search` may choose from: the space that a recipe declares."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Any number from `low` to `high`, evenly along its logarithm; a grid search has the values of `grid`."""

    low: float
    high: float
    grid: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"A range along logarithms goes from above 0 upwards, not from {self.low} to {self.high}.")


# Field of a recipe's Config -> a range, or the values to choose from.
Space = Mapping[str, Range | tuple[Any, ...]]
