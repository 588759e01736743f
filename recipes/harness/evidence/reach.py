"""A hash of the code that makes a recipe's numbers."""

import ast
import functools
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

RUNNING = tuple(
    f"recipes.harness.running.{path.stem}" for path in sorted((Path(__file__).parents[1] / "running").glob("[!_]*.py"))
)
HARNESS, PIPELINES = Path(__file__).parents[1], Path(__file__).parents[3] / "pipelines"


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


# What is asked of the numbers and how they are shown, not what they are.
DECLARED = {"CLAIMS", "TUNING", "UNITS", "PANELS", "RECIPE"}


@functools.cache
def code_hash(
    module: str, without: tuple[str, ...] = (), only: str = "", running: bool = True, but: tuple[str, ...] = ()
) -> str:
    """A hash of the code that makes a recipe's numbers: its module, what that imports from `pipelines`, and all of
    `recipes.harness.running`, which carries runs out and scores them.

    Comments, docstrings and formatting do not count, nor do the assignments to CLAIMS, TUNING, UNITS, PANELS and RECIPE
    (which say what is asked of the numbers and how they are shown, not what they are) and to the names in `without`.
    With `only`, the name of a function of the module, nothing counts but that and what it uses. Without `running`, the
    harness does not count, nor do the modules in `but`.
    """
    digest = hashlib.sha256()
    todo, done = [module, *(RUNNING if running else ())], set()
    while todo:
        name = todo.pop(0)
        spec = importlib.util.find_spec(name)
        if name in done or name in but or spec is None or spec.origin is None:
            continue
        done.add(name)
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        if only and name == module:
            tree = _used_by(only, tree)
        skip = {*DECLARED, *without} if name == module else set()
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
