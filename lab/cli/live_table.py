"""What is seen while runs are under way: the runs done of each variant, their mean accuracy, and the time left."""

import contextlib
import importlib.util
import math
import statistics
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lab.evidence.records import printable
from lab.evidence.schemas import Record
from lab.execute.job import Job
from lab.execute.scheduler import Watch


class View:
    """A table with a row for each variant, or without a `live` display a line for each run that ends.

    `part` is what accuracies are shown of: test or validation.
    """

    def __init__(self, console: Console, jobs: list[Job], at_once: int, part: str, live: Live | None = None) -> None:
        self.console, self.jobs, self.at_once, self.part, self.live = console, jobs, at_once, part, live
        self.begun = self.done = 0
        self.records: list[Record] = []
        self.start = time.perf_counter()

    def started(self, job: Job) -> None:
        self.begun += 1
        self._show()

    def finished(self, job: Job, records: list[Record]) -> None:
        self.done += 1
        self.records += records
        self._show()
        for record in records:
            if not self.live:
                self.console.print(self.line(job, record))
            if job.logging and not job.alone and self.part == "test":  # Timed runs have the machine to themselves.
                from lab.tensorboard import comparison  # Imports TensorBoard.

                comparison.refresh(Path(job.folder), self.records, record.variant)

    def _show(self) -> None:
        if self.live:
            self.live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """Runs done and mean accuracy of each variant."""
        table = Table("variant", "runs done", f"{self.part} accuracy")
        under_way = min(self.begun - self.done, self.at_once)  # The next one begins before one that has ended is told.
        table.caption = f"{under_way} under way, {self.left()}"
        names = [variant for job in self.jobs for variant in job.variants]
        for name in dict.fromkeys(names):
            mine = [record.metrics.get(f"{self.part}_accuracy") for record in self.records if record.variant == name]
            values = [value for value in mine if value is not None]
            mean = f"{statistics.mean(values):.1%}" if values else ""
            table.add_row(name, f"{len(mine)} of {names.count(name)}", mean)
        return table

    def line(self, job: Job, record: Record) -> str:
        """One plain line that says how a run ended."""
        shown = f"{self.part}_accuracy"
        name, value = next(iter(record.metrics.items()), ("", 0.0))
        ending = f"{name.replace('_', ' ')} {value:.4g}"
        if shown in record.metrics:
            ending = f"{self.part} accuracy {record.metrics[shown]:.1%}"
        if record.status != "finished":
            ending = f"{record.status}: {printable(str(record.cause))}"
        trial = f" {Path(job.folder).name}" if self.part == "validation" else ""
        return f"{self.done:>4}/{len(self.jobs)}  {record.variant} seed {job.seed}{trial}: {ending}, {self.left()}"

    def left(self) -> str:
        """Time left, at the pace so far."""
        if not self.done:
            return "time left: not known yet"
        rounds = math.ceil((len(self.jobs) - self.done) / self.at_once)
        seconds = rounds * (time.perf_counter() - self.start) / max(1.0, self.done / self.at_once)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"


def watcher(console: Console, part: str = "test") -> Watch:
    """What shows jobs under way on a console, and keeps the comparison in TensorBoard up to date."""
    # What was shown can be drawn over on a terminal, and in a notebook by ipywidgets.
    drawn = console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)

    @contextlib.contextmanager
    def watch(jobs: list[Job], at_once: int) -> Generator[Any, None, None]:
        with Live(console=console, auto_refresh=False, transient=True) if drawn else contextlib.nullcontext() as live:
            view = View(console, jobs, at_once, part, live)
            yield view

    return watch
