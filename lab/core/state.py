"""Reset the settings of a process that numbers depend on, so that a run does not depend on what ran before it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.python.framework import config as tf_config  # Determinism can be switched off nowhere else.

from pipelines.tf_import import settle_keras


@contextlib.contextmanager
def known_state() -> Iterator[None]:
    """Begin with the settings that a fresh process has, and leave its environment and folder as they were."""
    keras.utils.clear_session(free_memory=False)  # Layer names, seeds.
    settle_keras()
    tf.config.run_functions_eagerly(False)
    tf.config.optimizer.set_jit(False)
    tf.config.experimental.enable_tensor_float_32_execution(True)
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    else:  # On CPUs a run repeats without, and its bits are other ones.
        tf_config.disable_op_determinism()
    environment, folder = dict(os.environ), Path.cwd()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)


def set_seed(seed: int) -> None:
    """Fix all that is drawn from now on by Python, numpy, TensorFlow and Keras."""
    keras.utils.set_random_seed(seed)
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
