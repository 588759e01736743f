"""`Table`: results that are measured once and looked up by many runs."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from lab.evidence.provenance import ROOT
from lab.evidence.records import EvidenceError, read
from lab.evidence.schemas import Record, Trial, TuningSweep
from lab.tuning import Trials


@dataclass(frozen=True)
class Table:
    """Results of every combination of the `fields`' values at every seed: `measure(setting, run)`, its metrics.

    `measure` is a function of the recipe's module. Its runs are of variant "setting", and their config is the setting.
    """

    measure: Callable[[dict[str, Any], Any], dict[str, float]]
    fields: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]

    VARIANT = "setting"

    def carry_out(self, variants: Iterable[str], trials: Trials) -> tuple[list[Record], list[Record]]:
        """Measure all of it, by calling `trials` with (variant, seed, config fields) triples."""
        settings = [dict(zip(self.fields, setting, strict=True)) for setting in self._settings()]
        return trials([(self.VARIANT, seed, setting) for seed in self.seeds for setting in settings]), []

    def winners(self, search: Iterable[Trial]) -> dict[str, Any]:
        """Nothing wins in a table."""
        return {}

    def read(self, experiment: str) -> dict[tuple[Any, ...], np.ndarray]:
        """The published table of a recipe: setting, in the order of the fields -> float (seeds, metrics).

        Raises:
            EvidenceError: it is missing, broken or not whole.
        """
        table: dict[tuple[Any, ...], list[list[float]]] = {setting: [] for setting in self._settings()}
        tried = set()
        for record in self._published(experiment):
            setting = tuple(record.config[name] for name in self.fields)
            table[setting].append(list(record.metrics.values()))
            tried.add((setting, record.seed))
        whole = set(itertools.product(table, self.seeds))
        if tried != whole or any(len(rows) != len(self.seeds) for rows in table.values()):
            raise EvidenceError(
                f"The table of {experiment} is not whole: `python -m recipes.{experiment} tune` measures it again."
            )
        return {setting: np.array(rows) for setting, rows in table.items()}

    def digest(self, experiment: str) -> str:
        """A hash of the published table, for the evidence of what was looked up.

        Raises:
            EvidenceError: it is missing or broken.
        """
        return hashlib.sha256(msgspec.json.encode(self._published(experiment))).hexdigest()[:16]

    def _settings(self) -> list[tuple[Any, ...]]:
        return list(itertools.product(*self.fields.values()))

    def _published(self, experiment: str) -> list[Trial]:
        """Its records, each of one of the settings, and all with the same metrics."""
        path = ROOT / "results" / experiment / "tuning.json"
        records = read(path, TuningSweep).search
        for record in records:
            if problem := self._complaint(record, records[0]):
                raise EvidenceError(f"The table {path} can't be used: {problem}.")
        return records

    def _complaint(self, record: Trial, first: Trial) -> str:
        for name, values in self.fields.items():
            if record.config.get(name) not in values:
                return f"{name} {record.config.get(name)!r} is none of its settings"
        return "" if list(record.metrics) == list(first.metrics) else "its metrics are not the same everywhere"
