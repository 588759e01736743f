"""Variants as partial functions: what each of them calls, and the flags that their arguments become."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import tyro

Variants = Mapping[str, functools.partial[Any]]
GIVEN_BY_THE_LAB = ("train_set", "validation_set", "classes", "build_model", "callbacks")
HELP = {
    "batch_size": "Images in a training step.",
    "images": "How many images to train on, others at each seed. None: all of them.",
    "flip": "Whether half of the training images are mirrored.",
    "shift": "The most pixels that training images are shifted by, both ways.",
    "target": "The validation accuracy to reach.",
    "epochs": "How many times through the training images.",
    "rate": "The learning rate. None: each variant has its own.",
    "same": "1 to compare weights after twenty steps in float64 too, 0 not to.",
    "again": "How many times at most a timing that other processes disturb is repeated.",
    "same_steps": "After how many steps in float64 weights are compared. 0: no weights, times or memory.",
    "steps": "Steps in a block that is timed.",
    "rounds": "How many times all variants are timed. 0: not at all.",
    "profiled": "How many steps are profiled.",
    "inference_batch": "Images in a batch of which the answers are timed.",
    "memory_batch": "Images in the batch whose memory is measured.",
    "replays": "How many searches a run averages.",
}
OWN = "Unless given, each variant has its own."


def partials(variants: Iterable[str]) -> Variants:
    """The variants, if they are partial functions; else nothing."""
    if isinstance(variants, Mapping) and all(isinstance(one, functools.partial) for one in variants.values()):
        return variants
    return {}


def config_of(variants: Variants, flags: Mapping[str, Any]) -> type:
    """A frozen dataclass of what can be set: the numeric arguments of the variants' functions, and the lab's `flags`.

    An argument's default is None, which leaves each variant its own. A flag has the default that `flags` gives.
    """
    fields = {name: (_type_of(name, value), value) for name, value in flags.items()}
    for variant in variants.values():
        for name, parameter in inspect.signature(variant.func).parameters.items():
            kind = _numeric(parameter)
            if kind is not None and name not in GIVEN_BY_THE_LAB:
                fields.setdefault(name, (kind | None, None))
    made = [
        (name, Annotated[kind, tyro.conf.arg(help=HELP.get(name, "") if name in flags else OWN)], value)
        for name, (kind, value) in fields.items()
    ]
    return dataclasses.make_dataclass("Config", made, frozen=True)


def _type_of(name: str, value: Any) -> Any:
    special = {"flip": Literal["yes", "no"], "target": float | None, "images": int | None}
    return special.get(name, float | None if value is None else type(value))


def _numeric(parameter: inspect.Parameter) -> type | None:
    """int or float, if an argument's default is a number or None."""
    default = parameter.default
    if default is None:
        return int if "int" in str(parameter.annotation) else float
    return type(default) if type(default) in (int, float) else None


def with_given(variant: functools.partial[Any], config: Any) -> functools.partial[Any]:
    """The variant's function with what was given on the command line in the place of the variant's own arguments."""
    given = {name: getattr(config, name, None) for name in inspect.signature(variant.func).parameters}
    return functools.partial(variant, **{name: value for name, value in given.items() if value is not None})


def given_or_own(variant: functools.partial[Any] | None, config: Any, name: str) -> Any:
    """The value of an argument: from `config`, or else the variant's own; None if neither has one."""
    value = getattr(config, name, None)
    if value is None and variant is not None and name in inspect.signature(variant).parameters:
        value = inspect.signature(variant).parameters[name].default
    return value


def takes_model(variant: functools.partial[Any]) -> bool:
    """Whether a reader's own `build_model` can take the place of the recipe's."""
    return "build_model" in inspect.signature(variant.func).parameters and "build_model" not in variant.keywords


def described(variant: functools.partial[Any]) -> dict[str, Any]:
    """A variant's function and its bound arguments, as a record holds them.

    Raises:
        ValueError: an argument that no file can hold, such as an object of Keras.
    """
    if variant.args:
        raise ValueError(f"{_name(variant.func)}: bind its arguments by name.")
    return {"function": _name(variant.func)} | {name: _described(value) for name, value in variant.keywords.items()}


def _described(value: Any) -> Any:
    if isinstance(value, functools.partial):
        return {"function": _name(value.func), **{str(i): _described(v) for i, v in enumerate(value.args)}} | {
            name: _described(one) for name, one in value.keywords.items()
        }
    if isinstance(value, (list, tuple)):
        return [_described(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _described(one) for name, one in value.items()}
    if callable(value):
        return _name(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{value!r} can't be an argument of a variant: give a number, a text or a function.")


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
