"""Each recipe does what it says: it converges at smoke, and a planted break is noticed."""

import importlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import cifar10
from recipes import functional_skip, input_pipeline, sequential, subclassed_routing
from recipes.harness import evidence
from recipes.harness.card import RESULTS
from recipes.harness.run import CHANCE, Run
from tests.conftest import evidence_in

NAMES = ["sequential", "functional_skip", "subclassed_routing", "input_pipeline", "search"]
MEAN, STD = np.full(3, 120, "float32"), np.full(3, 60, "float32")


def floors_of(name: str) -> dict:
    return evidence.read_json(RESULTS / name / "floors.json")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype("uint8")


@pytest.mark.parametrize("name", NAMES)
def test_at_smoke_every_variant_ends_above_its_floor(smoke, name):
    done, logs = smoke(name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    recipe = importlib.import_module(f"recipes.{name}").RECIPE
    for claim in recipe.claims:
        assert f"\n{claim.id}  {claim.text} [{claim.source}]: " in done.stdout
    found = evidence_in(logs)
    assert {record["variant"] for record in found["records"]} == set(recipe.names)
    accuracies = evidence.values_of(found["records"], recipe.floor)
    floors = floors_of(name)["floors"]
    assert set(accuracies) == set(floors)
    for variant, values in accuracies.items():
        assert values[1] >= floors[variant]["floor"], variant
    assert not any(record["metrics"].get("live_failed") for record in found["records"])
    assert list(logs.rglob("figure.png"))
    assert list(logs.rglob("events.out.tfevents.*"))


@pytest.mark.parametrize("name", NAMES)
def test_floors_come_from_the_recorded_distribution_of_this_code(name):
    found = floors_of(name)
    assert found["code"] == evidence.code_hash(f"recipes.{name}")
    for variant, floor in found["floors"].items():
        values = floor["values"]
        assert len(values) >= 10
        assert floor["floor"] == pytest.approx(np.mean(values) - 5 * np.std(values, ddof=1)), variant
    assert max(floor["floor"] for floor in found["floors"].values()) > 1.5 * CHANCE


# sequential


def is_linear(model: keras.Model, images: np.ndarray) -> bool:
    """Whether the logits of two images' mean are the mean of their logits: true of no model with a ReLU in it."""
    a, b = images[:32] // 2 * 2, images[32:] // 2 * 2
    logits = [np.asarray(model(x)) for x in (a, b, (a // 2 + b // 2))]
    return np.allclose((logits[0] + logits[1]) / 2, logits[2], atol=1e-3)


@pytest.mark.parametrize("variant", sequential.VARIANTS)
def test_the_linear_variants_are_linear_and_the_others_are_not(images, variant):
    model = sequential.build_model(variant, MEAN, STD)
    assert is_linear(model, images) == (variant in ("linear", "ten_linear"))


def test_an_activation_left_in_the_linear_variant_is_noticed(images, monkeypatch):
    left_in = lambda: [*LINEAR(), keras.layers.Dense(128, "relu")]  # noqa: E731
    LINEAR = sequential.VARIANTS["ten_linear"]  # noqa: N806
    monkeypatch.setitem(sequential.VARIANTS, "ten_linear", left_in)
    assert not is_linear(sequential.build_model("ten_linear", MEAN, STD), images)


def test_parameters_are_counted_as_keras_counts_them():
    for variant, sizes in {"dense_65": (3072, 65, 10), "dense_128_64": (3072, 128, 64, 10)}.items():
        model = sequential.build_model(variant, MEAN, STD)
        trained = sum(weight.shape.num_elements() for weight in model.trainable_weights)
        assert trained == sum(sequential.dense_parameters(*sizes))
    assert sum(sequential.dense_parameters(3072, 128, 64, 10)) == 402_250
    convnet = sequential.build_model("convnet", MEAN, STD)
    assert convnet.count_params() <= 402_250 / 4
    assert sequential.multiplications(convnet) == 15 * 15 * 27 * 24 + 5 * 5 * 9 * 24 * 64 + 256 * 10


# functional_skip


def passes_the_signal_on(variant: str, images: np.ndarray) -> bool:
    """Whether images still tell in the logits when all blocks' kernels are zero: only an addition carries them past."""
    model = functional_skip.build_model(variant, functional_skip.Config(), MEAN, STD)
    for layer in model.layers:
        if layer.name.startswith("convolution_") and layer.name != "convolution_00":
            layer.kernel.assign(tf.zeros_like(layer.kernel))
    return float(np.ptp(np.asarray(model(images)), axis=0).max()) > 1e-3


@pytest.mark.parametrize("variant", functional_skip.VARIANTS)
def test_residual_networks_pass_the_signal_on_and_plain_ones_do_not(images, variant):
    assert passes_the_signal_on(variant, images) == variant.startswith("residual")


def test_a_removed_skip_is_noticed(images, monkeypatch):
    class Forgetful(keras.layers.Layer):
        def call(self, both):
            return both[0]

    monkeypatch.setattr(functional_skip.layers, "Add", Forgetful)
    assert not passes_the_signal_on("residual_deep", images)


def test_plain_and_residual_networks_differ_by_the_additions_alone():
    for name in ("shallow", "middle_norm", "deep"):
        models = [
            functional_skip.build_model(f"{kind}_{name}", functional_skip.Config(), MEAN, STD)
            for kind in ("plain", "residual")
        ]
        kinds = [[type(layer).__name__ for layer in model.layers] for model in models]
        assert [kind for kind in kinds[1] if kind != "Add"] == kinds[0]
        assert models[0].count_params() == models[1].count_params()


def test_looking_at_gradients_changes_nothing():
    split = cifar10.load(cifar10.Request(train_images=1000)).train
    model = functional_skip.build_model("residual_shallow_norm", functional_skip.Config(), MEAN, STD)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [variable.numpy() for variable in model.variables]
    norms = functional_skip.gradient_norms(model, split)
    assert len(norms) == 3  # The first convolution and two in one block.
    assert all(norm > 0 for norm in norms)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True))


# subclassed_routing


@pytest.fixture(scope="module")
def routed(images):
    def build(gate: str) -> subclassed_routing.Routed:
        keras.utils.set_random_seed(1)
        model = subclassed_routing.Routed(gate, MEAN, STD**2)
        model(images[:1])
        return model

    return build


def deep_share(model, images: np.ndarray) -> float:
    """The share of images that the deep path answered: its head is made to shout."""
    model.deep.layers[-1].bias.assign(tf.fill([10], 1e6))
    return float((np.asarray(tf.function(model)(images))[:, 0] > 1e5).mean())


def obeys_its_threshold(model, images: np.ndarray) -> bool:
    features = model.stem(images)
    scores = np.asarray(model.score(features, model.shallow(features)))
    shares = []
    for threshold in (-1e9, float(np.median(scores)), 1e9):
        model.threshold.assign(threshold)
        shares.append(deep_share(model, images))
    slack = 0.2 if model.gate == "random" else 0.02  # Chance draws anew each time.
    return np.allclose(shares, [1.0, 0.5, 0.0], atol=slack)


@pytest.mark.parametrize("gate", ["variance", "confidence", "random"])
def test_a_gate_sends_as_many_images_deep_as_its_threshold_says(routed, images, gate):
    assert obeys_its_threshold(routed(gate), images)


def test_a_gate_that_is_stuck_open_is_noticed(routed, images, monkeypatch):
    model = routed("variance")
    monkeypatch.setattr(subclassed_routing.Routed, "score", lambda *_: tf.fill([len(images)], 1e10))
    assert not obeys_its_threshold(model, images)


def test_the_batch_gate_sends_whole_batches(routed, images):
    model = routed("batch_variance")
    middle = float(np.mean(model.score(model.stem(images), None)))
    for factor, share in ((0.5, 1.0), (2.0, 0.0)):
        model.threshold.assign(factor * middle)
        assert deep_share(model, images) == share


@pytest.mark.parametrize("gate", ["batch_variance", "variance", "confidence", "random"])
def test_every_gate_trains_in_a_graph_under_fit(routed, images, gate):
    model = routed(gate)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(images, np.arange(64) % 10, batch_size=16, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])


@pytest.mark.parametrize("gate", ["batch_variance", "variance", "confidence", "always_deep"])
def test_a_saved_model_predicts_the_same(routed, images, tmp_path, gate):
    model = routed(gate)
    features = model.stem(images)
    model.threshold.assign(float(np.median(model.score(features, model.shallow(features)))))
    model.save(tmp_path / "routed.keras")
    loaded = keras.models.load_model(tmp_path / "routed.keras")
    assert loaded.get_config()["gate"] == gate
    assert np.array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


# input_pipeline


@pytest.fixture
def rungs(tmp_path):
    config = input_pipeline.Config(images=300, batch_size=128)
    run = Run("naive", 1, cifar10.Request(), config, tmp_path, logging=False)

    def yielded(techniques) -> tuple[np.ndarray, np.ndarray]:
        feed = input_pipeline.build_feed(techniques, config, run)
        for _ in range(2):  # The second time from the cache, where there is one.
            batches = list(feed.as_numpy_iterator())
        return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))

    return yielded


def same(a, b) -> bool:
    return all(x.shape == y.shape and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_all_rungs_yield_the_same_images(rungs):
    naive = rungs(set())
    assert naive[0].shape == (300, 32, 32, 3)
    for name, techniques in itertools.islice(input_pipeline.LADDER.items(), 1, None):
        assert same(rungs(techniques), naive), name


def test_a_rung_that_drops_images_is_noticed(rungs, monkeypatch):
    real = tf.data.Dataset.prefetch
    naive = rungs(set())
    monkeypatch.setattr(tf.data.Dataset, "prefetch", lambda self, size: real(self.skip(1), size))
    assert not same(rungs({"prefetch"}), naive)


def test_the_rungs_augment(rungs):
    images, labels = rungs(set())
    encoded = input_pipeline.encoded.read(cifar10.Request()).take(300)
    plain = np.stack([tf.io.decode_png(image).numpy() for image, _ in encoded])
    assert list(labels) == [int(label) for _, label in encoded]
    unchanged = (images == plain).all(axis=(1, 2, 3)).mean()
    assert unchanged < 0.1


def test_waiting_is_the_time_before_a_batch_is_there():
    import time

    def slow(x):
        time.sleep(0.03)
        return x

    feed = tf.data.Dataset.range(4).map(lambda x: (tf.numpy_function(slow, [x], tf.int64),))
    waits, steps = input_pipeline.epoch(feed)
    assert len(waits) == 4
    assert all(0.02 < wait <= step for wait, step in zip(waits, steps, strict=True))
