"""Commands and `measure`, on recipes without a model. What flags can hold is in tests/faults/test_flags.py."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys

import pytest

import lab
from lab import measurement
from lab.cli import commands, summary, validate
from lab.cli import cookbook as whole
from lab.execute import executor, invocation
from lab.execute.job import run_job
from lab.experiments import load
from pipelines.errors import UsageError
from tests.conftest import ROOT, evidence_in
from tests.toys import dice, guess, pair


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


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--variants", "crooked"], "'crooked'"),
        (["--data", "imagenet"], "'imagenet'"),
        (["--data", "folder:no/such/folder"], "'no/such/folder'"),
        (["--image-size", "64"], "image size"),
        (["--model", "mine.py:build"], "--model"),
        (["--train-images", "12345"], "12,345"),
        (["--resume"], "nothing to resume"),
        (["--budget", "lavish"], "lavish"),
    ],
)
def test_what_can_not_be_done_is_refused_before_anything_is_written(capsys, tmp_path, flags, named):
    assert commands.run(guess.EXPERIMENT, [*flags, "--logdir", str(tmp_path)]) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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


# What a command says


def begun(experiment, logs, *flags) -> invocation.Invocation:
    """An invocation that is not carried out."""
    settings, config = commands.parse(experiment, [*flags, "--logdir", str(logs)])
    return invocation.Invocation.begin(experiment, settings, config, "python")


def test_a_command_that_goes_on_carries_all_that_was_asked(tmp_path):
    """Parsed again, it asks for the same images, model, settings and place."""
    flags = ["--budget", "smoke", "--train-images", "500", "--split-seed", "3", "--seconds", "0.5", "--jobs", "1"]
    one = begun(guess.EXPERIMENT, tmp_path, *flags)
    one.end()
    words = summary.command_of(one, ["--variants", "fair"], but={"rate"})
    start = shlex.split(words)
    assert start[:3] == ["python", "-m", "tests.toys.guess"]
    settings, config = commands.parse(guess.EXPERIMENT, start[3:])
    assert settings == dataclasses.replace(one.settings, variants=("fair",))
    assert config == one.config
    assert (
        summary.command_of(dataclasses.replace(one, config=guess.Config(rate=2.0)), [], but={"rate"}).count("rate") == 0
    )


def test_a_sentence_about_several_recipes_is_printed_once(started, capsys, tmp_path):
    flags = ["--budget", "smoke", "--no-log", "--logdir", str(tmp_path), "--data", "subset"]
    experiments = [guess.EXPERIMENT, dice.EXPERIMENT]
    assert commands.run_all(experiments, flags) == 0
    printed = capsys.readouterr().out
    assert printed.count("is published yet") == 2  # It names the recipe.
    command = commands.Command(experiments, [])
    for _ in range(3):
        command.say("The published results do not apply: these are your own images.")
    assert capsys.readouterr().out.count("your own images") == 1


@pytest.mark.parametrize("images", [60, 100, 127])
def test_a_batch_that_is_too_large_is_refused_with_one_that_works(capsys, tmp_path, images):
    flags = ["--train-images", f"{images // 10 * 10}", "--epochs", "1", "--logdir", str(tmp_path)]
    assert commands.run(load("sequential"), flags) == 2
    fits = int(re.search(r"--batch-size (\d+)", capsys.readouterr().err)[1])
    assert 1 < fits <= images
    assert not list(tmp_path.rglob("record.json"))
    request, config = commands.parse(load("sequential"), [*flags, "--batch-size", str(fits)])
    validate.check_with_images(load("sequential"), request, config)


# `measure`


def test_measure_takes_a_recipe_by_its_name_and_shows_what_it_found(started, tmp_path):
    found = lab.measure("tests.toys.guess", seeds=[4, 9], variants=["fair"], logdir=tmp_path, log=False, rate=0.1)
    assert [(record.variant, record.seed) for record in found.records] == [("fair", 4), ("fair", 9)]
    assert {job.config["rate"] for job in started} == {0.1}
    assert len(repr(found)) < 400
    for part in ("guess at quick", "fair", "2 seeds", str(found.folder)):
        assert part in repr(found)
    for name, kind in (("no_such_recipe", UsageError), ("tests.toys.nothing", ModuleNotFoundError)):
        with pytest.raises(kind, match=name.rpartition(".")[2]):
            lab.measure(name)
    with pytest.raises(UsageError, match="rates"):
        lab.measure(guess.EXPERIMENT, rates=0.1)


def test_measure_raises_where_every_run_failed_and_not_where_some_did(started, tmp_path):
    one = {"variants": ["fair"], "logdir": tmp_path, "log": False, "fail": "fair:1"}
    with pytest.raises(measurement.MeasurementError, match=r"the coin rolled under the table.*workers\.log"):
        lab.measure(guess.EXPERIMENT, seeds=1, **one)
    found = lab.measure(guess.EXPERIMENT, seeds=2, **one)
    assert [record.status for record in found.records] == ["failed", "finished"]
    assert "not finished: 1" in repr(found)


@pytest.mark.processes
@pytest.mark.parametrize("front", ["recipes", "lab"])
def test_help_says_where_its_texts_are_if_python_drops_docstrings(front):
    variables = {**os.environ, "PYTHONOPTIMIZE": "2"}
    command = [sys.executable, "-m", front, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "PYTHONOPTIMIZE" in done.stdout


@pytest.mark.processes
def test_who_stops_reading_is_no_fault():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m recipes | head -1"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.processes
def test_what_only_lists_imports_no_tensorflow():
    code = "import sys; from lab.cli import cookbook; cookbook.main([]); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
