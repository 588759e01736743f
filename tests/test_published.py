"""What is published agrees with the evidence beside it, and the evidence with the code."""

import importlib
import json
import re
import shutil

import pytest
from PIL import Image

from recipes.__main__ import NAMES
from recipes.harness import cli, evidence, publish
from recipes.harness.card import RESULTS
from recipes.optimizers import RECIPE, TUNED
from tests.conftest import ROOT

FOLDER = RESULTS / "optimizers"


def recipe_of(name):
    return importlib.import_module(f"recipes.{name}").RECIPE


@pytest.fixture(scope="module")
def found():
    return evidence.read_json(FOLDER / "evidence.json")


@pytest.fixture(scope="module")
def tuning():
    return evidence.read_json(FOLDER / "tuning.json")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_has_drifted(tmp_path, name):
    assert publish.drift(recipe_of(name), tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_drawn_by_the_pinned_matplotlib(name):
    """So where the pins are installed, the test above compares them dot by dot."""
    (pinned,) = re.findall(r"(?m)^matplotlib==([^ ]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    with Image.open(RESULTS / name / "figure.png") as figure:
        assert figure.info["Software"] == f"Matplotlib {pinned}"


@pytest.mark.parametrize("name", NAMES)
def test_the_evidence_is_of_the_code_at_hand(name):
    recipe = recipe_of(name)
    found = evidence.read_json(RESULTS / name / "evidence.json")
    assert publish.objections(recipe, found) == []
    assert len(found["seeds"]) >= publish.LEAST_SEEDS
    assert 0 not in found["seeds"]
    assert len(found["records"]) == len(found["seeds"]) * len(recipe.names)
    if recipe.sweep:
        assert publish.objections(recipe, evidence.read_json(RESULTS / name / "tuning.json")) == []


@pytest.mark.parametrize("name", NAMES)
def test_hparams_have_a_column_for_each_metric_of_the_recipe_and_no_other(name):
    found = evidence.read_json(RESULTS / name / "evidence.json")
    assert set(cli.metrics_of(recipe_of(name))) == {metric for r in found["records"] for metric in r["metrics"]}


@pytest.mark.parametrize("name", ["functional_skip", "sequential"])
def test_the_tuned_rates_are_the_sweeps_winners(name):
    sweep = evidence.read_json(RESULTS / name / "tuning.json")
    assert {record["seed"] for record in sweep["search"]} == {0}
    tuned = importlib.import_module(f"recipes.{name}").TUNED
    assert tuned == {variant: winners["accuracy"]["rate"] for variant, winners in sweep["winners"].items()}


def changed(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_drift_is_noticed_in_each_file(tmp_path):
    """The same check on copies with one number changed: it can fail."""
    readme = publish.README.read_text(encoding="utf-8")
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    number = re.search(r"\d\d\.\d\d ± \d\.\d\d", (FOLDER / "card.md").read_text(encoding="utf-8"))
    assert number
    changed(results / "optimizers" / "card.md", number.group(), "99.99 ± 0.01")
    changed(results / "optimizers" / "summary.json", '"quick_seconds": ', '"quick_seconds": 1')
    (tmp_path / "one").mkdir()
    assert publish.drift(RECIPE, tmp_path / "one", results, readme) == ["card.md", "summary.json"]

    shutil.rmtree(results)
    shutil.copytree(RESULTS, results)
    content = json.loads((results / "optimizers" / "evidence.json").read_text())
    content["records"][0]["metrics"]["test_accuracy"] += 0.1
    (results / "optimizers" / "evidence.json").write_text(json.dumps(content))
    (tmp_path / "two").mkdir()
    wrong = publish.drift(RECIPE, tmp_path / "two", results, readme)
    assert {"card.md", "figure.png"} <= set(wrong)


def test_reported_seeds_were_not_tuned_on(found, tuning):
    assert {record["seed"] for record in tuning["search"]} == {0}
    assert 0 not in found["seeds"]


def test_the_tuned_settings_are_the_sweeps_winners(tuning):
    for variant, winners in tuning["winners"].items():
        assert TUNED[variant]["race"] == winners["race"]["rate"]
        assert TUNED[variant]["distance"] == winners["distance"]["rate"]
        assert TUNED[variant].get("weight_decay") == winners["distance"].get("weight_decay")


def test_the_winners_follow_from_the_trials_and_lie_inside_their_grids(tuning):
    assert RECIPE.tuning.winners([{**r, "config": whole(r)} for r in tuning["search"]]) == tuning["winners"]
    for variant, winners in tuning["winners"].items():
        rates = {r["config"]["rate"] for r in tuning["search"] if r["variant"] == variant}
        for winner in winners.values():
            assert min(rates) < winner["rate"] < max(rates)


def whole(record):
    return {**vars(RECIPE.config()), **record["config"]}


def test_every_optimizer_has_a_sensitivity_curve_of_three_seeds(tuning):
    for variant in RECIPE.names:
        runs = {(r["config"]["rate"], r["seed"]) for r in tuning["curve"] if r["variant"] == variant}
        rates, seeds = {rate for rate, _ in runs}, {seed for _, seed in runs}
        assert len(runs) == len(rates) * len(seeds)
        assert len(seeds) >= 3
        assert max(rates) / min(rates) >= 999


def test_the_best_variant_reaches_62_percent(found):
    values = evidence.values_of(found["records"], "test_accuracy")
    assert max(sum(v.values()) / len(v) for v in values.values()) >= 0.62


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"code": "0"}, "has changed since"),
        ({"budget": "smoke"}, "not of budget quick"),
        ({"variants": ["adam"]}, "lacks some of the variants"),
        ({"seeds": [1, 2, 3]}, "3 seeds, and 10 are the least"),
        ({"commit": "abc+changes"}, "not committed"),
    ],
)
def test_unfit_evidence_is_refused(found, tmp_path, change, sentence):
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps({**found, **change}))
    with pytest.raises(evidence.EvidenceError, match=sentence):
        publish.publish(RECIPE, [path], tmp_path)


def test_failed_runs_are_refused(found, tmp_path):
    path = tmp_path / "evidence.json"
    records = [{**found["records"][0], "status": "failed"}, *found["records"][1:]]
    path.write_text(json.dumps({**found, "records": records}))
    with pytest.raises(evidence.EvidenceError, match="failed runs"):
        publish.publish(RECIPE, [path], tmp_path)
