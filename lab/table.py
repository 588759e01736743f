"""`Table`: results that are measured once and looked up by many runs."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lab.evidence.provenance import ROOT
from lab.evidence.records import EvidenceError, read
from lab.evidence.schemas import Config, Record, Trial, TuningSweep
from lab.tuning import Trials


@dataclass(frozen=True)
class Table:
    """Results of every combination of the `fields`' values at every seed: `measure(setting, run)`, its metrics.

    `measure` is a function of the recipe's module. Its runs are of variant "setting", and their config is the setting.
    Where the table is `optional`, the experiment measures something without it too.
    """

    measure: Callable[[Config, Any], dict[str, float]]
    fields: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]
    optional: bool = False

    VARIANT = "setting"

    def sweep(self, variants: Iterable[str], do: Trials) -> tuple[list[Record], list[Record]]:
        """Measure all of it. Like `Tuning.sweep`, which returns a curve as well."""
        settings = [dict(zip(self.fields, setting, strict=True)) for setting in self._settings()]
        return do([(self.VARIANT, seed, setting) for seed in self.seeds for setting in settings]), []

    def winners(self, search: Sequence[Trial]) -> dict[str, dict[str, Any]]:
        """Nothing wins in a table."""
        return {}

    def read(self, experiment: str) -> dict[tuple[Any, ...], np.ndarray]:
        """The published table of a recipe: setting, in the order of the fields -> float (seeds, metrics).

        Raises:
            EvidenceError: it is missing, broken or not whole.
        """
        trials = self._published(experiment)
        found = {(*map(trial.config.get, self.fields), trial.seed): list(trial.metrics.values()) for trial in trials}
        wanted = {(*setting, seed) for setting in self._settings() for seed in self.seeds}
        if len(trials) != len(found) or set(found) != wanted or len({tuple(trial.metrics) for trial in trials}) != 1:
            raise EvidenceError(
                f"The table of {experiment} lacks results, or has others than those of its settings and seeds: "
                f"`python -m recipes.{experiment} tune` measures it again."
            )
        return {setting: np.array([found[(*setting, seed)] for seed in self.seeds]) for setting in self._settings()}

    def digest(self, experiment: str) -> str:
        """A hash of the published table, for the evidence of what was looked up; empty if it is optional and missing.

        Raises:
            EvidenceError: it is missing or broken.
        """
        if self.optional and not self._path(experiment).exists():
            return ""
        return hashlib.sha256(msgspec.json.encode(self._published(experiment))).hexdigest()[:16]

    def _settings(self) -> list[tuple[Any, ...]]:
        return list(itertools.product(*self.fields.values()))

    @staticmethod
    def _published(experiment: str) -> list[Trial]:
        return read(Table._path(experiment), TuningSweep).search

    @staticmethod
    def _path(experiment: str) -> Path:
        return ROOT / "results" / experiment / "tuning.json"
