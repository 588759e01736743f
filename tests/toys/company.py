"""What does a run find of the one before it?

A recipe that leaves every setting of its process that it knows another than it was, for testing that none survives.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from lab import Claim, Experiment, Run, main


@dataclass(frozen=True)
class Config:
    pass


VARIANTS = ("messy", "tidy")


def state() -> dict[str, float]:
    """All of it as numbers, so that metrics can hold it; and what random numbers come next."""
    dense = keras.layers.Dense(3)
    dense.build((None, 2))
    found = {
        "floatx": keras.config.floatx() == "float32",
        "policy": dense.compute_dtype == "float32",
        "name": dense.name == "dense",
        "epsilon": keras.config.epsilon(),
        "channels_last": keras.config.image_data_format() == "channels_last",
        "max_epochs": keras.config.max_epochs() is None,
        "eager": tf.config.functions_run_eagerly(),
        "jit": bool(tf.config.optimizer.get_jit()),
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "determinism": tf_config.is_op_determinism_enabled(),
        "environment": "COMPANY" in os.environ,
        "folder": Path.cwd() == Path("/"),
        "weight": float(dense.kernel.numpy().sum()),
        "numpy": float(np.random.uniform()),
        "draw": float(tf.random.uniform(())),
        "generator": float(tf.random.get_global_generator().uniform(())),
    }
    return {name: float(value) for name, value in found.items()}


def mess_up() -> None:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.config.set_epsilon(1e-3)
    keras.config.set_image_data_format("channels_first")
    keras.config.set_max_epochs(1)
    tf.config.run_functions_eagerly(True)
    tf.config.optimizer.set_jit(True)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.experimental.enable_op_determinism()
    os.environ["COMPANY"] = "bad"
    os.chdir("/")


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    found = state()
    if variant == "messy":
        mess_up()
    return {"test_accuracy": 0.5, **found}


CLAIMS = [Claim("N1", "Nobody leaves a trace", "us", "weight", delta=0.1, higher="tidy", than="messy")]
EXPERIMENT = Experiment(sys.modules[__name__], VARIANTS, CLAIMS, Config, train=train, first_seed=1)

if __name__ == "__main__":
    main("tests.toys.company")
