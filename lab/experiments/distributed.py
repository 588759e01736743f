"""One device, replicas and workers: whether they train the same model, and how long an epoch takes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from lab import (
    Bars,
    Claim,
    Experiment,
    Lines,
    Run,
    Unit,
    follow,
    limit_threads,
    share_of_others,
    together,
    workers_here,
)
from pipelines import sources
from recipes import distributed as recipe

VARIANTS = (*recipe.REPLICAS, *recipe.WORKERS)


SAME = recipe.Config(epochs=4, batch_size=64)  # Twenty steps, four of which are of a smaller batch.


def work(variant: str, seed: int, config: dict, request: dict, folder: str) -> list:
    """What each process of a variant does: a training, whose rows it returns, and then twenty steps
    in float64 for each kind of model, which the folder keeps."""
    replicas, chosen, place = recipe.REPLICAS.get(variant, 1), recipe.Config(**config), Path(folder)
    if variant != "all_threads":
        limit_threads(replicas)
    strategy = recipe.build_strategy(replicas)
    data = sources.load(sources.Request(**request))
    rows = recipe.train_replicas(strategy, data, chosen, seed, place / "training")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    for norm in recipe.NORMS if chosen.same_images else ():
        kept = place / f"same-{norm}"
        recipe.train_replicas(strategy, data, SAME, seed, kept, norm, chosen.same_images)
    return rows


def same_weights(folder: Path, norm: str) -> np.ndarray:
    """All trainable weights after the twenty steps, float64 (parameters,)."""
    model = keras.models.load_model(folder / f"same-{norm}" / "epoch-0004.keras")
    return np.concatenate([weight.numpy().ravel() for weight in model.trainable_variables])


def in_processes(variant: str, config: recipe.Config, run: Run) -> tuple[list, Path]:
    """Rows of a variant's training and the folder of its models, of an attempt that nothing disturbed.

    Between the first epoch, which traces, and the end, what the machine did beyond all workers' own
    work is others'.
    """
    workers = workers_here(recipe.WORKERS.get(variant, 1), most=max(recipe.REPLICAS.values()))
    order = variant, run.seed, asdict(config), asdict(run.data)

    def attempt(number: int):
        place = run.folder / f"attempt-{number}"
        log = run.folder / "process.log"
        rows = together(work, *order, str(place), environments=workers, log=log)
        timed = np.sum([of_worker[1:] for of_worker in rows], axis=1)
        return (rows[0], place), share_of_others(timed[0, 2], timed[0, 3], timed[:, 4].sum())

    return run.undisturbed(attempt, config.again)


def compare(config: recipe.Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data, found, places = sources.load(first.data), {}, {}
    for variant in map(str, np.random.default_rng(first.seed).permutation(list(runs))):
        rows, places[variant] = in_processes(variant, config, runs[variant])
        seconds = float(np.mean(rows[1:], axis=0)[2])  # The first epoch traces.
        times = {"images_per_second": len(data.train) / seconds, "log_time": float(np.log(seconds))}
        model, trained = recipe.build_model("none", data, config.rate), places[variant] / "training"
        found[variant] = follow(runs[variant], model, data, trained, rows) | times
    for norm in recipe.NORMS if "one_device" in runs and config.same_images else ():
        one = same_weights(places["one_device"], norm)
        for variant, place in places.items():
            apart = np.linalg.norm(same_weights(place, norm) - one) / np.linalg.norm(one)
            found[variant][f"apart_{norm}"] = float(apart)
    return found


CLAIMS = [
    Claim(
        "S8a",
        "N replicas with the same global batch train the same model as one device (20 steps in float64)",
        source="TF",
        metric="apart_none",
        equal=("one_device", "mirrored_2", "mirrored_4", "workers_2", "workers_4"),
        exact=True,
    ),
    Claim(
        "S8b",
        "So they do with BatchNormalization, if it is synchronized (20 steps in float64)",
        source="TF",
        metric="apart_synchronized",
        equal=("one_device", "mirrored_2", "mirrored_4", "workers_2", "workers_4"),
        exact=True,
    ),
    Claim(
        "S8c",
        "With BatchNormalization as it is they train another model (20 steps in float64)",
        source="TF",
        metric="apart_plain",
        higher=("mirrored_2", "mirrored_4"),
        than="one_device",
    ),
    Claim(
        "S9a",
        "Throughput grows with replicas: two in one process against one device of one thread (a second core)",
        source="TF, HW",
        metric="log_time",
        lower="mirrored_2",
        than="one_device",
    ),
    Claim(
        "S9b",
        "Throughput grows with workers: two processes against one device that has all threads",
        source="TF, HW",
        metric="log_time",
        lower="workers_2",
        than="all_threads",
    ),
    Claim(
        "S9c",
        "Throughput grows with replicas: two in one process against one device that has all threads",
        source="TF, HW",
        metric="log_time",
        lower="mirrored_2",
        than="all_threads",
    ),
]

UNITS = {
    "apart_none": Unit("distance from one device, no normalization", 1e6, "millionths of their norm", 6),
    "apart_plain": Unit("distance from one device, BatchNormalization", 1e6, "millionths of their norm"),
    "apart_synchronized": Unit("distance from one device, synchronized", 1e6, "millionths of their norm", 6),
    "log_time": Unit("time of an epoch (log e)", name="e-folds", digits=3, timed=True),
}
PANELS = (Bars("images_per_second"), Bars("apart_plain", log="x"), Lines("val_accuracy"))

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    compare=compare,
    space={"rate": (0.005, 0.016, 0.05, 0.16)},
    smoke={"epochs": 2, "batch_size": 32, "rate": 0.02, "same_images": 0, "again": 0},
    left_out=("mirrored_4",),
    opens=("workers_2", "workers_4"),
    least={"epochs": 2},
    units=UNITS,
    panels=PANELS,
    numbers={
        "workers 1.07 times": "log_time: workers_2 / all_threads",
        "each 0.56 times": "log_time: mirrored_2 / one_device",
        "cores 0.58 times": "log_time: all_threads / one_device",
        "more (0.57)": "log_time: mirrored_4 / one_device",
        "two took 0.62 times": "log_time: workers_2 / one_device",
        "four 0.77": "log_time: workers_4 / one_device",
        "to 1e-11": "",
        "took 1.00 times": "log_time: mirrored_2 / all_threads",
    },
    first_seed=101,
)
