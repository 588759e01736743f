"""A hash of the code that makes an experiment's numbers.

It covers the recipe and the recipes that it imports, `lab/core`, `pipelines/batches.py`, how images are split, and the
experiment's own measuring functions: each function, class and constant as a syntax tree. Comments, docstrings,
annotations, error texts, imports and the file that something is in do not count.
"""

import ast
import functools
import hashlib
import importlib.util
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# What a module of `lab.experiments` declares; all else in it measures, if a function or a class in it needs it.
DECLARED = {"CLAIMS", "EXPERIMENT", "PANELS", "TUNING", "UNITS"}


def shared_files() -> list[Path]:
    """The files that all experiments depend on."""
    return [*sorted((ROOT / "lab/core").glob("*.py")), ROOT / "pipelines/batches.py", ROOT / "pipelines/splits.py"]


def _digest_of_files() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in shared_files())).hexdigest()


LOADED = _digest_of_files()  # When this process, or the one that it was forked from, imported them.


def is_as_loaded() -> bool:
    """Whether the shared files are still what this process runs."""
    return _digest_of_files() == LOADED


def hash_of(parts: Mapping[str, str]) -> str:
    """A hash of the hashes of parts, whatever they are called: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(sorted(parts.values())).encode()).hexdigest()[:16]


@functools.cache
def parts(recipe: str, experiment: str, tuned: tuple[str, ...] = ()) -> dict[str, str]:
    """ "file: name" -> a hash, of every definition that an experiment's numbers depend on.

    `recipe` and `experiment` are modules. The names in `tuned` hold what was tuned: that is recorded with each run, and
    is no code.
    """
    found: dict[str, str] = {}
    for path in shared_files():
        found |= _hashes(path, _definitions(path))
    own = _path_of(recipe)
    for path in dict.fromkeys([own, *_recipes_imported(own)]):
        kept = {name: nodes for name, nodes in _definitions(path).items() if name not in {*tuned, *DECLARED}}
        found |= _hashes(path, kept)
    if (path := _path_of(experiment)) != own:
        found |= _hashes(path, _measuring(_definitions(path)))
    return found


def forget() -> None:
    """Read the files again the next time."""
    parts.cache_clear()


def _path_of(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def _recipes_imported(path: Path) -> Iterator[Path]:
    """The files of other recipes that a recipe imports, and that those import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            other = ROOT / f"{name.replace('.', '/')}.py"
            if name.startswith("recipes.") and other.exists() and other != path:
                yield other
                yield from _recipes_imported(other)


def _definitions(path: Path) -> dict[str, list[ast.stmt]]:
    """What a module defines, by name; statements that define nothing are under an empty name. Imports are left out."""
    found: dict[str, list[ast.stmt]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) or _is_text(node) or _is_main(node):
            continue
        for name in _names(node) or {""}:
            found.setdefault(name, []).append(node)
    return found


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        return {part.id for part in ast.walk(node.targets[0].value) if isinstance(part, ast.Name)}
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__main__" in ast.dump(node.test)


def _measuring(definitions: Mapping[str, list[ast.stmt]]) -> dict[str, list[ast.stmt]]:
    """The functions and classes of an experiment, and the constants that they name."""
    functions = (ast.FunctionDef, ast.ClassDef)
    todo = [name for name, nodes in definitions.items() if isinstance(nodes[0], functions)]
    found: dict[str, list[ast.stmt]] = {}
    while todo:
        name = todo.pop()
        if name in found or name not in definitions:
            continue
        found[name] = definitions[name]
        todo += [part.id for node in found[name] for part in ast.walk(node) if isinstance(part, ast.Name)]
    return found


def _hashes(path: Path, definitions: Mapping[str, Collection[ast.stmt]]) -> dict[str, str]:
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
    found = {}
    for name, nodes in definitions.items():
        content = json.dumps([_canonical(node) for node in nodes])
        found[f"{where}: {name}".rstrip(": ")] = hashlib.sha256(content.encode()).hexdigest()[:16]
    return found


def _canonical(node: Any) -> Any:
    """A syntax tree as lists and strings that are the same in every version of Python."""
    if isinstance(node, list):
        kept = (item for item in node if not isinstance(item, (ast.Import, ast.ImportFrom)))
        return [_canonical(item) for item in kept if not (isinstance(item, ast.stmt) and _is_text(item))]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.AnnAssign):
        node = ast.Assign([node.target], node.value) if node.value else ast.Pass()
    if isinstance(node, ast.Raise):  # The kind of an error counts, its text does not.
        return ["Raise", _canonical(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)]
    fields = {
        name: value for name, value in ast.iter_fields(node) if name not in ("annotation", "returns", "type_comment")
    }
    return [type(node).__name__, {name: _canonical(value) for name, value in fields.items() if value not in (None, [])}]
