"""What is seen while runs are under way: done and to come, the accuracy of each in flight, and the time left."""

import contextlib
import importlib.util
import math
import statistics
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lab.evidence.records import printable
from lab.evidence.schemas import Record
from lab.execute.job import Job, read_progress


class View:
    """A live table on a terminal or in a notebook, and elsewhere a line for each run that ends."""

    def __init__(self, console: Console, jobs: list[Job], at_once: int) -> None:
        self.console, self.jobs, self.at_once = console, jobs, at_once
        self.flying: dict[Job, float] = {}
        self.durations: list[float] = []
        self.several = len({job.module for job in jobs}) > 1
        self.lock = threading.Lock()  # `rich` draws the table in a thread of its own.

    def started(self, job: Job) -> None:
        with self.lock:
            self.flying[job] = time.perf_counter()

    def finished(self, job: Job, records: list[Record]) -> None:
        with self.lock:
            self.durations.append(time.perf_counter() - self.flying.pop(job))
        if not is_live(self.console):
            for record in records:
                self.console.print(self.line(job, record))

    def line(self, job: Job, record: Record) -> str:
        """One plain line that says how a run ended."""
        is_trial = "=" in Path(job.folder).name  # Its folder is named after its settings.
        part = "validation" if is_trial else "test"  # Trials are chosen by validation.
        name, value = next(iter(record.metrics.items()), ("", 0.0))
        ending = f"{name.replace('_', ' ')} {value:.4g}"
        if (accuracy := record.metrics.get(f"{part}_accuracy")) is not None:
            ending = f"{part} accuracy {accuracy:.1%}"
        if record.status != "finished":
            ending = f"{record.status}: {printable(str(record.cause))}"
        place, setting = f"{len(self.durations)}/{len(self.jobs)}", f" {Path(job.folder).name}" if is_trial else ""
        return f"{place:>7}  {self.name(job, record.variant)}{setting}: {ending}, {self.left()}"

    def name(self, job: Job, variant: str) -> str:
        """Variant and seed, after the recipe's name where there are several."""
        experiment = f"{job.module.rsplit('.', 1)[-1]} " if self.several else ""
        return f"{experiment}{variant} seed {job.seed}"

    def left(self) -> str:
        """Time left, from the median run so far."""
        if not self.durations:
            return "time left: not known yet"
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
                said = read_progress(Path(job.folder), variant, job.seed)
                epoch = f"{said.part} epoch {said.epoch} of {said.epochs}" if said else "starting"
                accuracy = f"accuracy {said.accuracy:.1%}" if said and said.accuracy is not None else ""
                table.add_row(f"  {self.name(job, variant)}", epoch, accuracy)
        return table


def is_live(console: Console) -> bool:
    """Whether what was shown can be drawn over; a notebook does that by ipywidgets."""
    return console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)


def watcher(console: Console) -> Callable[[list[Job], int], Any]:
    """What shows jobs under way on a console."""

    @contextlib.contextmanager
    def watch(jobs: list[Job], at_once: int) -> Generator[Any, None, None]:
        view: Any = View(console, jobs, at_once)
        live = Live(view, console=console, refresh_per_second=2, transient=True) if is_live(console) else None
        with live or contextlib.nullcontext():
            yield view

    return watch
