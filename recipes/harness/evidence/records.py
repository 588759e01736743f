"""Records on disk: a JSON file a run, an `evidence.json` an invocation, and the one validator of what is read back."""

import base64
import binascii
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 3
Record = dict[str, Any]
STATUSES = ("finished", "diverged", "failed")
LOOKS = (10, 20, 40, 80)  # Numbers of seeds at which verdicts are looked at.
LARGEST = 3.5e38  # A float32 is no larger; the loss of a training that diverges comes near it.


def write_json(path: Path, content: Any, *, durable: bool = True) -> None:
    """Write `content` so that `path` holds either its old content or the whole new one, whatever happens.

    Unless it is `durable`, a loss of power may take it with it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            if durable:
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
    except (ValueError, RecursionError) as error:
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


def levels_of(records: Iterable[Record], metric: str, timed: bool) -> dict[str, dict[int, float]]:
    """The same as a table or a figure shows it, where variants stand beside one another and are not paired by seed.

    What is `timed` counts over the seeds that all variants have, if there are any: a machine is quicker on some days,
    and seeds that were added to some of the variants would make these look slower or quicker than the others.
    """
    values = values_of(records, metric)
    shared = set.intersection(*map(set, values.values())) if timed and values else set()
    return {name: {seed: mine[seed] for seed in mine if seed in shared or not shared} for name, mine in values.items()}


def printable(text: str) -> str:
    """`text` on one line, without escape sequences and control characters: fit for a terminal."""
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)", "", text)
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def explain(error: BaseException) -> str:
    """One line that says why a run failed."""
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":
        return f"out of memory ({name})"
    text = printable(str(error))
    return f"{name}: {text[:300]}" if text else name


# What a record must hold: the field, whether a value will do, and in words what would.
_FIELDS: tuple[tuple[str, Any, str], ...] = (
    ("variant", lambda v: isinstance(v, str) and v, "a name"),
    ("seed", lambda v: _whole(v), "a whole number of at least 0"),
    ("config", lambda v: isinstance(v, dict), "settings"),
    ("status", lambda v: v in STATUSES, f"one of {', '.join(STATUSES)}"),
    ("cause", lambda v: v is None or isinstance(v, str), "text or null"),
    ("metrics", lambda v: isinstance(v, dict) and all(map(_number, v.values())), "finite numbers by name"),
    ("curves", lambda v: isinstance(v, dict) and all(map(_curve, v.values())), "lists of numbers by name"),
    ("correct", lambda v: v is None or _packed(v), "packed bits or null"),
    ("seconds", lambda v: isinstance(v, dict) and all(map(_number, v.values())), "seconds by name"),
    ("peak_memory_mib", lambda v: v is None or _number(v), "a number or null"),
    ("settings", lambda v: isinstance(v, dict), "settings"),
    ("weights", lambda v: v is None or isinstance(v, str), "a hash or null"),
    ("blocks", lambda v: isinstance(v, list) and all(map(_block, v)), "how disturbed each timed block was"),
)


def complaint_of(record: Any) -> str:
    """What is wrong with a record, as the end of a sentence; empty if nothing is."""
    if not isinstance(record, dict):
        return "it is no record of a run"
    for name, will_do, wanted in _FIELDS:
        if name not in record:
            return f"it lacks {name!r}"
        if not will_do(record[name]):
            return f"its {name!r} should be {wanted}"
    if record["status"] != "failed" and "total" not in record["seconds"]:
        return "it lacks how many seconds it took"
    for name, value in record["metrics"].items():
        if name.endswith("accuracy") and not 0 <= value <= 1:
            return f"its {name} of {value:g} is no share"
    return ""


def complaint_of_bits(record: Record, test_images: int) -> str:
    """Whether a record's test accuracy is that of its own per-image correctness; empty if it is, or has none."""
    accuracy = record["metrics"].get("test_accuracy")
    if record["correct"] is None or accuracy is None:
        return ""
    if len(base64.b64decode(record["correct"])) != math.ceil(test_images / 8):
        return f"its per-image correctness is not that of {test_images:,} images"
    counted = float(unpack_bits(record["correct"], test_images).mean())
    return (
        "" if abs(counted - accuracy) < 1e-6 else f"its test accuracy is {accuracy:.4f}, its own bits say {counted:.4f}"
    )


def complaint_of_evidence(found: Any, recipe: str, variants: Sequence[str]) -> str:
    """What is wrong with an `evidence.json` of a comparison by `recipe`, which has `variants`; empty if nothing is."""
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return f"it is not of schema {SCHEMA}"
    if found.get("recipe") != recipe:
        return f"it is of recipe {found.get('recipe')!r}"
    wanted: dict[str, type | tuple[type, ...]] = {
        "kind": str, "budget": str, "config": dict, "data": dict, "machine": dict, "versions": dict, "code": str,
        "command": str, "data_digest": str, "test_images": int, "classes": int, "keras": dict,
        "commit": (str, type(None)), "variants": list, "seeds": list, "records": list,
    }  # fmt: skip
    for name, kind in wanted.items():
        if name not in found or not isinstance(found[name], kind):
            return f"it lacks {name!r}, or that is of another type"
    if "elapsed_seconds" not in found or not {"source", "train_images", "split_seed"} <= set(found["data"]):
        return "it lacks how long it took, or of which images it is"
    if len(set(map(str, found["variants"]))) != len(found["variants"]):
        return "a variant stands in it twice"
    if unknown := [name for name in found["variants"] if name not in variants]:
        return f"the recipe has no variant {unknown[0]!r}"
    if not all(map(_whole, found["seeds"])) or len(set(found["seeds"])) != len(found["seeds"]):
        return "its seeds should be whole numbers, each once"
    for number, record in enumerate(found["records"]):
        if problem := complaint_of(record):
            return f"of record {number + 1}, {problem}"
        if problem := complaint_of_bits(record, found["test_images"]):
            return f"of {record['variant']} seed {record['seed']}, {problem}"
    runs = sorted((record["variant"], record["seed"]) for record in found["records"])
    if "until_decided" in found:
        return _complaint_of_looks(runs, found["variants"], min(found["seeds"], default=1))
    if runs != sorted((variant, seed) for variant in found["variants"] for seed in found["seeds"]):
        return f"it should have one record for each of {len(found['variants'])} variants at {len(found['seeds'])} seeds"
    return ""


def _complaint_of_looks(runs: Sequence[tuple[str, int]], variants: Sequence[str], first: int) -> str:
    """Of evidence that grew until it decided: each variant has as many seeds as some look, from the first one on."""
    for variant in variants:
        seeds = [seed for name, seed in runs if name == variant]
        if seeds != list(range(first, first + len(seeds))) or len(seeds) not in LOOKS:
            return f"{variant} should have the seeds from {first} on, and {', '.join(map(str, LOOKS))} of them"
    return ""


def complaint_of_job(record: Record, variant: str, seed: int, config: Mapping[str, Any]) -> str:
    """Whether a record is that of a job that is to be done; empty if it is."""
    if (record["variant"], record["seed"]) != (variant, seed):
        return f"it is of {record['variant']} seed {record['seed']}"
    return "" if record["config"] == json.loads(json.dumps(dict(config))) else "it was made with other settings"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _block(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("variant"), str) and _number(value.get("others"))


def _curve(values: Any) -> bool:
    return isinstance(values, list) and all(value is None or _number(value) for value in values)


def _packed(text: Any) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return False
    return isinstance(text, str)
