"""A reader's own model in the place of a recipe's: how the file of `--model FILE.py:FUNCTION` is run."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from lab.evidence.records import explain
from pipelines.errors import UsageError

OURS = ("benchmarks", "lab", "pipelines", "recipes", "tests")  # No helpers, also where the file lies in the checkout.


def model_file(where: str) -> Path:
    """The file that "FILE.py:FUNCTION" names.

    Raises:
        UsageError: there is none.
    """
    file, _, name = where.rpartition(":")
    path = Path(file).expanduser()
    if not name.isidentifier() or not file:
        raise UsageError(f"--model {where!r} names no function in a file: write it as FILE.py:FUNCTION.")
    if path.suffix != ".py":
        raise UsageError(f"--model {where!r}: {str(path)!r} does not end in .py, as a Python file has to.")
    if not path.is_file():
        raise UsageError(f"--model {where!r}: there is no file {str(path)!r}.")
    return path.resolve()


def own_model(where: str) -> Callable[..., Any]:
    """Run the file that "FILE.py:FUNCTION" names and return its function. The file imports what lies beside it.

    Raises:
        UsageError: there is no such file or function, or the file can't be run.
    """
    path = model_file(where)
    for name in _imported_from(path.parent):  # A helper that sets the dtype policy, say, has to set it for each run.
        del sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # The last one: a numpy.py in it takes nobody's place.
    importlib.invalidate_caches()
    name = path.stem if _is_free(path) else f"own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Where Keras looks up a layer's class when it saves and loads.
    try:
        _run(spec.loader.exec_module, module)
    except SystemExit as error:  # A script may end the process where it thinks that it was started.
        raise UsageError(
            f"--model {where!r}: {str(path)!r} ends the process when it is run, as argparse does on flags that it does "
            "not know. Put that under `if __name__ == '__main__':`."
        ) from error
    except Exception as error:
        raise UsageError(f"--model {where!r}: running {str(path)!r} failed ({explain(error)}).") from error
    function = getattr(module, where.rpartition(":")[2], None)
    if not callable(function):
        raise UsageError(f"--model {where!r}: there is no function {where.rpartition(':')[2]!r} in {str(path)!r}.")
    return function


def _run(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Run a file which is to define a model, and not to train one."""
    import keras

    def fit(*_: Any, **__: Any) -> None:
        raise RuntimeError("it calls fit, which each run would do again: put that under `if __name__ == '__main__':`")

    with mock.patch.object(keras.Model, "fit", fit):
        execute(module)


def _is_free(path: Path) -> bool:
    """Whether a file's name is no other module's."""
    if not path.stem.isidentifier():  # Nobody can import it.
        return True
    try:
        spec = importlib.util.find_spec(path.stem)
    except ValueError:  # A module that was made by hand, as `__main__`.
        return False
    return spec is None or spec.origin == str(path)


def _imported_from(folder: Path) -> dict[str, str | None]:
    """The modules of this process that were imported from a folder: name -> file, None of a folder of modules."""
    found = {}
    for name, module in list(sys.modules.items()):
        content = vars(module) if isinstance(module, ModuleType) else {}
        file, place = content.get("__file__"), str(folder.joinpath(*name.split(".")))
        is_folder = file is None and place in content.get("__path__", ())
        if name.partition(".")[0] not in OURS and (is_folder or file in (f"{place}.py", f"{place}/__init__.py")):
            found[name] = file
    return found


def model_files(where: str) -> tuple[str, ...]:
    """The file that was run, and the files beside it that were imported meanwhile or since."""
    path = model_file(where)
    return tuple(sorted({str(path), *filter(None, _imported_from(path.parent).values())}))


def model_digest(files: Iterable[str]) -> str:
    """A hash of the files of a model: 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{Path(file).name} {hashlib.sha256(Path(file).read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]
