"""Profiles: what is read of them, by hand and beside TensorBoard's Profile page, and what a recipe makes of it."""

import json
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from lab.evidence.records import write_json
from lab.experiments import monitoring as experiment
from lab.report import summary
from lab.tensorboard.profile import NEXT_BATCH, STEP, WORDS, Profile, read_profile, words_in
from pipelines import batches, encoded, sources
from recipes import monitoring as recipe
from tests.conftest import ROOT


def events(folder) -> EventAccumulator:
    """What is in the event files of a folder."""
    return EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()


def written(folder, *events: tuple[str, int, int], day: str = "2026_01_01") -> None:
    """A profile of events: name, begin and length in picoseconds, each on a line (a thread) of its own."""
    space = xplane_pb2.XSpace()
    plane = space.planes.add(name="/host:CPU")
    for number, name in enumerate(sorted({name for name, _, _ in events}), 1):
        plane.event_metadata[number].name = name
        line = plane.lines.add(timestamp_ns=1000)
        for of_name, begin, length in events:
            if of_name == name:
                line.events.add(metadata_id=number, offset_ps=begin, duration_ps=length)
    path = folder / "train" / "plugins" / "profile" / day / "here.xplane.pb"
    path.parent.mkdir(parents=True)
    path.write_bytes(space.SerializeToString())


def test_a_profile_by_hand(tmp_path):
    steps = [(STEP, 100, 40), (STEP, 200, 60)]
    one, several = NEXT_BATCH
    waits = [(one, 101, 5), (one, 201, 10), (several, 230, 5)]
    others = [(one, 150, 30), (several, 260, 30), ("Iterator::Root", 100, 40)]  # Such as validation's.
    written(tmp_path, *steps, *waits, *others)
    found = read_profile(tmp_path)
    assert found.batches == 3
    assert found.waiting == pytest.approx(20 / 100)
    assert found.step_seconds == pytest.approx(100e-12 / 3)
    assert recipe.waiting(tmp_path) == pytest.approx(20 / 100)


def test_steps_of_another_thread_are_told_by_their_own_clock(tmp_path):
    """Each line of a profile has a time of its own that its events are counted from."""
    written(tmp_path, (STEP, 100, 40), (NEXT_BATCH[0], 101, 10))
    (path,) = tmp_path.rglob("*.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    (line,) = [line for line in space.planes[0].lines if line.events[0].duration_ps == 10]
    line.timestamp_ns += 1  # A thousand picoseconds later, long after the step.
    path.write_bytes(space.SerializeToString())
    assert recipe.waiting(tmp_path) == 0


def test_the_latest_of_several_profiles_is_read(tmp_path):
    for name, wait in (("2026_01_01", 10), ("2026_01_03", 30), ("2026_01_02", 20)):
        written(tmp_path, (STEP, 100, 40), (NEXT_BATCH[0], 101, wait), day=name)
    assert recipe.waiting(tmp_path) == pytest.approx(30 / 40)


def test_what_is_no_profile_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_profile(tmp_path)
    written(tmp_path, (NEXT_BATCH[0], 100, 10))
    with pytest.raises(ValueError, match="no training step"):
        read_profile(tmp_path)
    next(tmp_path.rglob("*.pb")).write_bytes(b"torn off")
    with pytest.raises(ValueError, match="no profile, or a broken one"):
        read_profile(tmp_path)


def test_words_say_what_to_look_at_first():
    shares = {0.5: "input-bound: look at the feed", 0.1: "both", 0.01: "compute-bound, or the feed works"}
    for waiting, words in shares.items():
        said = Profile(20, 0.01, waiting).words()
        assert words in said
        assert said.startswith(f"{100 * waiting:.0f} % of a step's 10.0 ms")


class Read:
    """A feed of PNG files that counts how many were taken of it."""

    def __init__(self, count: int):
        self.files = list(encoded.read(sources.Request()).take(count).as_numpy_iterator())
        self.taken = 0

    def dataset(self) -> tf.data.Dataset:
        def files():
            for image, label in self.files:
                self.taken += 1
                yield image, label

        spec = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int64))
        return tf.data.Dataset.from_generator(files, output_signature=spec)


@pytest.mark.parametrize(("kind", "epochs"), [("naive", 3), ("cached", 1)])
def test_what_a_feed_does_again_in_each_epoch(kind, epochs):
    read = Read(30)
    found = list(experiment.build_feed(kind, read.dataset(), 10).take(9).as_numpy_iterator())
    assert {(images.dtype, images.shape) for images, _ in found} == {(np.dtype("uint8"), (10, 32, 32, 3))}
    assert read.taken == 30 * epochs
    firsts = {images.tobytes() for images, _ in found}
    assert len(firsts) == {"naive": 9, "cached": 3}[kind]


def test_a_ready_batch_is_read_once_and_is_always_the_first_one():
    read = Read(1000)
    plain = read.dataset().map(experiment.decode).batch(10)
    first = next(iter(plain))[0].numpy()
    read.taken = 0
    assert all(np.array_equal(images, first) for images, _ in recipe.ready(plain).take(9))
    assert read.taken < 90  # TensorFlow batches some ahead, and not once for each time that it is taken.


def test_all_feeds_yield_the_labels_in_the_same_order():
    files = encoded.read(sources.Request()).take(40)
    found = {
        kind: np.concatenate([labels for _, labels in experiment.build_feed(kind, files, 20).take(4)])
        for kind in ("naive", "overlapped", "cached")
    }
    assert (found["naive"] == found["overlapped"]).all()
    assert (found["naive"] == found["cached"]).all()


@pytest.mark.processes
def test_only_overlapped_works_ahead_by_whole_batches():
    ahead = {}
    for kind in ("naive", "overlapped"):
        read = Read(600)
        batches = iter(experiment.build_feed(kind, read.dataset(), 100))
        next(batches)
        deadline = time.monotonic() + (0.5 if kind == "naive" else 20)
        while time.monotonic() < deadline and read.taken < 200:  # A parallel map alone works a few images ahead.
            time.sleep(0.05)
        ahead[kind] = read.taken
    assert ahead["naive"] == 100
    assert ahead["overlapped"] >= 200


SLEEP = 0.06  # Seconds a batch: well above what a step of so small a model takes beside other work.


class Slow(keras.layers.Layer):
    def call(self, x):
        return tf.numpy_function(lambda x: (time.sleep(SLEEP), x)[1], [x], tf.float32)


@pytest.fixture(scope="module", params=["feed", "model"])
def slow(request, tmp_path_factory):
    """Where a slow feed, or a slow model, was profiled, and what was read."""
    images = tf.data.Dataset.from_tensor_slices((np.zeros((40, 4), np.float32), np.zeros(40, np.int32))).batch(4)
    if request.param == "feed":
        images = images.map(lambda x, y: (tf.ensure_shape(Slow()(x), (4, 4)), y))
    inputs = keras.Input((4,), batch_size=4)
    x = (
        keras.layers.Lambda(lambda x: tf.ensure_shape(Slow()(x), (4, 4)))(inputs)
        if request.param == "model"
        else inputs
    )
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    config = experiment.EXPERIMENT.config(images=40, batch_size=4, profiled=8)
    folder = tmp_path_factory.mktemp("profile")
    return request.param, folder, experiment.waiting(model, images.repeat(), folder, config), model, images


def test_a_slow_feed_is_told_from_a_slow_model(slow):
    which, folder, waiting, _, _ = slow
    found = read_profile(folder)
    assert found.batches == 8  # Those after the first epoch's ten, and none of these.
    assert found.step_seconds > SLEEP
    assert waiting == pytest.approx(found.waiting)
    assert waiting > 0.8 if which == "feed" else waiting < 0.2


@pytest.mark.variants
def test_ready_batches_save_the_time_of_a_slow_feed_and_not_that_of_a_slow_model(slow):
    which, _, _, model, images = slow
    saved = recipe.saved_by_ready_batches(model, images, steps=12)
    assert saved > 0.7 if which == "feed" else abs(saved) < 0.3


def test_the_profile_page_says_the_same(slow):
    """Xprof, which draws that page, reads the same file by code of its own."""
    from xprof.convert import raw_to_tool_data

    _, folder, waiting, _, _ = slow
    (path,) = map(str, folder.rglob("*.xplane.pb"))
    told, _ = raw_to_tool_data.xspace_to_tool_data([path], "overview_page", {})
    # In numbers: its sentence is about whatever it finds worth a word, which beside other work may be something else.
    (said,) = (part["p"] for part in json.loads(told) if "infeed_time_ms_avg" in part.get("p", {}))
    share = float(said["infeed_time_ms_avg"]) / float(said["steptime_ms_average"])
    assert share == pytest.approx(waiting, abs=0.05)


def test_metrics_by_hand():
    found = experiment.metrics(0.3, seconds=0.01, ready=0.004)
    assert found["step_seconds"] == 0.01
    assert found["saved"] == pytest.approx(0.6)
    assert found["unseen"] == pytest.approx(0.3)


@pytest.mark.processes
def test_keras_shows_no_activations_and_ten_lines_do(tmp_path):
    data = sources.load(sources.Request(train_images=200))
    assert experiment.kinds_shown("keras_board", data, tmp_path / "keras") == 4
    assert experiment.kinds_shown("whole_board", data, tmp_path / "whole") == 5


class Numbers(keras.layers.Layer):
    """Answers with the mean of an image in three places, of which a ReLU leaves two."""

    def call(self, x):
        mean = tf.reduce_mean(x, axis=[1, 2, 3])[:, None]
        return tf.nn.relu(tf.concat([mean, -mean, mean + 1], axis=1))


def test_activations_are_those_of_the_images_after_each_epoch(tmp_path):
    images = np.full((4, 2, 2, 3), 7, np.float32)
    inputs = keras.Input((2, 2, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(Numbers(name="numbers")(inputs)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, np.zeros(4), epochs=3, callbacks=[recipe.Activations(tmp_path, images)], verbose=0)
    shown = events(tmp_path / "activations").Tensors("numbers/activations")
    assert [event.step for event in shown] == [0, 1, 2]
    low, high, counts = tf.make_ndarray(shown[-1].tensor_proto).T
    assert (low[0], high[-1]) == (0, 8)
    assert counts.sum() == 12
    assert (counts[0], counts[-1]) == (4, 4)  # Zeros and eights; sevens lie in between.


@pytest.mark.parametrize("nested", [False, True])
def test_activations_of_a_sequential_model_and_of_one_with_a_model_inside(tmp_path, nested):
    inside = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="inner")])
    model = keras.Sequential([keras.Input((3,)), inside if nested else keras.layers.Dense(2), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.ones((4, 3), "float32")
    model.fit(images, np.zeros(4), callbacks=[recipe.Activations(tmp_path, images)], verbose=0)
    names = {tag.partition("/")[0] for tag in events(tmp_path / "activations").Tags()["tensors"]}
    assert names == {layer.name for layer in model.layers if layer is not inside}


def test_a_training_learns_and_leaves_curves_histograms_and_a_marked_profile(tmp_path):
    data = sources.load(sources.Request(train_images=2000))
    validation_set = batches.evaluation(data.validation)
    keras.utils.set_random_seed(1)
    model = recipe.train(batches.training(data.train, 50, seed=1), validation_set, 10, folder=tmp_path, epochs=2)
    assert model.evaluate(validation_set, verbose=0, return_dict=True)["accuracy"] > 0.17
    assert model.optimizer.iterations == 80
    assert 0 <= recipe.waiting(tmp_path) < 1
    assert read_profile(tmp_path).batches == 20  # From the eleventh to the thirtieth.
    shown = {tag for path in tmp_path.rglob("events.*") for tag in events(path.parent).Tags()["tensors"]}
    head = f"{model.layers[-1].name}/activations"
    assert {"epoch_loss", "epoch_accuracy", "epoch_learning_rate", head} <= shown


@pytest.mark.processes
def test_a_profiled_run_says_what_its_profile_says(tmp_path):
    command = [sys.executable, "-m", "recipes.sequential", "--budget", "smoke", "--profile"]
    command += ["--variants", "dense_65", "--logdir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "sequential").iterdir()
    words = words_in(folder / "dense_65")
    assert re.fullmatch(r"\d+ % of a step's [\d.]+ ms it waited for its batch \(\d+ batches\): .*\.", words)
    assert "".join(words.split()) in "".join(done.stdout.split())
    for run in (folder / "compare" / "dense_65", next((folder / "dense_65").glob("seed-*"))):
        (text,) = events(run).Tensors("profile")
        assert tf.make_ndarray(text.tensor_proto).item().decode() == words


def test_where_nothing_is_profiled_that_is_said(tmp_path, capsys):
    summary.say_profiled("dice", ["fair"], tmp_path, Console(width=200))
    assert "none: no `fit` of dice is watched" in capsys.readouterr().out


def test_without_the_extra_it_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    write_json(tmp_path / "fair" / "seed-1" / WORDS, {"words": "It waits."})
    monkeypatch.setattr(summary.importlib.util, "find_spec", lambda _: None)
    for markup in (True, False):  # A recipe's own console has none.
        summary.say_profiled("dice", ["fair"], tmp_path, Console(width=200, markup=markup))
        said = capsys.readouterr().out
        assert "fair: It waits." in said
        assert said.endswith("-e '.[profile]'\n")
