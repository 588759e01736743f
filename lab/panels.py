"""What a card's figure shows: panels that an experiment chooses. `lab.report.figure` draws them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Lines:
    """A line for each variant: curve `y`, its mean over seeds within its 95 % interval, against curve `x` or 1, 2, 3, …

    Of more than six variants the six that end highest are drawn: name those that matter. Where runs end at different
    points, as with early stopping, mean and band are of those that go on.
    """

    y: str
    x: str = ""
    variants: tuple[str, ...] = ()
    x_label: str = "epoch"
    every: int = 1  # How much of `x_label` lies between two values, where `x` is not given.
    title: str = ""
    log: str = ""  # Which axes: "x", "y" or "xy".


@dataclass(frozen=True)
class Points:
    """A point for each variant, or for those that are named: two metrics' means and 95 % intervals."""

    x: str
    y: str
    variants: tuple[str, ...] = ()
    title: str = ""
    log: str = ""


@dataclass(frozen=True)
class Bars:
    """A row for each variant, or for those that are named: a metric's mean and 95 % interval, or with `over` what it
    gains over that variant."""

    metric: str
    variants: tuple[str, ...] = ()
    title: str = ""
    log: str = ""
    over: str = ""


@dataclass(frozen=True)
class Sweep:
    """The sensitivity curve of a tuning sweep: final accuracy against the swept setting."""


Panel = Lines | Points | Bars | Sweep
