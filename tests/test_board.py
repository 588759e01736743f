"""TensorBoard's files, read back with TensorBoard's own reader."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from lab.core.callbacks import Stopwatch
from lab.execute.job import Job, run_job
from lab.tensorboard import callback, pictures
from pipelines import sources
from recipes.optimizers import Config

EPOCHS, BATCH = 2, 50
REQUEST = sources.Request(train_images=1000)
STEPS = 1000 // BATCH  # An epoch, in calls of 16 and of 4.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The logs of one short run of the real recipe, in this process."""
    logs = tmp_path_factory.mktemp("logs")
    config = dataclasses.asdict(Config(epochs=EPOCHS, batch_size=BATCH))
    job = Job("recipes.optimizers", ("adam",), 1, config, REQUEST, str(logs), alone=True)
    (record,) = run_job(job)
    assert record["status"] == "finished", record["cause"]
    callback.write_overview(logs, ["adam", "sgd"], [1], ["rate"], ["test_accuracy"])
    callback.write_text(logs, "card", "# A card")
    return logs, record


def events(path) -> EventAccumulator:
    return EventAccumulator(str(path), size_guidance={"tensors": 0}).Reload()


def series(accumulator, tag) -> tuple[list[int], list[float]]:
    found = accumulator.Tensors(tag)
    return [e.step for e in found], [float(tf.make_ndarray(e.tensor_proto)) for e in found]


def test_loss_and_accuracy_of_both_parts(folder):
    logs, record = folder
    for part, prefix in (("train", ""), ("validation", "val_")):
        found = events(logs / "adam" / "seed-1" / part)
        for name in ("loss", "accuracy"):
            steps, numbers = series(found, f"epoch_{name}")
            assert steps == list(range(EPOCHS))
            assert numbers == pytest.approx(record["curves"][prefix + name])


def test_the_rate_of_every_step_is_the_rate_that_the_schedule_says(folder):
    logs, _ = folder
    steps, rates = series(events(logs / "adam" / "seed-1" / "train"), "learning_rate/by_step")
    total = EPOCHS * STEPS
    assert steps == list(range(total))
    warm_up = total // 5
    assert rates[0] == 0
    assert max(rates) == rates[warm_up]
    assert all(a > b for a, b in zip(rates[warm_up:], rates[warm_up + 1 :], strict=False))
    assert rates[-1] < 0.05 * max(rates)  # CosineDecay counts its steps from the end of the warm-up.


def test_a_constant_rate_is_there_at_every_step_too(tmp_path):
    config = dataclasses.asdict(Config(epochs=EPOCHS, batch_size=BATCH, target=None, rate=0.01))
    job = Job("recipes.optimizers", ("adam_race",), 1, config, REQUEST, str(tmp_path), alone=True)
    run_job(job)
    steps, rates = series(events(tmp_path / "adam_race" / "seed-1" / "train"), "learning_rate/by_step")
    assert steps == list(range(EPOCHS * STEPS))
    assert set(rates) == {np.float32(0.01)}


def test_norms_and_histograms_by_layer(folder):
    logs, _ = folder
    found = events(logs / "adam" / "seed-1" / "train")
    for layer in ("convolution_1", "normalize_1", "convolution_2", "normalize_2", "head"):
        for norm in ("gradient_norm", "weight_norm"):
            steps, numbers = series(found, f"{norm}/{layer}")
            assert steps == list(range(EPOCHS))
            assert all(number > 0 for number in numbers)
    tags = set(found.Tags()["tensors"])
    assert {"weights/head/kernel", "activations/relu_1", "activations/head"} <= tags
    histogram = tf.make_ndarray(found.Tensors("activations/relu_1")[0].tensor_proto)
    assert histogram.shape[1] == 3  # Left edge, right edge, count.
    assert 0 < histogram[:, 2].sum() <= callback.HISTOGRAM_VALUES


def test_pictures(folder):
    logs, record = folder
    found = events(logs / "adam" / "seed-1")
    assert {"confusion_matrix", "misclassified"} <= set(found.Tags()["tensors"])
    wide, high, *shown = tf.make_ndarray(found.Tensors("misclassified")[0].tensor_proto)
    assert (int(wide), int(high), len(shown)) == (128, 128, pictures.SHOWN_IMAGES)
    assert record["metrics"]["test_accuracy"] > 0.15


def cell(picture: np.ndarray, row: int, column: int) -> float:
    """How dark a cell of a confusion matrix of few classes is, at its upper left corner, where no number is."""
    return 255 - float(picture[80 + 36 * row + 3, 80 + 36 * column + 3].mean())


def test_the_confusion_matrix_has_a_row_for_each_true_class():
    names = ["a", "b", "c"]
    labels, predicted = np.array([0, 0, 0, 1, 2]), np.array([1, 1, 1, 1, 2])
    picture = pictures.confusion(labels, predicted, names)
    dark = [[cell(picture, row, column) > 100 for column in range(3)] for row in range(3)]
    assert dark == [[False, True, False], [False, True, False], [False, False, True]]


@pytest.mark.parametrize("classes", [2, 30, 31, 1000])
def test_a_confusion_matrix_of_any_number_of_classes(classes):
    labels = np.arange(classes)
    picture = pictures.confusion(labels, labels, [f"class number {i}" for i in range(classes)])
    assert picture.shape[0] == picture.shape[1] <= 2100


def test_hparams_hold_the_settings_and_the_final_metrics(folder):
    logs, record = folder
    found = events(logs / "adam" / "seed-1")
    data = plugin_data_pb2.HParamsPluginData.FromString(
        found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    )
    hparams = data.session_start_info.hparams
    assert hparams["variant"].string_value == "adam"
    assert hparams["seed"].number_value == 1
    assert hparams["epochs"].number_value == EPOCHS
    _, (accuracy,) = series(found, "final/test_accuracy")
    assert accuracy == pytest.approx(record["metrics"]["test_accuracy"])


def test_overview_lays_variants_over_one_another(folder):
    logs, _ = folder
    found = events(logs)
    content = tf.make_ndarray(found.Tensors("custom_scalars__config__")[0].tensor_proto).item()
    layout = layout_pb2.Layout.FromString(content)
    tags = [tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag]
    assert {"^epoch_accuracy$", "^learning_rate/by_step$", "^gradient_norm/"} <= set(tags)
    assert "_hparams_/experiment" in found.summary_metadata
    assert tf.make_ndarray(found.Tensors("card")[0].tensor_proto).item() == b"# A card"


def test_a_run_that_is_not_logged_leaves_no_event_files(tmp_path):
    config = dataclasses.asdict(Config(epochs=1, batch_size=BATCH))
    job = Job("recipes.optimizers", ("sgd",), 1, config, REQUEST, str(tmp_path), logging=False, alone=True)
    (record,) = run_job(job)
    assert record["status"] == "finished"
    assert not list(tmp_path.rglob("events.*"))


def test_what_a_run_says_of_its_seconds_adds_up(folder):
    _, record = folder
    seconds = dict(record["seconds"])
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
