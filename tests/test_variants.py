"""Variants that are partial functions: what the laboratory gives them, what flags they become, what is recorded."""

import dataclasses
import importlib
from functools import partial

import keras
import numpy as np
import pytest

from lab import Claim, Experiment, measurement, variants
from lab.cli import commands
from lab.evidence.records import read
from lab.evidence.schemas import Evidence
from lab.evidence.staleness import set_otherwise, staleness, tuned_otherwise
from lab.execute.job import Job, run_job
from lab.experiments import NAMES, load
from lab.tuning import SEED
from pipelines import sources
from tests import recomputing
from tests.conftest import typed_evidence_in
from tests.toys import bound, made_up
from tests.toys.bound import EXPERIMENT

REQUEST = sources.Request(train_images=500)
FEW = ["--train-images", "500", "--jobs", "1"]


def done(variant: str, folder, seed: int = 1, **given):
    config = {**dataclasses.asdict(EXPERIMENT.config()), **given}
    job = Job(EXPERIMENT.module, (variant,), seed, config, REQUEST, str(folder), logging=False, alone=True)
    (record,) = run_job(job)
    assert record.status == "finished", record.cause
    return record


def test_flags_are_the_numeric_arguments_and_the_labs_own():
    usual = dataclasses.asdict(EXPERIMENT.config())
    assert usual == {
        "batch_size": 50, "images": None, "flip": "no", "shift": 0, "rate": None, "decay": None, "epochs": None
    }  # fmt: skip
    augmented = dataclasses.replace(EXPERIMENT, config=None, augment=True).config()
    assert (augmented.flip, augmented.shift) == ("yes", 2)


def test_a_flag_reaches_the_training_and_has_the_type_of_the_argument(capsys, tmp_path):
    _, config = commands.parse(EXPERIMENT, ["--epochs", "3", "--rate", "0.01", "--flip", "yes"])
    assert (config.epochs, config.rate, config.decay, config.flip) == (3, 0.01, None, "yes")
    assert commands.run(EXPERIMENT, ["--epochs", "1.5", "--logdir", str(tmp_path)]) == 2
    assert commands.run(EXPERIMENT, ["--flip", "perhaps", "--logdir", str(tmp_path)]) == 2
    assert commands.run(EXPERIMENT, ["--epochs", "0", "--logdir", str(tmp_path)]) == 2
    assert "--epochs must be from 1" in capsys.readouterr().err


def test_what_is_given_replaces_an_argument_in_every_variant_and_nothing_else_does():
    usual = EXPERIMENT.config()
    assert EXPERIMENT.bound("hidden", usual).keywords == bound.VARIANTS["hidden"].keywords
    given = dataclasses.replace(usual, rate=0.5, decay=0.0, epochs=7)
    for variant in EXPERIMENT.names:
        keywords = EXPERIMENT.bound(variant, given).keywords
        assert (keywords["rate"], keywords["decay"], keywords["epochs"]) == (0.5, 0.0, 7)


def test_a_variant_is_trained_on_batches_of_the_seeds_images_and_scored(tmp_path):
    with recomputing.watch(REQUEST, 1) as watched:
        record = done("hidden", tmp_path)
    recomputing.check_fits(watched)
    recomputing.check_record(record, watched.scored[-1])
    assert len(record.curves["loss"]) == 2
    assert record.metrics["weights"] == 64 * 3 * 32 + 32 + 32 * 10 + 10
    assert record.metrics["trained_on"] == len(sources.load(dataclasses.replace(REQUEST, split_seed=1)).train)
    assert record.began.startswith("20")


def test_a_variants_own_flags_hold_unless_others_are_given(tmp_path):
    assert done("few", tmp_path / "own").metrics["trained_on"] == 100
    assert done("few", tmp_path / "given", images=200).metrics["trained_on"] == 200


def test_few_images_are_others_at_each_seed():
    from lab.core.training import some_of

    data = sources.load(REQUEST)
    first, again, other = (some_of(data, 50, seed).train.ids for seed in (1, 1, 2))
    assert len(first) == 50
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert some_of(data, None, 1) is some_of(data, 10_000, 1) is data


def test_the_labs_augmentation_reaches_the_batches(tmp_path, monkeypatch):
    from pipelines import batches

    asked = []
    real = batches.training
    monkeypatch.setattr(
        batches, "training", lambda *given, **named: asked.append((*given[1:], named)) or real(*given, **named)
    )
    done("linear", tmp_path / "plain")
    done("linear", tmp_path / "augmented", flip="yes", shift=2, batch_size=20)
    assert asked == [
        (50, {"seed": 1, "shift": 0, "flip": False}),
        (20, {"seed": 1, "shift": 2, "flip": True}),
    ]


def test_a_seed_decides_the_order_of_the_images(tmp_path, monkeypatch):
    from pipelines import batches

    seeds = []
    real = batches.training
    monkeypatch.setattr(
        batches, "training", lambda *given, **named: seeds.append(named["seed"]) or real(*given, **named)
    )
    done("linear", tmp_path, seed=2)
    assert seeds == [2]


OWN = """
import keras

def build(shape, classes):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)])
"""


@pytest.mark.processes
def test_a_readers_model_takes_the_place_of_one_that_is_not_bound(started, tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN)
    flags = ["--model", f"{tmp_path}/own.py:build", "--seeds", "1", "--logdir", str(tmp_path), *FEW]
    assert commands.run(EXPERIMENT, flags) == 0
    assert "Left out, since they are about models of their own: hidden." in capsys.readouterr().out
    weights = {record.variant: record.metrics["weights"] for record in typed_evidence_in(tmp_path).records}
    assert weights == dict.fromkeys(["linear", "few"], 3072 * 10 + 10)
    assert commands.run(EXPERIMENT, [*flags, "--variants", "linear", "hidden"]) == 2
    assert "hidden has its own model: leave it out, or run without --model." in capsys.readouterr().err


@pytest.mark.processes
def test_a_record_names_the_function_and_its_arguments_and_notices_others(tmp_path):
    records = [done(variant, tmp_path / variant) for variant in ("linear", "hidden")]
    assert records[1].settings == {
        "function": "tests.toys.bound.train",
        "rate": 0.002,
        "build_model": {"function": "tests.toys.bound.build_model", "units": 32},
    }
    assert tuned_otherwise(EXPERIMENT, records) == []
    wider = partial(bound.VARIANTS["hidden"], build_model=partial(bound.build_model, units=64))
    other = dataclasses.replace(EXPERIMENT, variants={**bound.VARIANTS, "hidden": wider})
    assert tuned_otherwise(other, records) == ["hidden"]
    few = dataclasses.replace(EXPERIMENT, own_flags={"linear": {"images": 10}})
    assert tuned_otherwise(few, records) == ["linear"]
    found = made_up.evidence(records, recipe="bound", code=EXPERIMENT.code, config=records[0].config)
    assert staleness(EXPERIMENT, found) == ""
    assert "hidden" in staleness(other, found)


def test_a_setting_that_is_gone_differs_where_it_was_set():
    usual = dataclasses.asdict(EXPERIMENT.config())
    found: Evidence = made_up.evidence([], config={**usual, "noise": 0.1, "momentum": None})
    assert set_otherwise(EXPERIMENT, found) == ["noise"]


@pytest.mark.parametrize(
    "variant",
    [
        partial(bound.train, kind=keras.optimizers.SGD(0.1)),
        partial(bound.train, None),
        partial(bound.train, kind=object()),
    ],
)
def test_what_no_file_can_hold_is_no_argument_of_a_variant(variant):
    with pytest.raises(ValueError, match="argument"):
        Experiment(bound, {"a": variant}, [], first_seed=1)


def test_an_experiment_has_one_form():
    compare = lambda config, runs: {}  # noqa: E731
    for forms in ({}, {"train": compare, "compare": compare}):
        with pytest.raises(ValueError, match="either partial functions, or train, or compare"):
            Experiment(bound, ("a",), [], **forms)
    with pytest.raises(ValueError, match="no such variant"):
        Experiment(bound, bound.VARIANTS, [Claim("X", "x", "us", "test_accuracy", higher="linear", than="gone")])
    assert Experiment(bound, bound.VARIANTS, [], compare=compare).partials == {}


@pytest.mark.processes
def test_a_sweep_tunes_an_argument(started, tmp_path):
    from lab.evidence.schemas import TuningSweep

    assert commands.run(EXPERIMENT, ["tune", "--logdir", str(tmp_path), "--budget", "smoke", *FEW]) == 0
    (path,) = tmp_path.rglob("tuning.json")
    search = read(path, TuningSweep).search
    assert {trial.config["rate"] for trial in search if trial.seed == SEED} >= {0.001, 0.003}


def test_a_table_of_what_was_tuned_is_no_code_but_recorded_wherever_it_stands(monkeypatch):
    """Else a sweep would be stale as soon as its winners are written down."""
    experiment = load("sequential")
    assert "RATES" in experiment.tuned
    assert not [part for part in experiment.parts if part.endswith(": RATES")]
    module = importlib.import_module(experiment.module)
    monkeypatch.setitem(module.RATES, "convnet", 0.5)
    assert experiment.settings("convnet")["RATES"] == 0.5


@pytest.mark.parametrize("name", NAMES)
def test_no_function_that_measures_reads_the_table_of_variants_of_its_own_module(name):
    """The partial function of a run is `run.bound`: its arguments are recorded, and no code."""
    experiment = load(name)
    if experiment.partials:
        assert f"lab/experiments/{name}.py: VARIANTS" not in experiment.parts


def test_hyperband_knows_how_long_a_variant_trains():
    config = EXPERIMENT.config()
    assert variants.given_or_own(bound.VARIANTS["few"], config, "epochs") == 3
    assert variants.given_or_own(bound.VARIANTS["linear"], config, "epochs") == 2
    assert variants.given_or_own(bound.VARIANTS["few"], dataclasses.replace(config, epochs=7), "epochs") == 7
    assert variants.given_or_own(None, config, "epochs") is None


@pytest.mark.variants
def test_a_search_by_hyperband_runs_on_partial_functions(started, tmp_path):
    flags = ["search", "hyperband", "--trials", "3", "--variants", "linear", "--no-log", "--logdir", str(tmp_path)]
    three = dataclasses.replace(EXPERIMENT, space={"decay": (0.0, 0.001, 0.01)})
    assert commands.run(three, [*flags, *FEW]) == 0


def test_a_table_that_functions_look_up_by_other_names_is_recorded_whole():
    """Else a rate of distributed or of routing could change and its evidence would stay current."""
    for name in ("distributed", "subclassed_routing"):
        experiment = load(name)
        if experiment.tuned:
            for variant in experiment.names:
                assert experiment.settings(variant)["RATES"], (name, variant)


def test_the_sample_that_is_shown_is_of_the_batches_that_a_variant_has():
    data = sources.load(REQUEST)
    own = dataclasses.replace(EXPERIMENT, own_flags={"few": {"flip": "yes", "shift": 2}})
    ids = {image.tobytes() for image in data.train.images}
    unchanged = {}
    for variant in ("linear", "few"):
        images = np.asarray(next(iter(measurement._lab_feed(own, variant, data, own.config())))[0])
        unchanged[variant] = sum(image.tobytes() in ids for image in images)
    assert unchanged["linear"] == 12
    assert unchanged["few"] <= 4  # One image in 50 is neither shifted nor mirrored.
