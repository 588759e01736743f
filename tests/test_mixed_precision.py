"""Layers compute in the policy's type, weights stay in float32, and scaling saves what float16 would lose."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab import Run, memory_of
from lab.experiments import mixed_precision as experiment
from pipelines import sources
from recipes import mixed_precision as recipe

REQUEST = sources.Request(train_images=500)
DATA = sources.load(REQUEST)
IMAGES, LABELS = tf.constant(DATA.train.images[:16]), tf.constant(DATA.train.labels[:16])


@pytest.mark.parametrize("variant", list(recipe.VARIANTS))
def test_layers_compute_in_the_policys_type_and_keep_float32_weights(variant):
    model = recipe.build_model(variant, DATA)
    policy = recipe.VARIANTS[variant].policy
    compute = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}.get(policy, "float32")
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 2
    for layer in convolutions:
        assert layer.compute_dtype == compute
        assert layer(tf.zeros((1, *layer.input.shape[1:]))).dtype == compute
        assert layer.kernel.dtype == "float32"
    head = model.layers[-1]
    assert (head.compute_dtype, head.kernel.dtype) == ("float32", "float32")  # Not computed in 16 bits and then cast.
    assert model(IMAGES).dtype == tf.float32
    assert convolutions[0].filters == {"small": 16, "large": 32}[variant.rsplit("_", 1)[1]]
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert keras.config.dtype_policy().name == "float32"  # Nothing is left behind.


@pytest.mark.parametrize("policy", ["float32", "bfloat16", "float16"])
def test_the_loop_takes_the_step_that_fit_takes(policy):
    weights, metrics = {}, {}
    for how in ("", "_loop"):
        keras.utils.set_random_seed(1)
        model = recipe.build_model(f"{policy}{how}_small", DATA)
        before = model.get_weights()
        feed = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(11)  # The last one holds five.
        if how:
            step = recipe.loop_step(model)
            for images, labels in feed:
                step(images, labels)
        else:
            model.fit(feed, verbose=0, shuffle=False)
        weights[how] = [after - start for after, start in zip(model.get_weights(), before, strict=True)]
        metrics[how] = {name: float(value) for name, value in model.get_metrics_result().items()}
        assert int(model.optimizer.iterations) == 2
    assert metrics["_loop"] == pytest.approx(metrics[""], rel=1e-3)
    for by_fit, by_hand in zip(weights[""], weights["_loop"], strict=True):
        assert np.abs(by_fit).max() > 0
        assert np.allclose(by_fit, by_hand, atol=1e-3 * np.abs(by_fit).max())


@pytest.mark.parametrize("variant", ["float16_small", "float16_loop_small"])
def test_gradients_that_overflow_are_left_out_and_the_factor_is_halved(variant):
    """A step whose loss was not scaled would not overflow."""
    model = recipe.build_model(variant, DATA)
    model.optimizer.dynamic_scale.assign(2.0**40)
    before = model.get_weights()
    if "loop" in variant:
        recipe.loop_step(model)(IMAGES, LABELS)
    else:
        model.train_on_batch(IMAGES, LABELS)
    assert float(model.optimizer.dynamic_scale) == 2.0**39
    for start, after in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(start, after)


def weight_after(gradient: float, *, rate: float, scale: bool = False, master: str = "float32") -> float:
    """A weight of 1 after one step whose gradient passes through float16 on its way back."""
    weight = keras.Variable(1.0, dtype=master)
    inner = keras.optimizers.SGD(rate)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**15) if scale else inner
    optimizer.build([weight])
    with tf.GradientTape() as tape:
        half = tf.cast(weight.value, tf.float16)  # As a layer does under mixed_float16.
        loss = tf.cast(half, tf.float32) * gradient
        scaled = optimizer.scale_loss(loss)
    optimizer.apply([tape.gradient(scaled, weight.value)], [weight])
    return float(weight.numpy())


def test_scaling_saves_a_gradient_that_underflows():
    assert weight_after(1e-8, rate=1e4) == 1.0  # The gradient is 0 in float16.
    assert weight_after(1e-8, rate=1e4, scale=True) == pytest.approx(1 - 1e-4, abs=2e-6)


def test_a_float32_weight_saves_an_update_that_a_float16_weight_would_lose():
    assert weight_after(1e-4, rate=1.0, master="float16") == 1.0
    assert weight_after(1e-4, rate=1.0) == pytest.approx(1 - 1e-4, abs=2e-6)


def test_the_arithmetic_is_asserted():
    (claim,) = [claim for claim in experiment.CLAIMS if claim.id == "S3"]
    assert claim.asserted is True


@pytest.mark.parametrize("best", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_fastest_policy_is_the_one_that_is(best, monkeypatch):
    steps = clock(monkeypatch, {policy: 2.0 if policy == best else 3.0 for policy in recipe.POLICIES.values()})
    assert recipe.fastest_policy(steps, IMAGES, LABELS, 100.0) == best


def test_what_is_hardly_faster_is_no_reason_for_16_bits(monkeypatch):
    steps = clock(monkeypatch, {"float32": 2.0, "mixed_bfloat16": 1.95, "mixed_float16": 3.0})
    assert recipe.fastest_policy(steps, IMAGES, LABELS, 100.0) == "float32"


def test_a_hiccup_and_the_time_of_tracing_decide_nothing(monkeypatch):
    seconds = {"float32": 3.0, "mixed_bfloat16": 2.0, "mixed_float16": 4.0}
    steps = clock(monkeypatch, seconds, odd={("mixed_bfloat16", 1): 1e3, ("mixed_bfloat16", 6): 1e3})
    assert recipe.fastest_policy(steps, IMAGES, LABELS, 0.1) == "mixed_bfloat16"


def clock(monkeypatch, seconds, odd=None):
    """What builds models whose steps take so many seconds by a clock that nothing else moves."""
    now = [0.0]
    monkeypatch.setattr(recipe.time, "perf_counter", lambda: now[0])

    class Model:
        def __init__(self, policy):
            self.policy, self.count = policy, 0

        def train_on_batch(self, images, labels):
            self.count += 1
            now[0] += (odd or {}).get((self.policy, self.count), seconds[self.policy])

    return Model


@pytest.fixture
def runs(tmp_path):
    def of(*variants, **fields):
        config = recipe.Config(**{"epochs": 1, "batch_size": 25, "steps": 0, **fields})
        found = {name: Run(name, 1, REQUEST, config, tmp_path / name) for name in variants}
        for run in found.values():
            run.folder.mkdir()
        return config, found

    return of


def test_a_loop_and_fit_learn_alike(runs):
    config, both = runs("float32_small", "float32_loop_small", epochs=3, rate=0.02)
    scores = experiment.compare(config, both)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert len(both["float32_small"].curves[name]) == 3
        assert both["float32_small"].curves[name] == pytest.approx(both["float32_loop_small"].curves[name], abs=0.02)
    assert scores["float32_small"]["test_accuracy"] == pytest.approx(
        scores["float32_loop_small"]["test_accuracy"], abs=0.01
    )
    assert "step_ms" not in scores["float32_small"]


def test_a_variant_has_its_own_time_and_the_large_ones_their_own_memory(runs, monkeypatch):
    names = ("float32_small", "float32_large", "bfloat16_large", "float32_loop_small")
    config, several = runs(*names, steps=110)
    asked = {}

    class Blocks:
        def step_seconds(self, name):
            return 0.001 * (1 + names.index(name))

    def timed(steps, **settings):
        asked.update(settings, names=list(steps))
        return Blocks()

    monkeypatch.setattr(recipe, "train", lambda variant, *_: {"test_accuracy": 0.5})
    monkeypatch.setattr(experiment, "build_step", lambda *order: order)
    next(iter(several.values())).interleaved = timed
    monkeypatch.setattr(experiment, "memory_of", lambda work, *order: 100.0 + names.index(order[0]))
    found = experiment.compare(config, several)
    assert asked == {"block": 110, "names": list(names)}
    assert [found[name]["step_ms"] for name in names] == pytest.approx([1, 2, 3, 4])
    assert [np.exp(found[name]["log_time"]) for name in names] == pytest.approx([1, 2, 3, 4])
    assert [found[name].get("memory") for name in names] == [None, 101, 102, None]
    assert np.exp(found["bfloat16_large"]["log_memory"]) == pytest.approx(102)


@pytest.mark.processes
def test_memory_has_no_tracing_in_it():
    """A batch of one takes next to nothing, where a first step's tracing takes some 27 MiB."""
    size = [32, 32, 3], 10, [2, 3]
    one, many = (memory_of(experiment.build_step, "float32_large", count, *size) for count in (1, 256))
    assert one < 10
    assert many > one + 60


@pytest.mark.parametrize("variant", list(recipe.VARIANTS))
def test_a_step_is_one_of_the_variant(variant, monkeypatch):
    made, by_hand = [], []
    build, loop = recipe.build_model, recipe.loop_step
    monkeypatch.setattr(recipe, "build_model", lambda *given: made.append(build(*given)) or made[-1])
    monkeypatch.setattr(recipe, "loop_step", lambda model: by_hand.append(model) or loop(model))
    step = experiment.build_step(variant, 8, [32, 32, 3], 10)
    loss = float(np.ravel(step())[0])  # `train_on_batch` returns its metrics, too.
    assert 0 < loss < 100
    assert int(made[0].optimizer.iterations) == 1
    assert made[0].layers[2].compute_dtype == variant.split("_")[0]
    assert by_hand == (made if "loop" in variant else [])


def test_a_variant_trains_at_the_rate_that_its_policy_was_tuned_to(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "RATES", {name: 0.01 * (1 + i) for i, name in enumerate(recipe.RATES)})
    given = {}

    class BuiltError(Exception):
        pass

    def build(variant, data, rate):
        given[variant] = float(rate(0)), float(rate(10**6))
        raise BuiltError

    monkeypatch.setattr(recipe, "build_model", build)
    for variant in recipe.VARIANTS:
        with pytest.raises(BuiltError):
            recipe.train(variant, recipe.Config(), Run(variant, 1, REQUEST, None, tmp_path), DATA)
    for variant, (first, last) in given.items():
        assert first == pytest.approx(recipe.RATES[variant.replace("_loop", "")])
        assert last == pytest.approx(0, abs=1e-9)
