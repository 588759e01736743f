"""What a reader copies, tried as the authors of public bug reports would: how each recipe is called, and what happens.

`TABLE` says how to call each recipe's training: add yours there. Run as a script, with a folder and the names of rows
and of trials, this file does them in a process where `lab` and `pipelines` cannot be imported, and writes what happened
to a JSON file. It imports nothing of the repository but the recipes, from copies of their files.
"""

import contextlib
import dataclasses
import functools
import importlib
import importlib.abc
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BATCH = 16
CLASSES = ("apple", "bread", "cup")
IMAGES = 22  # Of each class to train on: 66 in batches of 16 leave two for the last one.
SIZE = 32


Call = Callable[..., Any]  # (recipe, sets, callbacks, **arguments) -> the trained model.


@dataclass(frozen=True)
class Sets:
    """A folder of images, as `keras.utils.image_dataset_from_directory` reads it."""

    folder: Path
    batch_size: int = BATCH
    shuffle: bool = True
    only: int | None = None  # So many batches.
    prepare: Call | None = None

    @property
    def train(self) -> Any:
        found = self._read("train", self.shuffle)
        return found if self.only is None else found.take(self.only)

    @property
    def validation(self) -> Any:
        return self._read("validation", False)

    @property
    def classes(self) -> int:
        return len(CLASSES)

    def _read(self, part: str, shuffle: bool) -> Any:
        import keras

        found = keras.utils.image_dataset_from_directory(
            self.folder / part, image_size=(SIZE, SIZE), batch_size=self.batch_size, shuffle=shuffle, verbose=False
        )
        return found.map(self.prepare) if self.prepare else found


def usual(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    """The signature that nearly every recipe has."""
    return recipe.train(sets.train, sets.validation, sets.classes, callbacks=callbacks, **arguments)


def examples_one_by_one(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    """Of a recipe that takes single examples, sorted by class, and makes the batches itself."""
    import keras

    examples = keras.utils.image_dataset_from_directory(
        sets.folder / "train", image_size=(SIZE, SIZE), batch_size=None, shuffle=False, verbose=False
    )
    if sets.only is not None:
        examples = examples.take(sets.only * sets.batch_size)
    return recipe.train(
        examples, sets.validation, sets.classes, batch_size=sets.batch_size, callbacks=callbacks, **arguments
    )


def by_own_chain(recipe: Any, sets: Sets, callbacks: list, *, augment: Call | None, **arguments: Any) -> Any:
    """The images of the folder by the recipe's own chain."""
    made = []
    for part, own in (
        ("train", {"augment": augment, "shuffle": 100 * sets.shuffle}),
        ("validation", {"augment": None}),
    ):
        files, _ = recipe.list_files(sets.folder / part)
        made.append(recipe.build_feed(files, sets.batch_size, **{"shuffle": 0, **own}))
    return recipe.train(made[0].take(sets.only or -1), made[1], sets.classes, callbacks=callbacks, **arguments)


def in_a_folder_of_its_own(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    """A search that finds no trials of another one."""
    with tempfile.TemporaryDirectory() as folder:
        return usual(recipe, sets, callbacks, folder=folder, **arguments)


def go_on(recipe: Any, model: Any, sets: Sets) -> None:
    """Train a model that was loaded, for one more epoch."""
    model.fit(sets.train, epochs=1, verbose=0)


@dataclass(frozen=True)
class Row:
    """How to train by a recipe, and what it cannot do.

    Args:
        arguments: of its `train`. Where its usual training is random, these turn dropout and augmentation off, since
            losses are compared to rounding.
        train: (recipe, sets, callbacks, **arguments) -> the trained model, where the signature is another.
        prepare: the recipe's function that makes the inputs and targets of its models from images and labels, by name.
        go_on: (recipe, model, sets): trains on a model that was loaded, where `fit` on the sets is not the way.
        still: arguments, on top of those, with which no weight moves, so that a reported loss can be computed again;
            None if there are none.
        loss: (model, images, labels) -> the mean loss of a batch in training; that of `compile` as a rule.
        random: its trainings are random in spite of the arguments, and so losses are not compared.
        cannot: name of a trial -> why the recipe fails it, in the words of *Careful* in its docstring.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    train: Call = usual
    go_on: Callable[[Any, Any, Sets], None] = go_on
    prepare: str = ""
    still: Mapping[str, Any] | None = field(default_factory=lambda: {"rate": 0.0})
    loss: Callable[[Any, Any, Any], Any] | None = None
    random: bool = False
    cannot: Mapping[str, str] = field(default_factory=dict)


# Of custom_loop.


def own_step(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    build = functools.partial(recipe.build_model, kind=recipe.OwnStep)
    return usual(recipe, sets, callbacks, build_model=build, **arguments)


def by_hand(recipe: Any, sets: Sets, callbacks: list, step: str = "one_step", **arguments: Any) -> Any:
    fit = functools.partial(recipe.fit_by_hand, step=getattr(recipe, step))
    return usual(recipe, sets, callbacks, fit=fit, **arguments)


# Of distributed: on whichever devices there are.


def on_devices(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    return recipe.train(strategy, sets.train, sets.validation, sets.classes, callbacks=callbacks, **arguments)


def without_statistics(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    """A model in which no image depends on the others of its batch."""
    import keras

    def build(shape: Any, classes: int) -> Any:
        images = keras.Input(shape)
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 64, -2)(images))
        return keras.Model(images, keras.layers.Dense(classes)(x))

    return on_devices(recipe, sets, callbacks, build_model=build, **arguments)


ONE_DEVICE = {"mirrored": "fit_by_hand is for one device"}


def with_noise(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    """By an optimizer with noise of a fixed seed, and with the norms of all steps noted."""
    optimizer = functools.partial(recipe.NoisySGD, noise=0.01, seed=1)
    return usual(recipe, sets, [*callbacks, recipe.GradientNorms()], optimizer=optimizer, **arguments)


def with_swiglu(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    """A residual network with SwiGLU, which no layer of Keras's has."""
    build = functools.partial(recipe.build_model, activation="swiglu", residual=True, depth=2)
    return usual(recipe, sets, callbacks, build_model=build, **arguments)


def with_dyt(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    """A network with DyT, which Keras has no layer for. With BatchNorm each image would depend on its batch."""
    build = functools.partial(recipe.build_model, kind="dyt", depth=2)
    return usual(recipe, sets, callbacks, build_model=build, **arguments)


def with_rezero(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    build = functools.partial(recipe.build_model, kind="none", place="rezero", depth=2)
    return usual(recipe, sets, callbacks, build_model=build, **arguments)


def with_recomputation(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    build = functools.partial(recipe.build_model, recompute=True, depth=2)
    return usual(recipe, sets, callbacks, build_model=build, **arguments)


def on_flat_images(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    """A recipe whose own model is for tables."""
    import keras

    def build(shape: Any, classes: int) -> Any:
        images = keras.Input(shape)
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 64, -2)(images))
        return keras.Model(images, keras.layers.Dense(classes)(x))

    return usual(recipe, sets, callbacks, build_model=build, **arguments)


def on_a_base(recipe: Any, sets: Sets, callbacks: list, **arguments: Any) -> Any:
    """On features that nothing has trained."""
    base = recipe.build_base(sets.train.element_spec[0].shape[1:])
    return recipe.train(sets.train, sets.validation, sets.classes, base, callbacks=callbacks, **arguments)


# A recipe's name or, where one recipe is tried in several ways, "NAME/WAY" -> how.
TABLE: dict[str, Row] = {
    "functional_multi_input": Row(prepare="image_and_numbers"),
    "functional_multi_input/two_outputs": Row(prepare="image_to_numbers"),
    "input_pipeline": Row(),
    "input_pipeline/own_chain": Row(train=by_own_chain, arguments={"augment": None}),
    "monitoring": Row(),
    "search": Row(
        {"trials": 2},
        train=in_a_folder_of_its_own,
        still=None,
        random=True,
        cannot={"mirrored": "KerasTuner fails in the scope of a strategy"},
    ),
    "functional_skip": Row(),
    "activations": Row(),
    "activations/swiglu": Row(train=with_swiglu),
    "subclassed_routing": Row(),
    "gradients": Row({"clip": None}),
    "gradients/noise": Row({"clip": None}, train=with_noise),
    "optimizers": Row(),
    "optimizers/momentum": Row({"optimizer": "momentum"}),
    "sequential": Row(),
    "batch_size": Row(),
    "batch_size/rmsprop": Row({"rmsprop": True, "rate": 0.001}),
    "losses": Row(),
    "losses/squared_error": Row({"loss": "squared_error_on_softmax"}),
    "scaling": Row({"rate": 0.003}),
    "data_hunger": Row({"epochs": 2}),
    "seeds": Row(),
    "dirty_data": Row({"epochs": 2}, train=on_flat_images),
    "normalization": Row(train=with_dyt),
    "normalization/rezero": Row(train=with_rezero),
    "transfer_learning": Row(train=on_a_base),
    "schedules": Row(),
    "schedules/warmup_linear": Row({"schedule": "linear", "warmup": 0.1}),
    "schedules/plateau": Row({"schedule": "plateau"}),
    "custom_loop": Row(),
    "custom_loop/own_step": Row(train=own_step),
    "custom_loop/by_hand": Row(train=by_hand, cannot=ONE_DEVICE),
    "custom_loop/in_parts": Row({"step": "step_in_parts"}, train=by_hand, cannot=ONE_DEVICE),
    "mixed_precision": Row(),
    "memory": Row(),
    "memory/recomputed": Row(train=with_recomputation),
    "regularization": Row(),
    "regularization/penalized": Row({"l1": 1e-4, "l2": 1e-4, "weight_decay": 0.1}),
    "regularization/smoothed": Row({"label_smoothing": 0.1}),
    "regularization/averaged": Row({"average": 0.9}),
    "regularization/changed": Row({"mirror": True, "translate": 0.1, "cutout": 0.2, "dropout": 0.3}, random=True),
    "strong_baseline": Row({"mirror": False, "shift": 0}),
    "strong_baseline/whole": Row(random=True),
    "speedrun": Row({"epochs": 2}, random=True),
    "shuffling": Row({"buffer": 0.0}, train=examples_one_by_one),
    "shuffling/whole": Row(train=examples_one_by_one, random=True),  # Two devices draw another order.
    "distributed": Row({"rate": 0.005}, train=on_devices, still=None),  # Synchronized statistics.
    "distributed/plain": Row({"rate": 0.005}, train=without_statistics),
}

# A training with one fault each, and the trial that must notice it.
FAULTS = {
    "of_the_laboratory": "folder",
    "first_step_lost": "one_step",
    "by_batches": "last_batch",
    "unscaled": "float16",
    "a_replicas_share": "mirrored",
    "float_of_a_variable": "mirrored",
    "unregistered": "loaded",
}
TOYS = {f"pasted/{fault}": Row({"fault": fault}) for fault in ("", *FAULTS, "several_steps")}


@dataclass(frozen=True)
class Case:
    """A row of the table with its recipe, imported, and the folder of images."""

    label: str
    row: Row
    recipe: Any
    images: Path

    @property
    def sets(self) -> Sets:
        return self.read()

    @property
    def in_order(self) -> Sets:
        """The same batches in each epoch, so that losses can be compared."""
        return self.read(shuffle=False)

    def read(self, **how: Any) -> Sets:
        return Sets(self.images, prepare=getattr(self.recipe, self.row.prepare) if self.row.prepare else None, **how)

    @property
    def still(self) -> bool:
        """Whether a training can be told to leave the weights where they are, and its losses be computed again."""
        return self.row.still is not None and not self.row.random

    @property
    def saved(self) -> Path:
        return self.images / "saved" / self.label.replace("/", "-")

    def train(self, sets: Sets, **more: Any) -> tuple[Any, Any]:
        """A training from the same initial weights each time, and a callback that saw it."""
        import keras

        keras.utils.set_random_seed(1)
        seen = _seen()
        return self.row.train(self.recipe, sets, [seen], **{**self.row.arguments, **more}), seen

    def loss(self, model: Any, parts: int = 1, by_batches: bool = False) -> float:
        """The mean loss over images in training, of batches in `parts`; or the mean over those, unweighted."""
        import tensorflow as tf

        total, weight = 0.0, 0
        for batch in self.in_order.train:
            of_batch = len(tf.nest.flatten(batch)[0])
            size = -(-of_batch // parts)
            for start in range(0, of_batch, size):
                part = tf.nest.map_structure(lambda each, start=start, size=size: each[start : start + size], batch)
                counts = 1 if by_batches else len(tf.nest.flatten(part)[0])
                total += counts * float((self.row.loss or _compiled_loss)(model, *part))
                weight += counts
        return total / weight

    def is_random(self, model: Any) -> bool:
        """Whether a model answers otherwise when it is asked again in training."""
        import numpy as np
        import tensorflow as tf

        images = next(iter(self.in_order.train))[0]
        first, again = (tf.nest.flatten(model(images, training=True)) for _ in range(2))
        return not all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


# The trials: what happened, as facts. What they should be is in test_copied.py.


def folder(case: Case) -> dict[str, Any]:
    """Train on the folder as it is. The last batch holds two images."""
    model, seen = case.train(case.sets, epochs=2)
    outputs = _outputs(model, case.sets)
    return {
        "moved": seen.moved(model, trainable=True),
        "epochs": seen.epochs,
        "finite": _finite(model.get_weights()),
        "outputs": [list(output.shape) for output in outputs],
        "finite_outputs": _finite(outputs),
        "smallest_variance": min((float(variance.min()) for variance in _variances(model)), default=0.0),
        "forbidden": sorted(name for name in sys.modules if name.partition(".")[0] in FORBIDDEN),
    }


def one_step(case: Case) -> dict[str, Any]:
    """A training of a single step."""
    model, seen = case.train(case.read(only=1), epochs=1)
    return {"moved": seen.moved(model, trainable=True)}


def last_batch(case: Case) -> dict[str, Any]:
    """The reported loss is the mean over images, though the last batch is smaller: without movement it can be told."""
    if not case.still:
        return {"still": False}
    model, seen = case.train(case.in_order, epochs=1, **case.row.still)
    return {
        "still": True,
        "random": case.is_random(model),
        "moved": seen.moved(model, trainable=True),
        "reported": seen.epochs[0]["loss"],
        "loss": case.loss(model),
        "by_batches": case.loss(model, by_batches=True),
    }


def float16(case: Case) -> dict[str, Any]:
    """The same training in float32 and in mixed precision."""
    import keras

    facts: dict[str, Any] = {"moved": {}, "optimizer": {}, "losses": {}}
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            model, seen = case.train(case.in_order, epochs=3)
        finally:
            keras.config.set_dtype_policy("float32")
        facts["moved"][policy] = seen.moved(model, trainable=True)
        facts["optimizer"][policy] = type(model.optimizer).__name__
        facts["losses"][policy] = [epoch["loss"] for epoch in seen.epochs]
    layers = [layer for layer in model._flatten_layers() if layer.trainable_variables]
    return {**facts, "computes_in": sorted({layer.compute_dtype for layer in layers})}


def mirrored(case: Case) -> dict[str, Any]:
    """The same training on one device and on two, a step at a time: several at once fail on two (`several_steps`)."""
    with _a_step_at_a_time():
        return _mirrored(case)


def _mirrored(case: Case) -> dict[str, Any]:
    alone, seen = case.train(case.in_order, epochs=2)
    strategy = _two_devices()
    with strategy.scope():
        both, seen_by_both = case.train(case.in_order, epochs=2)
    facts = {
        "replicas": strategy.num_replicas_in_sync,
        "moved": [seen.moved(alone, trainable=True), seen_by_both.moved(both, trainable=True)],
        "apart_at_first": _apart(seen.first, seen_by_both.first),
        "apart_at_last": _apart(alone.get_weights(), both.get_weights()),
        "losses": [[epoch["loss"] for epoch in each.epochs] for each in (seen, seen_by_both)],
        "statistics_of_batches": bool(_variances(alone)),
        "random": case.is_random(alone),
        "finite": _finite(both.get_weights()),
        "still": case.still,
    }
    if case.still:
        with strategy.scope():
            model, seen = case.train(case.in_order, epochs=1, **case.row.still)
        # Each replica takes half of a batch, and its own statistics of it.
        facts |= {"reported": seen.epochs[0]["loss"], "loss": case.loss(model, parts=2)}
    return facts


def several_steps(case: Case) -> dict[str, Any]:
    """What goes wrong on two devices where one call from Python takes several steps."""
    import tensorflow as tf

    with _two_devices().scope():
        try:
            case.train(case.in_order)
        except tf.errors.InvalidArgumentError as error:
            return {"complaint": error.message}
    return {"complaint": ""}


def saved(case: Case) -> dict[str, Any]:
    """Train and save; `loaded` is the other half, in another process."""
    import numpy as np

    model, _ = case.train(case.sets, epochs=2)
    case.saved.mkdir(parents=True)
    model.save(case.saved / "model.keras")
    np.savez(case.saved / "outputs.npz", *_outputs(model, case.sets))
    return _place(model)


def saved16(case: Case) -> dict[str, Any]:
    """Train in mixed precision and save."""
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    try:
        return saved(dataclasses.replace(case, label=f"{case.label}/float16"))
    finally:
        keras.config.set_dtype_policy("float32")


def loaded16(case: Case) -> dict[str, Any]:
    """What Keras makes of that in another process: as it comes, and where the policy was set before it was loaded."""
    import keras

    path = case.images / "saved" / f"{case.label}/float16".replace("/", "-") / "model.keras"
    as_it_comes = _place(keras.models.load_model(path))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return {"as_it_comes": as_it_comes, "with_policy": _place(keras.models.load_model(path))}
    finally:
        keras.config.set_dtype_policy("float32")


def loaded(case: Case) -> dict[str, Any]:
    """Load what `saved` left and train on. Nothing but the recipe was imported."""
    import keras
    import numpy as np

    model = keras.models.load_model(case.saved / "model.keras")
    facts = _place(model)
    with np.load(case.saved / "outputs.npz") as before:
        pairs = zip(before.values(), _outputs(model, case.sets), strict=True)
        facts["apart"] = max(float(np.abs(one - other).max()) for one, other in pairs)
    case.row.go_on(case.recipe, model, case.sets)
    return {**facts, "iterations_later": _place(model)["iterations"], "finite": _finite(model.get_weights())}


TRIALS = {
    trial.__name__: trial
    for trial in (folder, one_step, last_batch, float16, mirrored, several_steps, saved, loaded, saved16, loaded16)
}
FORBIDDEN = ("lab", "pipelines")


@functools.cache
def _two_devices() -> Any:
    """One strategy for all trials of a process: the sums of a second one would meet those of the first."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@contextlib.contextmanager
def _a_step_at_a_time() -> Iterator[None]:
    """As if nothing were said of `steps_per_execution`."""
    import keras

    before = keras.Model.compile

    def compile(self: Any, *arguments: Any, **settings: Any) -> None:
        before(self, *arguments, **{**settings, "steps_per_execution": 1})

    keras.Model.compile = compile
    try:
        yield
    finally:
        keras.Model.compile = before


def _seen() -> Any:
    """A callback that notes the weights before the first step, and what each epoch reports."""
    import keras
    import numpy as np

    class Seen(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.first: list = []
            self.epochs: list[dict[str, float]] = []

        def on_train_begin(self, logs: Any = None) -> None:
            self.first = self.first or self.model.get_weights()
            self.first_trainable = [weight.numpy() for weight in self.model.trainable_variables]

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs.append({name: float(np.asarray(value)) for name, value in (logs or {}).items()})

        def moved(self, model: Any, trainable: bool = False) -> float:
            if not trainable:
                return _apart(self.first, model.get_weights())
            return _apart(self.first_trainable, [weight.numpy() for weight in model.trainable_variables])

    return Seen()


def _place(model: Any) -> dict[str, Any]:
    """Which optimizer a model has, and where in its training that is."""
    from keras.ops import convert_to_numpy

    optimizer = model.optimizer
    rate, iterations = (float(convert_to_numpy(each)) for each in (optimizer.learning_rate, optimizer.iterations))
    return {"optimizer": type(optimizer).__name__, "iterations": int(iterations), "rate": rate}


def _apart(before: list, after: list) -> float:
    """The distance of two lists of a model's weights."""
    import numpy as np

    pairs = zip(before, after, strict=True)
    return float(np.sqrt(sum(np.sum((np.float64(one) - np.float64(other)) ** 2) for one, other in pairs)))


def _finite(arrays: list) -> bool:
    import numpy as np

    return all(bool(np.isfinite(array).all()) for array in arrays)


def _outputs(model: Any, sets: Sets) -> list:
    """What a model answers to the validation images, as a list of arrays."""
    import numpy as np
    import tensorflow as tf

    answer = model.predict(sets.validation, verbose=0)
    return [np.asarray(part, np.float32) for part in tf.nest.flatten(answer)]


def _variances(model: Any) -> list:
    """The moving variances of a model's normalization layers."""
    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "moving_variance")]
    return [layer.moving_variance.numpy() for layer in layers]


def _compiled_loss(model: Any, images: Any, labels: Any) -> Any:
    return model.compute_loss(images, labels, model(images, training=True), training=True)


class _Absent(importlib.abc.MetaPathFinder):
    """As on a reader's machine, where the laboratory is not."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in FORBIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def paste(into: Path) -> None:
    """Copy the recipes and a toy, and nothing else, to a folder; without their package's own start."""
    (into / "recipes").mkdir(parents=True)
    for path in (*(ROOT / "recipes").glob("*.py"), ROOT / "tests" / "toys" / "pasted.py"):
        if not path.name.startswith("__"):
            shutil.copy(path, into / "recipes" / path.name)


def make_images(into: Path) -> None:
    """Small pictures of three classes, each of another color, under much noise."""
    import numpy as np
    from PIL import Image

    draws = np.random.default_rng(1)
    for part, count in (("train", IMAGES), ("validation", 6)):
        for place, name in enumerate(CLASSES):
            (into / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 200, (SIZE, SIZE, 3))
                pixels[..., place] += 55
                Image.fromarray(pixels.astype(np.uint8)).save(into / part / name / f"{number}.png")


def work(wanted: Mapping[str, list[str]], images: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Do the trials of each row: (row, trial, facts), or as facts what went wrong."""
    import keras

    for label, trials in wanted.items():
        for trial in trials:
            keras.backend.clear_session()
            try:
                recipe = importlib.import_module(f"recipes.{label.partition('/')[0]}")
                yield label, trial, TRIALS[trial](Case(label, {**TABLE, **TOYS}[label], recipe, images))
            except Exception:
                yield label, trial, {"error": traceback.format_exc()}


def main() -> None:
    pasted, images, wanted, told = sys.argv[1:]
    sys.path[:] = [pasted, *(place for place in sys.path if Path(place or ".").resolve() not in (ROOT, ROOT / "tests"))]
    sys.meta_path.insert(0, _Absent())
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    found: dict[str, dict[str, Any]] = {}
    for label, trial, facts in work(json.loads(wanted), Path(images)):
        found.setdefault(label, {})[trial] = facts
        Path(told).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
