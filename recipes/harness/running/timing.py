"""Times that can be compared: the variants' steps in interleaved blocks, in random order, and ratios as logarithms."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Step = Callable[[], object]
LEAST_STEPS = 100
LEFT_OUT = 10


@dataclass(frozen=True)
class Blocks:
    """Seconds of each block by variant, the blocks of a round side by side, float (rounds,)."""

    seconds: Mapping[str, np.ndarray]
    steps: int  # Of a block, that were counted.

    def log_ratio(self, variant: str, than: str) -> float:
        """The logarithm, base e, of how many times as long a step of `variant` takes: the mean over rounds."""
        return float(np.mean(np.log(self.seconds[variant]) - np.log(self.seconds[than])))

    def step_seconds(self, variant: str) -> float:
        """Seconds of one step: the median over rounds."""
        return float(np.median(self.seconds[variant])) / self.steps


def interleaved(
    steps: Mapping[str, Step], *, rounds: int, seed: int, block: int = LEAST_STEPS, left_out: int = LEFT_OUT
) -> Blocks:
    """Time each variant's `step()` in `rounds` blocks of `block` steps, the variants of a round in random order.

    What slows the machine for a while so slows all variants alike. Of each block the first `left_out` steps are not
    counted: caches are cold and threads asleep.

    Raises:
        ValueError: no steps would be counted.
    """
    if rounds < 1 or block <= left_out:
        raise ValueError(f"{rounds} rounds of {block} steps, {left_out} of them left out, time nothing.")
    order = np.random.default_rng(seed)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name in order.permutation(list(steps)):
            seconds[str(name)].append(_block(steps[str(name)], block, left_out))
    return Blocks({name: np.array(times) for name, times in seconds.items()}, block - left_out)


def _block(step: Step, steps: int, left_out: int) -> float:
    for _ in range(left_out):
        step()
    start = time.perf_counter()
    for _ in range(steps - left_out):
        step()
    return time.perf_counter() - start
