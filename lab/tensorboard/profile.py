"""What a profile says of a training: how much of its steps' time was waiting for the next batch.

TensorFlow's profiler notes what ran from when to when, and leaves it beside TensorBoard's event files. TensorBoard's
Profile page (the extra `profile`) draws it; the numbers that matter first are read here, without that page.
"""

from dataclasses import dataclass
from pathlib import Path

from lab.evidence.records import read

WORDS = "profile.json"  # What a profiled run leaves in its folder.
# What a step that is marked is called in it: `tf.profiler.experimental.Trace("train", step_num=…, _r=1)`. Keras's own
# callback marks steps, too, but not as steps: the Profile page then says that it knows of none.
STEP = "train"
# The operation that hands a step its batch takes as long as the batch is not there yet. The second one is that of calls
# of several steps (`steps_per_execution`).
NEXT_BATCH = ("IteratorGetNextOp::DoCompute", "IteratorGetNextAsOptionalOp::DoCompute")
HIGH, SOME = 0.2, 0.05  # Shares of waiting, by which words are chosen.


@dataclass(frozen=True)
class Profile:
    """What was read of the steps that were marked."""

    batches: int  # That they asked for.
    step_seconds: float  # The mean, by batch.
    waiting: float  # The share of the steps' time until their batch was there.

    def words(self) -> str:
        """A sentence on what it says, and what to look at first."""
        if self.waiting >= HIGH:
            advice = "input-bound: look at the feed first"
        elif self.waiting >= SOME:
            advice = "feed and model both take their time"
        else:
            advice = "compute-bound, or the feed works on the model's processors: time the feed alone as well"
        took = f"{100 * self.waiting:.0f} % of a step's {1000 * self.step_seconds:.1f} ms it waited for its batch"
        return f"{took} ({self.batches} batches): {advice}."


def read_profile(folder: Path) -> Profile:
    """Read the latest profile below `folder`, whose steps were marked as `STEP` says.

    Raises:
        FileNotFoundError: there is no profile.
        ValueError: it is broken, or no step was marked in it that took a batch.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    paths = sorted(folder.glob("**/plugins/profile/*/*.xplane.pb"))
    if not paths:
        raise FileNotFoundError(None, "no profile was written", str(folder))
    space = xplane_pb2.XSpace()
    try:
        space.ParseFromString(paths[-1].read_bytes())
    except DecodeError as error:
        raise ValueError(f"{paths[-1]}: this is no profile, or a broken one.") from error
    steps: list[tuple[int, int]] = []  # Begin and length, in picoseconds.
    requests: list[tuple[int, int]] = []
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if name == STEP or name in NEXT_BATCH:
                    when = 1000 * line.timestamp_ns + event.offset_ps
                    (steps if name == STEP else requests).append((when, event.duration_ps))
    waits = [length for begin, length in requests if any(start <= begin < start + of_step for start, of_step in steps)]
    if not waits:
        raise ValueError(f"{paths[-1]}: no training step is marked in this profile.")
    taken = sum(length for _, length in steps)
    return Profile(len(waits), taken / len(waits) * 1e-12, sum(waits) / taken)


def words_in(folder: Path) -> str:
    """What was read of the first profiled run below a variant's folder; empty where none was profiled."""
    for path in sorted(folder.glob(f"seed-*/**/{WORDS}")):
        return read(path, dict[str, str])["words"]
    return ""
