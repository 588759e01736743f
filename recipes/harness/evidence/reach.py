"""A hash of the code that makes a recipe's numbers: of what its `train` or `compare` reaches, and nothing else.

Reached is what a function names, directly or through what it names: functions, classes and constants of the recipe's
module, of `pipelines` and of the harness. Of a plain class a method counts where something that is reached names it.

Comments, docstrings, annotations, formatting and the text of errors do not count. Nor does what makes pictures and
logs, and what reads images (a digest of the images is recorded, whoever read them).
"""

import ast
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HARNESS, PIPELINES = Path(__file__).parents[1], Path(__file__).parents[3] / "pipelines"
OURS = ("recipes.", "pipelines", "tests.toys.")
NOT_FOLLOWED = (
    "recipes.harness.reporting",
    *(f"pipelines.{name}" for name in ("cifar10", "folders", "kept", "named", "quiet")),
)
# What the harness does around every run: seeds and threads, the call, and what becomes of its results.
JOB = "recipes.harness.running.job"
AROUND = ((JOB, "perform"), (JOB, "settle_threads"), (JOB, "record_of"), ("recipes.harness.running.run", "Run"))

CALLS = "what is called when it is imported"

Place = tuple[str, str]  # A module, and a name in it: "function", or "Class.method".


def _digest_of_files() -> str:
    """A hash of all that processes share once they are forked: the pipelines, and what carries runs out."""
    whole = hashlib.sha256()
    for path in [*sorted(PIPELINES.glob("*.py")), *sorted((HARNESS / "running").glob("*.py"))]:
        whole.update(path.name.encode() + path.read_bytes())
    return whole.hexdigest()


LOADED = _digest_of_files()  # When this process, or the one that it was forked from, imported them.


def is_as_loaded() -> bool:
    """Whether those files are still what this process runs."""
    return _digest_of_files() == LOADED


def code_hash(module: str, function: str, settings: tuple[str, ...] = ()) -> str:
    """A hash of `parts`: 16 hexadecimal digits."""
    return hash_of(parts(module, function, settings))


def hash_of(found: Mapping[str, str]) -> str:
    """A hash of the hashes of parts."""
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()[:16]


@functools.cache
def parts(module: str, function: str, settings: tuple[str, ...] = ()) -> dict[str, str]:
    """ "module.name" -> a hash, of all that a function of a module reaches, and of what the harness does around it.

    The module's names in `settings` hold what was tuned. That is recorded with each run, and is no code.
    """
    reached: dict[Place, str] = {}
    named: set[str] = set()  # Every attribute that something reached asks for.
    methods: dict[Place, ast.stmt] = {}  # Of reached classes, and not reached yet.
    todo: list[Place] = [(module, function), (module, CALLS), *AROUND]
    while todo:
        place = todo.pop()
        if place in reached or (place[0] == module and place[1] in settings):
            continue
        nodes = [methods.pop(place)] if place in methods else _modules(place[0]).defined.get(place[1], [])
        if not nodes:  # It is imported there, or a module itself.
            todo += _followed(_modules(place[0]).imported.get(place[1]))
            continue
        if isinstance(nodes[0], ast.ClassDef) and not nodes[0].bases:
            shell, of_it = _without_methods(nodes[0])
            methods |= {(place[0], f"{place[1]}.{name}"): method for name, method in of_it.items()}
            nodes = [shell]
        plain = [_PLAIN.visit(_copy(node)) for node in nodes]
        reached[place] = hashlib.sha256(json.dumps([_canonical(node) for node in plain]).encode()).hexdigest()[:16]
        for node in plain:
            todo += _uses(node, place[0])
            named |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        todo += [method for method in methods if method[1].split(".")[1] in named]
    return {f"{where}.{name}": digest for (where, name), digest in sorted(reached.items())}


class _Module:
    """What the names of a module stand for."""

    def __init__(self, tree: ast.Module) -> None:
        self.defined: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, tuple[str, str]] = {}  # Wherever in the module: a module, and a name in it or "".
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                self.imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                self.imported |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
        for statement in tree.body:
            for name in _names_given(statement):
                self.defined.setdefault(name, []).append(statement)


def _names_given(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        yield CALLS  # It may set what everything else depends on.
    elif not isinstance(statement, (ast.Import, ast.ImportFrom)):
        loops = [part.target for part in ast.walk(statement) if isinstance(part, ast.comprehension)]
        inner = {part for target in loops for part in ast.walk(target)}  # Known within a comprehension alone.
        for node in ast.walk(statement):  # Assignments of all kinds, also within an `if` or a `for`, and to a part.
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in inner:
                yield node.id
            elif isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                yield from (part.id for part in ast.walk(node.value) if isinstance(part, ast.Name))


@functools.cache
def _modules(name: str) -> _Module:
    path = _path_of(name)
    return _Module(ast.parse(path.read_text(encoding="utf-8")) if path else ast.Module([], []))


def _path_of(module: str) -> Path | None:
    """The file of a module; None where there is no such module."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # What stands before the last dot is no package.
        return None
    return Path(spec.origin) if spec and spec.origin else None


def forget() -> None:
    """Read the files again the next time."""
    _modules.cache_clear()
    parts.cache_clear()


def _followed(target: Place | None) -> list[Place]:
    """Where an import leads, as far as it is ours."""
    if target is None or not target[1] or not f"{target[0]}.".startswith(OURS):
        return []
    return [] if ".".join(target).startswith(NOT_FOLLOWED) else [target]


def _uses(node: ast.AST, module: str) -> list[Place]:
    """The places that a statement of a module names: `name`, and `other.name` where `other` is a module of ours."""
    found: list[Place] = []
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            found.append((module, part.id))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            target = ".".join(filter(None, _modules(module).imported.get(part.value.id, ())))
            if f"{target}.".startswith(OURS) and _path_of(target):
                found += _followed((target, part.attr))
    return found


def _without_methods(node: ast.ClassDef) -> tuple[ast.ClassDef, dict[str, ast.FunctionDef]]:
    """A class that inherits from none, without those of its methods that nothing but a caller by name can call."""
    methods = {
        part.name: part for part in node.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("__")
    }
    rest = [part for part in node.body if part not in methods.values()] or [ast.Pass()]
    return ast.ClassDef(node.name, node.bases, node.keywords, rest, node.decorator_list), methods


def _copy(node: ast.stmt) -> ast.stmt:
    (copied,) = ast.parse(ast.unparse(node)).body
    return copied


class _Plain(ast.NodeTransformer):
    """Takes away what makes no number: annotations and the text of errors."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value else ast.Expr(node.target)

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(kind)


_PLAIN = _Plain()


def _canonical(node: Any) -> Any:
    """An abstract syntax tree as lists and strings that are the same in every version of Python."""
    if isinstance(node, list):
        return [_canonical(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
        fields["body"] = fields["body"][1:]
    return [type(node).__name__, {key: _canonical(value) for key, value in fields.items() if value not in (None, [])}]
