"""Event files: a folder with one or more of them is a run on TensorBoard's pages."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.util import tensor_util

from lab.evidence.schemas import Record

FILES = "events.out.tfevents.*"
# What a run leaves for the comparison: some of its rates, its model, and the classes that it predicts for test images.
RATES, MODEL, PREDICTED = "rates.json", "model.json", "predicted.npy"


class Events:
    """An event file that is being written: points appear on TensorBoard's pages when they are flushed."""

    def __init__(self, folder: Path) -> None:
        from tensorflow.io import TFRecordWriter  # Which takes a tenth of the time of TensorBoard's own.

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = TFRecordWriter(str(folder / FILES.replace("*", str(time.time_ns()))))
        self.write(file_version="brain.Event:2")
        self.flush, self.close = self._writer.flush, self._writer.close

    def write(self, **content: Any) -> None:
        """Write an event with these fields, such as `graph_def`, a serialized graph."""
        self._writer.write(event_pb2.Event(wall_time=time.time(), **content).SerializeToString())

    def add(self, summaries: Iterable[Any], step: int = 0) -> None:
        """Add the values of summaries (protocol buffers), all at one step."""
        self.write(step=step, summary=summary_pb2.Summary(value=[one for each in summaries for one in each.value]))

    def add_curve(self, tag: str, steps: Iterable[int], values: Iterable[float]) -> None:
        for step, value in zip(steps, values, strict=True):
            self.add([scalar_pb(tag, value)], int(step))


@contextlib.contextmanager
def written(folder: Path, *, anew: bool = False) -> Iterator[Events]:
    """Events of a run that are written at once: beside what it has, or `anew` in the place of that."""
    older = list(folder.glob(FILES)) if anew else []
    with contextlib.closing(Events(folder)) as events:
        if anew:  # TensorBoard forgets what it has read.
            events.write(session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
        yield events
    for path in older:
        path.unlink()


def write_settings(folder: Path, of: Path, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Write a row of the HParams page: what was trained in the folder `of`, with which settings, to which metrics.

    TensorBoard derives the page's columns from all rows that it finds, each with the scalars in its own run, which is
    why `folder` holds nothing else. Columns are not declared: of several declarations under one folder the page obeys
    one, and the rows of the other experiments would have no metrics.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    shown = {name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in given.items()}
    row = " ".join(reversed(of.parts[-6:]))  # The page takes equal names for one row.
    with written(folder, anew=True) as events:
        events.add([api.hparams_pb(shown, trial_id=row)])
        events.add([scalar_pb(f"final/{name}", value) for name, value in metrics.items()])


def settings_of(record: Record) -> dict[str, Any]:
    """What a run was trained with: its variant's arguments, what was tuned for it, and what all variants have."""
    own = {f"tuned {name.lower()}" if name.isupper() else name: value for name, value in record.settings.items()}
    return {**own, **{name: value for name, value in record.config.items() if value is not None or name not in own}}


def strings_pb(tag: str, content: Any, metadata: Any) -> Any:
    """A summary of one string or several."""
    found = summary_pb2.Summary()
    found.value.add(tag=tag, metadata=metadata, tensor=tensor_util.make_tensor_proto(content, dtype=np.object_))
    return found


def image_pb(tag: str, png: bytes) -> Any:
    """A picture in PNG's format, whose header has its sides as two big-endian numbers, as the Images page takes it."""
    sides = [str(int.from_bytes(png[start : start + 4], "big")).encode() for start in (16, 20)]
    metadata = image_metadata.create_summary_metadata(display_name=None, description="")
    return strings_pb(tag, [*sides, png], metadata)
