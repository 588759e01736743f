"""Keep TensorFlow's start-up messages out of the terminal, and the user's Keras settings out of the numbers.

TensorFlow's C++ code writes to file descriptor 2 during the import, past Python's logging, so the import runs with that
descriptor on the null device. The backend is TensorFlow; float type, epsilon, image format, dtype policy and limits of
epochs and steps are set to Keras's defaults. What keras.json or KERAS_... variables say of them is not used.
"""

import functools
import importlib.abc
import importlib.machinery
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from pipelines.errors import LibraryError

LEGACY = "TF_USE_LEGACY_KERAS"


@contextmanager
def silenced_stderr() -> Iterator[None]:
    """Point file descriptor 2 at the null device for the duration of the block."""
    if sys.stderr is not None:
        sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def settle_keras() -> None:
    """Set what a keras.json or a variable of the environment may have changed: all of it changes numbers."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


def _quietly(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    try:
        with silenced_stderr():
            execute(module)
            if module.__name__ == "keras":
                settle_keras()
            else:
                module.config.list_physical_devices()  # Looks for a GPU, loudly, once.
    except Exception as error:
        said = (str(error).strip().splitlines() or ["no reason given"])[0]
        kind = type(error).__name__
        raise LibraryError(f"{module.__name__} could not be loaded ({kind}: {said[:300]}).") from error


class _QuietFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in ("tensorflow", "keras"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            quietly = functools.partial(_quietly, spec.loader.exec_module)
            spec.loader.exec_module = quietly  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Make the first import of TensorFlow a silent one, whoever does it. Costs nothing if nobody does.

    Raises:
        LibraryError: TensorFlow is already imported, with Keras 2.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow leaves oneDNN out on processors without AVX512-VNNI. There it makes a convnet's step 1.8 times as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)  # tensorflow-datasets' remarks.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if os.environ.get(LEGACY, "").lower() in ("1", "true"):
        if "tensorflow" in sys.modules:
            raise LibraryError(f"TensorFlow was imported with {LEGACY} set: unset it, for the recipes need Keras 3.")
        del os.environ[LEGACY]
        print(f"{LEGACY} is ignored: the recipes are for Keras 3.", file=sys.stderr)
    if "keras" in sys.modules:
        settle_keras()
    if not any(isinstance(finder, _QuietFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietFinder())
