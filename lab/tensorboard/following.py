"""Keeps the comparison's log up to date while runs go on."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.evidence.records import Record
from lab.tensorboard import comparison

SECONDS = 5.0  # From one look at what runs have left to the next.


class Follower:
    """Tells another watcher what begins and ends, and writes the log of those invocations anew whose runs went on.

    A job is what has `variants`, `folder` and `logging`, and says whether it is done `alone`.
    """

    def __init__(self, watcher: Any, jobs: list[Any]) -> None:
        self.watcher = watcher
        logged = [job for job in jobs if job.logging]
        self.runs = Counter({job.folder: 0 for job in logged})
        for job in logged:
            self.runs[job.folder] += len(job.variants)
        self.done: Counter[str] = Counter()
        self.seen: dict[str, float] = {}  # When the newest of what runs have left was written.
        self.lock = threading.Lock()
        self.ended = threading.Event()

    def started(self, job: Any) -> None:
        self.watcher.started(job)

    def finished(self, job: Any, records: list[Record]) -> None:
        self.watcher.finished(job, records)
        if job.folder in self.runs:
            self.done[job.folder] += len(records)
            self.refresh(job.folder)

    def refresh(self, folder: str) -> None:
        """Write the log of an invocation anew if its runs have left anything since the last time."""
        with self.lock:
            left = [
                path.stat().st_mtime for path in Path(folder).glob(f"*/seed-*/**/{comparison.KEPT}") if path.exists()
            ]
            if max(left, default=0.0) > self.seen.get(folder, 0.0):
                self.seen[folder] = max(left)
                words = f"{self.done[folder]} of {self.runs[folder]} runs are done; the means are over what there is."
                comparison.write_progress(Path(folder), words)

    def go_on(self) -> None:
        """Look at all folders, again and again, until runs have ended."""
        while not self.ended.wait(SECONDS):
            for folder in list(self.runs):
                with contextlib.suppress(OSError):  # A folder that was taken away, a disk that is full: runs will tell.
                    self.refresh(folder)


@contextlib.contextmanager
def following(watcher: Any, jobs: list[Any]) -> Iterator[Follower]:
    """Follow jobs for the duration of the block: those that measure times when one has ended, others all the time."""
    follower = Follower(watcher, jobs)
    if any(job.alone for job in jobs) or not follower.runs:  # Nothing may run beside what measures times.
        yield follower
        return
    thread = threading.Thread(target=follower.go_on, daemon=True)
    thread.start()
    try:
        yield follower
    finally:
        follower.ended.set()
        thread.join()
