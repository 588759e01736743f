"""Normalizations stand where their names say, DyT is its formula, and the highest rate is the last that trains well."""

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


@pytest.mark.parametrize("rate", [0.2, 1])
def test_a_rate_is_the_peak_of_a_schedule_that_ends_at_zero(monkeypatch, rate):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: None)
    feed = batches.training(DATA.train, 50, seed=1, augment=False)
    build_model = experiment.partial(recipe.build_model, depth=1)
    schedule = recipe.train(feed, None, 10, rate=rate, epochs=3, build_model=build_model).optimizer._learning_rate
    assert [float(schedule(step)) for step in (6, 30)] == pytest.approx([rate, 0.0], abs=1e-6)


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
    for name, settings in experiment.NETWORKS.items():
        variant = experiment.VARIANTS[name]
        assert variant.keywords["rate"] == experiment.RATES[name]
        assert variant.keywords["build_model"].keywords == settings
        place, _, depth = name.partition("_")
        assert settings.get("depth", 6) == int(depth or 6)
        if place in ("pre", "post", "rezero"):
            assert settings.get("place", "pre") == place
            assert settings["kind"] == ("none" if place == "rezero" else "layer")
        else:
            assert (settings["kind"], settings.get("place", "pre")) == (place, "pre")


@pytest.mark.parametrize(("name", "depth"), [("dyt_2", 2), ("dyt", 6), ("dyt_16", 16)])
def test_dyts_first_factor_and_depth_reach_the_network(monkeypatch, name, depth):
    given = {}
    monkeypatch.setattr(recipe, "train", lambda *_, **how: given.update(how))
    experiment.VARIANTS[name](None, None, 10, alpha=0.3, rate=0.2, epochs=7)
    assert (given["rate"], given["epochs"]) == (0.2, 7)
    assert given["build_model"].keywords == {"kind": "dyt", "alpha": 0.3, "depth": depth}
    assert experiment.EXPERIMENT.tuning.second[name][0] == "alpha"


@pytest.mark.parametrize("name", experiment.FEW)
def test_momenta_are_compared_at_one_rate_that_does_not_decay(monkeypatch, name):
    given = {}
    monkeypatch.setattr(recipe, "train", lambda *_, **how: given.update(how))
    experiment.VARIANTS[name](None, None, 10, rate=0.2)
    assert [float(given["rate"](step)) for step in (0, 5, 10_000)] == pytest.approx([0.2] * 3)
    assert given["build_model"].keywords == {"kind": "batch", "momentum": int(name[-2:]) / 100}
    assert given["epochs"] == 10
    small = {"images": 1000, "batch_size": 8}
    assert experiment.EXPERIMENT.own_flags[name] == (small if name.startswith("small") else {"images": 1000})


def test_every_training_at_one_rate_is_tuned():
    assert set(experiment.EXPERIMENT.tuning.grids) == set(experiment.VARIANTS) - set(experiment.SWEPT)
    for name, rate in experiment.RATES.items():
        assert experiment.VARIANTS[name].keywords["rate"] == rate


def test_every_variant_serves_a_claim_or_the_figure():
    shown = {name for panel in experiment.EXPERIMENT.panels for name in panel.variants}
    assert set(experiment.VARIANTS) == shown | {name for claim in experiment.CLAIMS for name in claim.variants}


@pytest.mark.parametrize(
    ("accuracies", "wanted"),
    [
        ((0.2, 0.4, 0.3, 0.24), 3),  # Halfway from 0.1 to 0.4 is 0.25.
        ((0.2, 0.4, 0.3, 0.25), 4),
        ((0.2, 0.4, 0.1, 0.3), 4),  # What fails in between does not count.
        ((0.4, 0.2, 0.2, 0.1), 1),
        ((0.1, 0.12, 0.11, 0.12), 1),  # Nothing trains.
    ],
)
def test_the_highest_rate_brings_half_of_what_the_best_one_brings(accuracies, wanted):
    assert experiment.highest(dict(zip((1, 2, 3, 4), accuracies, strict=True)), 0.1) == wanted
    assert experiment.highest({1: 0.6, 2: 0.7, 3: 0.59}, 0.5) == 1, "with two classes"


def test_all_rates_are_tried_from_the_first_step_on(monkeypatch):
    tried = []

    class Model:
        def evaluate(self, *_, **__):
            return [0.0, {3: 0.4, 5: 0.3}.get(len(tried), 0.22)]

    def train(train_set, validation_set, classes, *, rate, epochs, build_model):
        tried.append((float(rate(0)), float(rate(1000))))
        assert build_model.keywords == {"kind": "layer", "place": "post", "depth": 16}
        return Model()

    monkeypatch.setattr(recipe, "train", train)
    found = experiment.highest_rate(None, None, 10, place="post", kind="layer", seed=301)
    wanted = [2.0**power for power in range(-12, 2)]
    assert tried == [pytest.approx((rate, rate)) for rate in wanted]
    assert found == {"log_rate": pytest.approx(np.log10(wanted[4]))}


@pytest.mark.parametrize(("flip", "shift"), [("yes", 2), ("no", 0)])
def test_all_rates_are_tried_on_the_runs_images(monkeypatch, flip, shift):
    given, how = [], {}

    def bound(train_set, validation_set, classes, seed):
        given.append((train_set, classes, seed))
        return {"log_rate": -1.0}

    def training(split, size, **settings):
        how.update(settings)
        return len(split), size

    monkeypatch.setattr(experiment.batches, "training", training)
    run = type("Run", (), {"seed": 301, "data": sources.Request(train_images=500), "bound": staticmethod(bound)})
    config = experiment.EXPERIMENT.config(images=200, batch_size=20, flip=flip, shift=shift)
    assert experiment.done("rates_of_pre", config, run) == {"log_rate": -1.0}
    assert given == [((200, 20), 10, 301)]
    assert how == {"seed": 301, "flip": flip == "yes", "shift": shift}


def test_a_jump_is_a_fall_from_epoch_to_epoch():
    curves = {"val_accuracy": [0.1, 0.4, 0.3, 0.5, 0.3, 0.6]}
    run = type("Run", (), {"curves": curves, "variant": "short_momentum_99", "diverged": False})
    assert experiment.jump(None, run, DATA) == {"jump": pytest.approx(0.3 / 5)}
    run.curves = {"val_accuracy": [0.1, 0.4, 0.5]}
    assert experiment.jump(None, run, DATA) == {"jump": 0.0}, "however fast it rises"
    run.diverged = True
    assert experiment.jump(None, run, DATA) == {}
    run.variant, run.diverged = "batch", False
    assert experiment.jump(None, run, DATA) == {}
