"""`python -m lab join`: put evidence that was measured in parts, perhaps on several machines, into one file."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from lab.evidence.provenance import PARTED
from lab.evidence.records import EvidenceError, read
from lab.evidence.schemas import Evidence, Origin, Trial, TuningSweep
from lab.execute.invocation import SAME, same
from lab.experiments import load
from lab.report.publishable import winners_of
from pipelines.errors import UsageError

SAME_ANYWHERE = (*SAME, "recipe", "schema", "versions", "keras", "environment")


def joined(paths: Sequence[Path]) -> Evidence | TuningSweep:
    """The runs of several files of evidence, or the trials of several tuning sweeps, as one.

    All runs of a seed come from one file, and all trials of a variant from one machine.

    Raises:
        EvidenceError: they are not of the same code, images, settings or versions, two of them have the same seed, or
            trials of a variant come from two machines.
    """
    if not paths:
        raise UsageError("Name the files to join.")
    found: list[Evidence | TuningSweep] = []
    for path in paths:
        is_sweep = read(path, dict[str, Any]).get("kind") == "tuning"
        found.append(read(path, TuningSweep) if is_sweep else read(path, Evidence))
    for path, other in zip(paths[1:], found[1:], strict=True):
        if unlike := [name for name in SAME_ANYWHERE if not same(found[0], other, [name])]:
            raise EvidenceError(f"{path} and {paths[0]} differ in {', '.join(unlike)}: measure one of them again.")
        if str(other.commit).endswith("+changes"):
            raise EvidenceError(f"{path} was measured with code that is not committed: measure it again.")
    return functools.reduce(_both, found)


def _both(one: Any, other: Any) -> Any:
    return _with_sweep(one, other) if isinstance(one, TuningSweep) else _with_evidence(one, other)


def _with_evidence(one: Evidence, other: Evidence) -> Evidence:
    """The runs of both, with the second one's machine noted for its seeds where it is another."""
    _refuse("seeds", set(one.seeds) & set(other.seeds))
    if set(one.variants) != set(other.variants):
        raise EvidenceError("The files have other variants: each seed needs all of them.")
    elsewhere = dict(one.elsewhere)
    for place, seeds in other.places.items():
        if place != one.machine.kind:
            elsewhere[place] = sorted([*elsewhere.get(place, []), *seeds])
    return structs.replace(
        one,
        seeds=sorted([*one.seeds, *other.seeds]),
        records=sorted([*one.records, *other.records], key=lambda record: record.seed),
        elsewhere=elsewhere,
        elapsed_seconds=None,
        command=_command(one, other),
    )


def _with_sweep(one: TuningSweep, other: TuningSweep) -> TuningSweep:
    """The trials of both, each once. Where both have some of a variant, as of a widened grid, the best wins."""
    common, places = set(one.variants) & set(other.variants), {one.machine.kind, other.machine.kind}
    if common and len(places) > 1:
        raise EvidenceError(f"The trials of {', '.join(sorted(common))} come from two machines: measure them on one.")
    done = {_what(trial) for trial in one.search}
    search = [*one.search, *(trial for trial in other.search if _what(trial) not in done)]
    winners = {**one.winners, **other.winners}
    if common:
        winners = winners_of(load(one.recipe), search, one.budget)
    return structs.replace(
        one,
        variants=list(dict.fromkeys([*one.variants, *other.variants])),
        winners=winners,
        search=search,
        curve=[*one.curve, *other.curve],
        worker_seconds=one.worker_seconds + other.worker_seconds,
        command=_command(one, other),
    )


def _what(trial: Trial) -> tuple[str, int, bytes]:
    return trial.variant, trial.seed, msgspec.json.encode(trial.config, order="sorted")


def _command(one: Origin, other: Origin) -> str:
    return f"{one.command}{PARTED}{other.command}"


def _refuse(what: str, common: set) -> None:
    if common:
        raise EvidenceError(f"Two of the files have the same {what}: {', '.join(map(str, sorted(common)))}.")
