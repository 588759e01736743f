"""What is seen while runs are under way: done and to come, the accuracy of each in flight, and the time left."""

import contextlib
import importlib.util
import math
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lab.evidence.records import printable
from lab.evidence.schemas import Record
from lab.execute.job import Job, read_progress

Progress = Callable[[Path, str, int], Any]


class View:
    """A live table on a terminal or in a notebook, and elsewhere a line for each run that ends.

    A job is what has `variants`, `seed`, `module` and `folder`; `progress` tells what a run in flight last said.
    """

    def __init__(self, console: Console, jobs: list[Any], at_once: int, progress: Progress) -> None:
        self.console, self.jobs, self.at_once, self.progress = console, jobs, at_once, progress
        self.flying: dict[Any, float] = {}
        self.durations: list[float] = []
        self.several = len({job.module for job in jobs}) > 1
        self.lock = threading.Lock()

    def started(self, job: Any) -> None:
        with self.lock:
            self.flying[job] = time.perf_counter()

    def finished(self, job: Any, records: list[Record]) -> None:
        with self.lock:
            self.durations.append(time.perf_counter() - self.flying.pop(job))
        if not is_live(self.console):
            for record in records:
                self.console.print(self.line(job, record))

    def line(self, job: Any, record: Record) -> str:
        """One plain line that says how a run ended."""
        is_trial = "=" in Path(job.folder).name  # Its folder is named after its settings.
        # What is to be chosen by validation is shown by validation.
        part = "validation" if is_trial else "test"
        accuracy = record.metrics.get(f"{part}_accuracy")
        metric, value = next(iter(record.metrics.items()), ("", 0.0))
        ending = (
            f"{part} accuracy {accuracy:.1%}" if accuracy is not None else f"{metric.replace('_', ' ')} {value:.4g}"
        )
        if record.status != "finished":
            ending = f"{record.status}: {printable(str(record.cause))}"
        place = f"{len(self.durations)}/{len(self.jobs)}"
        setting = f" {Path(job.folder).name}" if is_trial else ""
        name = self.name(job, record.variant)
        return f"{place:>7}  {name}{setting}: {ending}, {self.left()}"

    def name(self, job: Any, variant: str) -> str:
        """Variant and seed, after the recipe's name where there are several."""
        experiment = f"{job.module.rsplit('.', 1)[-1]} " if self.several else ""
        return f"{experiment}{variant} seed {job.seed}"

    def left(self) -> str:
        """Time left, from the median run so far."""
        if not self.durations:
            return "time left: to be seen"
        rounds = math.ceil((len(self.jobs) - len(self.durations)) / self.at_once)
        seconds = rounds * statistics.median(self.durations)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        with self.lock:
            done, flying = len(self.durations), dict(self.flying)
        table.add_row(f"{done} of {len(self.jobs)} runs done", f"{len(flying)} in flight", self.left())
        for job in flying:
            for variant in job.variants:
                said = self.progress(Path(job.folder), variant, job.seed)
                accuracy = said.accuracy if said else None
                epoch = f"{said.part} epoch {said.epoch} of {said.epochs}" if said else "starting"
                shown = f"accuracy {accuracy:.1%}" if accuracy is not None else ""
                table.add_row(f"  {self.name(job, variant)}", epoch, shown)
        return table


def is_live(console: Console) -> bool:
    """Whether what was shown can be drawn over; a notebook does that by ipywidgets."""
    return console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)


@contextlib.contextmanager
def watching(console: Console, jobs: list[Any], at_once: int, progress: Progress) -> Iterator[View]:
    """Show the view for the duration of the block."""
    view = View(console, jobs, at_once, progress)
    if not is_live(console):
        yield view
        return
    with Live(view, console=console, refresh_per_second=2, transient=True):
        yield view


def watcher(console: Console) -> Callable[[list[Job], int], Any]:
    """What shows jobs under way on a console, and keeps the comparison in TensorBoard up to date."""

    @contextlib.contextmanager
    def watch(jobs: list[Job], at_once: int) -> Generator[Any, None, None]:
        with watching(console, jobs, at_once, read_progress) as shown:
            if any(job.logging for job in jobs):
                from lab.tensorboard.comparison import Refreshed

                yield Refreshed(shown)
            else:
                yield shown

    return watch
