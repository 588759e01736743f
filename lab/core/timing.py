"""Times that can be compared: the variants' steps in interleaved blocks, in random order, and ratios as logarithms."""

import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Step = Callable[[], object]
Result = TypeVar("Result")
LEAST_STEPS = 100
LEFT_OUT = 10
MOST_OTHERS = 0.05  # Share of the machine's processor time used by others: a block with more is timed again,
MOST_AGAIN = 3  # so many times at the most. The least disturbed one counts.
TICKS = Path("/proc/stat")
SHORTEST = 0.2  # Seconds. The kernel counts in hundredths, which say nothing of a shorter block.


@dataclass(frozen=True)
class Blocks:
    """Seconds of each block by variant, the blocks of a round side by side, float (rounds,).

    `disturbances` has for each block its variant, `others`, the share of the machine's processor time that was used by
    others meanwhile, and `again`, how many times it was timed before because that was too much.
    """

    seconds: Mapping[str, np.ndarray]
    steps: int  # Of a block, that were counted.
    disturbances: list[dict[str, Any]]

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
    counted: caches are cold and threads asleep. A block that other processes disturbed is timed again.

    Raises:
        ValueError: no steps would be counted.
    """
    if rounds < 1 or block <= left_out:
        raise ValueError(f"{rounds} rounds of {block} steps, {left_out} of them left out, time nothing.")
    order = np.random.default_rng(seed)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    disturbances = []
    for _ in range(rounds):
        for name in map(str, order.permutation(list(steps))):
            taken, others, again = undisturbed(functools.partial(_block, steps[name], block, left_out))
            seconds[name].append(taken)
            disturbances.append({"variant": name, "others": round(others, 4), "again": again})
    return Blocks({name: np.array(times) for name, times in seconds.items()}, block - left_out, disturbances)


def _block(step: Step, steps: int, left_out: int, _attempt: int) -> tuple[float, float]:
    """Seconds of a block, and which share of the machine's processor time others used meanwhile."""
    for _ in range(left_out):
        step()

    start = clock()
    for _ in range(steps - left_out):
        step()
    taken, busy, own = clock() - start
    return float(taken), share_of_others(taken, busy, own)


def undisturbed(work: Callable[[int], tuple[Result, float]], again: int = MOST_AGAIN) -> tuple[Result, float, int]:
    """Call `work(0)`, and while other processes disturb it `work(1)` to `work(again)`: for what times itself.

    `work` returns what it found, and others' share of the machine's processor time meanwhile. Returns those of the
    least disturbed call, and how many times it was called again.
    """
    calls = [work(0)]
    while calls[-1][1] > MOST_OTHERS and len(calls) <= again:
        calls.append(work(len(calls)))
    return *min(calls, key=lambda call: call[1]), len(calls) - 1


def clock() -> np.ndarray:
    """Seconds since some time, float (3,): of the wall, of all the machine's work, and of this process's own.

    The own includes all threads, and children that have ended.
    """
    own = os.times()
    return np.array([time.perf_counter(), _busy_seconds(), sum(own[:4])])


def share_of_others(seconds: float, busy: float, own: float) -> float:
    """Which share of the machine's processor time others used, by what a `clock` has gone on meanwhile."""
    if seconds < SHORTEST:
        return 0.0
    return max(0.0, float((busy - own) / (seconds * (os.cpu_count() or 1))))


def _busy_seconds() -> float:
    """Seconds that the machine's processors have worked, or were taken away, since its start; 0 where it does not say.

    With 0, nothing is known to be disturbed.
    """
    try:
        user, nice, system, _, _, interrupts, soft, stolen = TICKS.read_text().split()[1:9]
    except OSError:
        return 0.0
    return sum(map(int, (user, nice, system, interrupts, soft, stolen))) / os.sysconf("SC_CLK_TCK")
