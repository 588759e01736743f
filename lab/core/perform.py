"""How a seed becomes numbers: threads, seeds, the recipe's own function, and what a record says of it."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from lab.core import training
from lab.core.run import Run
from lab.core.state import set_seed
from lab.evidence.schemas import Block, Record, Status, pack_bits
from lab.experiment import Experiment
from lab.table import Table
from pipelines import sources, splits


def settle_threads(alone: bool) -> None:
    """One thread for what has company, also where workers are few: thread counts change the order of sums."""
    import tensorflow as tf
    import threadpoolctl

    if not alone:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        threadpoolctl.threadpool_limits(1)


def perform(
    experiment: Experiment, table: Table | None, config: Any, runs: dict[str, Run], seed: int
) -> dict[str, dict[str, float]]:
    """What the recipe makes of a seed: variant -> metrics. Each seed has a training and validation part of its own."""
    for run in runs.values():
        run.data = splits.with_split_seed(run.data, seed)
    set_seed(seed)
    with sources.test_set(closed=True):
        if experiment.compare is not None and table is None:
            return experiment.compare(config, runs)
        (run,) = runs.values()
        if table is not None:
            return {run.variant: table.measure(config, run)}
        if experiment.partials:
            given = {} if run.build_model is None else {"build_model": run.build_model}
            run.bound = functools.partial(experiment.bound(run.variant, config), **given)
        train = experiment.train or functools.partial(training.on_batches, experiment)
        return {run.variant: train(run.variant, config, run)}


def record_of(
    variant: str,
    seed: int,
    config: Mapping[str, Any],
    *,
    cause: str | None = None,
    metrics: Mapping[str, float] | None = None,
    run: Run | None = None,
    settings: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
    peak_memory_mib: float | None = None,
    began: str = "",
) -> Record:
    """What is kept of a run; with a `cause`, of one that failed, perhaps before there was a `Run`."""
    metrics, run = metrics or {}, run or Run(variant, seed, sources.Request(), config, Path())
    diverged = run.diverged or not all(map(math.isfinite, metrics.values()))
    status: Status = "failed" if cause else "diverged" if diverged else "finished"
    record = Record(
        variant=variant,
        seed=seed,
        config=dict(config),
        status=status,
        cause=cause or ("the loss or the outputs were not finite" if diverged else None),
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        curves=run.curves,
        correct=pack_bits(run.correct) if run.correct is not None and status == "finished" else None,
        seconds={"total": seconds, **run.watch.seconds},
        peak_memory_mib=peak_memory_mib,
        settings=dict(settings or {}),
        weights=run.weights,
        blocks=[Block(**block) for block in run.blocks],
        began=began,
    )
    # As it will be read back: a file has no tuples, and numbers of NumPy's or TensorFlow's only as Python's own.
    content = msgspec.json.encode(
        record, enc_hook=lambda value: value.item() if hasattr(value, "item") else float(value)
    )
    return msgspec.json.decode(content, type=Record)
