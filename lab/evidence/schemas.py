"""What is wrong with a file that is read back: records, evidence, sweeps, summaries, links, floors, a search's books.

A function for each kind, `complaint_of_...`, says it as the end of a sentence, and nothing where all is well. What is
read from disk may have been cut off, altered, or written by somebody else; whoever reads it asks here first.
"""

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.evidence.records import LOOKS, SCHEMA, EvidenceError, Record, read_json, unpack_bits

STATUSES = ("finished", "diverged", "failed")
SEAL = "sha256"
LARGEST = 3.5e38  # A float32 is no larger; the loss of a training that diverges comes near it.

# Of each kind of file what it must hold: the field, whether a value will do, and in words what would.
Fields = tuple[tuple[str, Callable[[Any], bool], str], ...]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _or_null(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _by_name(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _with(fields: Fields) -> Callable[[Any], bool]:
    return lambda value: not _complaint(value, fields)


def _packed(text: Any) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return False
    return isinstance(text, str)


def _anything(value: Any) -> bool:
    return True


_settings = _by_name(_anything)
_BLOCK: Fields = (("variant", _text, "a name"), ("others", _number, "a share"))
_RECORD: Fields = (
    ("variant", lambda value: _text(value) and bool(value), "a name"),
    ("seed", _whole, "a whole number of at least 0"),
    ("config", _settings, "settings"),
    ("status", lambda value: value in STATUSES, f"one of {', '.join(STATUSES)}"),
    ("cause", _or_null(_text), "text or null"),
    ("metrics", _by_name(_number), "finite numbers by name"),
    ("curves", _by_name(_list_of(_or_null(_number))), "lists of numbers by name"),
    ("correct", _or_null(_packed), "packed bits or null"),
    ("seconds", _by_name(_number), "seconds by name"),
    ("peak_memory_mib", _or_null(_number), "a number or null"),
    ("settings", _settings, "settings"),
    ("weights", _or_null(_text), "a hash or null"),
    ("blocks", _list_of(_with(_BLOCK)), "how disturbed each timed block was"),
)
_MACHINE: Fields = (
    ("cpu", _text, "a name"),
    ("cores", _whole, "a whole number"),
    ("gpus", _list_of(_text), "a list of names"),
    ("memory_gib", _or_null(_number), "a number or null"),
    ("system", _text, "a name"),
)


def _machine(value: Any) -> bool:
    return not _complaint(value, _MACHINE) and _list_of(_text)(value.get("abilities", []))


_IMAGES: Fields = (
    ("source", _text, "a name"),
    ("train_images", _or_null(_whole), "a whole number or null"),
    ("split_seed", _or_null(_whole), "a whole number or null"),
)
# What every file begins with that a measurement leaves.
_ORIGIN: Fields = (
    ("kind", _text, "text"),
    ("budget", lambda value: value in ("smoke", "quick", "full"), "one of smoke, quick, full"),
    ("config", _settings, "settings"),
    ("data", _with(_IMAGES), "of which images it is"),
    ("data_digest", _text, "a hash"),
    ("test_images", _whole, "a whole number"),
    ("classes", lambda value: _whole(value) and value >= 2, "a whole number of at least 2"),
    ("machine", _machine, "of which machine it is"),
    ("versions", _by_name(_text), "versions by name"),
    ("keras", _settings, "settings"),
    ("code", _text, "a hash"),
    ("command", _text, "text"),
    ("commit", _or_null(_text), "a hash or null"),
)
_EVIDENCE: Fields = (
    *_ORIGIN,
    ("elapsed_seconds", _or_null(_number), "a number or null"),
    ("variants", _list_of(_text), "a list of names"),
    ("seeds", _list_of(_whole), "a list of whole numbers"),
    ("records", _list_of(_anything), "a list of records"),
)
_TUNING: Fields = (
    *_ORIGIN,
    ("variants", _list_of(_text), "a list of names"),
    ("worker_seconds", _number, "a number"),
    ("winners", _by_name(_by_name(_or_null(_number))), "numbers by variant and setting"),
    ("search", _list_of(_anything), "a list of records"),
    ("curve", _list_of(_anything), "a list of records"),
)
_EFFECT: Fields = (
    ("mean", _number, "a number"),
    ("low", _number, "a number"),
    ("high", _number, "a number"),
    ("word", _text, "a verdict"),
)
_CLAIM: Fields = (
    ("id", _text, "text"),
    ("text", _text, "text"),
    ("source", _text, "text"),
    ("said", _or_null(_text), "text or null"),
    ("verdict", _text, "text"),
    ("numbers", _list_of(_text), "a list of texts"),
    ("effects", _list_of(_with(_EFFECT)), "a list of effects"),
    ("drawn", _list_of(_with(_EFFECT)), "a list of effects"),
)
_CLAIM_AT_FULL: Fields = (
    ("at_full", _text, "text"),
    ("at_quick_and_full", lambda value: _list_of(_text)(value) and len(value) == 2, "two texts"),
)
_SUMMARY: Fields = (
    ("question", _text, "text"),
    ("answer", _text, "text"),
    ("seeds", _whole, "a whole number"),
    ("quick_seconds", _or_null(_number), "a number or null"),
    ("stale", lambda value: isinstance(value, bool), "true or false"),
    ("claims", _list_of(_with(_CLAIM)), "a list of claims"),
)
_OF_MACHINE: Fields = (*_SUMMARY, ("machine", _machine, "of which machine it is"), ("code", _text, "a hash"))
_LINK: Fields = (
    ("from", _text, "a hash"),
    ("to", _text, "a hash"),
    ("config", _settings, "settings"),
    ("commit", _text, "a hash"),
    ("dropped", _list_of(_text), "a list of names"),
)
_FLOOR: Fields = (
    ("values", _list_of(_number), "a list of numbers"),
    ("mean", _number, "a number"),
    ("standard_deviation", _number, "a number"),
)
_FLOORS: Fields = (
    ("code", _text, "a hash"),
    ("settings", _by_name(_settings), "settings by variant"),
    ("config", _settings, "settings"),
    ("data_digest", _text, "a hash"),
    ("floors", _by_name(_with(_FLOOR)), "floors by variant"),
)
_TRIAL: Fields = (
    ("trial", _text, "a name"),
    ("settings", _settings, "settings"),
    ("epochs", _or_null(_whole), "a whole number or null"),
    ("validation_accuracy", _or_null(_number), "a number or null"),
    ("status", _text, "text"),
)
_PROGRESS: Fields = (
    ("epoch", _whole, "a whole number"),
    ("epochs", _whole, "a whole number"),
    ("accuracy", _or_null(_number), "a number or null"),
)
_SEARCH: Fields = (("found", _by_name(_list_of(_with(_TRIAL))), "trials by variant"),)


def _complaint(content: Any, fields: Fields) -> str:
    if not isinstance(content, dict):
        return "it is no object with fields"
    for name, will_do, wanted in fields:
        if name not in content:
            return f"it lacks {name!r}"
        if not will_do(content[name]):
            return f"its {name!r} should be {wanted}"
    return ""


def complaint_of(record: Any) -> str:
    """What is wrong with a record; empty if nothing is."""
    if not isinstance(record, dict):
        return "it is no record of a run"
    if problem := _complaint(record, _RECORD):
        return problem
    if record["status"] != "failed" and "total" not in record["seconds"]:
        return "it lacks how many seconds it took"
    for name, value in record["metrics"].items():
        if name.endswith("accuracy") and not 0 <= value <= 1:
            return f"its {name} of {value:g} is no share"
    return ""


def complaint_of_trial(record: Any) -> str:
    """The same of a record in a sweep or a table, of which less is kept."""
    if not isinstance(record, dict):
        return complaint_of(record)
    not_kept: Record = {"curves": {}, "correct": None, "seconds": {"total": 0}, "peak_memory_mib": None}
    not_kept |= {"settings": {}, "weights": None, "blocks": []}
    return complaint_of({**not_kept, **record})


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


def complaint_of_evidence(found: Any, experiment: str, variants: Sequence[str]) -> str:
    """What is wrong with an `evidence.json` of a comparison by `recipe`, which has `variants`; empty if nothing is."""
    if problem := _complaint_of_origin(found, experiment) or _complaint(found, _EVIDENCE):
        return problem
    if len(set(found["variants"])) != len(found["variants"]):
        return "a variant stands in it twice"
    if unknown := [name for name in found["variants"] if name not in variants]:
        return f"the recipe has no variant {unknown[0]!r}"
    if len(set(found["seeds"])) != len(found["seeds"]):
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


def _complaint_of_origin(found: Any, experiment: str) -> str:
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return f"it is not of schema {SCHEMA}"
    if found.get("recipe") != experiment:
        return f"it is of recipe {found.get('recipe')!r}"
    # Which functions it was measured with: it was not always written down.
    return "" if _by_name(_text)(found.get("parts", {})) else "its 'parts' should be hashes by name"


def _complaint_of_looks(runs: Sequence[tuple[str, int]], variants: Sequence[str], first: int) -> str:
    """Of evidence that grew until it decided: each variant has as many seeds as some look, from the first one on."""
    if strange := {name for name, _ in runs} - set(variants):
        return f"it has records of {min(strange)!r}, which is none of its variants"
    for variant in variants:
        seeds = [seed for name, seed in runs if name == variant]
        if seeds != list(range(first, first + len(seeds))) or len(seeds) not in LOOKS:
            return f"{variant} should have the seeds from {first} on, and {', '.join(map(str, LOOKS))} of them"
    return ""


def complaint_of_tuning(found: Any, experiment: str) -> str:
    """What is wrong with a `tuning.json` of a sweep or a table of `recipe`; empty if nothing is."""
    if problem := _complaint_of_origin(found, experiment) or _complaint(found, _TUNING):
        return problem
    if found["kind"] != "tuning":
        return "it is no tuning sweep"
    for record in (*found["search"], *found["curve"]):
        if problem := complaint_of_trial(record):
            return problem
        if strange := [name for name, value in record["config"].items() if isinstance(value, (list, dict))]:
            return f"--{strange[0]} should be one value"
    return ""


def complaint_of_summary(found: Any) -> str:
    """What is wrong with a `summary.json`; empty if nothing is."""
    if problem := _complaint(found, _SUMMARY):
        return problem
    for claim in found["claims"]:
        if "at_full" in claim and (problem := _complaint(claim, _CLAIM_AT_FULL)):
            return f"of claim {claim['id']!r}, {problem}"
        if not _text(claim.get("machine", "")):
            return f"of claim {claim['id']!r}, its 'machine' should be a name"
        if len(claim["numbers"]) < len(claim["effects"]):
            return f"of claim {claim['id']!r}, 'numbers' should be a text for each effect at least"
    return ""


def complaint_of_machine(found: Any) -> str:
    """What is wrong with a `machine-….json`, the verdicts of one kind of machine; empty if nothing is."""
    return _complaint(found, _OF_MACHINE) or complaint_of_summary(found)


def complaint_of_links(found: Any) -> str:
    """What is wrong with an `attested.json`; empty if nothing is."""
    if not isinstance(found, list):
        return "it is no list of links between versions"
    return next(filter(None, (_complaint(link, _LINK) for link in found)), "")


def complaint_of_floors(found: Any) -> str:
    """What is wrong with a `floors.json`; empty if nothing is."""
    if problem := _complaint(found, _FLOORS):
        return problem
    wrong = [name for name, floor in found["floors"].items() if not _number(floor.get("floor", floor.get("ceiling")))]
    return f"{wrong[0]!r} has neither a floor nor a ceiling" if wrong else ""


def complaint_of_search(found: Any) -> str:
    """What is wrong with a `search.json`, what a search has found; empty if nothing is."""
    return _complaint(found, _SEARCH)


def complaint_of_progress(found: Any) -> str:
    """What is wrong with a `progress.json`, what a run in flight says of itself; empty if nothing is."""
    return _complaint(found, _PROGRESS)


def read_whole(path: Path, complaint: Callable[[Any], str], remedy: str) -> Any:
    """Read a JSON file of which `complaint` says what is wrong with it; `remedy` is what to do then.

    Raises:
        EvidenceError: it is missing, broken, or of another kind.
    """
    found = read_json(path)
    if problem := complaint(found):
        raise EvidenceError(f"{path} can't be used, since {problem}: {remedy}.")
    return found


def sealed(record: Record) -> Record:
    """A record as it is put away: with a hash of all that it says, so that no part of it is altered unnoticed."""
    return {**record, SEAL: _hash(record)}


def unsealed(found: Any) -> tuple[Any, str]:
    """The record that was sealed, and what is wrong with its seal; empty if nothing is."""
    if not isinstance(found, dict):
        return found, ""
    record = {name: value for name, value in found.items() if name != SEAL}
    return record, "" if found.get(SEAL) == _hash(record) else "it is not as it was written"


def _hash(record: Record) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def complaint_of_job(record: Record, variant: str, seed: int, config: Mapping[str, Any]) -> str:
    """Whether a record is that of a job that is to be done; empty if it is."""
    if (record["variant"], record["seed"]) != (variant, seed):
        return f"it is of {record['variant']} seed {record['seed']}"
    return "" if record["config"] == json.loads(json.dumps(dict(config))) else "it was made with other settings"
