"""Records and evidence with whatever values a test is about, and harmless ones everywhere else."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import force_setattr

from lab.evidence.schemas import SCHEMA, Evidence, Images, Machine, Record, TuningSweep

MACHINE = Machine(cpu="a", cores=2, gpus=[], memory_gib=8.0, system="Linux x86_64")


def record(variant: str = "a", seed: int = 1, **fields: Any) -> Record:
    usual: dict[str, Any] = {
        "config": {},
        "status": "finished",
        "cause": None,
        "metrics": {},
        "curves": {},
        "correct": None,
        "seconds": {"total": 1.0},
        "peak_memory_mib": None,
        "settings": {},
        "weights": None,
        "blocks": [],
    }
    return Record(variant=variant, seed=seed, **{**usual, **fields})


def origin(**fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "schema": SCHEMA,
        "recipe": "toy",
        "machine": MACHINE,
        "versions": {},
        "keras": {},
        "commit": None,
        "kind": "comparison",
        "budget": "quick",
        "config": {},
        "data": Images(source="subset", train_images=None, split_seed=None),
        "data_digest": "0",
        "test_images": 10,
        "classes": 10,
        "code": "0",
        "command": "python -m recipes.toy",
    }
    return {**usual, **fields}


def evidence(records: Iterable[Record], **fields: Any) -> Evidence:
    """Evidence of these records, with the variants and seeds that they have; some may be missing."""
    records = list(records)
    names = list(dict.fromkeys(record.variant for record in records))
    seeds = list(dict.fromkeys(record.seed for record in records))
    found = Evidence(
        **{**origin(**fields), "variants": [], "seeds": [], "records": [], "elapsed_seconds": None, **fields}
    )
    for name, value in {"variants": names, "seeds": seeds, "records": records, **fields}.items():
        force_setattr(found, name, value)  # Past the check that evidence is whole.
    return found


def of_values(values: Mapping[str, Iterable[float]], metric: str = "test_accuracy", **fields: Any) -> Evidence:
    """Evidence of one metric: variant -> its value at seed 1, 2 and so on."""
    records = [
        record(variant, seed, metrics={metric: value})
        for variant, column in values.items()
        for seed, value in enumerate(column, 1)
    ]
    return evidence(records, **fields)


def sweep(**fields: Any) -> TuningSweep:
    usual: dict[str, Any] = {"variants": ["a"], "worker_seconds": 60.0, "winners": {}, "search": [], "curve": []}
    return TuningSweep(**{**origin(kind="tuning"), **usual, **fields})
