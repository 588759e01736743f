"""Layers compute in the policy's type, weights stay in float32, and scaling saves what float16 would lose."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import sources
from recipes import mixed_precision as recipe
from recipes.harness import Run, memory_of

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
    assert model(IMAGES).dtype == tf.float32  # Logits.
    assert convolutions[0].filters == {"small": 16, "large": 32}[variant.rsplit("_", 1)[1]]
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert keras.config.dtype_policy().name == "float32"  # Nothing is left behind.


@pytest.mark.parametrize("policy", ["float32", "bfloat16", "float16"])
def test_the_loop_takes_the_step_that_fit_takes(policy):
    weights = {}
    for how in ("", "_loop"):
        keras.utils.set_random_seed(1)
        model = recipe.build_model(f"{policy}{how}_small", DATA)
        before = model.get_weights()
        if how:
            recipe.loop_step(model)(IMAGES, LABELS)
        else:
            model.train_on_batch(IMAGES, LABELS)
        weights[how] = [after - start for after, start in zip(model.get_weights(), before, strict=True)]
    for by_fit, by_hand in zip(weights[""], weights["_loop"], strict=True):
        assert np.abs(by_fit).max() > 0
        assert np.allclose(by_fit, by_hand, atol=1e-3 * np.abs(by_fit).max())


def weight_after(gradient: float, *, scale: bool, master: str = "float32") -> float:
    """A weight of 1 after one step at rate 10,000 whose gradient passes through float16 on its way back."""
    weight = keras.Variable(1.0, dtype=master)
    inner = keras.optimizers.SGD(1e4)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**15) if scale else inner
    optimizer.build([weight])
    with tf.GradientTape() as tape:
        half = tf.cast(weight.value, tf.float16)  # As a layer does under mixed_float16.
        loss = tf.cast(half, tf.float32) * gradient
        scaled = optimizer.scale_loss(loss)
    optimizer.apply([tape.gradient(scaled, weight.value)], [weight])
    return float(weight.numpy())


def test_a_small_update_underflows_and_scaling_and_float32_weights_save_it():
    assert weight_after(1e-8, scale=False) == 1.0  # The gradient is 0 in float16.
    assert weight_after(1e-8, scale=True) == pytest.approx(1 - 1e-4, abs=2e-6)
    assert weight_after(1e-8, scale=True, master="float16") == 1.0  # The update is too small for a float16 weight.
    (claim,) = [claim for claim in recipe.CLAIMS if claim.id == "S3"]
    assert claim.asserted is True


def test_the_fastest_policy_is_the_one_that_is(monkeypatch):
    class Slow:
        def __init__(self, seconds):
            self.seconds = seconds

        def train_on_batch(self, images, labels):
            end = recipe.time.perf_counter() + self.seconds
            while recipe.time.perf_counter() < end:
                pass

    for best in recipe.POLICIES.values():
        found = recipe.fastest_policy(
            lambda policy, best=best: Slow(0.002 if policy == best else 0.02), IMAGES, LABELS, 0.3
        )
        assert found == best


def test_the_fastest_policy_of_a_real_model_is_a_policy():
    names = {policy: f"{name}_small" for name, policy in recipe.POLICIES.items()}
    found = recipe.fastest_policy(lambda policy: recipe.build_model(names[policy], DATA), IMAGES, LABELS, 0.3)
    assert found in recipe.POLICIES.values()


def test_a_loop_and_fit_learn_alike(tmp_path):
    config = recipe.Config(epochs=3, batch_size=25, rate=0.02)
    scores = {}
    for variant in ("float32_small", "float32_loop_small"):
        (tmp_path / variant).mkdir()
        run = Run(variant, 1, REQUEST, config, tmp_path / variant)
        scores[variant] = recipe.train(variant, config, run, DATA)
        assert len(run.curves["val_accuracy"]) == 3
    assert scores["float32_small"]["test_accuracy"] == pytest.approx(
        scores["float32_loop_small"]["test_accuracy"], abs=0.01
    )


def test_steps_are_timed_and_memory_is_that_of_the_large_models(tmp_path):
    names = ("float32_loop_small", "float32_large")
    config = recipe.Config(epochs=1, batch_size=25, rounds=1, steps=12, memory_batch=64)
    runs = {}
    for name in names:
        (tmp_path / name).mkdir()
        runs[name] = Run(name, 1, REQUEST, config, tmp_path / name)
    found = recipe.compare(config, runs)
    for name in names:
        assert found[name]["log_time"] == pytest.approx(np.log(found[name]["step_ms"]))
        assert found[name]["step_ms"] > 0
        assert ("memory" in found[name]) == name.endswith("large")
    without = recipe.compare(recipe.Config(epochs=1, batch_size=25, rounds=0), fresh(tmp_path / "b", names[0]))
    assert "step_ms" not in without[names[0]]


def fresh(folder, name):
    folder.mkdir()
    return {name: Run(name, 1, REQUEST, recipe.Config(), folder)}


def test_memory_has_no_tracing_in_it():
    """A batch of one takes next to nothing, where a first step's tracing would take some 100 MiB."""
    size = [32, 32, 3], 10, [2, 3]
    one, many = (memory_of(recipe.build_step, "float32_large", count, *size) for count in (1, 256))
    assert one < 30
    assert many > one + 60


@pytest.mark.parametrize("variant", list(recipe.VARIANTS))
def test_a_step_is_one_of_the_variant(variant, monkeypatch):
    made = []
    build = recipe.build_model
    monkeypatch.setattr(recipe, "build_model", lambda *given: made.append(build(*given)) or made[-1])
    step = recipe.build_step(variant, 8, [32, 32, 3], 10)
    before = int(made[0].optimizer.iterations)
    step()
    assert int(made[0].optimizer.iterations) in (before, before + 1)  # A scale too high skips one.
    assert made[0].layers[2].compute_dtype == variant.split("_")[0]


def test_all_policies_of_a_size_have_the_rate_that_float32_was_tuned_to(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "RATES", {"float32_small": 0.011, "float32_large": 0.022})
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
        assert first == pytest.approx(0.022 if variant.endswith("large") else 0.011)
        assert last == pytest.approx(0, abs=1e-9)
