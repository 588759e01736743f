"""Keep TensorFlow's start-up messages out of the reader's terminal, and settings in their home out of the numbers.

TensorFlow's C++ code writes to file descriptor 2 while the package is imported, past anything that Python's logging
could filter. So the import itself runs with that descriptor pointing at the null device.
"""

import importlib.abc
import importlib.machinery
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from pipelines.errors import LibraryError


@contextmanager
def silenced_stderr() -> Iterator[None]:
    """Point file descriptor 2 at the null device for the duration of the block."""
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
    """Set what a keras.json in the user's home may have changed, as it changes numbers: sizes, precision, epsilon."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    keras.config.set_max_epochs(None)  # As variables of the environment may do, too.
    keras.config.set_max_steps_per_epoch(None)


class _QuietLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader):
        self.loader = loader

    def __getattr__(self, name: str) -> object:  # Package resources and the like: as the real loader answers.
        return getattr(self.loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            with silenced_stderr():
                self.loader.exec_module(module)
                if module.__name__ == "keras":
                    settle_keras()
                else:
                    module.config.list_physical_devices()  # Looks for a GPU, loudly, once.
        except Exception as error:
            raise LibraryError(_why_not(module.__name__, error)) from error


def _why_not(name: str, error: Exception) -> str:
    """Why a library could not be imported, as a sentence."""
    said = str(error).strip().splitlines() or [""]
    because = f"{name} could not be loaded ({type(error).__name__}: {said[0][:200]})"
    settings = Path(os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()) / "keras.json"
    if _is_wrong(settings):
        return f"{because}: perhaps {settings} is broken, so delete it or mend it."
    return f"{because}: perhaps memory is short (ulimit -v), or the installation is not whole."


def _is_wrong(settings: Path) -> bool:
    """Whether Keras's file of settings, which it writes itself, says what can't be; without it Keras does as well."""
    try:
        found = json.loads(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not isinstance(found, dict) or not (
        found.get("floatx", "float32") in ("float16", "bfloat16", "float32", "float64")
        and isinstance(found.get("epsilon", 1e-7), float)
        and found.get("image_data_format", "channels_last") in ("channels_last", "channels_first")
    )


class _QuietFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in ("tensorflow", "keras"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


def install() -> None:
    """Make the first import of TensorFlow, whoever does it, a silent one. Costs nothing if it is never imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow leaves oneDNN out on processors without AVX512-VNNI. There it makes a convnet's step 1.8 times as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)  # tensorflow-datasets' remarks.
    os.environ["KERAS_BACKEND"] = "tensorflow"  # The recipes are for TensorFlow, whatever the user's keras.json says.
    if "keras" in sys.modules:
        settle_keras()
    if not any(isinstance(finder, _QuietFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietFinder())
