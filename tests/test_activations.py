"""Each network has the activation that its name says, at equal size, and gradients and dead units are counted right."""

import math

import keras
import numpy as np
import pytest

from lab.experiments import activations as experiment
from pipelines import batches, sources
from recipes import activations as recipe

SHAPE = (32, 32, 3)
DATA = sources.load(sources.Request(train_images=1000))
SOME = DATA.train.images[:64].astype("float32"), DATA.train.labels[:64]
KNOWN = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "gelu": lambda x: x * np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x]),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


def built(variant: str = "", **settings) -> keras.Model:
    """The network of a variant, or another one."""
    keras.utils.set_random_seed(1)
    return recipe.build_model(SHAPE, 10, **(experiment.NETWORKS[variant] if variant else settings))


def of_kind(model: keras.Model, kind: type[keras.layers.Layer]) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


def convolutions(model: keras.Model) -> list[keras.layers.Layer]:
    return of_kind(model, keras.layers.Conv2D)


# The recipe


@pytest.mark.parametrize("name", KNOWN)
def test_a_layer_has_its_activation(name):
    """By hand: the convolution keeps each pixel."""
    images = keras.Input((4, 4, 1))
    model = keras.Model(images, recipe.hidden_layer(images, 1, name))
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, 1] = 1
    model.set_weights([kernel, np.zeros(1)])
    values = np.linspace(-3, 3, 16)
    found = np.asarray(model(values.reshape(1, 4, 4, 1))).ravel()
    assert found == pytest.approx(KNOWN[name](values), abs=1e-4)


def test_in_swiglu_the_first_half_of_the_channels_gates_the_second():
    images = keras.Input((1, 1, 1))
    model = keras.Model(images, recipe.hidden_layer(images, 1, "swiglu"))
    kernel = np.zeros((3, 3, 1, 2))
    kernel[1, 1, 0] = 2, 5  # Gate and value.
    model.set_weights([kernel, np.zeros(2)])
    found = np.asarray(model(np.full((1, 1, 1, 1), 0.5))).item()
    assert found == pytest.approx(1 / (1 + math.exp(-1)) * 2.5, abs=1e-5)


@pytest.mark.parametrize("depth", [2, 6, 12])
def test_a_plain_stack_has_as_many_convolutions_as_its_depth(depth):
    for name in ("sigmoid", "tanh", "relu", "gelu"):
        model = built(f"{name}_{depth}")
        assert len(convolutions(model)) == depth
        assert model.output_shape == (None, 10)
        assert {layer.output.shape[1:3] for layer in convolutions(model)} == {(8, 8)}


@pytest.mark.parametrize(
    ("variant", "depth", "norm"),
    [
        ("relu_residual", 6, keras.layers.LayerNormalization),
        ("swiglu_residual_2", 2, keras.layers.LayerNormalization),
        ("tanh_residual_12", 12, keras.layers.LayerNormalization),
        ("swiglu_residual_batch", 6, keras.layers.BatchNormalization),
    ],
)
def test_each_residual_block_has_its_normalization(variant, depth, norm):
    model = built(variant)
    assert len(of_kind(model, keras.layers.Add)) == depth
    norms = [layer for layer in model.layers if type(layer).__name__.endswith("Normalization")]
    assert [type(layer) for layer in norms] == [norm] * (depth + 1)
    assert {getattr(layer, "momentum", 0.8) for layer in norms} == {0.8}
    for block in of_kind(model, keras.layers.Add):  # Not of what was normalized.
        assert not isinstance(block._inbound_nodes[0].arguments.keras_tensors[0]._keras_history.operation, norm)


def test_a_block_alone_has_layer_norm():
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, recipe.residual_block(images, 5))
    assert len(of_kind(model, keras.layers.LayerNormalization)) == 1


def weights_of(settings) -> int:
    """Of the convolutions after the first, whose multiplications are as many as their parameters."""
    return sum(layer.kernel.shape.num_elements() for layer in convolutions(built(**settings))[1:])


def test_swiglu_has_as_many_parameters_as_the_others():
    sizes = {name: weights_of(settings) for name, settings in experiment.NETWORKS.items() if "residual" in name}
    assert sizes["gelu_residual"] == sizes["mish_residual"] == sizes["relu_residual"]
    for depth in ("", "_2", "_12"):
        assert sizes[f"swiglu_residual{depth}"] == pytest.approx(sizes[f"relu_residual{depth}"], rel=0.005)
    assert sizes["swiglu_residual_wide"] == pytest.approx(2 * sizes["relu_residual"], rel=0.06)
    plain = {name: weights_of(experiment.network(name)) for name in ("relu", "swiglu")}
    assert plain["swiglu"] == pytest.approx(plain["relu"], rel=0.02)


def test_networks_that_are_timed_have_as_many_multiplications_and_no_odd_widths():
    assert len({weights_of(settings) for settings in experiment.TIMED.values()}) == 1
    for name, settings in experiment.TIMED.items():
        assert (settings["activation"], settings["filters"] % 8) == (name.removeprefix("time_of_"), 0)


def test_a_residual_block_adds_to_what_it_is_given():
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, recipe.residual_block(images, 5, "gelu"))
    last = convolutions(model)[-1]
    last.kernel.assign(np.zeros(last.kernel.shape))
    last.bias.assign(np.ones(3))
    values = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    assert np.asarray(model(values)) == pytest.approx(values + 1, abs=1e-6)


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [
        ("relu_12", 2 / 216),
        ("gelu_12", 2 / 216),
        ("sigmoid_12", 1 / 216),
        ("tanh_12", 1 / 216),
        ("relu_12_glorot", 1 / 216),
    ],
)
def test_the_initializer_fits_the_activation(variant, wanted):
    """The variance of a kernel with 9 × 24 inputs, and as many outputs."""
    found = np.mean([np.var(layer.kernel) for layer in convolutions(built(variant))[1:]])
    assert found == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize(("momentum", "kind"), [(False, keras.optimizers.Adam), (True, keras.optimizers.SGD)])
@pytest.mark.parametrize("constant", [False, True])
def test_the_optimizer_and_the_schedule_are_those_asked_for(monkeypatch, momentum, kind, constant):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: None)
    sets = batches.training(DATA.train, 100, seed=1, augment=False), None
    model = recipe.train(*sets, 10, rate=0.01, constant=constant, momentum=momentum, epochs=3)
    rates = [float(model.optimizer.learning_rate)]
    for step in (6, 29):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    assert type(model.optimizer) is kind
    assert getattr(model.optimizer, "momentum", 0.9) == 0.9
    if constant:
        assert rates == pytest.approx([0.01] * 3)
    else:
        assert 0 < rates[0] < rates[1] > 10 * rates[2]
        assert rates[1] == pytest.approx(0.01)


# The experiment


def test_the_gradient_is_that_of_the_hidden_layers_outputs():
    """Moving all outputs of the last hidden layer along their gradient changes the loss by its squared norm."""
    model = built("relu_2")
    norms = experiment.gradient_norms(model, *SOME)
    assert len(norms) == 2
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    *_, last, logits = experiment.hidden_outputs(model)(SOME[0])
    head = model.layers[-1]
    probabilities = np.asarray(keras.ops.softmax(logits))
    of_logits = (probabilities - np.eye(10)[SOME[1]]) / len(SOME[0])
    of_outputs = of_logits @ np.asarray(head.kernel).T / 64  # A mean over 8 × 8 positions.
    assert norms[-1] == pytest.approx(np.sqrt(64 * np.sum(of_outputs**2)), rel=1e-4)
    assert float(loss_of(SOME[1], logits)) > 0
    assert last.shape == (64, 8, 8, 24)


def test_a_stack_of_sigmoids_loses_the_gradient_and_one_of_relus_does_not():
    deep = ("sigmoid_12", "relu_12", "gelu_12")
    passed = {name: experiment.passed(experiment.gradient_norms(built(name), *SOME)) for name in deep}
    assert passed["sigmoid_12"] < math.log(0.25) + 0.2
    assert abs(passed["relu_12"]) < 0.35
    assert abs(passed["gelu_12"]) < 0.7
    assert experiment.passed([0.0, 1.0]) == pytest.approx(math.log(1e-30))
    assert experiment.passed([8.0, 5.0, 2.0]) == pytest.approx(math.log(2))


def test_silu_loses_more_of_the_gradient_than_gelu_and_mish():
    """As the recipe says of He's initializer."""
    kept = {}
    for name in ("gelu", "mish", "silu"):
        norms = experiment.gradient_norms(built(activation=name, depth=12), *SOME)
        kept[name] = norms[0] / norms[-1]
    assert kept["silu"] < 0.7 * min(kept["gelu"], kept["mish"])


def test_glorots_initializer_in_the_place_of_hes_lets_the_gradient_vanish():
    """What `INITIALIZERS` is for: with the wrong one a stack of twelve ReLUs passes on a 64th of the gradient."""
    right, wrong = (experiment.gradient_norms(built(name), *SOME) for name in ("relu_12", "relu_12_glorot"))
    assert wrong[0] / wrong[-1] < 0.1 * right[0] / right[-1]


def test_swiglu_overflows_without_a_normalization():
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        assert experiment.overflows()
    assert not np.isfinite(np.asarray(built(**experiment.network("swiglu", depth=12))(SOME[0]))).all()


def test_layer_norm_bounds_what_swiglu_squares_and_batch_norm_does_not():
    """The largest output of the last of six blocks, in standard deviations, while they train."""
    largest = {}
    for name in ("swiglu_residual", "swiglu_residual_batch"):
        *_, last, _ = experiment.hidden_outputs(built(name))(SOME[0], training=True)
        largest[name] = np.abs(last).max() / np.std(last)
    assert largest["swiglu_residual"] < 30 < 2 * 30 < largest["swiglu_residual_batch"]
    assert np.isfinite(np.asarray(built("swiglu_residual_12")(SOME[0]))).all()


def test_a_channel_is_dead_where_it_is_zero_everywhere():
    some = DATA.train.take(np.arange(64))
    model = built("relu_2")
    assert experiment.dead_share(model, some) < 0.2
    first = convolutions(model)[0]
    first.bias.assign([-1e6] * 12 + [0.0] * 12)
    living = experiment.dead_share(model, some)
    assert living == pytest.approx(12 / 48, abs=0.05)
    assert experiment.dead_share(built(activation="leaky_relu"), some) == 0


def test_one_image_of_many_keeps_a_unit_alive():
    images = keras.Input(SHAPE)
    model = keras.Model(images, keras.layers.Activation("relu")(keras.layers.Rescaling(1.0, offset=-200)(images)))
    pixels = np.zeros((600, *SHAPE), np.uint8)
    for place, channel in ((3, 0), (590, 2)):
        pixels[place, 5, 5, channel] = 255
    split = sources.Split(pixels, np.zeros(600, np.int32), np.arange(600).astype(str))
    assert experiment.dead_share(model, split) == pytest.approx(1 / 3)


ACCURACIES = {"relu_residual_momentum": 0.3, "relu_residual_constant": 0.6}


class Trained:
    """What a variant's function returns in the place of a model."""

    def __init__(self, variant, seed):
        self.variant, self.seed = variant, seed

    def evaluate(self, test_set, **_):
        """The second training of each way ends 0.2 higher, but for the one that diverges."""
        assert test_set == "test images"
        accuracy = ACCURACIES.get(self.variant, 0.5) + 0.2 * (self.seed > 1000)
        return {"accuracy": 0.1 if (self.variant, self.seed > 1000) == ("relu_residual", True) else accuracy}


class Fake:
    """A run that scores whatever was trained by the name of its variant."""

    seed, data, diverged = 301, sources.Request(), False

    def __init__(self, variant, norms=(1.0, 2.0)):
        self.variant, self.norms, self.curves, self.parts, self.closed = variant, list(norms), {}, [], True

    def callbacks(self, data, part=""):
        assert self.closed
        self.parts.append(part)
        return []

    def keep(self, name, values):
        self.curves[name] = values

    def open_test_set(self, data):
        self.closed = False
        return "test"

    def scores(self, model, data):
        return {"test_accuracy": ACCURACIES.get(model.variant, 0.5)}

    def interleaved(self, steps, **shape):
        self.timed = list(steps), shape
        return type("Blocks", (), {"step_seconds": lambda _, name: 0.001 * len(name)})()


@pytest.fixture
def asked(monkeypatch):
    """What each variant's function was given, and the seeds of its trainings."""
    given, seeds = {}, []

    def of(name):
        def train(train_set, validation_set, classes, **how):
            for callback in how.pop("callbacks"):
                callback.on_train_begin()
            given.setdefault(name, {**how, "seeds": []})["seeds"].append(seeds[-1])
            assert train_set == seeds[-1]
            return Trained(name, seeds[-1])

        return train

    monkeypatch.setattr(experiment, "VARIANTS", {name: of(name) for name in experiment.VARIANTS})
    monkeypatch.setattr(experiment, "dead_share", lambda model, split: 0.25 if len(split) == 8000 else None)
    monkeypatch.setattr(experiment.keras.utils, "set_random_seed", seeds.append)
    monkeypatch.setattr(experiment.batches, "training", lambda split, size, *, seed: seed)
    monkeypatch.setattr(experiment.batches, "evaluation", lambda part: f"{part} images")
    monkeypatch.setattr(experiment.AtStart, "on_train_begin", lambda it: it.run.keep("gradient_norms", it.run.norms))
    return given


def found_of(variant, run=None, **config):
    run = run or Fake(variant)
    return experiment.compare(experiment.EXPERIMENT.config(**config), {variant: run})[variant]


@pytest.mark.processes
def test_a_plain_variant_has_its_gradients_and_with_relu_its_dead_units(asked):
    names = ("relu_2", "gelu_2", "leaky_relu_6_at_4_times", "relu_residual", "swiglu_residual_batch")
    found = {name: found_of(name) for name in names}
    plain = {name for name, metrics in found.items() if "log_passed" in metrics}
    assert plain == {"relu_2", "gelu_2", "leaky_relu_6_at_4_times"}
    assert all(found[name]["log_passed"] == pytest.approx(-math.log(2)) for name in plain)
    assert {name for name, metrics in found.items() if "dead" in metrics} == {"relu_2"}
    assert found["relu_2"]["dead"] == 0.25


@pytest.mark.processes
def test_a_variant_has_its_epochs_and_its_rate(asked):
    for name in ("relu_residual_20_epochs", "relu_residual"):
        found_of(name)
    assert (asked["relu_residual_20_epochs"]["epochs"], asked["relu_residual"]["epochs"]) == (20, 5)
    assert not any("rate" in how for how in asked.values())
    asked.clear()
    found_of("relu_residual_20_epochs", rate=0.5, epochs=2)
    assert asked["relu_residual_20_epochs"] == {"rate": 0.5, "epochs": 2, "seeds": [301]}


@pytest.mark.processes
@pytest.mark.parametrize("norms", [(None, 2.0), (1.0, None), (1.0, None, 2.0)])
def test_a_gradient_that_is_not_finite_passes_nothing_back(asked, norms):
    assert "log_passed" not in found_of("gelu_2", Fake("gelu_2", norms))


@pytest.mark.processes
def test_the_units_of_a_run_that_diverged_are_not_counted(asked):
    run = Fake("relu_6_at_16_times")
    run.diverged = True
    assert "dead" not in found_of("relu_6_at_16_times", run)


def test_nothing_passes_the_gradient_back_as_it_is(asked):
    assert found_of("nothing") == {"log_passed": 0.0}
    assert asked == {}


@pytest.mark.processes
def test_the_spread_is_of_the_best_and_the_worst_of_four_ways(asked):
    """Of the means of two trainings. One way has a training that diverges, which leaves the others as they are."""
    run = Fake("relu_four_ways")
    assert found_of("relu_four_ways", run) == {"spread": pytest.approx(0.7 - 0.3)}
    ways = {"relu_residual", *(f"relu_residual_{way}" for way in experiment.OTHER_WAYS)}
    assert set(asked) == ways
    assert all(how["seeds"] == [301, 1301] for how in asked.values())
    assert len(set(run.parts)) == 8
    assert found_of("relu_four_ways", trainings=1) == {"spread": pytest.approx(0.6 - 0.3)}


def test_steps_are_timed_together_and_nothing_is_trained(asked, monkeypatch):
    built = []
    monkeypatch.setattr(experiment, "build_step", lambda settings, *size: built.append((settings, *size)))
    runs = {name: Fake(name) for name in ("time_of_relu", "time_of_swiglu")}
    found = experiment.compare(experiment.EXPERIMENT.config(batch_size=64), runs)
    assert built == [(experiment.TIMED[name], 64, SHAPE, 10) for name in runs]
    assert runs["time_of_relu"].timed == (list(runs), {"block": 110})
    assert found["time_of_swiglu"] == {"step_ms": pytest.approx(14), "log_time": pytest.approx(math.log(0.014))}
    assert asked == {}
    timed = [name for name in experiment.VARIANTS if not experiment.EXPERIMENT.runs_apart(name)]
    assert timed == list(experiment.TIMED)


@pytest.mark.processes
def test_a_timed_step_trains():
    settings = experiment.TIMED["time_of_swiglu"] | {"depth": 2}
    step = experiment.build_step(settings, 8, SHAPE, 10)
    losses = [float(step()) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert step.func.__self__.optimizer.iterations == 30


def test_all_but_what_is_too_high_is_tuned():
    rates = {name: variant.keywords["rate"] for name, variant in experiment.VARIANTS.items() if variant}
    tuned = experiment.EXPERIMENT.tuning.grids
    assert {name: rates[name] for name in tuned} == experiment.RATES
    assert set(rates) - set(tuned) == set(experiment.TOO_HIGH)
    assert {"relu_residual_20_epochs", "swiglu_residual_20_epochs"} <= set(tuned)
    for name in ("relu", "leaky_relu"):
        assert rates[f"{name}_6_at_16_times"] == 16 * experiment.RATES["relu_6"]
        assert rates[f"{name}_6_at_4_times"] == 4 * experiment.RATES["relu_6"]


def test_thresholds_are_those_of_the_sentences():
    """By hand: the effect of each claim where it just holds."""
    by_id = {claim.id: claim for claim in experiment.CLAIMS}
    holding = {
        "O16b": {"sigmoid_12": math.log(1 / 4), "nothing": 0.0},
        "O16c": {"sigmoid_12": 0.3, "sigmoid_2": 0.5},
        "O17a": {"tanh_12": 0.3, "tanh_2": 0.5},
    }
    for name, values in holding.items():
        (pair,) = by_id[name].pairs
        effect = sum(weight * values[variant] for variant, weight in by_id[name].contrast(pair).items())
        assert effect == pytest.approx(by_id[name].at_least), name
        assert by_id[name].at_least > 0


def test_every_variant_serves_a_claim_or_the_figure():
    shown = {name for panel in experiment.EXPERIMENT.panels for name in panel.variants}
    claimed = {name for claim in experiment.CLAIMS for name in claim.variants}
    ways = {name for ways in experiment.FOUR_WAYS.values() for name in ways}
    assert set(experiment.EXPERIMENT.names) == shown | claimed | ways


def test_the_sigmoids_slope_is_a_quarter_at_most():
    assert experiment.steepest_sigmoid() == pytest.approx(0.25, abs=1e-6)
