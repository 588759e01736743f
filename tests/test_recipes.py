"""Each recipe converges, stands on its own and is short; and what is special about those without a file of tests."""

import ast
import dataclasses
import functools
import re
import sys

import numpy as np
import pytest

from lab.evidence.records import read, values_of
from lab.evidence.schemas import Floor, Floors, Record
from lab.execute.job import Job, run_job
from lab.experiment import BUDGETS
from lab.experiments import NAMES, data_hunger, dirty_data, load, normalization, scaling
from lab.report.published import RESULTS
from pipelines import sources
from tests import recomputing
from tests.conftest import ROOT, typed_evidence_in

DATA = sources.load(sources.Request(train_images=1000))
SMOKE = sources.Request(train_images=BUDGETS["smoke"].train_images)
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("[!_]*.py"))
WITH_FLOORS = [name for name in NAMES if load(name).floor]
SEED = 301
SPLIT = dataclasses.replace(SMOKE, split_seed=SEED)  # As a job of that seed has it.


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype("uint8")


GENERIC = 0.15  # 1.5 times chance.


def floors_in(name: str) -> dict[str, Floor]:
    """What was recorded of a recipe at smoke, whether or not its code has changed since; nothing where nothing was."""
    path = RESULTS / name / "floors.json"
    return read(path, Floors).floors if path.exists() else {}


def bounds(name: str, variant: str) -> tuple[float, float]:
    """Between what a run at smoke must end: as its recorded seeds say, or above 1.5 times chance if it should learn."""
    recorded = floors_in(name).get(variant)
    if recorded is None:
        return (0.0 if variant in load(name).fails else GENERIC), 1.0
    return recorded.floor or 0.0, recorded.ceiling or 1.0


# All recipes: one variant converges.

WITHOUT = {"normalization": set(normalization.SWEPT), "scaling": set(scaling.TABLES)}
WITHOUT["data_hunger"] = set(data_hunger.OTHERS)
WITHOUT["dirty_data"] = set(dirty_data.TABLES)  # An accuracy on images.
RECORDS: dict[str, Record] = {}  # Of the runs that are jobs.


def by_job(name: str, variant: str, folder, **fewer: int) -> float:
    """The accuracy of one run at smoke, as the lab does it."""
    config = {**dataclasses.asdict(load(name).config_at("smoke")), **fewer}
    module = load(name).module
    (record,) = run_job(Job(module, (variant,), SEED, config, SMOKE, str(folder), logging=False, alone=True))
    assert record.status == "finished", record.cause
    RECORDS[name] = record
    return record.metrics[load(name).floor]


def accuracy_of(model, part: sources.Split) -> float:
    logits = np.concatenate([np.asarray(model(part.images[start : start + 500])) for start in range(0, len(part), 500)])
    return float((logits.argmax(axis=1) == part.labels).mean())


# Those of the usual form train the first variant that is meant to learn, by a job of the lab.
CONVERGE = {
    "activations": (functools.partial(by_job, epochs=2), "relu_2"),
    "dirty_data": (by_job, "raw_0"),
    "data_hunger": (by_job, "convnet_1000"),
    "custom_loop": (functools.partial(by_job, same_steps=0), "by_hand"),  # Without time and memory.
    "functional_multi_input": (by_job, "both"),
    "mixed_precision": (functools.partial(by_job, steps=0), "float32_small"),
    "normalization": (functools.partial(by_job, images=750), "batch"),
    "strong_baseline": (functools.partial(by_job, held_out=1, images=750, width=0.25), "baseline"),
}
SHORTER = {"activations", "normalization", "strong_baseline"}  # Than recorded floors are of.


# In tests of their own.
LEARN_ALONE = {"distributed", "input_pipeline", "monitoring", "search", "speedrun", "subclassed_routing"}
LEARN_ALONE |= {"evaluation", "memory", "seeds", "transfer_learning"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LEARN_ALONE])
def test_one_variant_converges(tmp_path, name):
    experiment = load(name)
    first = next(variant for variant in experiment.usual("quick") if variant not in experiment.fails)
    train, variant = CONVERGE.get(name, (by_job, first))
    floor = GENERIC if name in SHORTER else bounds(name, variant)[0]
    with recomputing.watch(SMOKE, SEED) as watched:
        assert train(name, variant, tmp_path) >= floor >= GENERIC
    recomputing.check_fits(watched)
    for scored in watched.scored:
        recomputing.check_scores(scored)
    if name in RECORDS and watched.scored:
        recomputing.check_record(RECORDS[name], watched.scored[-1])


@pytest.mark.variants
@pytest.mark.parametrize("name", NAMES)
def test_at_smoke_every_variant_ends_where_its_recorded_seeds_say(smoke, name):
    done, logs = smoke(name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    experiment = load(name)
    # Of any of the recipes that were run by the same command.
    lines = re.findall("Not measured here.*: (.*)[.]", done.stdout)
    not_measured = {claim for line in lines for claim in line.split(", ")}
    for claim in experiment.claims:
        if not claim.check:
            assert (f": {claim.text} [{claim.source}]" in done.stdout) == (claim.id not in not_measured), claim.id
    records = typed_evidence_in(logs).records
    usual = set(experiment.usual("smoke"))
    assert {record.variant for record in records} == usual
    assert list(logs.rglob("figure.png"))
    assert list(logs.rglob("events.out.tfevents.*"))
    if not experiment.floor:
        return
    reached = values_of(records, experiment.floor)
    # Where some variants train and others are looked at or timed, those of a plain run train.
    assert set(reached) >= (set(experiment.usual("quick")) if experiment.apart else usual - WITHOUT.get(name, set()))
    assert all(record.status == "finished" for record in records if record.variant not in experiment.fails)
    for variant, (value,) in ((variant, values.values()) for variant, values in reached.items()):
        least, most = bounds(name, variant)
        assert least <= value <= most, variant


@pytest.mark.parametrize("name", WITH_FLOORS)
def test_floors_are_five_deviations_from_ten_seeds_and_mean_something(name):
    experiment = load(name)
    assert set(floors_in(name)) in (set(), set(experiment.usual("quick")))
    for variant, recorded in floors_in(name).items():
        values = recorded.values
        assert len(values) >= 10
        five = 5 * np.std(values, ddof=1)
        if variant in experiment.fails:
            draw = (np.mean(values) * (1 - np.mean(values)) / len(DATA.test)) ** 0.5
            assert recorded.ceiling == pytest.approx(np.mean(values) + max(five, 5 * draw)), variant
        else:
            assert recorded.floor == pytest.approx(max(np.mean(values) - five, 1.5 * 0.1)), variant
            assert np.mean(values) - 0.6 * five >= 1.5 * 0.1, variant


# All recipes: short, plain, and without the lab.

KNOWN = {"keras", "tensorflow", "numpy", "keras_tuner", "sklearn", "scipy", *sys.stdlib_module_names}
ENTRIES = ["Run", "Copy", "Careful", "Numbers", "Papers"]


def imported(nodes) -> list[str]:
    """The first part of the names of modules that statements import, one for each import."""
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name.split(".")[0] for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            found.append((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_read_from_top_to_bottom_by_someone_who_knows_keras(name):
    text = (ROOT / "recipes" / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 120
    assert max(map(len, text.splitlines())) <= 110
    docstring = (ast.get_docstring(tree) or "").splitlines()
    assert len(docstring) <= 15
    assert docstring[0].endswith("?")
    entries = [line.split()[0] for line in docstring if re.match(r"[A-Z][a-z]+ {2,}\S", line)]
    assert entries == ENTRIES
    assert docstring[2].strip(), "the answer comes second"
    *body, main = tree.body
    assert ast.unparse(main).startswith("if __name__ == '__main__':")
    builds_on_others = (
        {"recipes"} if name in ("speedrun", "strong_baseline") else set()
    )  # Which ones: tests/test_project.py.
    assert set(imported(node for statement in body for node in ast.walk(statement))) <= KNOWN | builds_on_others
    assert imported(ast.walk(main)) == ["lab"]


def test_every_recipe_has_an_experiment_and_every_experiment_a_recipe():
    assert sorted({load(name).recipe.__name__ for name in NAMES}) == sorted(f"recipes.{name}" for name in RECIPES)
