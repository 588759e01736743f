"""`Job`: one unit of work, made of names and numbers, and how a process does it."""

import contextlib
import importlib
import os
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from msgspec import structs

from lab.core.callbacks import Stopwatch
from lab.core.log import Log
from lab.core.memory import PeakMemory
from lab.core.perform import perform, record_of, settle_threads
from lab.core.run import Run
from lab.core.state import known_state
from lab.evidence import occasions
from lab.evidence.records import by_product, explain
from lab.evidence.schemas import Record, recall_of
from lab.execute.own_model import model_digest, own_model
from lab.experiment import Experiment
from lab.table import Table
from pipelines import sources


@dataclass(frozen=True, eq=False)
class Job:
    """What one process is to do: all of it is names and numbers, so that it travels to any worker.

    `variants` holds one name for a recipe of `train`, and all of them for a recipe of `compare`. `code` is the hash of
    the code that is meant, `data_digest` that of the images and `model_digest` that of `model_files`, which make up
    `model`, a reader's own as "FILE.py:FUNCTION"; where one is empty it is not compared. What is done `alone` has all
    of the machine's threads, and everything else one. `log` is the file that a local worker prints to.
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
    model_files: tuple[str, ...] = ()
    model_digest: str = ""
    logging: bool = True
    profile: bool = False
    save: str = ""
    alone: bool = False
    log: str = os.devnull


class _Run(Run):
    """A run whose saved model is a by-product: where it can't be saved, that is noted, and the numbers are kept.

    On images other than CIFAR-10, whose classes may differ in size, it has a balanced accuracy as well.
    """

    def scores(self, model: Any, data: sources.Data, **named: Any) -> dict[str, float]:
        save, self.save = self.save, None
        metrics = super().scores(model, data, **named)
        self.save = save
        if not self.data.is_cifar10 and self.correct is not None:
            recalls = recall_of(self.correct, self.open_test_set(data).labels, len(data.classes))
            metrics["balanced_accuracy"] = float(recalls.mean())
        if save and not self.diverged:
            part = save.with_name(f"{save.stem}.part.keras")
            with by_product(self.folder, f"saved model {save.name}"):
                save.parent.mkdir(parents=True, exist_ok=True)
                save.unlink(missing_ok=True)  # Of an earlier command.
                try:
                    model.save(part)
                    part.replace(save)
                finally:
                    part.unlink(missing_ok=True)
        return metrics

    def worst(self, data: sources.Data) -> dict[str, float]:
        """What a diverged run counts as."""
        found = super().worst(data)
        return found if self.data.is_cifar10 else {**found, "balanced_accuracy": found["test_accuracy"]}


def run_job(job: Job) -> list[Record]:
    """Do `job` in this process and return one record for each of its variants. Never raises for what a recipe does."""
    start, began, peak = time.perf_counter(), occasions.now(), PeakMemory()
    runs: dict[str, Run] = {}
    metrics: dict[str, dict[str, float]] = {}
    settings: dict[str, dict[str, Any]] = {}
    cause = None
    try:
        settle_threads(job.alone)
        with known_state():
            experiment = importlib.import_module(job.module).EXPERIMENT
            _check_same(job, experiment)
            table = experiment.table if job.variants == (Table.VARIANT,) else None
            config = dict(job.config) if table else experiment.config(**job.config)
            for variant in job.variants:
                settings[variant] = {} if table else experiment.settings(variant)
                runs[variant] = _new_run(job, variant, config, start)
            with contextlib.ExitStack() as patched:
                if job.model:  # The reader's function takes the place of the recipe's.
                    function = own_model(job.model)
                    for variant in filter(experiment.takes_model, runs):
                        runs[variant].build_model = function
                    if experiment.model:
                        replaced = mock.patch.object(experiment.recipe, experiment.model.__name__, function)
                        patched.enter_context(replaced)
                metrics = perform(experiment, table, config, runs, job.seed)
    except Exception as error:
        traceback.print_exc()  # To the worker's log file.
        metrics, cause = {}, explain(error)
    seconds = time.perf_counter() - start
    memory = peak.mib() if len(job.variants) == 1 else None  # Of several it would be one number.
    more: dict[str, Any] = {"cause": cause, "seconds": seconds, "peak_memory_mib": memory, "began": began}
    records = []
    for variant in job.variants:
        found, run, tuned = metrics.get(variant), runs.get(variant), settings.get(variant)
        record = record_of(variant, job.seed, job.config, metrics=found, run=run, settings=tuned, **more)
        records.append(structs.replace(record, host=occasions.host()))
        if run:
            run.log.finished(records[-1])
    return records


def failed(job: Job, cause: str) -> list[Record]:
    """The records of a job that left none itself, because its worker died."""
    return [record_of(variant, job.seed, job.config, cause=cause) for variant in job.variants]


def _check_same(job: Job, experiment: Experiment) -> None:
    """Whether this process has the code, images and model file that are meant."""
    if job.code and experiment.code != job.code:
        raise RuntimeError("the code changed while the command ran: run it again")
    if job.data_digest and sources.load(job.data).digest != job.data_digest:
        raise RuntimeError("the images are not the ones that the command began with")
    if job.model_digest and model_digest(job.model_files) != job.model_digest:
        raise RuntimeError("the file of --model, or one that it imports, is not the one that the command began with")


def _new_run(job: Job, variant: str, config: Any, start: float) -> Run:
    folder = Path(job.folder) / variant / f"seed-{job.seed}"
    shutil.rmtree(folder, ignore_errors=True)  # What an attempt that was killed has left.
    folder.mkdir(parents=True)
    save = Path(job.save) / f"{variant}-seed-{job.seed}.keras" if job.save else None
    log = Log()
    if job.logging:
        from lab.tensorboard.log import TensorBoardLog

        log = TensorBoardLog(folder, job.profile)
    return _Run(variant, job.seed, job.data, config, folder, log, save, Stopwatch(start))
