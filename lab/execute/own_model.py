"""A reader's own model in the place of a recipe's: `--model FILE.py:FUNCTION`."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.evidence.records import explain
from pipelines import sources
from pipelines.errors import UsageError


def model_digest(where: str) -> str:
    """A hash of the file that "FILE.py:FUNCTION" names: 16 hexadecimal digits."""
    return hashlib.sha256(Path(where.rpartition(":")[0]).expanduser().read_bytes()).hexdigest()[:16]


def own_model(where: str) -> Callable[[tuple[int, ...], int], Any]:
    """The reader's function that "FILE.py:FUNCTION" names.

    Raises:
        UsageError: there is no such file or function, or the file can't be run.
    """
    file, _, name = where.rpartition(":")
    path = Path(file).expanduser()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not name.isidentifier() or not path.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"--model {where!r} names no function in a Python file: write it as FILE.py:FUNCTION.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # Where Keras looks up a layer's class when it saves and loads.
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # A script may end the process where it thinks that it was started.
        raise UsageError(f"--model {where!r}: running {str(path)!r} failed ({explain(error)}).") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"--model {where!r}: there is no function {name!r} in {str(path)!r}.")
    return function


def check_own_model(where: str, data: sources.Data) -> None:
    """Build the model once, and look at its output for one image.

    Raises:
        UsageError: it can't be built, does not take the images, or has another output than one logit a class.
    """
    import keras

    function, wanted = own_model(where), (1, len(data.classes))
    try:
        model = function(data.shape, len(data.classes))
        if not isinstance(model, keras.Model):
            raise TypeError(f"it returned {type(model).__name__}, and should return a keras.Model")
        shape = tuple(model(data.train.images[:1]).shape)
    except Exception as error:
        said = f"the model could not be built for images {data.shape} ({explain(error)})"
        raise UsageError(f"--model {where!r}: {said}.") from error
    finally:
        keras.backend.clear_session()
    if shape != wanted:
        said = f"for one image its output has the shape {shape}, and should have {wanted}: a logit for each class"
        raise UsageError(f"--model {where!r}: {said}.")
