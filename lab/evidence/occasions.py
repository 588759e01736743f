"""Occasions: timings of one machine within one stretch of time have something in common."""

import hashlib
import platform
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from lab.evidence.schemas import Record

GAP = timedelta(hours=2)  # After so long a pause another occasion begins.
NEVER = datetime.min


def now() -> str:
    """This minute in UTC, as `Record.began` has it."""
    return in_utc().isoformat(timespec="minutes")


def in_utc() -> datetime:
    """The time in UTC, without saying so."""
    return datetime.now(UTC).replace(tzinfo=None)


def host() -> str:
    """A hash of this machine's name."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def occasions_of(records: Iterable[Record]) -> dict[int, int]:
    """seed -> the number of its occasion, from 0 on in the order in which they began.

    Another machine is another occasion, and so is the same one after a pause of two hours. Records that do not say when
    they were made, as older ones, are all of one.
    """
    spans: dict[str, dict[int, tuple[datetime, datetime]]] = {}
    for record in records:
        began, end = span_of(record)
        mine = spans.setdefault(record.host, {})
        first, last = mine.get(record.seed, (began, end))
        mine[record.seed] = min(first, began), max(last, end)
    stretches: list[tuple[datetime, list[int]]] = []
    for mine in spans.values():
        until: datetime | None = None
        for seed, (began, end) in sorted(mine.items(), key=lambda item: (item[1], item[0])):
            if until is None or began - until >= GAP:
                stretches.append((began, []))
            stretches[-1][1].append(seed)
            until = end if until is None else max(until, end)
    return {seed: number for number, (_, seeds) in enumerate(sorted(stretches)) for seed in seeds}


def span_of(record: Record) -> tuple[datetime, datetime]:
    """When a run began and ended, as far as it says so."""
    if not record.began:
        return NEVER, NEVER
    began = datetime.fromisoformat(record.began)
    return began, began + timedelta(seconds=record.seconds.get("total", 0.0))


def timings(timed: Iterable[str]) -> set[str]:
    """Of the metrics that are another number in every run those that are times: memory does not depend on the hour."""
    return {metric for metric in timed if "memory" not in metric}
