"""`Log`: what a run shows while it goes on and when it ends. This one shows nothing; TensorBoard's is another."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from lab.evidence.schemas import Record
from pipelines import sources

Timing = Callable[[str], AbstractContextManager[None]]  # Adds what its block takes to the seconds of that name.


class Log:
    """Makes no number: a run's numbers are the same whatever its log is."""

    shows = False

    def callbacks(self, part: str, timing: Timing, train: sources.Split, prepare: Any) -> list[Any]:
        """Keras callbacks for one `fit`; `part` is "" or the name of a training where a run has several."""
        return []

    def curve(self, name: str, values: Sequence[float]) -> None:
        """Show numbers in order, a step for each."""

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Show how numbers are spread."""

    def predictions(self, logits: np.ndarray) -> None:
        """Show what a trained model makes of the test images: float32 (n, classes), in their order."""

    def finished(self, record: Record) -> None:
        """Show a run's settings beside what came of it."""
