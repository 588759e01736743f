"""A published run, drawn at random, is measured again: to the bit where it was measured, else within its spread."""

import dataclasses
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from msgspec.structs import replace
from scipy import stats

from lab import Experiment
from lab.evidence.provenance import machine, versions
from lab.evidence.records import read, values_of
from lab.evidence.schemas import Evidence, Record
from lab.experiments import NAMES, load
from lab.report.published import Published
from tests.conftest import ROOT
from tests.toys import dice, made_up

# Seconds that a drawn run may have taken, with all that it is compared with in its process. Some take a quarter of an
# hour: they are drawn only where everything is tested.
LONGEST = 120 if os.environ.get("KERAS_RECIPES_DRAW") else 1800
RARELY = 1e-3  # How seldom a run that is right may be taken for one that is not.


def candidates() -> list[tuple[str, str, int]]:
    found = []
    for name in NAMES:
        experiment, evidence = load(name), Published.read(load(name)).evidence
        if (
            evidence is None or Published.read(experiment).stale or experiment.images == "full"
        ):  # Not in this repository.
            continue
        records = [record for record in evidence.records if record.variant not in experiment.opens]
        found += [
            (name, record.variant, record.seed) for record in records if taken(record, records, experiment) < LONGEST
        ]
    return found


def taken(record: Record, records: list[Record], experiment: Experiment) -> float:
    """Seconds that it took to come to a record: what is compared in one process needs all variants."""
    needed = [record] if experiment.compare is None else [other for other in records if other.seed == record.seed]
    return sum(other.seconds.get("total", 0) for other in needed)


def differing(again: Record, published: Record, evidence: Evidence, experiment, same_place: bool) -> list[str]:
    """The metrics, and the rest of a record, in which a run that was done again is not as it was."""
    timed, parts = experiment.timed, ["status", "curves", "correct", "weights", "settings", "config"]
    names = sorted((set(again.metrics) | set(published.metrics)) - timed)
    if same_place:
        wrong = [part for part in parts if getattr(again, part) != getattr(published, part)]
        return wrong + [name for name in names if again.metrics.get(name) != published.metrics.get(name)]
    wrong = [part for part in ("settings", "config") if getattr(again, part) != getattr(published, part)]
    # At the edge of what is stable a variant diverges at some seeds.
    usual = {record.status for record in evidence.records if record.variant == again.variant}
    wrong += [] if again.status in usual else ["status"]
    for name in names:
        values = np.array(list(values_of(evidence.records, name)[again.variant].values()))
        spread = max(values.std(ddof=1), 1e-9) * (1 + 1 / len(values)) ** 0.5
        limit = stats.t.ppf(1 - RARELY / 2 / len(names), len(values) - 1) * spread
        if abs(again.metrics.get(name, np.inf) - values.mean()) > limit:
            wrong.append(name)
    return wrong


@pytest.mark.processes
def test_a_published_run_drawn_at_random_is_measured_again(tmp_path):
    possible = candidates()
    if not possible:
        pytest.skip("All that is published is of earlier code.")
    name, variant, seed = random.SystemRandom().choice(possible)
    experiment = load(name)
    evidence = Published.read(experiment).evidence
    (published,) = [r for r in evidence.records if (r.variant, r.seed) == (variant, seed)]
    # What compares variants in one process needs them all, since one may begin where another ended.
    chosen = (
        [variant]
        if experiment.compare is None
        else [other for other in experiment.names if other not in experiment.opens]
    )
    flags = ["--variants", *chosen, "--seeds", "1", "--first-seed", str(seed), "--no-log", "--logdir", str(tmp_path)]
    command = [sys.executable, "-m", experiment.command, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1000 + 3 * LONGEST)
    (path,) = tmp_path.rglob("evidence.json")
    (again,) = [record for record in read(path, Evidence).records if record.variant == variant]
    same_place = evidence.machine == machine() and evidence.versions == versions()
    wrong = differing(again, published, evidence, experiment, same_place)
    assert wrong == [], f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-500:]}"


@pytest.fixture
def one():
    """A run, and the evidence that it is of."""
    evidence = made_up.of_values({"fair": np.linspace(0.49, 0.51, 10)})
    return evidence.records[0], evidence, dice.EXPERIMENT


@pytest.mark.parametrize("same_place", [True, False])
def test_a_run_that_is_as_published_differs_in_nothing(one, same_place):
    record, evidence, experiment = one
    assert differing(record, record, evidence, experiment, same_place) == []


def test_elsewhere_a_run_may_differ_in_bits_and_not_by_more_than_seeds_do(one):
    record, evidence, experiment = one
    accuracy = record.metrics["test_accuracy"]
    slightly = replace(record, metrics={**record.metrics, "test_accuracy": accuracy + 1e-9}, weights="other")
    assert differing(slightly, record, evidence, experiment, same_place=False) == []
    assert differing(slightly, record, evidence, experiment, same_place=True) == ["weights", "test_accuracy"]
    widely = replace(record, metrics={**record.metrics, "test_accuracy": accuracy - 0.3})
    assert differing(widely, record, evidence, experiment, same_place=False) == ["test_accuracy"]
    assert differing(replace(record, status="diverged"), record, evidence, experiment, same_place=False) == ["status"]


def test_what_is_compared_in_one_process_takes_as_long_as_all_of_it_at_one_seed():
    records = made_up.of_values({"fair": [0.5, 0.5], "loaded": [0.6, 0.6]}).records
    records = [replace(record, seconds={"total": 10.0**place}) for place, record in enumerate(records)]
    alone, together = dice.EXPERIMENT, dataclasses.replace(dice.EXPERIMENT, train=None, compare=print)
    (first,) = [r for r in records if (r.variant, r.seed) == ("fair", records[0].seed)]
    (other,) = [r for r in records if r.variant == "loaded" and r.seed == first.seed]
    assert taken(first, records, alone) == first.seconds["total"]
    assert taken(first, records, together) == first.seconds["total"] + other.seconds["total"]
