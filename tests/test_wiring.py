"""What is said of a trained model is true of it: recomputed from the model and from the named part of the data."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from lab import measure
from lab.cli import commands
from lab.evidence.records import read
from lab.evidence.schemas import Search, TuningSweep, unpack_bits
from lab.execute.job import Job, run_job
from lab.experiment import BUDGETS
from lab.experiments import NAMES, data_hunger, load
from lab.experiments import subclassed_routing as routing
from lab.tuning import SEED
from pipelines import batches, sources, splits
from tests import recomputing
from tests.conftest import typed_evidence_in
from tests.toys import tiny, tiny_pair, tiny_table

SMALL = sources.Request(train_images=500)
FEW = ["--train-images", "500", "--budget", "smoke", "--jobs", "1"]


def carried_out(name: str, variants: tuple[str, ...], folder, *, request=SMALL, seed: int = 1, **config):
    """The records of one job of a module, done in this process, and what was watched of it."""
    with recomputing.watch(request, seed) as watched:
        job = Job(name, variants, seed, config, request, str(folder), logging=False, alone=True)
        return run_job(job), watched


# A toy of each kind


@pytest.mark.variants
@pytest.mark.parametrize("module", [tiny, tiny_pair], ids=["train", "compare"])
def test_a_comparison_says_of_its_models_what_they_are(started, tmp_path, module):
    with recomputing.watch(SMALL, 1) as watched:
        found = measure(module.EXPERIMENT, budget="smoke", train_images=500, seeds=[1], logdir=tmp_path, log=False)
    recomputing.check_fits(watched)
    assert [done.run.variant for done in watched.scored] == ["linear", "hidden"]
    records = typed_evidence_in(tmp_path).records
    card = (found.folder / "card.md").read_text(encoding="utf-8")
    for record, scored in zip(records, watched.scored, strict=True):
        recomputing.check_record(record, scored)
        assert f"{100 * scored.recomputed['test_accuracy']:.2f}" in card
    gain = watched.scored[1].recomputed["test_accuracy"] - watched.scored[0].recomputed["test_accuracy"]
    shown = f"{100 * gain:+.1f}".replace("-", "−")
    assert ("0.0 points" if shown in ("+0.0", "−0.0") else f"{shown} points") in card


@pytest.mark.variants
def test_a_table_holds_the_validation_of_each_epoch(started, tmp_path):
    with recomputing.watch(SMALL, 1) as watched:
        assert commands.run(tiny_table.EXPERIMENT, ["tune", "--logdir", str(tmp_path), *FEW]) == 0
    recomputing.check_fits(watched)
    (path,) = tmp_path.rglob("tuning.json")
    search = read(path, TuningSweep).search
    assert len(search) == len(watched.fits) == 2
    for record, done in zip(search, watched.fits, strict=True):
        assert record.metrics["epoch_2"] == recomputing.close_to(done.validation["val_accuracy"])


@pytest.mark.variants
def test_a_search_scores_its_trials_by_validation(started, tmp_path):
    flags = ["search", "grid", "--trials", "2", "--variants", "hidden", "--no-log", "--logdir", str(tmp_path)]
    with recomputing.watch(SMALL, SEED) as watched:
        assert commands.run(tiny.EXPERIMENT, [*flags, *FEW]) == 0
    recomputing.check_fits(watched)
    (path,) = tmp_path.rglob("search.json")
    trials = read(path, Search).found["hidden"]
    by_rate = {scored.run.config.rate: scored.validation["val_accuracy"] for scored in watched.scored}
    assert len(trials) == len(by_rate) == 2
    for trial in trials:
        assert trial.score == recomputing.close_to(by_rate[trial.settings["rate"]])
    assert trials[0].score == max(trial.score for trial in trials)


@pytest.mark.processes
def test_a_sweeps_winner_and_the_metrics_of_its_trials_are_those_of_what_was_trained(started, tmp_path):
    grids, seeds = {"linear": (0.001, 0.004, 0.016), "hidden": (0.002, 0.003, 0.008)}, (SEED, 802)
    limits = {variant: (min(rates), max(rates)) for variant, rates in grids.items()}  # No winner widens its grid.
    few = {"finalists": 2, "final_seeds": seeds[1:], "finer": False}
    tuning = dataclasses.replace(tiny.TUNING, grids=grids, limits=limits, **few)
    with recomputing.watch(SMALL, SEED) as watched:
        flags = ["tune", "--logdir", str(tmp_path), *FEW]
        assert commands.run(dataclasses.replace(tiny.EXPERIMENT, tuning=tuning), flags) == 0
    recomputing.check_fits(watched)
    (path,) = tmp_path.rglob("tuning.json")
    sweep = read(path, TuningSweep)
    trained = {(done.run.variant, done.run.seed, done.run.config.rate): done for done in watched.scored}
    assert len(trained) == len(watched.scored) == len(sweep.search)
    for trial in sweep.search:
        done = trained[trial.variant, trial.seed, trial.config.get("rate", tiny.Config().rate)]
        assert {name: trial.metrics[name] for name in done.recomputed} == recomputing.close_to(done.recomputed)
        assert trial.metrics["validation_accuracy"] == recomputing.close_to(done.validation["val_accuracy"])
    for variant, rates in grids.items():
        reached = {where: done.validation["val_accuracy"] for where, done in trained.items() if where[0] == variant}
        best_two = sorted(rates, key=lambda rate: -reached[variant, SEED, rate])[:2]
        assert {rate for _, seed, rate in reached if seed == 802} == set(best_two)
        means = {rate: np.mean([reached[variant, seed, rate] for seed in seeds]) for rate in best_two}
        best = max(means, key=means.get)
        assert sweep.winners[variant] == {"rate": best, "validation_accuracy": recomputing.close_to(means[best])}


def test_a_run_that_diverges_after_a_good_epoch_counts_as_a_guess(tmp_path):
    """Not as the last accuracy that it had."""
    (record,), _ = carried_out("tests.toys.tiny", ("hidden",), tmp_path, epochs=3, diverge=3)
    assert record.curves["val_accuracy"][1] > 0.15
    assert record.status == "diverged"
    for metric in ("test_accuracy", "validation_accuracy", "train_accuracy"):
        assert record.metrics[metric] == 0.1
    assert record.correct is None


def test_no_name_leads_to_the_test_set_while_a_run_is_open():
    data = sources.load(SMALL)
    wanted = data.test.images
    with sources.test_set(closed=True):
        for name in [name for name in dir(data) if name != "test"]:
            part = getattr(data, name)
            assert not (isinstance(part, sources.Split) and np.array_equal(part.images, wanted)), name
        with sources.test_set(closed=False):
            assert np.array_equal(data.test.images, wanted)
        for one in (data, sources.load(SMALL)):
            with pytest.raises(RuntimeError):
                one.test  # noqa: B018
            with pytest.raises(RuntimeError):
                one._test()
    assert np.array_equal(data.test.images, wanted)


def test_a_red_image_stays_red_from_the_file_to_the_batch(tmp_path):
    """And green green, and blue blue: by names and not by what reads the files."""
    colors = {"red": (200, 20, 10), "green": (20, 200, 10), "blue": (10, 20, 200)}
    for name, color in colors.items():
        (tmp_path / name).mkdir()
        for number in range(10):
            kind = ("png", "jpg", "bmp")[number % 3]
            Image.new("RGB", (40, 30), color).save(tmp_path / name / f"{number}.{kind}")
    data = sources.load(sources.Request(f"folder:{tmp_path}", image_size=16))
    for part in (data.train, data.validation, data.test):
        feeds = [batches.evaluation(part), batches.training(part, len(part), seed=1, augment=True)]
        for images, labels in (batch for feed in feeds for batch in feed):
            for image, label in zip(images.numpy(), labels.numpy(), strict=True):
                wanted = colors[data.classes[label]]
                assert np.abs(image.astype(int) - wanted).max() <= 3
    middle = np.mean([colors[data.classes[label]] for label in data.train.labels], axis=0)
    assert data.train.images.mean(axis=(0, 1, 2)) == pytest.approx(middle, abs=1)


# Every recipe and variant, at smoke

SMOKE = sources.Request(train_images=BUDGETS["smoke"].train_images)
SIMPLE = set(data_hunger.SIMPLE)  # No models of Keras's.


@pytest.mark.variants
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("subclassed_routing", "transfer_learning")])
def test_what_a_recipe_says_of_each_variant_is_true_of_its_model(tmp_path, name):
    """Routing's gates share a model, and what is transferred has classes of its own: they have tests of their own."""
    experiment = load(name)
    config, variants = dataclasses.asdict(experiment.config_at("smoke")), experiment.usual("smoke")
    together = tuple(variant for variant in variants if not experiment.runs_apart(variant))
    groups = [*((variant,) for variant in variants if variant not in together), *([together] if together else [])]
    for some in groups:
        records, watched = carried_out(experiment.module, some, tmp_path, request=SMOKE, seed=101, **config)
        assert [record.variant for record in records] == list(some)
        recomputing.check_fits(watched)
        by_variant = {scored.run.variant: scored for scored in watched.scored}
        for record in records:
            assert record.status in ("finished", "diverged"), record.cause
            if record.variant in SIMPLE:
                continue
            assert (record.variant in by_variant) == ("test_accuracy" in record.metrics)
            if record.variant in by_variant:
                recomputing.check_record(record, by_variant[record.variant])


@pytest.mark.variants
def test_what_routing_says_of_each_gate_is_true_of_its_model(tmp_path, monkeypatch):
    """Its gates share a model, and are not scored one by one."""

    made = {}
    models_for = routing.models_for
    monkeypatch.setattr(routing, "models_for", lambda *given: made.update(models_for(*given)) or made)
    config = dataclasses.asdict(routing.EXPERIMENT.config_at("smoke"))
    variants = routing.EXPERIMENT.usual("smoke")
    module = routing.EXPERIMENT.module
    records, watched = carried_out(module, variants, tmp_path, request=SMOKE, seed=301, **config)
    assert len(watched.fits) == 3
    recomputing.check_fits(watched)
    data, size = sources.load(splits.with_split_seed(SMOKE, 301)), config["inference_batch"]
    right = {}
    for part in (data.test, data.validation):
        for name, model in made.items():
            rows = np.concatenate([np.asarray(model(images)) for images in part.chunks(size)])
            right[name, part is data.test] = rows.argmax(axis=1) == part.labels
    needed = right["deep", True] & ~right["shallow", True]
    for record in records:
        name, found = record.variant, record.metrics
        assert found["test_accuracy"] == unpack_bits(record.correct, len(data.test)).mean()
        if name == "random_50":  # Drawn anew.
            assert found["test_accuracy"] == pytest.approx(right[name, True].mean(), abs=0.05)
            assert found["auc"] == pytest.approx(0.5, abs=0.05)
            continue
        assert found["test_accuracy"] == recomputing.close_to(float(right[name, True].mean())), name
        assert found["validation_accuracy"] == recomputing.close_to(float(right[name, False].mean())), name
        if name.startswith(("confidence", "variance")):
            model = made[name]
            features = [model.stem(images) for images in data.test.chunks(size)]
            score = np.concatenate([np.asarray(model.score(each, model.shallow(each))) for each in features])
            assert found["auc"] == pytest.approx(share_in_order(score, needed), abs=1e-3), name
            share = int(name.rpartition("_")[2]) / 100
            assert (score >= model.threshold.numpy()).mean() == pytest.approx(share, abs=0.05), name


def share_in_order(score: np.ndarray, wanted: np.ndarray) -> float:
    """The share of all pairs of a wanted and another one in which the wanted one scores higher; a tie counts half."""
    high, low = score[wanted][:, None], score[~wanted][None, :]
    return float(np.mean((high > low) + 0.5 * (high == low)))
