"""What is committed in `results/`, and whether it is of the code at hand."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lab.evidence.lineage import read_followed
from lab.evidence.provenance import ROOT
from lab.evidence.records import read
from lab.evidence.schemas import Evidence, Floor, Floors, Origin, TuningSweep
from lab.evidence.staleness import staleness
from lab.experiment import Experiment

RESULTS = ROOT / "results"
STALE = "measured with an earlier version of this recipe"
Found = TypeVar("Found", bound=Origin)


@dataclass(frozen=True)
class Published:
    """A recipe's committed evidence and tuning sweep, if there are any, and why each is stale, if it is.

    Stale evidence was measured with an earlier version of the recipe, and its card says so.
    """

    evidence: Evidence | None
    tuning: TuningSweep | None
    stale: str = ""
    stale_tuning: str = ""

    @classmethod
    def read(cls, experiment: Experiment, results: Path | None = None) -> "Published":
        """What is in `results`/NAME.

        Raises:
            EvidenceError: a file that is broken.
        """
        folder = (results or RESULTS) / experiment.name
        evidence = _read(folder / "evidence.json", Evidence)
        tuning = _read(folder / "tuning.json", TuningSweep)
        stale, stale_tuning = (staleness(experiment, found) if found else "" for found in (evidence, tuning))
        return cls(evidence, tuning, stale, stale_tuning)


def _read(path: Path, kind: type[Found]) -> Found | None:
    return read_followed(path, kind) if path.exists() else None


def floors_of(experiment: Experiment, results: Path | None = None) -> dict[str, Floor]:
    """Variant -> what the convergence test holds it against; empty where nothing was measured.

    Raises:
        EvidenceError: the file is broken.
    """
    path = (results or RESULTS) / experiment.name / "floors.json"
    remedy = f"measure them again with `python -m lab floors {experiment.name}`"
    return read(path, Floors, remedy).floors if path.exists() else {}
