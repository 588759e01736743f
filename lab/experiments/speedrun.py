"""A plain training, six techniques that make it faster, and the time to one accuracy.

A time is the product of two measurements. How many epochs a training needs to the accuracy comes from a table: each
training at four seeds, one for each occasion. How long its steps take is timed in interleaved blocks. The input
pipeline and the precision change times alone, so trainings that differ in nothing else share their epochs, which were
counted in bfloat16; those of the plain training were counted in float32.
"""

import math
import time
from collections.abc import Callable, Mapping

import keras
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
TWICE, THREE_TIMES = math.log(2), math.log(3)


def settings_of(techniques) -> dict:
    """The arguments of the recipe's `train` that are about accuracy, and the size of its batches."""
    return {
        "muon": "muon" in techniques,
        "small": 0.75 if "resizing" in techniques else None,
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
# Of an optimizer and a batch size. First guesses: no pilots have chosen them yet.
RATES = {("adamw", 64): 0.002, ("adamw", 250): 0.004, ("muon", 64): 0.01, ("muon", 250): 0.02}
DECAYS = {("adamw", 64): 0.005, ("adamw", 250): 0.005, ("muon", 64): 0.2, ("muon", 250): 0.2}


def tuned(given: Mapping) -> dict[str, float]:
    """The rate and the decay of a training."""
    which = "muon" if given["muon"] else "adamw", given["batch_size"]
    return {"rate": RATES[which], "decay": DECAYS[which]}


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
    chosen = tuned(given)
    data, batch_size = sources.load(run.data), given.pop("batch_size")
    validation_set, accuracies = batches.evaluation(data.validation), []

    def accuracy_after(epochs: int, until: float | None = None) -> float:
        keras.utils.set_random_seed(run.seed)
        history = keras.callbacks.History()
        recipe.train(
            batches.training(data.train, batch_size, seed=run.seed, augment=False),
            validation_set,
            len(data.classes),
            epochs=epochs,
            callbacks=[history, *run.callbacks(data, until=until)],
            **chosen,
            **given,
        )
        accuracies.append(history.history["val_accuracy"][-1])
        return accuracies[-1]

    if given["muon"] or given["small"]:
        epochs, reached = epochs_needed(accuracy_after, 3 if given["muon"] else 8)
    else:  # At a constant rate a long training passes through all shorter ones.
        accuracy_after(MOST, until=TARGET)
        found = run.epochs_to_target(TARGET, data)
        reached = bool(found["target_reached"])
        epochs = found["epochs_to_target"] if reached else float(MOST)  # One that diverged has fewer.
    return {"epochs": epochs, "reached": float(reached), "accuracy": max(accuracies)}


TABLE = Table(measure, {"training": tuple(TRAININGS)}, seeds=(301, 302, 303, 304), optional=True)


def epochs_at(table: dict, occasion: int) -> dict[str, float]:
    """Training -> epochs that it needs, at a seed of the occasion's own: so occasions are independent.

    Raises:
        ValueError: a training did not reach the target, so that nobody knows what it needs.
    """
    rows = {training: table[(training,)][occasion % len(TABLE.seeds)] for training in TRAININGS}
    if missed := [training for training, (_, reached, _) in rows.items() if not reached]:
        raise ValueError(f"{', '.join(missed)} did not reach {TARGET:.0%} in {MOST} epochs: choose a lower target")
    return {training: float(epochs) for training, (epochs, _, _) in rows.items()}


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
    optimizer = recipe.build_optimizer(given["muon"], **tuned(given), epochs=40, steps=1000, averaged=given["averaged"])
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
    whole = data.shape[0]
    sides = {name: [round(0.75 * whole), whole] if "resizing" in VARIANTS[name] else [whole] for name in runs}
    steps = {
        (name, side): build_step(VARIANTS[name], side, files, data, first.seed) for name in runs for side in sides[name]
    }
    begun = {place: first_call(step) for place, step in steps.items()}
    for (name, _), step in steps.items():
        given = settings_of(VARIANTS[name])
        # Until the cache is full, where there is one.
        many = math.ceil(config.images / given["batch_size"]) if "input_pipeline" in VARIANTS[name] else 5
        for _ in range(many):
            step()
    blocks = first.interleaved({f"{name} {side}": step for (name, side), step in steps.items()}, block=config.steps)
    table = TABLE.read("speedrun") if first.data.is_cifar10 and TABLE.digest("speedrun") else None
    found = {}
    for name in runs:
        size = settings_of(VARIANTS[name])["batch_size"]
        small, large = (len(data.train) / size * blocks.step_seconds(f"{name} {sides[name][i]}") for i in (0, -1))
        found[name] = {"epoch_seconds": large}
        if table:
            epochs = epochs_at(table, (first.seed - FIRST_SEED) // 10)[name_of(VARIANTS[name])]
            tracing = sum(begun[name, side] for side in sides[name])
            seconds = tracing + seconds_of(epochs, small, large, "resizing" in VARIANTS[name])
            found[name] |= {"epochs_needed": epochs, "seconds": seconds, "log_seconds": math.log(seconds)}
    return found


def first_call(step: Step) -> float:
    """Seconds of a model's first step, which is traced."""
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def faster(number, text, source, variant, than, at_least=None):
    return Claim(number, text, source, "log_seconds", lower=variant, than=than, at_least=at_least)


PAYS = {
    "input_pipeline": "A cached, parallel, prefetching input pipeline",
    "precision": "bfloat16",
    "batch_size": "A batch of 250 instead of 64",
    "muon": "Muon with linear decay to zero instead of AdamW at a constant rate",
    "resizing": "Training on 24 × 24 pixels for the first half",
    "averaging": "Averaging weights, and answers over mirror images",
}
CLAIMS = [
    faster(
        "W4a",
        "An input pipeline, bfloat16 and larger batches together reach 87 % nearly 3 times as fast",
        "HW",
        "up_to_batch_size",
        "plain",
        NEARLY_3_TIMES,
    ),
    faster(
        "W4i",
        "All six techniques together reach 87 % nearly 3 times as fast",
        "ours",
        "all_six",
        "plain",
        NEARLY_3_TIMES,
    ),
    *(
        faster(
            number,
            f"All six together are at least {words} as fast to the same accuracy as any one of them alone",
            source,
            "all_six",
            tuple(f"only_{name}" for name in LADDER),
            least,
        )
        for number, words, source, least in (("W4b", "three times", "HW", THREE_TIMES), ("W4j", "twice", "ours", TWICE))
    ),
    *(
        faster(
            f"W4{letter}",
            f"{PAYS[name]} shortens the fast training",
            "HW" if name in LADDER[:3] else "ours",
            "all_six",
            "up_to_resizing" if name == "averaging" else f"all_but_{name}",
        )
        for letter, name in zip("cdefgh", LADDER, strict=True)
    ),
]
UNITS = {
    "epochs_needed": Unit("epochs to 87 %", 1, "epochs", 1, timed=True),
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
