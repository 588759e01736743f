"""Layers compute in the policy's type, weights stay in float32, and scaling saves what float16 would lose."""

import contextlib
import types
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab import memory_of, together
from lab.experiments import mixed_precision as experiment
from pipelines import sources
from recipes import mixed_precision as recipe

REQUEST = sources.Request(train_images=500)
DATA = sources.load(REQUEST)
IMAGES, LABELS = tf.constant(DATA.train.images[:16]), tf.constant(DATA.train.labels[:16])
COMPUTES_IN = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def small_set() -> tf.data.Dataset:
    """A batch of 11 and one of 5."""
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(11)


def trained(policy, **settings) -> keras.Model:
    keras.utils.set_random_seed(1)
    return recipe.train(small_set(), small_set(), 10, policy, **{"epochs": 1, **settings})


@pytest.mark.variants
@pytest.mark.parametrize("policy", recipe.POLICIES)
def test_layers_compute_in_the_policys_type_and_keep_float32_weights(policy):
    model = trained(policy)
    compute = COMPUTES_IN.get(policy, "float32")
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [32, 64]
    for layer in convolutions:
        assert layer.compute_dtype == compute
        assert layer(tf.zeros((1, *layer.input.shape[1:]))).dtype == compute
        assert layer.kernel.dtype == "float32"
    head = model.layers[-1]
    assert (head.compute_dtype, head.kernel.dtype) == ("float32", "float32")  # Not computed in 16 bits and then cast.
    assert model(IMAGES).dtype == tf.float32
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    assert keras.config.dtype_policy().name == "float32"  # Nothing is left behind,


def test_a_policy_is_put_back_where_building_fails():
    with contextlib.suppress(RuntimeError), recipe.dtype_policy("mixed_float16"):
        assert keras.config.dtype_policy().name == "mixed_float16"
        raise RuntimeError
    assert keras.config.dtype_policy().name == "float32"


def test_without_a_policy_the_one_that_is_set_holds():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert trained(None).layers[2].compute_dtype == "bfloat16"
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.variants
def test_all_policies_train_about_the_same_model():
    start = trained("float32", rate=0.0).get_weights()
    moved = {}
    for policy in recipe.POLICIES:
        after = trained(policy, epochs=2, rate=0.01).get_weights()
        moved[policy] = np.concatenate([(one - begin).ravel() for one, begin in zip(after, start, strict=True)])
    whole = np.linalg.norm(moved["float32"])
    assert whole > 0.01
    assert np.linalg.norm(moved["mixed_bfloat16"] - moved["float32"]) < 0.2 * whole
    assert np.linalg.norm(moved["mixed_float16"] - moved["float32"]) < 0.05 * whole


def test_gradients_that_overflow_are_left_out_and_the_factor_is_halved():
    """A step whose loss was not scaled would not overflow."""
    with recipe.dtype_policy("mixed_float16"):
        model = recipe.compile_model(recipe.build_model(DATA.shape, 10), 0.01)
    model.optimizer.build(model.trainable_variables)
    model.optimizer.dynamic_scale.assign(2.0**40)
    before = model.get_weights()
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
    """Of 0.0000001, which is not zero in float16."""
    assert weight_after(1e-7, rate=1.0, master="float16") == 1.0
    assert 1 - 2e-7 < weight_after(1e-7, rate=1.0) < 1


def test_the_arithmetic_is_asserted():
    assert {claim.id: claim.asserted for claim in experiment.CLAIMS if claim.id.startswith("S3")} == {
        "S3a": True,
        "S3b": True,
    }


def test_the_sources_own_numbers_are_asked_for():
    """As share of float32's: a step's time of 0.71, 0.67 and 0.50, and memory of 0.55."""
    asked = {claim.id: np.exp(-claim.at_least) for claim in experiment.CLAIMS if claim.at_least}
    assert asked == pytest.approx({"S1h": 0.71, "S1i": 0.67, "S1j": 0.5, "S2c": 0.55, "S2d": 0.55}, abs=0.006)
    assert all(claim.lower for claim in experiment.CLAIMS if claim.at_least)


def place_of(path: str, how: str) -> list:
    """A saved model's optimizer as a new process finds it."""
    load = {"by_keras": keras.saving.load_model, "by_recipe": lambda path: recipe.load_trained(path, "mixed_float16")}
    optimizer = load[how](path).optimizer
    variables = [float(np.abs(keras.ops.convert_to_numpy(variable)).sum()) for variable in optimizer.variables]
    return [type(optimizer).__name__, int(optimizer.iterations), variables, keras.config.dtype_policy().name]


@pytest.mark.processes
def test_a_float16_model_is_restored_in_a_new_process_with_scale_momentum_and_step(tmp_path):
    """Keras issue 15709. Once plain loading restores them as well, the recipe need not say so any more."""
    model, path = trained("mixed_float16", epochs=2), str(tmp_path / "model.keras")
    model.save(path)
    variables = [float(np.abs(variable.numpy()).sum()) for variable in model.optimizer.variables]
    (found,), (plain,) = (together(place_of, path, how) for how in ("by_recipe", "by_keras"))
    assert found[:2] == ["LossScaleOptimizer", 4]
    assert found[2] == pytest.approx(variables)
    assert found[3] == "float32"
    assert plain[:2] == ["SGD", 0]


@pytest.mark.parametrize("best", recipe.POLICIES)
def test_the_fastest_policy_is_the_one_that_is(best, monkeypatch):
    build = clock(monkeypatch, {policy: 2.0 if policy == best else 3.0 for policy in recipe.POLICIES})
    assert recipe.fastest_policy(build, IMAGES, LABELS, 100.0) == best


def test_what_is_hardly_faster_is_no_reason_for_16_bits(monkeypatch):
    build = clock(monkeypatch, {"float32": 2.0, "mixed_bfloat16": 1.95, "mixed_float16": 3.0})
    assert recipe.fastest_policy(build, IMAGES, LABELS, 100.0) == "float32"


def test_a_hiccup_and_the_time_of_tracing_decide_nothing(monkeypatch):
    seconds = {"float32": 3.0, "mixed_bfloat16": 2.0, "mixed_float16": 4.0}
    build = clock(monkeypatch, seconds, odd={("mixed_bfloat16", 1): 1e3, ("mixed_bfloat16", 6): 1e3})
    assert recipe.fastest_policy(build, IMAGES, LABELS, 0.1) == "mixed_bfloat16"


def clock(monkeypatch, seconds, odd=None):
    """What builds models whose steps take so many seconds by a clock that nothing else moves."""
    now = [0.0]
    monkeypatch.setattr(recipe.time, "perf_counter", lambda: now[0])

    class Model:
        def __init__(self):
            self.policy, self.count = keras.config.dtype_policy().name, 0

        def train_on_batch(self, images, labels):
            self.count += 1
            now[0] += (odd or {}).get((self.policy, self.count), seconds[self.policy])

    return Model


@pytest.mark.processes
def test_a_real_model_is_tried_under_all_policies():
    seen = []

    def build():
        seen.append(keras.config.dtype_policy().name)
        return recipe.compile_model(recipe.build_model(DATA.shape, 10, filters=2), 0.01)

    assert recipe.fastest_policy(build, IMAGES, LABELS, seconds=0.0) in recipe.POLICIES
    assert tuple(seen) == recipe.POLICIES


def test_the_rate_ends_at_zero_and_a_schedule_is_taken_as_it_is():
    schedule = trained("float32", epochs=3, rate=0.02).optimizer._learning_rate
    assert float(schedule(0)) == pytest.approx(0.02)
    assert float(schedule(5)) > 0
    assert float(schedule(6)) == pytest.approx(0, abs=1e-9)  # Three epochs of two batches.
    mine = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert trained("float32", rate=mine).optimizer._learning_rate is mine


# What is measured


@pytest.mark.variants
@pytest.mark.parametrize("variant", experiment.VARIANTS)
def test_a_step_is_one_of_the_variant(variant, monkeypatch):
    made, compiled = [], recipe.compile_model
    monkeypatch.setattr(recipe, "compile_model", lambda *given: made.append(compiled(*given)) or made[-1])
    step = experiment.build_step(variant, 8, [32, 32, 3], 10)
    loss = float(np.ravel(step())[0])  # `train_on_batch` returns its metrics, too.
    assert 0 < loss < 100
    (model,) = made
    assert int(model.optimizer.iterations) == 1
    number, size = variant.split("_")
    assert model.layers[2].compute_dtype == number
    assert model.layers[2].filters == {"small": 16, "large": 32}[size]


@pytest.mark.variants
def test_a_variant_has_its_own_rate_time_and_memory(monkeypatch):
    names = tuple(experiment.VARIANTS)
    asked = {}

    class Blocks:
        def step_seconds(self, name):
            return 0.001 * (1 + names.index(name))

    def timed(steps, **settings):
        asked.update(settings, names=list(steps))
        return Blocks()

    def train(train_set, validation_set, classes, policy, *, rate, epochs, build_model, callbacks):
        assert (len(train_set), epochs, classes) == (20, 3, 10)
        assert sum(len(labels) for _, labels in validation_set) == len(DATA.validation)
        asked.setdefault("rates", []).append(rate)
        asked.setdefault("seeds", []).append(np.random.random())
        return policy, build_model(DATA.shape, classes).layers[2].filters

    fakes = {name: partial(train, **variant.keywords) for name, variant in experiment.VARIANTS.items()}
    monkeypatch.setattr(experiment, "VARIANTS", fakes)
    monkeypatch.setattr(experiment, "build_step", lambda *order: order)
    monkeypatch.setattr(experiment, "memory_of", lambda work, *order: 100.0 + names.index(order[0]))
    runs = {
        name: types.SimpleNamespace(
            seed=1, data=REQUEST, interleaved=timed, callbacks=lambda data: [], scores=lambda model, data: {"m": model}
        )
        for name in names
    }
    config = types.SimpleNamespace(batch_size=25, epochs=3, rate=None, steps=110, memory_batch=1024)
    found = experiment.compare(config, runs)
    assert asked["block"] == 110
    assert asked["names"] == list(names)
    assert asked["rates"] == list(experiment.RATES.values())
    assert len(set(asked["seeds"])) == 1  # All begin alike.
    for number, name in enumerate(names):
        kind, size = name.split("_")
        assert found[name]["m"] == (experiment.POLICIES[kind], {"small": 16, "large": 32}[size])
        assert found[name]["step_ms"] == pytest.approx(1 + number)
        assert np.exp(found[name]["log_time"]) == pytest.approx(1 + number)
        assert found[name].get("memory") == (100 + number if size == "large" else None)
    assert np.exp(found["bfloat16_large"]["log_memory"]) == pytest.approx(100 + names.index("bfloat16_large"))
    for rate in (0.5, 0.0):
        config.steps, config.rate = 0, rate  # As `tune` has it.
        assert "step_ms" not in experiment.compare(config, runs)["float32_small"]
        assert asked["rates"][-len(names) :] == [rate] * len(names)


@pytest.mark.processes
def test_memory_has_no_tracing_in_it():
    """A batch of one takes next to nothing, where a first step's tracing takes some 27 MiB."""
    size = [32, 32, 3], 10, [2, 3]
    one, many = (memory_of(experiment.build_step, "float32_large", count, *size) for count in (1, 256))
    assert one < 10
    assert many > one + 60
