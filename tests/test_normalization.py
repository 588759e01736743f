"""Normalizations stand where their names say, DyT is its formula, and the highest rate is the last that learned."""

import keras
import numpy as np
import pytest

from lab.experiments import normalization as experiment
from pipelines import batches, sources
from recipes import normalization as recipe

DATA = sources.load(sources.Request(train_images=500))
SHAPE = (32, 32, 3)
KINDS = {
    "batch": "BatchNormalization",
    "layer": "LayerNormalization",
    "group": "GroupNormalization",
    "dyt": "DyT",
    "none": "Identity",
}


# The recipe


def test_dyt_is_its_formula():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    layer = recipe.DyT(0.7)
    assert np.asarray(layer(x)) == pytest.approx(np.tanh(0.7 * x), abs=1e-6)
    scale, shift = np.arange(5.0), np.arange(5.0) - 2
    layer.set_weights([np.array(2.0), scale, shift])
    assert np.asarray(layer(x)) == pytest.approx(scale * np.tanh(2.0 * x) + shift, abs=1e-5)


def test_dyt_that_was_saved_keeps_its_first_factor():
    again = recipe.DyT.from_config(recipe.DyT(0.7).get_config())
    again.build((None, 5))
    assert float(again.get_weights()[0]) == pytest.approx(0.7)


@pytest.mark.parametrize(("kind", "name"), KINDS.items())
def test_each_normalization_is_the_one_of_its_name(kind, name):
    assert type(recipe.normalization(kind)).__name__ == name


def test_settings_reach_the_normalization():
    assert recipe.normalization("batch", momentum=0.3).momentum == 0.3
    assert recipe.normalization("dyt", alpha=0.3).first_alpha == 0.3
    with pytest.raises(ValueError, match="unknown normalization 'instance': use batch, layer, group, dyt or none"):
        recipe.normalization("instance")
    model = recipe.build_model(SHAPE, 10, kind="batch", momentum=0.3, depth=2)
    assert [one.momentum for one in model.layers if isinstance(one, keras.layers.BatchNormalization)] == [0.3] * 3


def order_of(place) -> list[str]:
    """The layers of two blocks, in the order of a path through the branches."""
    model = recipe.build_model(SHAPE, 10, kind="layer", place=place, depth=2)
    wanted = ("LayerNormalization", "Conv2D", "DepthwiseConv2D", "Add")
    kinds = [type(layer).__name__ for layer in model.layers]
    return [kind for kind in kinds[kinds.index("Conv2D") + 1 :] if kind in wanted]


def test_normalizations_stand_where_the_place_says():
    norm, branch, add = "LayerNormalization", ["Conv2D", "Conv2D"], "Add"
    assert order_of("pre") == 2 * [norm, *branch, add] + [norm]
    assert order_of("post") == 2 * [*branch, add, norm]
    assert order_of("rezero") == 2 * [*branch, "DepthwiseConv2D", add]


def test_branches_that_begin_at_zero_change_nothing_until_they_are_trained():
    keras.utils.set_random_seed(1)
    x = keras.Input((8, 8, 4))
    block = keras.Model(x, recipe.residual_block(x, keras.layers.Identity, "rezero"))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    assert np.asarray(block(images)) == pytest.approx(images)
    block.compile(keras.optimizers.SGD(0.1), "mse")
    block.fit(images, 2 * images, epochs=2, verbose=0)
    assert np.abs(np.asarray(block(images)) - images).max() > 1e-3


def test_the_depth_is_the_number_of_blocks():
    for depth in (1, 4):
        model = recipe.build_model(SHAPE, 10, depth=depth)
        assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == depth


def test_a_rate_is_the_peak_of_a_schedule_that_ends_at_zero(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: None)
    feed = batches.training(DATA.train, 50, seed=1, augment=False)
    build_model = experiment.partial(recipe.build_model, depth=1)
    schedule = recipe.train(feed, None, 10, rate=0.2, epochs=3, build_model=build_model).optimizer._learning_rate
    assert [float(schedule(step)) for step in (6, 30)] == pytest.approx([0.2, 0.0], abs=1e-6)


@pytest.mark.processes
def test_a_short_training_is_as_good_at_inference_as_while_it_trains():
    """BatchNorm's averages have caught up. With a momentum of 0.999 this model ends at half of the accuracy."""
    keras.utils.set_random_seed(1)
    seen = keras.callbacks.History()
    build_model = experiment.partial(recipe.build_model, depth=2)
    feed = batches.training(DATA.train, 20, seed=1, augment=False)
    model = recipe.train(feed, None, 10, epochs=6, build_model=build_model, callbacks=[seen])
    ended = model.evaluate(batches.evaluation(DATA.train), verbose=0)[1]
    assert ended > seen.history["accuracy"][-1] - 0.08 > 0.2


# The experiment


def test_each_variant_has_the_network_and_rate_of_its_name():
    for name in experiment.TUNED:
        variant = experiment.VARIANTS[name]
        assert variant.keywords["rate"] == experiment.RATES[name]
        if name == "dyt":
            assert variant.func is experiment.with_dyt
            continue
        settings = variant.keywords["build_model"].keywords
        place, _, depth = name.partition("_")
        if place in ("pre", "post", "rezero"):
            assert settings.get("place", "pre") == place
            assert settings.get("depth", 6) == int(depth)
            assert settings["kind"] == ("none" if place == "rezero" else "layer")
        else:
            assert (settings["kind"], settings.get("depth", 6)) == (place, int(depth or 6))
    for name, variant in experiment.FEW.items():
        settings = variant.keywords["build_model"].keywords
        assert settings == {"kind": "batch", "momentum": int(name[-2:]) / 100}
        own = experiment.EXPERIMENT.own_flags[name]
        small = {"images": 1000, "batch_size": 8}
        assert (own, variant.keywords["epochs"]) == (({"images": 2000}, 5) if "short" in name else (small, 10))


def test_dyts_first_factor_reaches_the_network(monkeypatch):
    given = {}
    monkeypatch.setattr(recipe, "train", lambda *_, **how: given.update(how))
    experiment.with_dyt(None, None, 10, alpha=0.3, rate=0.2)
    assert given["rate"] == 0.2
    assert given["build_model"].keywords == {"kind": "dyt", "alpha": 0.3}


def test_the_highest_rate_is_that_of_the_last_that_learned(monkeypatch):
    tried = []

    class Model:
        def evaluate(self, *_, **__):
            return [0.0, 0.3 if len(tried) in (1, 5) else 0.12]

    def train(train_set, validation_set, classes, *, rate, epochs, build_model):
        tried.append((float(rate(0)), float(rate(1000))))
        assert build_model.keywords == {"kind": "layer", "place": "post", "depth": 16}
        return Model()

    monkeypatch.setattr(recipe, "train", train)
    found = experiment.highest_rate(None, None, 10, place="post", kind="layer", seed=301)
    wanted = [2.0**power for power in experiment.POWERS]
    assert tried == [pytest.approx((rate, rate)) for rate in wanted]
    assert found == {"log_rate": pytest.approx(np.log10(wanted[4]))}


def test_all_rates_are_tried_on_the_runs_images():
    given = []

    def bound(train_set, validation_set, classes, seed):
        given.append((len(train_set), train_set.element_spec[0].shape[0], classes, seed))
        return {"log_rate": -1.0}

    run = type("Run", (), {"seed": 301, "data": sources.Request(train_images=500), "bound": staticmethod(bound)})
    config = experiment.EXPERIMENT.config(images=200, batch_size=20)
    assert experiment.done("rates_of_pre", config, run) == {"log_rate": -1.0}
    assert given == [(10, 20, 10, 301)]


def test_jumps_are_mean_changes_from_epoch_to_epoch():
    run = type("Run", (), {"curves": {"val_accuracy": [0.1, 0.4, 0.3]}, "variant": "short_momentum_99"})
    assert experiment.jump(None, run, DATA) == {"jump": pytest.approx(0.2)}
    run.variant = "batch"
    assert experiment.jump(None, run, DATA) == {}
