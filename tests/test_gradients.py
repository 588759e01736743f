"""What is done to gradients is what the variant's name says, and every step is noted."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab import Run
from pipelines import sources
from recipes import gradients as recipe

REQUEST = sources.Request(train_images=500)
DATA = sources.load(REQUEST)
CONFIG = recipe.Config(epochs=2, batch_size=50)


COMPILE = recipe.Treated.compile


def treated(variant: str, norm: float = 8.0, step: int = 0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of a given norm, before and after, each one long vector."""
    keras.utils.set_random_seed(0)
    model = recipe.build_model(variant, DATA)
    model.prepare(variant, recipe.threshold(variant, CONFIG), 10, seed)
    draws = [tf.random.stateless_normal(w.shape, (i, 7)) for i, w in enumerate(model.trainable_variables)]
    factor = norm / tf.linalg.global_norm(draws)
    before = [factor * draw for draw in draws]
    after = model.treat(before, tf.constant(norm), tf.constant(step))
    return tuple(np.concatenate([np.ravel(g) for g in found]) for found in (before, after))


@pytest.mark.parametrize("variant", ["plain", "high", "lower_rate"])
def test_these_change_nothing(variant):
    before, after = treated(variant, norm=1000.0)
    assert np.array_equal(before, after)


@pytest.mark.parametrize("variant", ["clipped", "high_clipped", "clipped_often"])
def test_clipping_shortens_what_is_too_long_and_nothing_else(variant):
    limit = {"clipped": 2.7, "clipped_often": 0.8, "high_clipped": 0.16}[variant]
    before, after = treated(variant, norm=3 * limit)
    assert np.linalg.norm(after) == pytest.approx(limit, rel=1e-4)
    assert np.allclose(after * 3, before, rtol=1e-4)  # The direction stays.
    before, after = treated(variant, norm=limit / 2)
    assert np.array_equal(before, after)


@pytest.mark.parametrize("variant", list(recipe.NOISE))
def test_noise_is_as_strong_as_said_and_fades(variant):
    for step in (0, 100):
        before, after = treated(variant, step=step)
        noise = after - before
        assert np.linalg.norm(noise) / 8.0 == pytest.approx(recipe.NOISE[variant] * (1 + step) ** -0.275, rel=0.05)
        assert abs(noise @ before) < 0.05 * np.linalg.norm(noise) * np.linalg.norm(before)
    first, other_step, other_seed = (treated(variant, **to)[1] for to in ({}, {"step": 1}, {"seed": 2}))
    assert np.array_equal(first, treated(variant)[1])
    assert abs(np.corrcoef(first - before, other_step - before)[0, 1]) < 0.02
    assert not np.allclose(first, other_seed)


def test_a_training_draws_its_noise_by_its_seed_and_anew_at_each_step(monkeypatch):
    """As `fit` has it: the seed that it hands on, and the steps that the optimizer counts."""
    treated_at, treat = [], recipe.Treated.treat

    def noting(model, gradients, norm, step):
        ones = [tf.ones_like(gradient) for gradient in gradients]
        after = treat(model, ones, norm, step)
        treated_at.append((int(step), np.concatenate([np.ravel(g - 1) for g in after])))
        return gradients

    monkeypatch.setattr(recipe.Treated, "treat", noting)
    monkeypatch.setattr(recipe.Treated, "compile", functools.partialmethod(COMPILE, run_eagerly=True))
    few = dataclasses.replace(DATA, train=DATA.train.take(np.arange(150)))
    for seed in (1, 2):
        recipe.fit("noise", recipe.Config(epochs=1, batch_size=50), few, seed, rate=0.01)
    assert [step for step, _ in treated_at] == [0, 1, 2, 0, 1, 2]
    noises = [noise / np.linalg.norm(noise) for _, noise in treated_at]
    alike = np.abs(np.array(noises) @ np.array(noises).T - np.eye(6))
    assert alike.max() < 0.05


def test_each_layer_has_a_rate_of_its_own():
    before, after = treated("layer_rates")
    model = recipe.build_model("layer_rates", DATA)
    sizes = [int(np.prod(weight.shape)) for weight in model.trainable_variables]
    ends = np.cumsum(sizes)[:-1]
    factors = [np.mean(a / b) for a, b in zip(np.split(after, ends), np.split(before, ends), strict=True)]
    assert factors == pytest.approx([0.343, 0.343, 0.49, 0.49, 0.7, 0.7, 1.0, 1.0], rel=1e-3)


def test_norms_and_lengths_of_every_step_are_noted():
    for variant in ("plain", "clipped_often"):
        _, noted = recipe.fit(variant, CONFIG, DATA, seed=1, rate=0.05)
        norm, length = noted.T
        assert noted.shape == (20, 2)
        assert (norm > 0).all()
        rate = 0.05 * (1 + np.cos(np.pi * np.arange(20) / 20)) / 2
        assert length == pytest.approx(rate * np.minimum(norm, recipe.threshold(variant, CONFIG)), rel=1e-3)


@pytest.fixture
def rates(monkeypatch) -> dict[str, float]:
    """The rate that each variant was trained at, once it has been."""
    found, real = {}, recipe.fit

    def noting(variant, config, data, seed, rate, **settings):
        found[variant] = rate
        return real(variant, config, data, seed, rate, **settings)

    monkeypatch.setattr(recipe, "fit", noting)
    return found


def trained(variant: str, config: recipe.Config, folder) -> tuple[Run, dict[str, float]]:
    (folder / variant).mkdir()
    run = Run(variant, 1, REQUEST, config, folder / variant)
    return run, recipe.train(variant, config, run)


def test_the_lower_rate_takes_steps_as_long_as_clipping_does(tmp_path, rates):
    often = trained("clipped_often", CONFIG, tmp_path)[1]
    lower = trained("lower_rate", CONFIG, tmp_path)[1]
    assert often["clipped"] > 0.5
    assert lower["clipped"] == 0
    assert rates["lower_rate"] < 0.6 * rates["clipped_often"]
    assert 0.85 < lower["step_length"] / often["step_length"] < 1.15


def test_rates_are_the_variants_own(tmp_path, monkeypatch):
    found = {}

    def noting(variant, config, data, seed, rate, **settings):
        found[variant] = rate
        raise InterruptedError

    monkeypatch.setattr(recipe, "fit", noting)
    for variant in ("plain", "clipped", "high_clipped", "layer_rates"):
        with pytest.raises(InterruptedError):
            recipe.train(variant, CONFIG, Run(variant, 1, REQUEST, CONFIG, tmp_path))
    assert found["clipped"] == found["plain"] == recipe.RATES["plain"]
    assert found["layer_rates"] == recipe.RATES["layer_rates"] != found["plain"]
    assert found["high_clipped"] == CONFIG.high_rate > 5 * found["plain"]


def test_the_shares_of_steps_by_their_norms_are_kept(tmp_path):
    run, _ = trained("plain", recipe.Config(epochs=1, batch_size=50), tmp_path)
    assert sum(run.curves["share_of_steps"]) == pytest.approx(1.0)
    assert len(run.curves["norm"]) == len(run.curves["share_of_steps"]) == 40


def test_a_model_that_treats_gradients_can_be_saved(tmp_path):
    model, _ = recipe.fit("noise", CONFIG, DATA, seed=1, rate=0.01)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert np.allclose(again.predict(DATA.test.images[:8], verbose=0), model.predict(DATA.test.images[:8], verbose=0))
