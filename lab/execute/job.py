"""`Job`: one unit of work, made of names and numbers, and how a process carries it out."""

import importlib
import json
import math
import os
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from lab.core.callbacks import Stopwatch
from lab.core.memory import PeakMemory
from lab.core.run import Run
from lab.evidence.code_hash import is_as_loaded
from lab.evidence.provenance import gpus
from lab.evidence.records import EvidenceError, explain, read
from lab.evidence.schemas import Block, Progress, Record, Status, pack_bits
from lab.execute.own_model import model_digest, own_model
from lab.experiment import Experiment
from lab.table import Table
from lab.tensorboard import callback
from pipelines import sources, splits


@dataclass(frozen=True, eq=False)
class Job:
    """What one process is to do: all of it is names and numbers, so that it travels to any worker.

    `variants` holds one name for a recipe of `train`, and all of them for a recipe of `compare`. `code` is the hash of
    the code that is meant, `data_digest` that of the images and `model_digest` that of the file of `model`, a reader's
    own as "FILE.py:FUNCTION"; where one is empty it is not compared. What is done `alone` has all of the machine's
    threads, and everything else one. `log` is the file that a local worker prints to.
    """

    module: str
    variants: tuple[str, ...]
    seed: int
    config: Mapping[str, Any]
    data: sources.Request
    folder: str
    code: str = ""
    data_digest: str = ""
    model: str = ""
    model_digest: str = ""
    logging: bool = True
    profile: bool = False
    save: str = ""
    alone: bool = False
    log: str = os.devnull

    @property
    def name(self) -> str:
        """Short and unique in an invocation: "adam seed 3"."""
        return f"{'+'.join(self.variants)} seed {self.seed}"


def run_job(job: Job) -> list[Record]:
    """Do `job` in this process and return one record for each of its variants. Never raises for what a recipe does."""
    start = time.perf_counter()
    peak = PeakMemory()
    runs: dict[str, Run] = {}
    settings: dict[str, dict[str, Any]] = {}
    try:
        settle_threads(job)
        module = importlib.import_module(job.module)
        experiment = module.EXPERIMENT
        if job.code and (experiment.code != job.code or not is_as_loaded()):
            raise RuntimeError("the code that makes the numbers was changed while the command ran")
        if job.data_digest and sources.load(job.data).digest != job.data_digest:
            raise RuntimeError("the images were changed while the command ran, or are others here")
        if job.model and job.model_digest and model_digest(job.model) != job.model_digest:
            raise RuntimeError("the file of --model was changed while the command ran")
        if job.model:
            setattr(experiment.recipe, experiment.model.__name__, own_model(job.model))
        table = experiment.table if job.variants == (Table.VARIANT,) else None
        config = dict(job.config) if table else experiment.config(**job.config)
        settings = (
            {}
            if table
            else {
                variant: experiment.settings(variant, job.config.get("tuned_at", "quick")) for variant in job.variants
            }
        )
        for variant in job.variants:
            runs[variant] = _new_run(job, variant, config, start)
        metrics = perform(job, experiment, table, config, runs)
        cause = None
    except Exception as error:
        traceback.print_exc()  # To the worker's log file.
        metrics, cause = {variant: {} for variant in job.variants}, explain(error)
    seconds = time.perf_counter() - start
    records = []
    for variant in job.variants:
        record = record_of(job, variant, cause, metrics.get(variant, {}), runs.get(variant), seconds)
        memory = peak.mib() if len(job.variants) == 1 else None  # Of several it would be one number.
        record = replace(record, settings=_as_read_back(settings.get(variant, {})), peak_memory_mib=memory)
        if variant in runs and job.logging:
            callback.write_hparams(runs[variant].folder, record)
        records.append(record)
    return records


def failed(job: Job, cause: str) -> list[Record]:
    """The records of a job that left none itself, because its worker died."""
    return [record_of(job, variant, cause, {}, None, 0.0) for variant in job.variants]


def perform(
    job: Job, experiment: Experiment, table: Table | None, config: Any, runs: dict[str, Run]
) -> dict[str, dict[str, float]]:
    """What the recipe makes of a job: variant -> metrics. Each seed has a training and validation part of its own."""
    import keras

    for run in runs.values():
        run.data = splits.with_split_seed(run.data, job.seed)
    keras.utils.set_random_seed(job.seed)
    with sources.test_set_closed():
        if experiment.compare is not None and table is None:
            return experiment.compare(config, runs)
        (run,) = runs.values()
        if table is not None:
            return {run.variant: table.measure(config, run)}
        train: Any = experiment.train
        return {run.variant: train(run.variant, config, run)}


def record_of(
    job: Job, variant: str, cause: str | None, metrics: Mapping[str, float], run: Run | None, seconds: float
) -> Record:
    diverged = run is not None and (run.diverged or not all(map(math.isfinite, metrics.values())))
    status: Status = "failed" if cause else "diverged" if diverged else "finished"
    return Record(
        variant=variant,
        seed=job.seed,
        config=_as_read_back(dict(job.config)),
        status=status,
        cause=cause or ("the loss or the outputs were not finite" if diverged else None),
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        curves=run.curves if run else {},
        correct=pack_bits(run.correct) if run and run.correct is not None and status == "finished" else None,
        seconds={"total": seconds, **(run.watch.seconds if run else {})},
        peak_memory_mib=None,
        settings={},
        weights=run.weights if run else None,
        blocks=[Block(**block) for block in run.blocks] if run else [],
    )


def _as_read_back(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as a file holds them: JSON knows no tuples."""
    read_back: dict[str, Any] = json.loads(json.dumps(settings))
    return read_back


def _new_run(job: Job, variant: str, config: Any, start: float) -> Run:
    folder = Path(job.folder) / variant / f"seed-{job.seed}"
    remove_folder(folder)  # What an attempt that was killed has left.
    folder.mkdir(parents=True)
    save = Path(job.save) / f"{variant}-seed-{job.seed}.keras" if job.save else None
    watch = Stopwatch(start)
    return Run(variant, job.seed, job.data, config, folder, job.logging, job.profile, save, watch=watch)


def settle_threads(job: Job) -> None:
    import tensorflow as tf
    import threadpoolctl

    if not job.alone:  # Also where workers are few: thread counts change the order of sums.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        threadpoolctl.threadpool_limits(1)
    if gpus():
        tf.config.experimental.enable_op_determinism()


def remove_folder(folder: Path) -> None:
    """Delete a folder of ours and what is in it; a link in its place is taken away, and what it leads to is left."""
    if any(parent.is_symlink() for parent in (folder, folder.parent)):
        raise OSError(None, "a symbolic link stands in its place", str(folder))
    shutil.rmtree(folder, ignore_errors=True)


def read_progress(folder: Path, variant: str, seed: int) -> Progress | None:
    """What a run in flight last said of itself: its epoch and accuracy. None before the first epoch's end."""
    try:
        return read(folder / variant / f"seed-{seed}" / "progress.json", Progress)
    except EvidenceError:
        return None
