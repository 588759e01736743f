"""Which jobs are to be done and which are kept, in what order, and what is put away of each as soon as it is done."""

import contextlib
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.evidence.provenance import cores, gpus
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Record
from lab.execute import executor
from lab.execute.invocation import Invocation
from lab.execute.job import Job
from lab.execute.ray import on_ray


class Watcher(Protocol):
    """Who is told what begins and ends."""

    def started(self, job: Job) -> None: ...

    def finished(self, job: Job, records: list[Record]) -> None: ...


@dataclass
class Work:
    """The jobs of an invocation, those of them that are to be done, and the records that there are."""

    invocation: Invocation
    jobs: list[Job]
    todo: set[Job]
    found: dict[tuple[str, str, int], Record]

    @classmethod
    def of(cls, invocation: Invocation, jobs: list[Job], say: Callable[[str], None]) -> "Work":
        """Keep what an earlier invocation has finished. A record that is broken or another run's is done again."""
        work = cls(invocation, jobs, set(), {})
        for job in jobs:
            kept = [_kept(invocation, job, variant, say) for variant in job.variants]
            whole = [record for record in kept if record is not None and record.status != "failed"]
            if len(whole) == len(kept):
                work.found |= {(job.folder, record.variant, job.seed): record for record in whole}
            else:
                work.todo.add(job)
        if len(jobs) > len(work.todo) and invocation.settings.resume:
            say(f"Kept {len(jobs) - len(work.todo)} finished runs of {invocation.folder}.")
        return work

    def finish(self, job: Job, records: list[Record]) -> None:
        """Save the records of a job at once."""
        for record in records:
            put_away(job.folder, record)
            self.found[job.folder, record.variant, job.seed] = record
        self.todo.remove(job)

    def records(self) -> list[Record]:
        """The records of all jobs, in their order."""
        return [self.found[job.folder, variant, job.seed] for job in self.jobs for variant in job.variants]


def record_path(folder: str, variant: str, seed: int) -> Path:
    return Path(folder) / variant / f"seed-{seed}" / "record.json"


def put_away(folder: str, record: Record) -> None:
    """Write the record of a run where a command that goes on will look for it."""
    write_json(record_path(folder, record.variant, record.seed), record)


def _kept(invocation: Invocation, job: Job, variant: str, say: Callable[[str], None]) -> Record | None:
    path = record_path(job.folder, variant, job.seed)
    if not path.exists():
        return None
    try:
        record = read(path, Record)
        record.check_bits(invocation.header.test_images)
        problem = _another_run(record, variant, job)
        if invocation.header.kind == "comparison" and invocation.tuned_otherwise(record):
            problem = "what was tuned has changed since"
    except (EvidenceError, ValueError) as error:
        problem = str(error)
    if problem:
        say(f"{path} can't be kept: {problem}. That run is done again.")
        return None
    return record


def _another_run(record: Record, variant: str, job: Job) -> str:
    """Why a record is not that of a job; empty if it is."""
    if (record.variant, record.seed) != (variant, job.seed):
        return f"it is of {record.variant} seed {record.seed}"
    return "" if record.config == json.loads(json.dumps(dict(job.config))) else "it was made with other settings"


def run_jobs(works: Sequence[Work], watch: Callable[[list[Job], int], Any]) -> Generator[Work, None, None]:
    """Do what is to be done, and yield each work as soon as nothing of it is left to do.

    `watch(jobs, how many at a time)` gives a context manager of a `Watcher`.
    """
    yield from (work for work in works if not work.todo)
    owners = {job: work for work in works for job in work.jobs if job in work.todo}
    if not owners:
        return
    jobs = sorted(owners, key=lambda job: -len(job.variants))  # Jobs of many variants take longest.
    settings, devices = works[0].invocation.settings, len(gpus())
    at_once = _at_once(works, devices)
    with watch(jobs, at_once) as watcher:
        if settings.backend == "ray":
            outcomes = on_ray(jobs, at_once, devices, watcher.started)
        else:
            outcomes = executor.side_by_side(jobs, at_once, devices, watcher.started, settings.start)
        with contextlib.closing(outcomes):  # Whatever happens here, the workers end.
            for job, records in outcomes:
                owners[job].finish(job, records)
                watcher.finished(job, records)
                if not owners[job].todo:
                    yield owners[job]


def _at_once(works: Sequence[Work], devices: int) -> int:
    """How many jobs are done at a time: one a GPU, or one a core, unless something else is asked for."""
    if any(work.invocation.alone for work in works):
        return 1  # Times are measured with nothing beside them.
    settings = works[0].invocation.settings
    at_once = settings.jobs or devices or cores()
    return min(at_once, devices) if devices and settings.backend == "local" else at_once
