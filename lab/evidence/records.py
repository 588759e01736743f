"""Records on disk: a JSON file a run, an `evidence.json` an invocation."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lab.evidence.schemas import Trial

Kind = TypeVar("Kind")
AnyRecord = TypeVar("AnyRecord", bound=Trial)
NOTES = "notes.txt"  # In the folder of a run or an invocation: which by-products could not be made, and why.


def write_json(path: Path, content: Any, *, durable: bool = True) -> None:
    """Write `content` as `write_whole` does."""
    text = json.dumps(msgspec.to_builtins(content), indent=1, allow_nan=False)
    write_whole(path, f"{text}\n".encode(), durable=durable)


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` so that `path` holds either its old content or the whole new one, whatever happens.

    Unless it is `durable`, a loss of power may take it with it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def read(path: Path, kind: type[Kind], remedy: str = "delete it and measure again") -> Kind:
    """Read a JSON file as a type of `lab.evidence.schemas`.

    Raises:
        EvidenceError: it is missing, broken, or not of that type. The sentence names the field, and ends with `remedy`.
    """
    try:
        if path.exists() and not path.is_file():  # Reading a pipe would wait for ever.
            raise EvidenceError(f"{path} is no file: move it away.")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise EvidenceError(f"{path} can't be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EvidenceError(f"{path} can't be used ({error}): {remedy}.") from error


def read_json(path: Path) -> Any:
    """Read any JSON file.

    Raises:
        EvidenceError: it is missing or broken.
    """
    return read(path, Any)


class EvidenceError(Exception):
    """Evidence that is missing, broken, or not of the code at hand. Commands print the sentence and exit with 1."""


def finished(records: Iterable[AnyRecord]) -> list[AnyRecord]:
    """The records that count: all but the failed ones. A diverged run is a result."""
    return [record for record in records if record.status != "failed"]


def values_of(records: Iterable[Trial], metric: str) -> dict[str, dict[int, float]]:
    """variant -> seed -> value of `metric`, of the records that count and have it."""
    values: dict[str, dict[int, float]] = {}
    for record in finished(records):
        if metric in record.metrics:
            values.setdefault(record.variant, {})[record.seed] = record.metrics[metric]
    return values


def printable(text: str) -> str:
    """`text` on one line, without escape sequences and control characters: fit for a terminal."""
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)", "", text)
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def explain(error: BaseException) -> str:
    """One line that says why a run failed."""
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":
        return f"out of memory ({name})"
    try:
        text = printable(str(error))
    except Exception:  # An exception of a reader's own may fail here.
        text = ""
    return f"{name}: {text[:300]}" if text else name


@contextlib.contextmanager
def by_product(folder: Path, name: str) -> Iterator[None]:
    """Whatever fails in making a by-product is noted in the run's folder, and the run goes on without it."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(OSError), (folder / NOTES).open("a", encoding="utf-8") as file:
            file.write(f"No {name}: {explain(error)}\n")


def notes_in(folder: Path) -> list[str]:
    """What is noted in a folder and those below it, each sentence once."""
    paths = sorted(folder.rglob(NOTES))
    return list(dict.fromkeys(line for path in paths for line in path.read_text(encoding="utf-8").splitlines()))
