"""What tests import that is not ours, imported once: a process for each break is forked from there, and saves the time.

TensorFlow's start-up messages are not printed.
"""

import os

_stderr = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

import keras_tuner  # noqa: E402, F401
import matplotlib.pyplot  # noqa: E402, F401
import pytest  # noqa: E402, F401
import scipy.stats  # noqa: E402, F401
import sklearn.metrics  # noqa: E402, F401

os.dup2(_stderr, 2)
