"""Tell whether published evidence is stale: its code, table, tuned settings or defaults have changed since."""

from collections.abc import Iterable
from typing import Any

import msgspec

from lab.evidence import code_hash
from lab.evidence.records import EvidenceError
from lab.evidence.schemas import Evidence, Origin, Record, TuningSweep, check_recipe
from lab.experiment import Experiment


def staleness(experiment: Experiment, found: Evidence | TuningSweep) -> str:
    """Why evidence or a sweep is not of the code at hand, as the end of a sentence; empty if it is.

    Raises:
        EvidenceError: it is of the code at hand, but of another recipe.
    """
    if found.code != experiment.code:
        return "the code that makes the numbers has changed since"
    if problem := check_recipe(found, experiment.name, experiment.names):
        raise EvidenceError(f"What is published of {experiment.name} can't be used: {problem}.")
    if isinstance(found, TuningSweep):
        return "" if experiment.sweep else "the recipe tunes nothing any more"
    if experiment.table and found.table != experiment.table.digest(experiment.name):
        return "its table of results has changed since"
    if others := tuned_otherwise(experiment, found.records):
        return f"the arguments or what was tuned of {', '.join(others)} have changed since"
    if others := set_otherwise(experiment, found):
        return f"the default of {', '.join(others)} at budget {found.budget} has changed since"
    return ""


def set_otherwise(experiment: Experiment, found: Origin) -> list[str]:
    """The fields of Config that were measured with another value than they have now at that budget.

    A field that Config did not have then can't differ: code that reads it changes the hash. What it has no more
    differs where it was set.
    """
    usual = as_read_back(vars(experiment.config_at(found.budget)))
    gone = [name for name, value in found.config.items() if name not in usual and value is not None]
    return [name for name, value in usual.items() if found.config.get(name, value) != value] + gone


def tuned_otherwise(experiment: Experiment, records: Iterable[Record]) -> list[str]:
    """The variants whose runs had other tuned settings than the recipe has for them now."""
    changed = set()
    for record in records:
        if record.settings != as_read_back(experiment.settings(record.variant)):
            changed.add(record.variant)
    return [name for name in experiment.names if name in changed]


def as_read_back(content: Any) -> Any:
    """Content as a file of JSON has it: with lists for tuples."""
    return msgspec.json.decode(msgspec.json.encode(content))


def changed_parts(experiment: Experiment, found: Origin) -> list[str]:
    """The functions, classes and constants that are not as they were when evidence was measured."""
    return code_hash.changed(found.parts, experiment.parts) if found.parts else []
