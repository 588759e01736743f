"""The state of a process that numbers depend on: the same before every run, whatever ran there before."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config as tf_config  # Determinism can be switched off nowhere else.


@contextlib.contextmanager
def known_state() -> Iterator[None]:
    """Begin with the settings that a fresh process has, and leave no variable, folder or registered class behind."""
    _set()
    environment, folder, registered = dict(os.environ), Path.cwd(), dict(keras.saving.get_custom_objects())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        _forget_registered(registered)


def _set() -> None:
    keras.utils.clear_session(free_memory=False)  # Names of layers, the dtype policy, seeds: all of Keras's own state.
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)
    tf.config.run_functions_eagerly(False)
    tf.config.set_soft_device_placement(True)
    tf.config.optimizer.set_jit(False)
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options(dict.fromkeys(options))  # None is TensorFlow's own choice.
    tf.config.experimental.set_synchronous_execution(True)
    tf.config.experimental.set_device_policy("silent")
    tf.config.experimental.enable_tensor_float_32_execution(True)
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    else:  # On CPUs a run repeats without, and its bits are other ones.
        tf_config.disable_op_determinism()
    np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")


def set_seed(seed: int) -> None:
    """Fix all that is drawn from now on: by Python, numpy, TensorFlow and Keras."""
    keras.utils.set_random_seed(seed)
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))


def _forget_registered(before: dict[str, Any]) -> None:
    """Take back what was registered with Keras by hand. What a module registers stays: it is not imported again."""
    registered = keras.saving.get_custom_objects()
    for name, found in list(registered.items()):
        home = sys.modules.get(getattr(found, "__module__", ""))
        if name not in before and getattr(home, getattr(found, "__name__", ""), None) is not found:
            del registered[name]
    registered.update(before)
