"""What the convergence test holds each recipe against: floors, measured at budget smoke."""

import math
import statistics
from collections.abc import Collection, Iterable
from pathlib import Path

from lab.evidence.provenance import without_folder
from lab.evidence.records import EvidenceError, read, values_of, write_json
from lab.evidence.schemas import Evidence, Floor, Floors, Record, check_recipe
from lab.experiment import Experiment
from lab.report import published

LEAST_SEEDS = 10
FLOOR_DEVIATIONS, LEAST_DEVIATIONS = 5, 3
FLOOR_OVER_CHANCE = 1.5


def floors(
    records: Iterable[Record], metric: str, fails: Collection[str], chance: float, test_images: int
) -> dict[str, Floor]:
    """variant -> its values of the metric, and the floor below which a test fails: five standard deviations below the
    mean. A variant whose point is that it fails has a ceiling, five above.

    A floor is never below 1.5 times chance, and that must lie at least three deviations below the mean. A ceiling's
    deviation is at least that of an accuracy over draws of the test images: runs that all end at chance have hardly
    any of their own.

    Raises:
        EvidenceError: the values scatter so widely that no floor would mean anything.
    """
    found = {}
    for variant, by_seed in values_of(records, metric).items():
        values = list(by_seed.values())
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        floor = ceiling = None
        if variant in fails:
            of_a_draw = math.sqrt(mean * (1 - mean) / test_images)
            ceiling = mean + FLOOR_DEVIATIONS * max(deviation, of_a_draw)
        elif mean - LEAST_DEVIATIONS * deviation < FLOOR_OVER_CHANCE * chance:
            raise EvidenceError(
                f"A floor of {variant} would lie below {FLOOR_OVER_CHANCE} times chance and mean nothing: train longer "
                "at smoke, or name the variant in `fails` if its point is that it fails."
            )
        else:
            floor = max(mean - FLOOR_DEVIATIONS * deviation, FLOOR_OVER_CHANCE * chance)
        found[variant] = Floor(values=values, mean=mean, standard_deviation=deviation, floor=floor, ceiling=ceiling)
    return found


def write_floors(experiment: Experiment, path: Path, results: Path | None = None) -> Path:
    """Compute floors from the evidence of runs at smoke and store them with the values that they come from.

    Raises:
        EvidenceError: another budget, too few seeds, runs that ended as they should not, or floors that mean nothing.
    """
    found = read(path, Evidence)
    if problem := check_recipe(found, experiment.name, experiment.names):
        raise EvidenceError(f"{path} can't be used: {problem}.")
    usual = ("finished", "diverged")
    clean = all(r.status == "finished" or (r.variant in experiment.fails and r.status in usual) for r in found.records)
    if found.budget != "smoke" or len(found.seeds) < LEAST_SEEDS or not clean:
        raise EvidenceError(
            f"{path} gives no floors: they need runs at budget smoke that all finished, of {LEAST_SEEDS} seeds or more."
        )
    origin = {name: getattr(found, name) for name in ("commit", "machine", "versions", "config", "data", "data_digest")}
    values = floors(found.records, experiment.floor, experiment.fails, 1 / found.classes, found.test_images)
    target = (results or published.RESULTS) / experiment.name / "floors.json"
    write_json(target, Floors(command=without_folder(found.command), floors=values, **origin))
    return target
