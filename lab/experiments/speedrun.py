"""A plain training, six techniques that make it faster, and the time to one accuracy.

A time is the product of two measurements. How many epochs a training needs to the accuracy comes from a table: each
training at three rates and four seeds. How long its steps take is timed in interleaved blocks. The input pipeline and
the precision change times alone, so trainings that differ in nothing else share their epochs, which were counted in
bfloat16. Those of the plain training were counted in float32 too, and a claim compares them.
"""

import math
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Run, Table, Unit
from pipelines import batches, encoded, sources
from recipes import input_pipeline
from recipes import speedrun as recipe

TARGET = 0.87  # Validation accuracy.
FIRST_SEED = 301
MOST = 16  # Epochs. A training that needs more counts as that.
LADDER = ("input_pipeline", "precision", "batch_size", "muon", "resizing", "averaging")
VARIANTS: dict[str, tuple[str, ...]] = {"plain": (), "all_six": LADDER}
VARIANTS |= {f"only_{name}": (name,) for name in LADDER}
VARIANTS |= {f"up_to_{name}": LADDER[: LADDER.index(name) + 1] for name in LADDER[1:-1]}
VARIANTS |= {f"all_but_{name}": tuple(other for other in LADDER if other != name) for name in LADDER[:-1]}
RUNGS = ("plain", "only_input_pipeline", *(name for name in VARIANTS if name.startswith("up_to")), "all_six")
LEFT_OUT = ("all_six", *(name for name in VARIANTS if name.startswith("all_but")), "up_to_resizing")
NEARLY_3_TIMES = math.log(2.7)
TWICE = math.log(2)


def settings_of(techniques) -> dict:
    """The arguments of the recipe's `train` that are about accuracy, and the size of its batches."""
    return {
        "muon": "muon" in techniques,
        "small": 24 if "resizing" in techniques else None,
        "averaged": "averaging" in techniques,
        "batch_size": 250 if "batch_size" in techniques else 64,
    }


IN_FLOAT32 = "adamw 64 in float32"


def name_of(techniques) -> str:
    """The entry of the table with a variant's epochs, such as "muon 250 resized averaged"."""
    if set(techniques) <= {"input_pipeline"}:
        return IN_FLOAT32
    given = settings_of(techniques)
    words = ["muon" if given["muon"] else "adamw", str(given["batch_size"])]
    return " ".join(words + ["resized"] * bool(given["small"]) + ["averaged"] * given["averaged"])


TRAININGS = {name_of(techniques): settings_of(techniques) for techniques in VARIANTS.values()}
TRAININGS[IN_FLOAT32] |= {"policy": "float32"}
# The middle one of three rates, each half of the next. Rates go with the square root of the batch size.
MIDDLE = {("adamw", 64): 0.002, ("adamw", 250): 0.004, ("muon", 64): 0.01, ("muon", 250): 0.02}


def epochs_needed(accuracy_after: Callable[[int], float], first: int, most: int = MOST) -> tuple[float, bool]:
    """How many epochs a training needs to the target, interpolated between two lengths, and whether it reached it.

    `accuracy_after(epochs)` trains for so many from the start, since a schedule must know where it ends.
    """
    found: dict[int, float] = {0: 0.1}
    length = first
    while length not in found:
        found[length] = accuracy_after(length)
        length = min(length + 1, most) if found[length] < TARGET else length - 1
    enough = [length for length, accuracy in found.items() if accuracy >= TARGET]
    if not enough:
        return float(most), False
    after = min(enough)
    low, high = found[after - 1], found[after]
    return after - 1 + (TARGET - low) / (high - low), True


def measure(setting: dict, run: Run) -> dict[str, float]:
    """One entry of the table."""
    given = dict(TRAININGS[setting["training"]])
    data, batch_size = sources.load(run.data), given.pop("batch_size")
    middle = MIDDLE["muon" if given["muon"] else "adamw", batch_size]
    validation_set, accuracies = batches.evaluation(data.validation), []

    def accuracy_after(epochs: int, until: float | None = None) -> float:
        keras.utils.set_random_seed(run.seed)
        history = keras.callbacks.History()
        recipe.train(
            batches.training(data.train, batch_size, seed=run.seed, augment=False),
            validation_set,
            len(data.classes),
            rate=middle * 2.0 ** setting["step"],
            epochs=epochs,
            callbacks=[history, *run.callbacks(data, until=until)],
            **given,
        )
        accuracies.append(history.history["val_accuracy"][-1])
        return accuracies[-1]

    if given["muon"] or given["small"]:
        epochs, reached = epochs_needed(accuracy_after, 3 if given["muon"] else 8)
    else:  # At a constant rate a long training passes through all shorter ones.
        accuracy_after(MOST, until=TARGET)
        found = run.epochs_to_target(TARGET, data)
        epochs, reached = found["epochs_to_target"], bool(found["target_reached"])
    return {"epochs": epochs, "reached": float(reached), "accuracy": max(accuracies)}


TABLE = Table(measure, {"training": tuple(TRAININGS), "step": (-1, 0, 1)}, seeds=(801, 802, 803, 804), optional=True)


def drawn_epochs(table: dict, occasion: int) -> dict[str, float]:
    """Training -> epochs that it needs. One seed chooses the rate, and others, drawn anew for each occasion, count.

    So the spread over occasions has the spread over seeds in it.
    """
    draw, seeds = np.random.default_rng(occasion), len(TABLE.seeds)
    chooser = draw.integers(seeds)
    counting = draw.choice([seed for seed in range(seeds) if seed != chooser], seeds - 1)
    found = {}
    for training in TRAININGS:
        of_steps = [table[training, step][:, 0] for step in TABLE.fields["step"]]
        best = min(of_steps, key=lambda epochs: epochs[chooser])
        found[training] = float(best[counting].mean())
    return found


class Step:
    """Takes the next batch of a feed that never ends, and trains on it."""

    def __init__(self, feed: tf.data.Dataset, train_on_batch):
        self.batches, self.train_on_batch = iter(feed.repeat()), train_on_batch

    def __call__(self):
        self.train_on_batch(*next(self.batches))


def build_step(techniques, side: int, files: tf.data.Dataset, data: sources.Data, seed: int) -> Step:
    """A step of a variant's training at a size of its images, with the variant's input pipeline."""
    given, ready = settings_of(techniques), "input_pipeline" in techniques
    feed = input_pipeline.build_feed(
        files, given["batch_size"], load=decode, augment=None, seed=seed, cache=ready, parallel=ready, prefetch=ready
    )
    policy = "mixed_bfloat16" if "precision" in techniques else "float32"
    with recipe.dtype_policy(policy):
        net = recipe.build_model((None, None, data.shape[-1]), len(data.classes))
    model = recipe.view(net, data.shape, side, 2, given["averaged"])
    optimizer = recipe.build_optimizer(given["muon"], 0.002, None, 10_000, given["averaged"])
    model.compile(optimizer, recipe.SmoothedCrossentropy(from_logits=True, label_smoothing=0.2))
    return Step(feed, model.train_on_batch)


def decode(image, label):
    return tf.io.decode_png(image, channels=3), label


def seconds_of(epochs: float, small: float, large: float, resized: bool) -> float:
    """A training's time: an epoch takes `small` or `large` seconds, and half of them, rounded down, are small."""

    def whole(count: int) -> float:
        begun = count // 2 if resized else 0
        return begun * small + (count - begun) * large

    before = math.floor(epochs)
    return whole(before) + (epochs - before) * (whole(before + 1) - whole(before))


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    files = encoded.read(first.data).take(config.images)
    files = files.apply(tf.data.experimental.assert_cardinality(config.images))
    sides = {name: [24, data.shape[0]] if "resizing" in VARIANTS[name] else [data.shape[0]] for name in runs}
    steps = {
        (name, side): build_step(VARIANTS[name], side, files, data, first.seed) for name in runs for side in sides[name]
    }
    for step in steps.values():  # Until each cache is full.
        for _ in range(math.ceil(config.images / 64)):
            step()
    blocks = first.interleaved({f"{name} {side}": step for (name, side), step in steps.items()}, block=config.steps)
    table = TABLE.read("speedrun") if first.data.is_cifar10 and TABLE.digest("speedrun") else None
    found = {}
    for name in runs:
        size = settings_of(VARIANTS[name])["batch_size"]
        small, large = (len(data.train) / size * blocks.step_seconds(f"{name} {sides[name][i]}") for i in (0, -1))
        found[name] = {"epoch_seconds": large}
        if table:
            epochs = drawn_epochs(table, (first.seed - FIRST_SEED) // 10)[name_of(VARIANTS[name])]
            seconds = seconds_of(epochs, small, large, "resizing" in VARIANTS[name])
            found[name] |= {"epochs_needed": epochs, "seconds": seconds, "log_seconds": math.log(seconds)}
    return found


def faster(number, text, variant, than, at_least=None):
    return Claim(number, text, "HW", "log_seconds", lower=variant, than=than, at_least=at_least)


PAYS = {
    "input_pipeline": "A cached, parallel, prefetching input pipeline",
    "precision": "bfloat16",
    "batch_size": "A batch of 250 instead of 64",
    "muon": "Muon with linear decay to zero instead of AdamW at a constant rate",
    "resizing": "Training on 24 × 24 pixels for the first half",
    "averaging": "Averaging weights, and answers over mirror images",
}
CLAIMS = [
    faster("W4a", "All six techniques together reach 87 % nearly 3 times as fast", "all_six", "plain", NEARLY_3_TIMES),
    faster(
        "W4b",
        "All six together are at least twice as fast to the same accuracy as any one of them alone",
        "all_six",
        tuple(f"only_{name}" for name in LADDER),
        TWICE,
    ),
    *(
        faster(
            f"W4{letter}",
            f"{PAYS[name]} shortens the fast training",
            "all_six",
            "up_to_resizing" if name == "averaging" else f"all_but_{name}",
        )
        for letter, name in zip("cdefgh", LADDER, strict=True)
    ),
    Claim(
        "W4i",
        "bfloat16 needs as many epochs as float32",
        source="ours",
        metric="epochs_needed",
        equal=("only_precision", "plain"),
    ),
]
UNITS = {
    "epochs_needed": Unit("epochs to 87 %", 1, "epochs", 1),
    "epoch_seconds": Unit("an epoch", 1, "s", 0, timed=True),
    "seconds": Unit("time to 87 %", 1, "s", 0, timed=True),
    "log_seconds": Unit("time to 87 % (log e)", name="e-folds", digits=3, timed=True),
}

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    images="full",
    flags={"images": 10_000, "steps": 110},
    smoke={"images": 250, "steps": 11},
    least={"images": 250, "steps": 11},
    left_out=[name for name in VARIANTS if name not in ("plain", "up_to_precision", "up_to_muon", "all_six")],
    table=TABLE,
    floor="",
    units=UNITS,
    panels=(
        Bars(
            "seconds",
            ("plain", "only_input_pipeline", *(name for name in VARIANTS if name.startswith("up_to")), "all_six"),
        ),
        Bars("seconds", ("all_six", *(name for name in VARIANTS if name.startswith("all_but")), "up_to_resizing")),
    ),
    first_seed=FIRST_SEED,
)
