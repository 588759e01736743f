"""Flags, and what a command does with them, on recipes without a model."""

import dataclasses

import pytest

from lab.cli import commands, validate
from lab.cli import cookbook as whole
from lab.execute import executor, invocation
from lab.execute.job import run_job
from tests.conftest import ROOT, evidence_in
from tests.toys import guess, pair


@pytest.fixture
def in_process(monkeypatch):
    """Carry tasks out right here: what is tested is neither processes nor how they end."""

    def one_by_one(work, jobs, gpus, started, start):
        for one in work:
            started(one)
            yield one, run_job(dataclasses.replace(one, alone=True))

    monkeypatch.setattr(executor, "side_by_side", one_by_one)


@pytest.mark.parametrize(
    ("given", "budget", "possible", "found"),
    [
        ((), "quick", None, ("fair",)),
        ((), "smoke", None, ("fair", "loaded")),
        (("all",), "quick", None, ("fair", "loaded")),
        ("all", "quick", None, ("fair", "loaded")),
        (("loaded", "fair"), "quick", None, ("fair", "loaded")),
        (("loaded",), "quick", None, ("loaded",)),
        ((), "quick", ("loaded",), ("loaded",)),
        (("all",), "quick", ("loaded",), ("loaded",)),
        (("loaded",), "quick", ("loaded",), ("loaded",)),
    ],
)
def test_a_plain_run_leaves_some_variants_out_and_what_is_published_does_not(given, budget, possible, found):
    experiment = dataclasses.replace(guess.EXPERIMENT, left_out=("loaded",))
    assert validate.variants_of(experiment, budget, given, possible) == found
    assert experiment.measure_again == "python -m tests.toys.guess --variants all --seeds 10"
    assert guess.EXPERIMENT.measure_again == "python -m tests.toys.guess --seeds 10"


def test_a_plain_run_at_full_has_what_is_published_there():
    experiment = dataclasses.replace(guess.EXPERIMENT, left_out=("fair",), at_full=("fair",))
    assert validate.variants_of(experiment, "full", ()) == experiment.published_at("full") == ("fair",)
    assert validate.variants_of(experiment, "quick", ()) == ("loaded",)
    assert validate.variants_of(guess.EXPERIMENT, "full", ()) == guess.EXPERIMENT.names  # Nothing is published there.


def test_what_is_not_tuned_is_refused_by_name():
    with pytest.raises(invocation.UsageError, match="loaded has nothing to tune or to search for: use any of fair"):
        validate.variants_of(guess.EXPERIMENT, "quick", ("loaded",), ("fair",))


def test_a_variant_that_is_called_all_is_not_all_variants():
    EXPERIMENT = load("regularization")  # noqa: N806

    assert validate.variants_of(EXPERIMENT, "quick", ("all",)) == ("all",)
    assert validate.variants_of(EXPERIMENT, "quick", ()) == EXPERIMENT.names
    with pytest.raises(ValueError, match="none may be called 'all'"):
        dataclasses.replace(EXPERIMENT, left_out=("none",))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--variants", "crooked"], "There is no variant 'crooked': use any of fair, loaded, or all."),
        (["--seeds", "0"], "--seeds must be from 1 to 10,000, not 0."),
        (["--seeds", "1000000000"], "--seeds must be from 1 to 10,000"),
        (["--data", "imagenet"], "There is no data source 'imagenet'"),
        (["--data", "folder:no/such/folder"], "There is no folder 'no/such/folder'"),
        (["--image-size", "64"], "leave the image size out"),
        (["--model", "mine.py:build"], "The question of guess is about its own models"),
        (["tune", "--seeds", "5"], "--seeds"),
        (["tune", "--rate", "7"], "--rate"),
        (["--tune"], "python -m tests.toys.guess tune"),
        (["--until-decided", "40"], "extend"),
        (["--jobs", "-2"], "--jobs must be from 1 to "),
        (["--seconds", "nan"], "--seconds must be from 0 to 1,000,000, not nan."),
        (["--train-images", "12345"], "12,345 training images can't be had"),
        (["--train-images", "0"], "0 training images can't be had"),
        (["--resume"], "There is nothing to resume"),
        (["--logdir", "pyproject.toml"], "--logdir pyproject.toml is a file: name a folder."),
        (["--budget", "lavish"], "lavish"),
        (["--sedes", "3"], "--sedes"),
    ],
)
def test_bad_flags_get_one_sentence_and_exit_code_2(capsys, monkeypatch, tmp_path, flags, sentence):
    monkeypatch.chdir(ROOT)
    logs = [] if "--logdir" in flags else ["--logdir", str(tmp_path)]
    try:
        code = commands.run(guess.EXPERIMENT, [*flags, *logs])
    except SystemExit as error:  # tyro ends the process itself.
        code = error.code
    assert code == 2
    printed = capsys.readouterr()
    assert sentence in printed.err + printed.out
    assert "Traceback" not in printed.err
    assert not list(tmp_path.iterdir())


def test_tune_without_anything_to_tune(capsys, tmp_path):
    assert commands.run(pair.EXPERIMENT, ["tune", "--logdir", str(tmp_path)]) == 2
    assert "no subcommand 'tune'" in capsys.readouterr().err


def test_a_log_folder_that_cannot_be_made(capsys):
    assert commands.run(guess.EXPERIMENT, ["--logdir", "/dev/null/logs"]) == 1
    assert "could not be written or read: Not a directory." in capsys.readouterr().err


def test_flags_reach_the_config_and_the_budget_sets_their_defaults():
    EXPERIMENT = load("optimizers")  # noqa: N806

    assert commands.parse(EXPERIMENT, [])[1] == EXPERIMENT.config()
    assert commands.parse(EXPERIMENT, ["--budget", "smoke"])[1].batch_size == 64
    assert commands.parse(EXPERIMENT, ["--budget=smoke", "--rate", "0.5"])[1].rate == 0.5
    assert commands.parse(EXPERIMENT, ["--variants", "adam", "sgd"])[0].variants == ("sgd", "adam")


def test_of_several_recipes_the_others_go_on_where_one_has_no_such_flag(in_process, tmp_path):
    flags = ["--budget", "smoke", "--rate", "0.5", "--logdir", str(tmp_path)]
    assert commands.run_all([pair.EXPERIMENT, guess.EXPERIMENT], flags) == 2
    assert [path.parent.parent.name for path in tmp_path.rglob("evidence.json")] == ["guess"]


def test_a_batch_larger_than_the_data_is_refused_before_anything_starts(capsys, tmp_path):
    EXPERIMENT = load("sequential")  # noqa: N806

    assert commands.run(EXPERIMENT, ["--budget", "smoke", "--batch-size", "2001", "--logdir", str(tmp_path)]) == 2
    assert "--batch-size 2,001 is more than the 2,000 training images" in capsys.readouterr().err
    assert not list(tmp_path.rglob("record.json"))


def test_after_an_interruption_only_what_is_not_reported_is_to_be_resumed(monkeypatch, capsys, tmp_path):
    def interrupted(work, jobs, gpus, started, start):
        for number, one in enumerate(work):
            if number == 2:
                raise KeyboardInterrupt
            started(one)
            yield one, run_job(dataclasses.replace(one, alone=True))

    monkeypatch.setattr(executor, "side_by_side", interrupted)
    flags = ["--budget", "smoke", "--logdir", str(tmp_path)]
    assert commands.run_all([guess.EXPERIMENT, pair.EXPERIMENT], flags) == 130
    printed = capsys.readouterr().out
    assert printed.count("Stopped. ") == 1  # Of pair, whose task of two variants came first, there is a report.
    assert f"1 finished runs are kept in {tmp_path / 'guess'}" in printed
    assert f"python -m recipes run guess pair --budget smoke --logdir {tmp_path} --resume" in printed


def test_at_other_budgets_one_recipe_follows_the_other(in_process, capsys, tmp_path):
    flags = ["--seeds", "1", "--logdir", str(tmp_path)]
    assert commands.run_all([pair.EXPERIMENT, guess.EXPERIMENT], flags) == 0
    assert "2/2" in capsys.readouterr().out
    assert all(found["elapsed_seconds"] is not None for found in map(evidence_in, tmp_path.iterdir()))


def test_flags_of_the_whole_reach_the_recipes(monkeypatch):
    asked = []
    monkeypatch.setattr(commands, "run_all", lambda recipes, flags: asked.append(([r.name for r in recipes], flags)))
    whole.main(["run", "--budget", "smoke", "--no-log"])
    whole.main(["run", "search", "sequential", "--logdir", "there", "--epochs", "3"])
    assert asked == [
        (whole.NAMES, ["--budget", "smoke", "--no-log"]),
        (["search", "sequential"], ["--logdir", "there", "--epochs", "3"]),
    ]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["publish", "optimizers"], "python -m lab publish"),
        (["optimizers", "--all"], "python -m recipes run"),
        (["run", "no_such_recipe"], "'no_such_recipe'"),
        (["--sedes", "3"], "--sedes"),
        (["frobnicate"], "'frobnicate'"),
        (["board", "--port", "70000"], "--port"),
        (["benchmark", "--rounds", "0"], "--rounds"),
    ],
)
def test_unknown_recipes_and_flags_of_the_whole(capsys, flags, named):
    assert whole.main(flags) == 2
    assert named in capsys.readouterr().err
