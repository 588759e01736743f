"""What a card's figure shows: panels that an experiment chooses. `lab.report.figure` draws them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Lines:
    """A line for each variant: curve `y`, its mean over seeds, against the curve `x` or 1, 2, 3, …

    The band about it is the range over seeds, or the mean's 95 % interval. Where runs end at different points, as with
    early stopping, mean and band are of those that go on.
    """

    y: str
    x: str = ""
    variants: tuple[str, ...] = ()
    x_label: str = "epoch"
    title: str = ""
    log: str = ""  # Which axes: "x", "y" or "xy".
    band: Literal["range", "interval"] = "range"


@dataclass(frozen=True)
class Points:
    """A point for each variant: two metrics' means, with bars for their standard deviations."""

    x: str
    y: str
    title: str = ""
    log: str = ""


@dataclass(frozen=True)
class Bars:
    """A bar for each variant: a metric's mean and standard deviation."""

    metric: str
    title: str = ""
    log: str = ""


@dataclass(frozen=True)
class Sweep:
    """The sensitivity curve of a tuning sweep: final accuracy against the swept field."""


Panel = Lines | Points | Bars | Sweep
