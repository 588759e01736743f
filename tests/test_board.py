"""What a run leaves for TensorBoard in its own folder, read back with TensorBoard's own reader."""

import contextlib
import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import schedules
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lab.core.callbacks import Stopwatch
from lab.evidence.records import NOTES
from lab.execute.job import Job, run_job
from lab.experiments import load
from lab.tensorboard import callback
from pipelines import sources

EPOCHS, BATCH = 2, 50
REQUEST = sources.Request(train_images=1000)
BY_STEP = "learning_rate/by_step"
STEPS = 1000 // BATCH  # An epoch, in calls of 16 and of 4.


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The folder of one short run of a real recipe, in this process, and its record."""
    logs = tmp_path_factory.mktemp("logs")
    config = dataclasses.asdict(load("optimizers").config(epochs=EPOCHS, batch_size=BATCH))
    (record,) = run_job(Job("lab.experiments.optimizers", ("adam",), 1, config, REQUEST, str(logs), alone=True))
    assert record.status == "finished", record.cause
    return logs / "adam" / "seed-1", record


def events(path) -> EventAccumulator:
    return EventAccumulator(str(path), size_guidance={"tensors": 0}).Reload()


def series(accumulator, tag) -> tuple[list[int], list[float]]:
    found = accumulator.Tensors(tag)
    return [e.step for e in found], [float(tf.make_ndarray(e.tensor_proto)) for e in found]


def test_loss_and_accuracy_of_both_parts(logged):
    folder, record = logged
    for part, prefix in (("train", ""), ("validation", "val_")):
        found = events(folder / part)
        for name in ("loss", "accuracy"):
            steps, numbers = series(found, f"epoch_{name}")
            assert steps == list(range(EPOCHS))
            assert numbers == pytest.approx(record.curves[prefix + name])
    assert not (folder / NOTES).exists()


def test_the_rate_of_every_step_is_the_rate_that_the_schedule_says(logged):
    steps, rates = series(events(logged[0] / "train"), BY_STEP)
    total = EPOCHS * STEPS
    assert steps == list(range(total))
    warm_up = total // 5
    assert rates[0] == pytest.approx(max(rates) / warm_up)
    assert max(rates) == rates[warm_up]
    assert all(a > b for a, b in itertools.pairwise(rates[warm_up:]))
    assert rates[-1] < 0.05 * max(rates)  # CosineDecay counts its steps from the end of the warm-up.


def board(folder, inputs, labels) -> callback.Board:
    train = sources.Split(inputs, labels, np.arange(len(labels)).astype(str))
    return callback.Board(folder, lambda _: contextlib.nullcontext(), train)


def fit(model, folder, inputs, labels, epochs=1, more=(), **compiled):
    """Train in batches of 8, logged to a folder; return TensorBoard's reader of its run `train`."""
    model.compile(**{"optimizer": "sgd", "loss": keras.losses.SparseCategoricalCrossentropy(True), **compiled})
    folder.mkdir(exist_ok=True)
    callbacks = [board(folder, inputs, labels), *more]
    model.fit(inputs, labels, batch_size=8, epochs=epochs, callbacks=callbacks, verbose=0)
    return events(folder / "train")


NUMBERS, LABELS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32), np.arange(40, dtype=np.int32) % 3


def dense() -> keras.Model:
    layers = [keras.Input((4,)), keras.layers.Dense(5, name="first"), keras.layers.Dense(3, name="head")]
    return keras.Sequential(layers)


@pytest.mark.variants
@pytest.mark.parametrize(
    "schedule",
    [
        schedules.CosineDecay(0.01, 6, alpha=0.1, warmup_target=0.2, warmup_steps=3),
        schedules.PiecewiseConstantDecay([3], [0.1, 0.05]),
    ],
    ids=["warm-up", "piecewise"],
)
def test_the_rates_of_a_schedule_are_what_it_says_of_single_steps(schedule, tmp_path):
    model = dense()
    fit(model, tmp_path, NUMBERS, LABELS, optimizer=keras.optimizers.SGD(schedule))
    steps, rates = series(fit(model, tmp_path / "more", NUMBERS, LABELS, 30, optimizer=model.optimizer), BY_STEP)
    assert len(steps) == callback.MOST_RATES
    assert (steps[0], steps[-1]) == (5, 5 + 150 - 1)  # It went on where the first training had ended.
    assert rates == pytest.approx([float(schedule(step)) for step in steps])


def test_under_a_strategy_a_training_is_logged_as_without(tmp_path):
    """There a rate is a variable that has a copy on each replica."""
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = dense()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    data = tf.data.Dataset.from_tensor_slices((NUMBERS, LABELS)).batch(8)
    model.fit(data, callbacks=[Stopwatch(), board(tmp_path, NUMBERS, LABELS)], shuffle=False, verbose=0)
    assert series(events(tmp_path / "train"), BY_STEP)[1] == pytest.approx([0.01] * 5)
    assert not (tmp_path / NOTES).exists()


def test_a_constant_rate_is_there_at_every_call_and_so_is_what_a_callback_makes_of_it(tmp_path):
    later = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 / (1 + epoch))
    compiled = {"optimizer": keras.optimizers.Adam(0.01), "steps_per_execution": 2}
    steps, rates = series(fit(dense(), tmp_path, NUMBERS, LABELS, 2, [later], **compiled), BY_STEP)
    assert steps == [0, 2, 4, 5, 7, 9]
    assert rates == pytest.approx(3 * [0.01] + 3 * [0.005])


def test_a_schedule_is_asked_for_each_batch_where_gradients_are_accumulated(tmp_path):
    adam = keras.optimizers.Adam(schedules.ExponentialDecay(0.1, 1, 0.5), gradient_accumulation_steps=5)
    steps, rates = series(fit(dense(), tmp_path, NUMBERS, LABELS, 1, optimizer=adam), BY_STEP)
    assert (steps, rates) == (list(range(5)), pytest.approx([0.1, 0.05, 0.025, 0.0125, 0.00625]))


@pytest.mark.parametrize(
    ("epochs", "stop", "probed"), [(1, None, [0]), (4, None, [0, 3]), (11, None, [0, 5, 10]), (12, 8, [0, 6, 8])]
)
def test_norms_and_histograms_are_of_a_few_epochs_the_last_one_always_among_them(tmp_path, epochs, stop, probed):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == stop

    found = fit(dense(), tmp_path, NUMBERS, LABELS, epochs, [Stop()])
    for tag in ("gradient_norm/head", "weight_norm/first"):
        steps, numbers = series(found, tag)
        assert steps == probed
        assert all(number > 0 for number in numbers)
    for tag in ("weights/head/kernel", "activations/first"):
        assert [event.step for event in found.Tensors(tag)] == probed
    histogram = tf.make_ndarray(found.Tensors("activations/first")[0].tensor_proto)
    assert histogram.shape[1] == 3  # Left edge, right edge, count.
    assert histogram[:, 2].sum() == callback.PROBE_IMAGES * 5


def test_the_norm_of_a_layers_gradient_is_that_of_the_loss_on_the_probe(tmp_path):
    model, stays = dense(), {"optimizer": keras.optimizers.SGD(0.0)}
    _, (norm,) = series(fit(model, tmp_path, NUMBERS[:32], LABELS[:32], **stays), "gradient_norm/head")
    with tf.GradientTape() as tape:
        loss = model.loss(LABELS[:32], model(NUMBERS[:32]))
    squares = [tf.reduce_sum(gradient**2) for gradient in tape.gradient(loss, model.layers[-1].trainable_variables)]
    assert norm == pytest.approx(float(sum(squares)) ** 0.5, rel=1e-4)


class Embedded(keras.Model):
    """Subclassed, with a sparse gradient, and a weight without any."""

    def __init__(self):
        super().__init__()
        self.table, self.head = keras.layers.Embedding(10, 4, name="table"), keras.layers.Dense(3, name="head")
        self.unused = self.add_weight(shape=(2,), name="unused")

    def call(self, tokens):
        return self.head(keras.ops.mean(self.table(tokens), axis=1))


def test_gradients_that_are_sparse_or_none(tmp_path):
    model, tokens = Embedded(), np.tile(np.arange(4, dtype=np.int32), (40, 2))
    found = fit(model, tmp_path, tokens[:32], LABELS[:32], optimizer=keras.optimizers.SGD(0.0))
    with tf.GradientTape() as tape:
        loss = model.loss(LABELS[:32], model(tokens[:32]))
    gradient = tf.convert_to_tensor(tape.gradient(loss, model.table.embeddings.value))
    assert series(found, "gradient_norm/table")[1] == pytest.approx([float(tf.norm(gradient))], rel=1e-4)
    assert "weights/unused" in found.Tags()["tensors"]
    assert "gradient_norm/unused" not in found.Tags()["tensors"]
    assert not (tmp_path / NOTES).exists()


class NoConfig(keras.layers.Layer):
    """A layer that Keras can't describe, since its arguments are no plain values and it has no `get_config`."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def test_what_can_not_be_logged_is_noted_and_the_training_goes_on(tmp_path, monkeypatch):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(NoConfig(lambda x: x)(inputs)))

    def broken(*_):
        raise ValueError("no such function")

    monkeypatch.setattr(callback, "_inspector", broken)
    found = fit(model, tmp_path, NUMBERS, LABELS, 2)
    notes = (tmp_path / NOTES).read_text()
    assert "graph of the model" in notes
    assert "gradients and activations of epoch 1: ValueError: no such function" in notes
    assert series(found, "epoch_loss")[0] == [0, 1]
    assert len(series(found, BY_STEP)[0]) == 10


def test_a_full_disk_in_logging_does_not_end_the_training(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(callback.events, "Events", full)
    model = dense()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    model.fit(NUMBERS, LABELS, callbacks=[board(tmp_path, NUMBERS, LABELS)], verbose=0)
    assert "No space left" in (tmp_path / NOTES).read_text()


@pytest.mark.processes
def test_a_run_that_is_not_logged_leaves_no_event_files(tmp_path):
    config = dataclasses.asdict(load("optimizers").config(epochs=1, batch_size=BATCH))
    job = Job("lab.experiments.optimizers", ("sgd",), 1, config, REQUEST, str(tmp_path), logging=False, alone=True)
    (record,) = run_job(job)
    assert record.status == "finished"
    assert not list(tmp_path.rglob("events.*"))


def test_what_a_run_says_of_its_seconds_adds_up(logged):
    seconds = dict(logged[1].seconds)
    total = seconds.pop("total")
    assert {"setup", "tracing", "feed", "steps", "validation", "evaluation", "logging"} == set(seconds)
    assert all(value > 0 for value in seconds.values())
    assert sum(seconds.values()) < total


class Counting(keras.Sequential):
    """Counts how often its training step is traced."""

    traces = 0

    def train_step(self, *data):
        self.traces += 1
        return super().train_step(*data)


def fitted(loss, labels, callbacks, built=False) -> tuple[Counting, dict]:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = Counting([keras.Input((4,)), layers.Dense(5), layers.BatchNormalization(), layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    if built:
        model.optimizer.build(model.trainable_variables)
    images = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    history = model.fit(images, labels, batch_size=8, epochs=2, callbacks=callbacks, verbose=0)
    return model, history.history


@pytest.mark.parametrize("built", [False, True], ids=["", "its optimizer is built already"])
def test_a_training_step_is_traced_once_and_no_number_changes(built):
    loss, labels = keras.losses.SparseCategoricalCrossentropy(from_logits=True), np.arange(40) % 3
    alone, numbers = fitted(loss, labels, [], built)
    watched, same_numbers = fitted(loss, labels, [Stopwatch()], built)
    assert watched.traces == 1
    assert alone.traces == 2, "Keras traces once on its own now: `build_early` may go."
    assert same_numbers == numbers
    for weight, other in zip(alone.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


@pytest.mark.processes
def test_other_labels_keep_the_metric_that_keras_finds_for_them():
    loss, labels = keras.losses.CategoricalCrossentropy(from_logits=True), np.eye(3)[np.arange(40) % 3]
    _, numbers = fitted(loss, labels, [])
    _, same_numbers = fitted(loss, labels, [Stopwatch()])
    assert same_numbers == numbers


def test_labels_of_every_pixel_are_left_to_keras():
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 1)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(np.ones((4, 2, 2, 3)), np.zeros((4, 2, 2), int), callbacks=[Stopwatch()], verbose=0)
    assert 0 <= history.history["accuracy"][0] <= 1


def test_models_that_do_not_know_their_outputs_are_left_to_keras():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(3)

        def call(self, images):
            return self.head(images)

    model = Subclassed()
    model(np.zeros((1, 4)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(np.ones((8, 4)), np.arange(8) % 3, callbacks=[Stopwatch()], verbose=0)
    assert 0 <= history.history["accuracy"][0] <= 1
