"""Evidence on disk: one JSON record a run, one `evidence.json` an invocation, stamped with where they came from."""

import ast
import base64
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
Record = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "tensorflow-datasets", "keras-tuner", "tensorboard")


def write_json(path: Path, content: Any) -> None:
    """Write `content` so that `path` holds either its old content or the whole new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        EvidenceError: it is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvidenceError(f"The evidence {path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise EvidenceError(f"The evidence {path} is not whole ({error}): delete it and measure again.") from error


class EvidenceError(Exception):
    """Evidence that is missing, broken, or not of the code at hand. Commands print the sentence and exit with 1."""


def pack_bits(bits: np.ndarray) -> str:
    """bool (n,) as base64 text, eight to a byte."""
    return base64.b64encode(np.packbits(bits).tobytes()).decode("ascii")


def unpack_bits(text: str, n: int) -> np.ndarray:
    """The bool (n,) that `pack_bits` packed."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=n).astype(bool)


def finished(records: Iterable[Record]) -> list[Record]:
    """The records that count: all but the failed ones. A diverged run is a result."""
    return [record for record in records if record["status"] != "failed"]


def values_of(records: Iterable[Record], metric: str) -> dict[str, dict[int, float]]:
    """variant -> seed -> value of `metric`, of the records that count and have it."""
    values: dict[str, dict[int, float]] = {}
    for record in finished(records):
        if metric in record["metrics"]:
            values.setdefault(record["variant"], {})[record["seed"]] = record["metrics"][metric]
    return values


def machine() -> dict[str, Any]:
    """CPU model, cores that this process may use, GPUs, memory in GiB and system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = None
    if hasattr(os, "sysconf"):
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return {
        "cpu": model,
        "cores": cores(),
        "gpus": [_gpu_name(gpu) for gpu in gpus()],
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
    }


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[Any]:
    """TensorFlow's GPUs, without starting any of them."""
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def _gpu_name(gpu: Any) -> str:
    import tensorflow as tf

    return tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)


def versions() -> dict[str, str]:
    """Python's version and those of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def commit() -> str | None:
    """The commit that is checked out, with "+changes" where files differ from it; None outside a git checkout."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--", "recipes", "pipelines"], cwd=ROOT, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


@functools.cache
def code_hash(module: str, without: tuple[str, ...] = (), only: str = "") -> str:
    """A hash of the code that makes a recipe's numbers: its module, and what that imports from `pipelines`.

    Comments, docstrings and formatting do not count, nor do the assignments to CLAIMS, TUNING, UNITS, PANELS and RECIPE
    (which say what is asked of the numbers and how they are shown, not what they are) and to the names in `without`.
    With `only`, the name of a function of the module, nothing counts but that and what it uses.
    """
    digest = hashlib.sha256()
    todo, done = [module], set()
    while todo:
        name = todo.pop(0)
        spec = importlib.util.find_spec(name)
        if name in done or spec is None or spec.origin is None:
            continue
        done.add(name)
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        if only and name == module:
            tree = _used_by(only, tree)
        skip = {"CLAIMS", "TUNING", "UNITS", "PANELS", "RECIPE", *without} if name == module else set()
        digest.update(json.dumps([name, _canonical(tree, skip)]).encode())
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            if node.module == "pipelines":
                todo += sorted(f"pipelines.{alias.name}" for alias in node.names)
            elif node.module.startswith("pipelines."):
                todo.append(node.module)
    return digest.hexdigest()[:16]


def _used_by(function: str, tree: ast.Module) -> ast.Module:
    """The statements of a module that define a function and, however indirectly, the names that it uses."""
    defined: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                part: ast.stmt = ast.Import([alias])
                if isinstance(statement, ast.ImportFrom):
                    part = ast.ImportFrom(statement.module, [alias], 0)
                defined.setdefault((alias.asname or alias.name).split(".")[0], []).append(part)
        elif isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            defined.setdefault(statement.name, []).append(statement)
        else:  # Assignments, of all kinds and also within an `if`.
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    defined.setdefault(node.id, []).append(statement)
    todo, needed = [function], set()
    while todo:
        name = todo.pop()
        if name in defined and name not in needed:
            needed.add(name)
            todo += [node.id for part in defined[name] for node in ast.walk(part) if isinstance(node, ast.Name)]
    return ast.Module([part for name in sorted(needed) for part in defined[name]], [])


def _canonical(node: Any, skip: set[str] = frozenset()) -> Any:  # type: ignore[assignment]
    """An abstract syntax tree as lists and strings that are the same in every version of Python."""
    if isinstance(node, list):
        return [_canonical(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    body = fields.get("body")
    if isinstance(body, list):
        has_docstring = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node)
        kept = [statement for statement in body[1 if has_docstring else 0 :] if not _assigns(statement, skip)]
        fields["body"] = kept
    return [type(node).__name__, {key: _canonical(value) for key, value in fields.items() if value not in (None, [])}]


def _assigns(statement: ast.stmt, names: set[str]) -> bool:
    return isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id in names for target in statement.targets
    )


def stamp(recipe_module: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """What every file of evidence begins with, followed by `content`."""
    return {
        "schema": SCHEMA,
        "recipe": recipe_module.rsplit(".", 1)[-1],
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        **content,
    }
