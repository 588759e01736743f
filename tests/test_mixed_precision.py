"""Layers compute in the policy's type, weights stay in float32, and scaling saves what float16 would lose."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import sources
from recipes import mixed_precision as recipe
from recipes.harness import Run

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


def weight_after(small: float, *, scale: bool, master: str = "float32") -> float:
    """A weight of 1 after one step of SGD whose gradient, in float16, is `small`."""
    weight = keras.Variable(1.0, dtype=master)
    inner = keras.optimizers.SGD(1.0)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**15) if scale else inner
    optimizer.build([weight])
    with tf.GradientTape() as tape:
        half = tf.cast(weight.value, tf.float16)
        loss = tf.cast(half * tf.constant(1e-4, tf.float16), tf.float32) * (small / 1e-4)
        scaled = optimizer.scale_loss(loss)
    optimizer.apply([tape.gradient(scaled, weight.value)], [weight])
    return float(weight.numpy())


def test_a_small_update_underflows_and_scaling_and_float32_weights_save_it():
    # A gradient passes float16 on its way back: 1e-8 of it is nothing there, unless it was multiplied before.
    assert np.float16(1e-8) == 0
    assert weight_after(1e-5, scale=False, master="float16") == 1.0  # Below float16's next number to 1.
    assert weight_after(1e-5, scale=False) == pytest.approx(1 - 1e-5, abs=2e-6)
    (claim,) = [claim for claim in recipe.CLAIMS if claim.id == "S3"]
    assert claim.asserted is True


def test_gradients_of_float16_vanish_without_scaling():
    lost = {}
    for scale in (1.0, 2.0**15):
        x = tf.constant(1.0, tf.float16)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.cast(x, tf.float32) * 1e-8 * scale
        lost[scale] = float(tape.gradient(loss, x)) / scale
    assert lost[1.0] == 0
    assert lost[2.0**15] == pytest.approx(1e-8, rel=1e-2)


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
    config = recipe.Config(epochs=3, batch_size=25)
    scores = {}
    for variant in ("float32_small", "float32_loop_small"):
        (tmp_path / variant).mkdir()
        run = Run(variant, 1, REQUEST, config, tmp_path / variant)
        scores[variant] = recipe.train(variant, config, run, DATA)
        assert len(run.curves["val_accuracy"]) == 3
    assert scores["float32_small"]["test_accuracy"] == pytest.approx(
        scores["float32_loop_small"]["test_accuracy"], abs=0.01
    )
