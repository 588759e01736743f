"""Batches are as large as the names say, rates and steps belong to them, and gradients agree as arithmetic has it."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.experiments import batch_size as experiment
from pipelines import batches, sources
from recipes import batch_size as recipe

DATA = sources.load(sources.Request(train_images=1000))
SHAPE = (32, 32, 3)


@pytest.fixture
def fits(monkeypatch):
    """The calls of `fit`, which train nothing: model, number of batches, arguments."""
    calls = []
    monkeypatch.setattr(keras.Model, "fit", lambda model, feed, **how: calls.append((model, len(feed), how)))
    return calls


def rates_of(model, *steps) -> list[float]:
    return [float(model.optimizer._learning_rate(step)) for step in steps]


# The recipe


def test_rates_are_scaled_in_proportion_or_by_the_square_root():
    assert recipe.scaled_rate(0.1, 256) == pytest.approx(0.4)
    assert recipe.scaled_rate(0.1, 256, power=0.5) == pytest.approx(0.2)
    assert recipe.scaled_rate(0.1, 16, of=32) == pytest.approx(0.05)


def linear_model(weights: list[float]) -> keras.Model:
    """A model without an activation, whose loss is the mean of its answers times the labels."""
    images = keras.Input((1, 1, len(weights)))
    model = keras.Model(images, keras.layers.Dense(1, use_bias=False)(keras.layers.Flatten()(images)))
    model.compile(loss=lambda labels, answers: tf.cast(labels, tf.float32)[:, None] * answers)
    model.set_weights([np.array(weights)[:, None]])
    return model


ACROSS = [[1.0, 0.0], [0.0, 1.0]]


def images_of(gradients) -> np.ndarray:
    """Images whose gradient in `linear_model` is their own two values times the label, by two."""
    return np.array(gradients, "float32").reshape(-1, 1, 1, 2)


def test_agreement_is_the_mean_cosine_with_the_gradient_of_the_first_half():
    """By hand: gradients of single images are (1, 0) and (0, 1), and that of the first half lies between them."""
    images, model = images_of(ACROSS * 8), linear_model([0.3, 0.7])
    labels = np.ones(16, np.int32)
    assert recipe.agreement(model, images, labels, 1) == pytest.approx(math.sqrt(0.5))
    assert recipe.agreement(model, images, labels, 2) == pytest.approx(1)
    labels[-2:] = -1  # The last of four batches.
    assert recipe.agreement(model, images, labels, 2) == pytest.approx((3 - 1) / 4)


def test_no_batch_is_compared_with_itself():
    """The two halves' gradients have nothing in common; with its own images in it, no direction would be across."""
    images, model = images_of([ACROSS[0]] * 4 + [ACROSS[1]] * 4), linear_model([0.3, 0.7])
    for size in (1, 2, 4):
        assert recipe.agreement(model, images, np.ones(8, np.int32), size) == pytest.approx(0, abs=1e-6)


@pytest.mark.processes
def test_a_larger_batch_agrees_more():
    keras.utils.set_random_seed(1)
    model = recipe.build_model(SHAPE, 10)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    some = DATA.train.images[:512].astype("float32"), DATA.train.labels[:512]
    found = [recipe.agreement(model, *some, size) for size in (2, 16, 64, 256)]
    assert found == sorted(found)
    assert found[0] < 0.5 < found[2] < found[3] < 0.999


def test_the_schedule_ends_with_the_last_batch_whatever_is_accumulated(fits):
    feed = batches.training(DATA.train, 100, seed=1, augment=False)  # Ten batches.
    for accumulate in (None, 4):
        model = recipe.train(feed, None, 10, rate=0.2, accumulate=accumulate, epochs=3)
        assert rates_of(model, 6, 30) == pytest.approx([0.2, 0.0], abs=1e-6)
        assert model.optimizer.gradient_accumulation_steps == accumulate


def test_a_number_of_steps_takes_the_place_of_the_epochs(fits):
    feed = batches.training(DATA.train, 100, seed=1, augment=False)
    model = recipe.train(feed, None, 10, rate=0.2, steps=25, epochs=3)
    ((_, length, how),) = fits
    assert (length, how["epochs"]) == (25, 1)
    assert rates_of(model, 5, 25) == pytest.approx([0.2, 0.0], abs=1e-6)


@pytest.mark.parametrize(("rmsprop", "kind"), [(False, keras.optimizers.SGD), (True, keras.optimizers.RMSprop)])
def test_the_optimizer_is_the_one_asked_for(fits, rmsprop, kind):
    model = recipe.train(batches.training(DATA.train, 100, seed=1), None, 10, rmsprop=rmsprop)
    assert type(model.optimizer) is kind
    assert model.optimizer.momentum == (0.0 if rmsprop else 0.9)


def test_four_accumulated_batches_move_the_weights_once_and_as_one_does():
    """At a rate that both see: the schedule is at its peak in the middle of the training."""
    images, labels = DATA.train.images[:128].astype("float32"), DATA.train.labels[:128]
    moved = []
    for size, accumulate in ((128, None), (32, 4)):
        keras.utils.set_random_seed(1)
        model = recipe.build_model(SHAPE, 10)
        before = model.get_weights()
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, gradient_accumulation_steps=accumulate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(tf.data.Dataset.from_tensor_slices((images, labels)).batch(size), verbose=0)
        moved.append(
            np.concatenate([np.ravel(now - was) for now, was in zip(model.get_weights(), before, strict=True)])
        )
    assert np.abs(moved[0]).max() > 1e-3
    assert moved[1] == pytest.approx(moved[0], abs=1e-5)


# The experiment

CURVE = [0.1, 0.3, 0.2, 0.4, 0.35]  # It falls by 0.1 and 0.05 in four steps.


class Fake:
    seed, data, diverged = 301, sources.Request(train_images=1000), False

    def __init__(self):
        self.timed, self.curves, self.scored = None, {"val_accuracy": CURVE}, None

    def callbacks(self, data):
        return []

    def scores(self, model, data):
        self.scored = len(data.train)
        return {"test_accuracy": 0.5}

    def interleaved(self, steps, **shape):
        """Each image takes a millisecond."""
        self.timed = list(steps), shape
        seconds = {name: 0.001 * experiment.TIMED[name] * experiment.steps_of(experiment.TIMED[name]) for name in steps}
        return type("Blocks", (), {"step_seconds": lambda _, name: seconds[name]})()


@pytest.fixture
def asked(monkeypatch):
    """What the recipe was asked to train: the batches and the arguments of each call."""
    calls = []

    def train(train_set, validation_set, classes, callbacks, **how):
        calls.append((train_set, how))
        return "model"

    monkeypatch.setattr(recipe, "train", train)
    return calls


FOR_64 = experiment.RATES["own_rate_64"]
LARGE = experiment.RATES["own_rate_1000"]
FEW_64 = experiment.RATES["few_own_rate_64"]
# Images in a batch, the rate where it is not the variant's own, and further arguments.
WANTED: dict[str, tuple] = {f"own_rate_{size}": (size, None, {"epochs": 5}) for size in (16, 64, 256, 1000)}
WANTED |= {f"one_rate_{size}": (size, FOR_64, {"epochs": 5}) for size in (16, 256, 1000)}
WANTED |= {f"rmsprop_{size}": (size, None, {"epochs": 5, "rmsprop": True}) for size in (16, 64)}
WANTED |= {f"few_own_rate_{size}": (size, None, {"epochs": 40}) for size in (16, 64, 256)}
WANTED |= {f"few_one_rate_{size}": (size, FEW_64, {"epochs": 40}) for size in (16, 256)}
WANTED |= {
    "large_rate_64": (64, LARGE, {"epochs": 5}),
    "linear_rate_256": (256, FOR_64 * 4, {"epochs": 5}),
    "linear_rate_1000": (1000, FOR_64 * 15.625, {"epochs": 5}),
    "as_many_steps_1000": (1000, None, {"epochs": 5, "steps": 625}),
    "accumulated_64": (64, experiment.RATES["own_rate_256"], {"epochs": 5, "accumulate": 4}),
}


@pytest.mark.parametrize("name", WANTED)
def test_each_variant_has_the_batches_rate_and_steps_of_its_name(asked, name):
    size, rate, how = WANTED[name]
    experiment.compare(experiment.EXPERIMENT.config(), {name: Fake()})
    ((train_set, given),) = asked
    assert train_set.element_spec[0].shape[0] == size
    assert given.pop("rate") == pytest.approx(experiment.RATES[name] if rate is None else rate)
    assert given == how


def test_each_rate_of_its_own_is_tuned_and_no_other():
    assert set(WANTED) == set(experiment.ARMS)
    own = {name for name, (_, rate, _) in WANTED.items() if rate is None}
    assert own == set(experiment.RATES) == set(experiment.EXPERIMENT.tuning.grids)
    assert len({FOR_64, LARGE, experiment.RATES["own_rate_16"]}) == 3


def test_images_are_trained_on_as_they_are(asked):
    experiment.compare(experiment.EXPERIMENT.config(), {"own_rate_64": Fake()})
    ((train_set, _),) = asked
    known = {image.tobytes() for image in DATA.train.images}
    assert all(image.tobytes() in known for images, _ in train_set for image in images.numpy())


def test_few_images_are_fewer_and_others_for_each_seed_and_scored_as_such(asked, monkeypatch):
    monkeypatch.setattr(experiment, "FEW_IMAGES", 320)
    found, images = [], []
    for seed in (301, 302):
        run = Fake()
        run.seed = seed
        found.append(experiment.compare(experiment.EXPERIMENT.config(), {"few_own_rate_64": run})["few_own_rate_64"])
        images.append({image.tobytes() for batch, _ in asked[-1][0] for image in batch.numpy()})
        assert (len(asked[-1][0]), run.scored) == (5, 320)
    assert images[0] != images[1]
    assert found[0] == {"test_accuracy": 0.5, "jump": pytest.approx(0.15 / 4)}


def test_what_has_few_epochs_or_has_diverged_has_no_falls(asked):
    assert experiment.compare(experiment.EXPERIMENT.config(), {"own_rate_64": Fake()}) == {
        "own_rate_64": {"test_accuracy": 0.5}
    }
    run = Fake()
    run.diverged, run.curves = True, {}
    found = experiment.compare(experiment.EXPERIMENT.config(), {"few_own_rate_64": run})
    assert found == {"few_own_rate_64": {"test_accuracy": 0.5}}


def test_what_flags_say_takes_the_place_of_a_variants_own(asked):
    def trained(name, **flags):
        experiment.compare(experiment.EXPERIMENT.config(**flags), {name: Fake()})
        train_set, how = asked[-1]
        return train_set.element_spec[0].shape[0], how["rate"], how["epochs"]

    assert trained("own_rate_64", rate=0.7, largest=32, epochs=2) == (32, 0.7, 2)
    assert trained("few_own_rate_64", few_epochs=3)[2] == 3
    assert trained("own_rate_256", largest=64)[:2] == (64, pytest.approx(experiment.RATES["own_rate_256"] / 4))
    assert trained("rmsprop_64", largest=16)[:2] == (16, pytest.approx(experiment.RATES["rmsprop_64"] / 2))


def test_gradients_are_looked_at_after_one_epoch_in_batches_of_64_that_all_sizes_share(asked, monkeypatch):
    looked = []
    monkeypatch.setattr(
        recipe, "agreement", lambda model, images, labels, size: looked.append((model, len(labels), size)) or size
    )
    runs = {name: Fake() for name in ("gradients_of_1", "gradients_of_16", "gradients_of_1000")}
    found = experiment.compare(experiment.EXPERIMENT.config(), runs)
    # The last one has as many as half of the 1,000 images that there are.
    assert found == {name: {"agreement": size} for name, size in zip(runs, (1, 16, 500), strict=True)}
    assert looked == [("model", 1000, size) for size in (1, 16, 500)]
    ((train_set, how),) = asked
    assert train_set.element_spec[0].shape[0] == 64
    assert how == {"rate": FOR_64, "epochs": 1}


def test_steps_are_timed_for_each_image_and_their_memory_is_measured(asked, monkeypatch):
    monkeypatch.setattr(experiment, "build_call", lambda *_: None)
    monkeypatch.setattr(experiment, "memory_of", lambda step, size, *_: float(size))
    first = Fake()
    runs = {"step_of_63": first, "step_of_64": Fake(), "step_of_1000": Fake()}
    found = experiment.compare(experiment.EXPERIMENT.config(), runs)
    assert first.timed == (list(runs), {"block": 52, "left_out": 2})
    assert all(metrics["image_us"] == pytest.approx(1000) for metrics in found.values())
    assert all(metrics["log_time"] == pytest.approx(math.log(0.001)) for metrics in found.values())
    assert "memory" not in found["step_of_63"]
    assert found["step_of_1000"]["log_memory"] == pytest.approx(math.log(1000))
    assert "memory" not in experiment.compare(experiment.EXPERIMENT.config(memory=0), runs)["step_of_64"]
    assert asked == []


def test_a_block_that_is_timed_has_a_hundred_steps_or_more_of_as_many_images():
    calls = experiment.EXPERIMENT.config().calls - 2
    for size in experiment.TIMED.values():
        assert calls * experiment.steps_of(size) >= 100
        assert experiment.steps_of(size) * size == pytest.approx(2000, rel=0.03)


@pytest.mark.parametrize("size", [60, 1000])
def test_a_call_that_is_timed_trains_for_several_steps_on_batches_of_its_size(monkeypatch, size):
    made, traced, build_model = [], [], recipe.build_model

    def watched(shape, classes):
        model = build_model(shape, classes)
        train_step = model.train_step
        model.train_step = lambda batch: traced.append(batch[0].shape) or train_step(batch)
        made.append(model)
        return model

    monkeypatch.setattr(recipe, "build_model", watched)
    call = experiment.build_call(size, SHAPE, 10)
    images, labels = next(call.args[0])
    assert (images.shape, labels.shape, images.dtype) == ((size, *SHAPE), (size,), tf.uint8)
    (model,) = made
    before, already = int(model.optimizer.iterations), len(traced)
    losses = [call() for _ in range(3)]
    assert int(model.optimizer.iterations) - before == 3 * experiment.steps_of(size)
    assert losses[-1] < losses[0]
    # So that memory and time are those of steps, with all that was traced before.
    assert len(traced) == already
    assert all(shape[0] is None for shape in (*traced, call.args[0].element_spec[0].shape))


def test_a_multiple_of_8_is_compared_with_sizes_on_both_sides():
    """A larger batch shares out what a step takes whatever its size, so that one side alone would say nothing."""
    claims = [claim for claim in experiment.CLAIMS if claim.id.startswith("D8")]
    for claim in claims:
        assert claim.lower == "step_of_64"
        below, above = (experiment.TIMED[name] for name in claim.than)
        assert 64 - below == above - 64 > 0


def test_all_trained_variants_run_apart_and_all_others_together():
    apart = {name for name in experiment.VARIANTS if experiment.EXPERIMENT.runs_apart(name)}
    assert apart == set(experiment.ARMS)
    assert set(experiment.VARIANTS) - apart == {*experiment.TIMED, *experiment.AGREEING}
    assert set(experiment.EXPERIMENT.usual("quick")) < apart


def test_every_training_serves_a_claim():
    claimed = set().union(*(claim.variants for claim in experiment.CLAIMS))
    assert set(experiment.ARMS) <= claimed
