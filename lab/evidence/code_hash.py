"""A hash of the code that makes an experiment's numbers.

It covers the recipe and the recipes that it imports, `lab/core`, `pipelines/batches.py`, `pipelines/splits.py`, and the
experiment's own measuring functions: each function, class and constant as a syntax tree. Comments, docstrings,
annotations, error texts, imports and the file that something is in do not count.
"""

import ast
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# What a module of `lab.experiments` declares. All else in it counts, if a function or a class in it needs it.
DECLARED = {"CLAIMS", "EXPERIMENT", "PANELS", "TUNING", "UNITS"}
# What EXPERIMENT hands over that makes numbers. Variants, flags and augmentation are recorded with each run.
WIRING = {"callbacks", "compare", "extra", "feed", "output", "prepare", "train"}
DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
UNCOUNTED = ("annotation", "returns", "type_comment", "type_params")
Definitions = dict[str, list[ast.stmt]]


def hash_of(parts: Mapping[str, str]) -> str:
    """A hash of the hashes of parts, whatever they are called: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(sorted(parts.values())).encode()).hexdigest()[:16]


@functools.cache
def parts(recipe: str, experiment: str, tuned: tuple[str, ...] = ()) -> dict[str, str]:
    """ "file: name" -> a hash, of every definition that an experiment's numbers depend on.

    `recipe` and `experiment` are modules. The names in `tuned` hold what was tuned: that is recorded with each run, and
    is no code.
    """
    return _parts(recipe, experiment, tuned, shared_parts())


def parts_on_disk(recipe: str, experiment: str, tuned: tuple[str, ...] = ()) -> dict[str, str]:
    """Like `parts`, but of the files as they are now. `parts` keeps what this process read first, and so runs."""
    _tree.cache_clear()
    return _parts(recipe, experiment, tuned, _shared())


def _parts(recipe: str, experiment: str, tuned: tuple[str, ...], shared: dict[str, str]) -> dict[str, str]:
    found = dict(shared)
    own, measuring = _path_of(recipe), _path_of(experiment)
    for path in _with_recipes_imported([own, measuring]):
        definitions = _definitions(path, but={*tuned, *DECLARED})
        found |= _hashes(path, definitions if path != measuring or own == measuring else _needed(definitions))
    return found | dict(_wiring(measuring))


@functools.cache
def shared_parts() -> dict[str, str]:
    """The parts that all experiments have. The files are read at the first call, and not again."""
    return _shared()


def _shared() -> dict[str, str]:
    shared = [*(ROOT / "lab/core").glob("*.py"), ROOT / "pipelines/batches.py", ROOT / "pipelines/splits.py"]
    return {name: value for path in sorted(shared) for name, value in _hashes(path, _definitions(path))}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of parts that are new, gone or other than before; what was only moved is left out."""
    found = {name for name in before if before[name] not in now.values()}
    return sorted(found | {name for name in now if now[name] not in before.values()})


def _wiring(path: Path) -> Iterator[tuple[str, str]]:
    """The measuring functions that a module's EXPERIMENT names, and the lambdas that it holds."""
    for node in _definitions(path).get("EXPERIMENT", []):
        given = {word.arg: word.value for word in getattr(getattr(node, "value", None), "keywords", [])}
        content = json.dumps([(name, _canonical(given[name])) for name in sorted(WIRING & given.keys())])
        where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
        yield f"{where}: EXPERIMENT", hashlib.sha256(content.encode()).hexdigest()[:16]


def _path_of(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    return Path(spec.origin or "") if spec else Path()


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _with_recipes_imported(paths: list[Path]) -> list[Path]:
    """Files, the recipes that they import, and those that these import."""
    for path in paths:  # It grows on the way.
        for node in ast.walk(_tree(path)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                package = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                names = [package.rstrip("."), *(f"{package}{alias.name}" for alias in node.names)]
                files = [ROOT / f"{name.replace('.', '/')}.py" for name in names if name.startswith("recipes.")]
                paths += [file for file in files if file.exists() and file not in paths]
    return list(dict.fromkeys(paths))


def _definitions(path: Path, but: Iterable[str] = ()) -> Definitions:
    """What a module defines, by name. Statements that define nothing are under an empty name."""
    found: Definitions = {}
    for node in _tree(path).body:
        if not _says_nothing(node):
            for name in _names(node) or [""]:
                found.setdefault(name, []).append(node)
    return {name: nodes for name, nodes in found.items() if name not in but}


def _names(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines or changes: X in `X = 1`, `X["a"] = 1` and `X.update(a=1)`."""
    if isinstance(node, DEFINING):
        return [node.name]
    if isinstance(node, ast.Expr):
        return [_root(node.value)]
    loops = [inner.target for inner in ast.walk(node) if isinstance(inner, ast.comprehension)]
    local = {id(part) for target in loops for part in ast.walk(target)}  # Names that end with the comprehension.
    stored = [part for part in ast.walk(node) if isinstance(getattr(part, "ctx", None), ast.Store)]
    return sorted({_root(part) for part in stored if id(part) not in local} - {""})


def _root(node: ast.AST) -> str:
    """X of `X`, `X["a"].b` and `X.update()`; empty if it is of nothing that has a name."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _needed(definitions: Definitions) -> Definitions:
    """The functions and classes of a module, and the constants that they name."""
    todo = [name for name, nodes in definitions.items() if isinstance(nodes[0], DEFINING)]
    found: Definitions = {}
    while todo:
        name = todo.pop()
        if name in definitions and name not in found:
            found[name] = definitions[name]
            todo += [part.id for node in found[name] for part in ast.walk(node) if isinstance(part, ast.Name)]
    return found


def _hashes(path: Path, definitions: Definitions) -> Iterator[tuple[str, str]]:
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
    for name, nodes in definitions.items():
        content = json.dumps([_canonical(node) for node in nodes])
        yield f"{where}: {name}".rstrip(": "), hashlib.sha256(content.encode()).hexdigest()[:16]


def _says_nothing(node: ast.stmt) -> bool:
    """Whether a statement makes no number: an import, a docstring, an annotation, or what runs only as a script."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.If):
        return any(name in ast.dump(node.test) for name in ("'__main__'", "'TYPE_CHECKING'"))
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _canonical(node: Any) -> Any:
    """A syntax tree as lists and strings that are the same in every version of Python."""
    if isinstance(node, list):
        return [_canonical(part) for part in node if not (isinstance(part, ast.stmt) and _says_nothing(part))]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.AnnAssign) and node.value:
        node = ast.Assign([node.target], node.value)
    if isinstance(node, ast.Raise):  # The kind of an error counts, its text does not.
        return ["Raise", _canonical(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)]
    fields = {name: value for name, value in ast.iter_fields(node) if name not in UNCOUNTED}
    if isinstance(node, ast.Assert):
        del fields["msg"]
    if isinstance(node, ast.JoinedStr):  # Python 3.12.1 ends some with an empty text.
        fields["values"] = [part for part in node.values if getattr(part, "value", None) != ""]
    if isinstance(node, ast.ClassDef):  # A dataclass has fields that are only annotated.
        fields["fields"] = [part.target for part in node.body if isinstance(part, ast.AnnAssign) and not part.value]
    return [type(node).__name__, {name: _canonical(value) for name, value in fields.items() if value not in (None, [])}]
