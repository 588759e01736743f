"""A run's `Log` in TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lab.core.log import Log, Timing
from lab.evidence.schemas import Record
from lab.tensorboard import callback
from pipelines import sources


class TensorBoardLog(Log):
    """Writes to the run's own folder; with `profile`, some early steps of each training are profiled."""

    shows = True

    def __init__(self, folder: Path, profile: bool = False) -> None:
        self.folder, self.profile = folder, profile

    def callbacks(self, part: str, timing: Timing, train: sources.Split, prepare: Any) -> list[Any]:
        return [callback.Board(self.folder / part, timing, train, profile=self.profile, prepare=prepare)]

    def curve(self, name: str, values: Sequence[float]) -> None:
        callback.write_curve(self.folder, name, values)

    def histogram(self, name: str, values: Sequence[float]) -> None:
        callback.write_histogram(self.folder, name, values)

    def predictions(self, logits: np.ndarray) -> None:
        callback.write_predictions(self.folder, logits)

    def finished(self, record: Record) -> None:
        callback.write_hparams(self.folder, record)
