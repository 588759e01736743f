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
DEEP = [f"{name}_12" for name in recipe.ACTIVATIONS]
KNOWN = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "gelu": lambda x: x * np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x]),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


def built(variant: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    return recipe.build_model(SHAPE, 10, **experiment.NETWORKS[variant])


def convolutions(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


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
    for name in recipe.ACTIVATIONS:
        model = built(f"{name}_{depth}")
        assert len(convolutions(model)) == depth
        assert model.output_shape == (None, 10)
        assert {layer.output.shape[1:3] for layer in convolutions(model)} == {(8, 8)}


def test_swiglu_has_as_many_parameters_as_the_others():
    """Of the hidden layers after the first, whose multiplications are as many as their parameters."""
    for kind, within in (("12", 0.02), ("residual", 0.005)):
        sizes = {
            name: sum(layer.kernel.shape.num_elements() for layer in convolutions(built(f"{name}_{kind}"))[1:])
            for name in ("relu", "gelu", "swiglu")
        }
        assert sizes["gelu"] == sizes["relu"]
        assert sizes["swiglu"] == pytest.approx(sizes["relu"], rel=within)
    wide, relu = (
        sum(weight.shape.num_elements() for weight in built(name).weights) for name in ("swiglu_6_wide", "relu_6")
    )
    assert 1.9 < wide / relu < 2.1


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
    passed = {name: experiment.passed(experiment.gradient_norms(built(name), *SOME)) for name in DEEP}
    assert passed["sigmoid_12"] < math.log(0.25) + 0.2
    assert abs(passed["relu_12"]) < 0.35
    assert abs(passed["gelu_12"]) < 0.7
    assert experiment.passed([None, 1.0]) == pytest.approx(math.log(1e30))
    assert experiment.passed([0.0, 1.0]) == pytest.approx(math.log(1e-30))
    assert experiment.passed([8.0, 5.0, 2.0]) == pytest.approx(math.log(2))


def test_glorots_initializer_in_the_place_of_hes_lets_the_gradient_vanish():
    """What `INITIALIZERS` is for: with the wrong one a stack of twelve ReLUs passes on a 64th of the gradient."""
    right, wrong = (experiment.gradient_norms(built(name), *SOME) for name in ("relu_12", "relu_12_glorot"))
    assert wrong[0] / wrong[-1] < 0.1 * right[0] / right[-1]


def test_a_channel_is_dead_where_it_is_zero_everywhere():
    model = built("relu_2")
    assert experiment.dead_share(model, SOME[0]) < 0.2
    first = convolutions(model)[0]
    first.bias.assign([-1e6] * 12 + [0.0] * 12)
    living = experiment.dead_share(model, SOME[0])
    assert living == pytest.approx(12 / 48, abs=0.05)
    assert experiment.dead_share(built("leaky_relu_6"), SOME[0]) == 0


class Fake:
    """A run that scores whatever was trained by the name of its variant."""

    seed, data, correct = 301, sources.Request(), "bits"

    def __init__(self, variant):
        self.variant, self.curves = variant, {"gradient_norms": [1.0, 2.0]}

    def callbacks(self, data):
        return []

    def scores(self, model, data):
        return {"test_accuracy": {"relu_residual_momentum": 0.3, "relu_residual_constant": 0.6}.get(model, 0.5)}

    def interleaved(self, steps, **shape):
        self.timed = list(steps), shape
        return type("Blocks", (), {"step_seconds": lambda _, name: 0.001 * len(name)})()


@pytest.fixture
def asked(monkeypatch):
    """What each variant's function was given; it returns its name in the place of a model."""
    given = {}

    def of(name):
        return lambda *_, **how: given.__setitem__(name, how) or name

    monkeypatch.setattr(experiment, "VARIANTS", {name: of(name) for name in experiment.VARIANTS})
    monkeypatch.setattr(experiment, "dead_share", lambda *_: 0.25)
    return given


@pytest.mark.processes
def test_a_trained_variant_has_its_gradients_its_epochs_and_with_relu_its_dead_units(asked):
    config = experiment.EXPERIMENT.config(batch_size=64)
    found = {
        name: experiment.compare(config, {name: Fake(name)})[name]
        for name in ("relu_2", "gelu_2", "relu_residual_20_epochs", "relu_residual")
    }
    assert all(metrics["log_passed"] == pytest.approx(-math.log(2)) for metrics in found.values())
    assert {name for name, metrics in found.items() if "dead" in metrics} == {"relu_2"}
    assert asked["relu_residual_20_epochs"]["epochs"] == 20
    assert asked["relu_residual"]["epochs"] == 5
    assert not any("rate" in how for how in asked.values())
    experiment.compare(experiment.EXPERIMENT.config(rate=0.5, epochs=2), {"relu_residual_20_epochs": Fake("")})
    assert (asked["relu_residual_20_epochs"]["rate"], asked["relu_residual_20_epochs"]["epochs"]) == (0.5, 2)


def test_the_spread_is_of_the_best_and_the_worst_of_four_ways(asked):
    run = Fake("relu_four_ways")
    found = experiment.compare(experiment.EXPERIMENT.config(), {"relu_four_ways": run})["relu_four_ways"]
    assert found == {"spread": pytest.approx(0.3), "test_accuracy": pytest.approx((0.5 + 0.6 + 0.3 + 0.5) / 4)}
    assert run.correct is None
    assert set(asked) == {"relu_residual", *(f"relu_residual_{way}" for way in experiment.OTHER_WAYS)}


def test_steps_are_timed_together_and_nothing_is_trained(asked, monkeypatch):
    built = []
    monkeypatch.setattr(experiment, "build_step", lambda variant, *size: built.append((variant, *size)))
    runs = {name: Fake(name) for name in ("time_of_relu", "time_of_swiglu")}
    found = experiment.compare(experiment.EXPERIMENT.config(batch_size=64), runs)
    assert built == [("relu_6", 64, SHAPE, 10), ("swiglu_6", 64, SHAPE, 10)]
    assert runs["time_of_relu"].timed == (list(runs), {"block": 110})
    assert found["time_of_swiglu"] == {"step_ms": pytest.approx(14), "log_time": pytest.approx(math.log(0.014))}
    assert asked == {}
    timed = [name for name in experiment.VARIANTS if not experiment.EXPERIMENT.runs_apart(name)]
    assert timed == ["time_of_linear", *(f"time_of_{name}" for name in recipe.ACTIVATIONS)]


@pytest.mark.processes
def test_a_timed_step_trains():
    step = experiment.build_step("swiglu_6", 8, SHAPE, 10)
    losses = [float(step()) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert step.func.__self__.optimizer.iterations == 30


def test_rates_that_are_too_high_are_multiples_of_relus_best_one():
    rates = {name: variant.keywords["rate"] for name, variant in experiment.VARIANTS.items() if variant}
    for name in ("relu", "leaky_relu"):
        assert rates[f"{name}_6_at_16_times"] == 16 * experiment.RATES["relu_6"]
        assert rates[f"{name}_6_at_4_times"] == 4 * experiment.RATES["relu_6"]


def test_the_sigmoids_slope_is_a_quarter_at_most():
    assert experiment.steepest_sigmoid() == pytest.approx(0.25, abs=1e-6)
