"""A run's `Log` in TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.plugins.histogram.summary_v2 import histogram_pb

from lab.core.log import Log, Timing
from lab.evidence.records import by_product
from lab.evidence.schemas import Record
from lab.tensorboard import callback, events
from pipelines import sources


class TensorBoardLog(Log):
    """Writes to the run's own folder; with `profile`, some early steps of each training are profiled."""

    shows = True

    def __init__(self, folder: Path, profile: bool = False) -> None:
        self.folder, self.profile = folder, profile

    def callbacks(self, part: str, timing: Timing, train: sources.Split, prepare: Any) -> list[Any]:
        return [callback.Board(self.folder / part, timing, train, profile=self.profile, prepare=prepare)]

    def curve(self, name: str, values: Sequence[float]) -> None:
        with by_product(self.folder, f"curve {name}"), events.written(self.folder) as own:
            own.add_curve(name, range(len(values)), values)

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Of those values that are finite."""
        finite = np.asarray(values, np.float64)
        with by_product(self.folder, f"histogram {name}"), events.written(self.folder) as own:
            own.add([histogram_pb(name, finite[np.isfinite(finite)])])

    def predictions(self, logits: np.ndarray) -> None:
        """Leave the predicted classes for the comparison's pictures."""
        with by_product(self.folder, "predictions"):
            np.save(self.folder / events.PREDICTED, logits.argmax(axis=1).astype(np.uint16))

    def finished(self, record: Record) -> None:
        """Write the run's settings and final metrics as a row of the HParams page."""
        settings = {"variant": record.variant, "seed": record.seed, **events.settings_of(record)}
        with by_product(self.folder, "row of HParams"):
            events.write_settings(self.folder / "final", self.folder, settings, record.metrics)
