"""Each recipe converges, stands on its own and is short; and what is special about those without a file of tests."""

import ast
import dataclasses
import functools
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.evidence.records import read, values_of
from lab.evidence.schemas import Floor, Floors, Record
from lab.execute.job import Job, run_job
from lab.experiment import BUDGETS
from lab.experiments import NAMES, load
from lab.experiments import subclassed_routing as routing_experiment
from lab.report.published import RESULTS
from pipelines import sources
from recipes import subclassed_routing
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
    "custom_loop": (functools.partial(by_job, same_steps=0), "by_hand"),  # Without time and memory.
    "functional_multi_input": (by_job, "both"),
    "mixed_precision": (functools.partial(by_job, steps=0), "float32_small"),
}


LEARN_ALONE = {"distributed", "input_pipeline", "monitoring", "search", "subclassed_routing"}  # In tests of their own.


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LEARN_ALONE])
def test_one_variant_converges(tmp_path, name):
    experiment = load(name)
    first = next(variant for variant in experiment.usual("quick") if variant not in experiment.fails)
    train, variant = CONVERGE.get(name, (by_job, first))
    floor, _ = bounds(name, variant)
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
    for claim in experiment.claims:
        assert f"\n{claim.id}  {claim.text} [{claim.source}]: " in done.stdout
    records = typed_evidence_in(logs).records
    usual = set(experiment.usual("smoke"))
    assert {record.variant for record in records} == usual
    assert list(logs.rglob("figure.png"))
    assert list(logs.rglob("events.out.tfevents.*"))
    if not experiment.floor:
        return
    reached = values_of(records, experiment.floor)
    assert set(reached) == usual
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

KNOWN = {"keras", "tensorflow", "numpy", "keras_tuner", "sklearn", *sys.stdlib_module_names}
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
    assert set(imported(node for statement in body for node in ast.walk(statement))) <= KNOWN
    assert imported(ast.walk(main)) == ["lab"]


def test_every_recipe_has_an_experiment_and_every_experiment_a_recipe():
    assert sorted({load(name).recipe.__name__ for name in NAMES}) == sorted(f"recipes.{name}" for name in RECIPES)


# subclassed_routing


@pytest.fixture(scope="module")
def routed():
    def build(gate: str) -> subclassed_routing.Routed:
        keras.utils.set_random_seed(1)
        return subclassed_routing.Routed(gate)

    return build


def deep_share(model, images: np.ndarray) -> float:
    """The share of images that the deep path answered: its head is made to shout."""
    model.deep.layers[-1].bias.assign(tf.fill([10], 1e6))
    return float((np.asarray(tf.function(model)(images))[:, 0] > 1e5).mean())


def scores_of(model, images) -> np.ndarray:
    features = model.stem(images)
    return np.asarray(model.score(features, model.shallow(features)))


@pytest.mark.parametrize("gate", ["variance", "confidence", "random"])
def test_a_gate_sends_as_many_images_deep_as_its_threshold_says(routed, images, gate):
    model = routed(gate)
    scores = scores_of(model, images)
    shares = []
    for threshold in (-1e9, float(np.median(scores)), 1e9):
        model.threshold.assign(threshold)
        shares.append(deep_share(model, images))
    assert np.allclose(shares, [1.0, 0.5, 0.0], atol=0.2 if gate == "random" else 0.02)


def test_confidence_sends_the_images_deep_that_the_short_path_is_unsure_of(routed, images):
    model = routed("confidence")
    features = model.stem(images)
    sure = keras.ops.max(keras.ops.softmax(model.shallow(features)), axis=1)
    assert np.corrcoef(np.asarray(sure), scores_of(model, images))[0, 1] < -0.99


def test_variance_is_that_of_the_stems_activations(routed, images):
    model = routed("variance")
    features = np.asarray(model.stem(images))
    assert scores_of(model, images) == pytest.approx(features.var(axis=(1, 2, 3)), rel=1e-4)


def test_images_keep_their_own_logits(routed, images):
    """Each image has the logits of the path that it was sent down, in its own place."""
    model = routed("variance")
    features = model.stem(images)
    scores = scores_of(model, images)
    model.threshold.assign(float(np.median(scores)))
    expected = np.where(
        (scores >= np.median(scores))[:, None], np.asarray(model.deep(features)), np.asarray(model.shallow(features))
    )
    assert np.asarray(model(images)) == pytest.approx(expected, abs=1e-4)


def test_the_always_gates_take_one_path(routed, images):
    for gate, path in (("always_shallow", "shallow"), ("always_deep", "deep")):
        model = routed(gate)
        assert np.array_equal(model(images), getattr(model, path)(model.stem(images)))


def test_the_batch_gate_sends_whole_batches(routed, images):
    model = routed("batch_variance")
    middle = float(np.mean(scores_of(model, images)))
    for factor, share in ((0.5, 1.0), (2.0, 0.0)):
        model.threshold.assign(factor * middle)
        assert deep_share(model, images) == share


def test_a_gate_is_set_to_send_half_of_the_validation_images_deep(routed):
    trained = routed("random")
    model = subclassed_routing.with_gate("confidence", trained, DATA)
    assert deep_share(model, DATA.validation.images) == pytest.approx(0.5, abs=0.01)
    assert np.array_equal(model.stem.get_weights()[0], trained.stem.get_weights()[0])


def test_both_paths_learn_from_all_images_and_the_deep_one_can_alone(routed, images):
    for gate, trained in (("random", {"stem", "shallow", "deep"}), ("always_deep", {"stem", "deep"})):
        model = routed(gate)
        ungated = subclassed_routing.exits(model)
        logits = ungated(images)
        assert set(logits) == trained - {"stem"}
        for name in logits:
            path = getattr(model, name)
            assert np.asarray(logits[name]) == pytest.approx(np.asarray(path(model.stem(images))), abs=1e-4)
        ids = {id(weight) for weight in ungated.trainable_weights}
        parts = {"stem", "shallow", "deep"}
        assert {p for p in parts if {id(w) for w in getattr(model, p).trainable_weights} <= ids} == trained


def test_an_auc_by_hand():
    """Of five images the deep path alone gets the first and the last right: four of six pairs are in order."""
    deep, shallow = np.array([1, 1, 0, 0, 1], bool), np.array([0, 1, 0, 1, 0], bool)
    asked = np.array([0.9, 0.1, 0.5, 0.3, 0.2])
    assert routing_experiment.auc(deep, shallow, asked) == {"auc": pytest.approx(4 / 6)}
    assert routing_experiment.auc(deep, deep, asked) == {}


def test_a_random_gate_draws_anew_at_each_seed(images):
    draws = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        draws.append(scores_of(subclassed_routing.Routed("random"), images))
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize("gate", ["batch_variance", "variance", "confidence", "random"])
def test_every_gate_trains_in_a_graph_under_fit(routed, images, gate):
    model = routed(gate)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    history = model.fit(images, np.arange(64) % 10, batch_size=16, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])


@pytest.mark.parametrize("gate", ["batch_variance", "variance", "confidence", "always_deep"])
def test_a_saved_model_predicts_the_same(routed, images, tmp_path, gate):
    model = routed(gate)
    model.threshold.assign(float(np.median(scores_of(model, images))))
    model.save(tmp_path / "routed.keras")
    loaded = keras.models.load_model(tmp_path / "routed.keras")
    assert loaded.gate == gate
    assert np.array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))
