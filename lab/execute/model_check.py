"""A look at a reader's model before training starts: what can't be trained is refused, what looks wrong is said."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from lab.evidence.records import explain, printable
from lab.execute.own_model import model_digest, model_files, own_model
from pipelines import sources
from pipelines.errors import UsageError

IMAGES = 16
LARGE = 10.0  # Standard deviation of what the first layer with weights gets: of pixels from 0 to 255 it is about 60.
TWICE = 1e-3  # Share of the pixels' own standard deviation: scaled once, at least 1/255 of it is left.


@dataclass(frozen=True)
class Checked:
    """A model that can be trained: the files that it is made of, their hash, and a sentence for what looks wrong."""

    files: tuple[str, ...] = ()
    digest: str = ""
    remarks: tuple[str, ...] = ()


def check_own_model(where: str, images: np.ndarray, classes: int, save: bool = False) -> Checked:
    """Build the model twice, and look at what it does with a few images uint8 (n, height, width, 3).

    It belongs in a process of its own, since the reader's file may change the settings of the one that it runs in.

    Raises:
        UsageError: it can't be built, does not take the images, or has another output than one logit a class.
    """
    import keras
    import tensorflow as tf

    from lab.core.state import known_state

    with known_state(), tf.device("CPU:0"), sources.test_set(closed=True):
        usual, function = _settings(), own_model(where)
        try:
            if isinstance(function, keras.Model):
                raise UsageError("it is a model, and should be a function of shape and classes that returns one")
            remarks = list(_look(function, tf.constant(images), classes))
            changed = [f"{name} to {now}" for name, now in _settings().items() if now != usual[name]]
            if changed:
                remarks.append(f"it sets {' and '.join(changed)}, which then holds for all of each run")
            if save:
                remarks += _save(function(tf.TensorShape(images.shape[1:]), classes), images)
        except UsageError as error:
            raise UsageError(f"--model {where!r}: {error}.") from error
        except (Exception, SystemExit) as error:
            said = f"the model could not be built for images {images.shape[1:]} and called with {len(images)} of them"
            hint = ""
            if "uint8" in explain(error):
                hint = " Images are whole numbers from 0 to 255: begin with layers.Rescaling, or with ops.cast."
            raise UsageError(f"--model {where!r}: {said} ({explain(error)}).{hint}") from error
        files = model_files(where)
        return Checked(files, model_digest(files), tuple(f"--model {where!r}: {remark}." for remark in remarks))


def _settings() -> dict[str, Any]:
    """The settings of the process that a file may change, and that numbers or times depend on."""
    import keras
    import tensorflow as tf

    return {
        "the dtype policy": keras.config.dtype_policy().name,
        "Keras's float type": keras.config.floatx(),
        "Keras's epsilon": keras.config.epsilon(),
        "the image data format": keras.config.image_data_format(),
        "run_functions_eagerly": tf.config.functions_run_eagerly(),
    }


def _look(function: Callable[..., Any], images: Any, classes: int) -> Iterator[str]:
    """Yield what looks wrong with a model.

    Raises:
        UsageError: it can't be trained.
    """
    import tensorflow as tf

    from lab.core.scoring import digest_of
    from lab.core.state import set_seed

    def built(seed: int) -> Any:
        set_seed(seed)
        model = _checked(function(tf.TensorShape(images.shape[1:]), classes))
        model(images)  # Some only have their weights then.
        return model

    model, another = built(seed=1), built(seed=2)
    if model is another:
        raise UsageError("the function returns the same model each time, and should build a new one")
    if shared := {id(weight) for weight in model.weights} & {id(weight) for weight in another.weights}:
        raise UsageError(
            f"two models that the function builds share {len(shared)} of their {len(model.weights)} weights. Make all "
            "layers inside the function, so that each run begins with new weights, drawn with its own seed"
        )
    with _calls() as calls:
        output = model(images, training=False)
    _check_output(output, (len(images), classes))
    if not model.trainable_variables:
        raise UsageError("the model has no weights to train")
    if digest_of(model) == digest_of(another):
        yield (
            "it begins with the same weights at seeds 1 and 2, so that runs at other seeds differ in little but the "
            "order of their images: fix no seed in the file"
        )
    _check_graph(model, images)
    yield from _remarks_on_scale(calls, images)
    yield from _remarks_on_output(calls, output)


def _check_graph(model: Any, images: Any) -> None:
    """Raise a UsageError if a model can't be called as a graph, as training does."""
    import tensorflow as tf

    try:
        tf.function(lambda batch: model(batch, training=True), autograph=False)(images)
    except Exception as error:
        raise UsageError(
            f"the model can be called, but not in a graph, as `fit` calls it ({explain(error)}). Values are not known "
            "there: leave out `numpy()`, and Python's `if` on values"
        ) from error


def _checked(model: Any) -> Any:
    """A model, if it is one, with one input."""
    import keras

    if not isinstance(model, keras.Model):
        kind = type(model)
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__name__}"
        raise UsageError(f"the function returned a {name}, and should return a keras.Model")
    inputs = getattr(model, "inputs", None) or [None]  # A subclassed model does not know its own.
    if len(inputs) != 1:
        raise UsageError(f"the model has {len(inputs)} inputs, and should have one: the images")
    return model


def _check_output(output: Any, wanted: tuple[int, int]) -> None:
    import tensorflow as tf

    if not tf.is_tensor(output):
        several = f" of {', '.join(map(str, output))}" if isinstance(output, dict) else ""
        several = several or (f" of {len(output)}" if isinstance(output, (list, tuple)) else "")
        raise UsageError(f"the model's output is a {type(output).__name__}{several}, and should be the logits alone")
    if tuple(output.shape) != wanted:
        said = f"for {wanted[0]} images the model's output has the shape {tuple(output.shape)}"
        raise UsageError(f"{said}, and should have {wanted}: a logit for each class")
    if not output.dtype.is_floating:
        raise UsageError(f"the model's output is {output.dtype.name}, and should be logits: floating-point numbers")


@dataclass
class _Call:
    """A call of a layer that has ended: of those within one another, the inner one ends first."""

    layer: Any
    taken: Any
    output: Any


@contextmanager
def _calls() -> Iterator[list[_Call]]:
    """Note the calls of layers, in the order in which they end."""
    import keras

    found: list[_Call] = []
    call = keras.layers.Layer.__call__

    def noting(layer: Any, *given: Any, **named: Any) -> Any:
        output = call(layer, *given, **named)
        found.append(_Call(layer, given[0] if given else None, output))
        return output

    with mock.patch.object(keras.layers.Layer, "__call__", noting):
        yield found


def _remarks_on_scale(calls: list[_Call], images: Any) -> Iterator[str]:
    """Whether the first layer with weights gets pixels that nobody has scaled, or that were scaled twice."""
    import keras

    # `Normalization` has weights, but only scales: until it is adapted, it does nothing.
    weighted = [call for call in calls if call.layer.weights and not isinstance(call.layer, keras.layers.Normalization)]
    if not weighted or not hasattr(weighted[0].taken, "numpy") or isinstance(weighted[0].layer, keras.layers.Embedding):
        return
    first, taken = weighted[0].layer, np.asarray(weighted[0].taken, np.float64)
    spread, of_pixels = taken.std(), np.asarray(images, np.float64).std()
    # Behind a convolution or in its place, batch normalization makes up for large values, not for small ones.
    normalizes = any(type(call.layer).__name__.endswith("Normalization") for call in weighted[:2])
    if (spread > LARGE and not normalizes) or spread < TWICE * of_pixels:
        yield (
            f"its first layer with weights, {type(first).__name__} {first.name!r}, gets values from {taken.min():.3g} "
            f"to {taken.max():.3g} for pixels from {np.min(images)} to {np.max(images)}. Layers learn best from about "
            "-1 to 1: scale the pixels once, as layers.Rescaling(1 / 255) does"
        )


def _remarks_on_output(calls: list[_Call], output: Any) -> Iterator[str]:
    """Whether the output is something else than logits, or too coarse."""
    import keras

    rows = np.asarray(output, np.float64)
    last = [call.layer for call in calls if call.output is output]
    names = {getattr(getattr(layer, "activation", None), "__name__", "linear") for layer in last}
    names |= {"relu" for layer in last if isinstance(layer, keras.layers.ReLU)}
    ending = sorted(names - {"linear", "log_softmax", "softmax"})  # The logarithms of probabilities are logits.
    leave_out = "the recipes take logits, so leave the last activation out"
    if not np.isfinite(rows).all():
        yield f"before any training, its output for {len(rows)} images is not finite"
    elif (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=0.02):
        yield (
            "its outputs are probabilities: none is negative, and those of an image add up to 1. In training and in "
            f"the test loss softmax would be applied once more; {leave_out}"
        )
    elif ending:
        yield f"it ends with the activation {ending[0]}; {leave_out}"
    if output.dtype.size < 4:
        yield f'its output is {output.dtype.name}, which is coarse for a loss: give its last layer dtype="float32"'


def _save(model: Any, images: np.ndarray) -> list[str]:
    """What --save would leave of a model."""
    import keras

    model(images[:1])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.keras"
        try:
            model.save(path)
        except Exception as error:
            return [f"it can't be saved, so --save leaves no file ({explain(error)})"]
        try:
            again = keras.saving.load_model(path)
            same = np.allclose(again(images), model(images), rtol=0.01, atol=1e-3)
        except Exception as error:
            return [f"what --save leaves of it can't be loaded again ({printable(explain(error))})"]
    return [] if same else ["what --save leaves of it answers differently when it is loaded again"]
