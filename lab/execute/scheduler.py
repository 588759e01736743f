"""Which jobs are to be done and which are kept, in what order, and what is put away of each as soon as it is done."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from lab.evidence.provenance import cores, gpus
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Record
from lab.execute import executor
from lab.execute.invocation import Invocation
from lab.execute.job import Job
from lab.execute.ray import on_ray
from lab.settings import Settings


class Watcher(Protocol):
    """Who is told what begins and ends."""

    def started(self, job: Job) -> None: ...

    def finished(self, job: Job, records: list[Record]) -> None: ...


Say = Callable[[str], None]
Watch = Callable[[list[Job], int], contextlib.AbstractContextManager[Watcher]]


def run_jobs(invocation: Invocation, jobs: Sequence[Job], say: Say, watch: Watch) -> list[Record]:
    """Do the jobs that no earlier command has finished; return the records of all, in the order of the jobs.

    A record is saved as soon as there is one. One that is broken, or another run's, is done again. `watch(jobs, how
    many at a time)` gives whoever is told what begins and ends.
    """
    found: dict[Job, list[Record]] = {}
    for job in jobs:
        kept = [_kept(invocation, job, variant, say) for variant in job.variants]
        whole = [record for record in kept if record is not None and record.status != "failed"]
        if len(whole) == len(kept):
            found[job] = whole
    if found and invocation.settings.resume:
        say(f"Kept {len(found)} finished runs of {invocation.folder}.")
    devices = len(gpus())
    do = on_ray if invocation.settings.backend == "ray" else executor.side_by_side
    for alone in (False, True):
        todo = [job for job in jobs if job not in found and job.alone == alone]
        if not todo:
            continue
        at_once = _at_once(invocation.settings, devices, alone)
        with watch(todo, at_once) as watcher, contextlib.closing(do(todo, at_once, devices, watcher.started)) as done:
            for job, records in done:  # Whatever happens here, the workers end.
                for record in records:
                    put_away(job.folder, record)
                found[job] = records
                watcher.finished(job, records)
    return [record for job in jobs for record in found[job]]


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


def _at_once(settings: Settings, devices: int, alone: bool) -> int:
    """How many jobs are done at a time: one a GPU, or one a core, unless something else is asked for."""
    if alone:
        return 1  # Times are measured with nothing beside them.
    at_once = settings.jobs or devices or cores()
    return min(at_once, devices) if devices and settings.backend == "local" else at_once
