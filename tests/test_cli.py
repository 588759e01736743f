"""Commands and `measure`, on recipes without a model. What flags can hold is in tests/faults/test_flags.py."""

import dataclasses
import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image

import lab
from lab import measurement
from lab.cli import commands, validate
from lab.cli import cookbook as whole
from lab.execute import executor, invocation
from lab.execute.job import run_job
from lab.experiments import load
from lab.report import summary
from pipelines import sources
from pipelines.errors import UsageError
from tests.conftest import ROOT, evidence_in
from tests.toys import dice, guess, made_up, pair


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


def test_what_is_not_tuned_is_refused_by_name():
    with pytest.raises(invocation.UsageError, match="loaded has nothing to tune or to search for: use any of fair"):
        validate.variants_of(guess.EXPERIMENT, "quick", ("loaded",), ("fair",))


def test_no_variant_is_called_all_which_means_every_one():
    with pytest.raises(ValueError, match="can't be called all"):
        dataclasses.replace(guess.EXPERIMENT, variants=("all", *guess.EXPERIMENT.names))


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


def test_of_several_recipes_the_others_go_on_where_one_has_no_such_flag(started, tmp_path):
    flags = ["--budget", "smoke", "--rate", "0.5", "--logdir", str(tmp_path)]
    assert commands.run_all([pair.EXPERIMENT, guess.EXPERIMENT], flags) == 2
    assert [path.parent.parent.name for path in tmp_path.rglob("evidence.json")] == ["guess"]


def test_an_interruption_says_how_to_go_on_and_ends_all_that_was_to_follow(monkeypatch, capsys, tmp_path):
    def interrupted(work, jobs, gpus, started):
        for number, one in enumerate(work):
            if number == 1:
                raise KeyboardInterrupt
            started(one)
            yield one, run_job(dataclasses.replace(one, alone=True))

    monkeypatch.setattr(executor, "side_by_side", interrupted)
    flags = ["--budget", "smoke", "--logdir", str(tmp_path)]
    assert commands.run_all([guess.EXPERIMENT, pair.EXPERIMENT], flags) == 130
    printed = capsys.readouterr().out
    assert f"1 finished run is kept in {tmp_path / 'guess'}" in printed
    assert f"python -m tests.toys.guess --budget smoke --logdir {tmp_path} --resume" in printed
    assert f"and then\n  python -m recipes run pair --budget smoke --logdir {tmp_path}\n" in printed
    assert not (tmp_path / "pair").exists()


def test_a_run_at_another_budget_has_no_verdict_from_the_published_tuning(monkeypatch, capsys, tmp_path):
    def at_once(work, jobs, gpus, started):
        for one in work:
            started(one)
            yield one, [made_up.record(one.variants[0], one.seed, metrics={"test_accuracy": 0.5})]

    monkeypatch.setattr(executor, "side_by_side", at_once)
    flags = ["--seeds", "1", "--variants", "adam", "sgd", "--no-log", "--logdir", str(tmp_path)]
    assert commands.run(load("optimizers"), ["--budget", "smoke", *flags]) == 0
    assert "tuned more carefully" not in capsys.readouterr().out
    assert commands.run(load("optimizers"), flags) == 0
    assert "tuned more carefully than Adam [TF], from the published tuning" in capsys.readouterr().out


@pytest.mark.processes
def test_one_experiment_follows_the_other_and_each_is_as_if_it_were_alone(started, capsys, tmp_path):
    flags = ["--seeds", "1", "--logdir", str(tmp_path)]
    assert commands.run_all([pair.EXPERIMENT, guess.EXPERIMENT], flags) == 0
    assert "2/2" in capsys.readouterr().out
    for name in ("pair", "guess"):
        found = evidence_in(tmp_path / name)
        assert found["elapsed_seconds"] is not None
        assert found["command"].startswith(f"python -m tests.toys.{name} --seeds 1")
    assert commands.run(pair.EXPERIMENT, [*flags, "--resume"]) == 0


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


def test_a_command_that_goes_on_carries_the_conditions_of_the_first(tmp_path):
    """Parsed again, it asks for the same images, model, settings and place; not for as many seeds."""
    conditions = ["--budget", "smoke", "--train-images", "500", "--split-seed", "3", "--seconds=0.5", "--jobs", "1"]
    conditions += ["--logdir", str(tmp_path)]
    given = [
        "search",
        "random",
        "--rate",
        "2",
        *conditions,
        "--trials",
        "3",
        "--no-log",
        "--variants",
        "fair",
        "loaded",
    ]
    said = summary.command_of(shlex.join(["python", "-m", "tests.toys.guess", *given]), ["tune"], but={"rate"})
    assert said == shlex.join(["python", "-m", "tests.toys.guess", "tune", *conditions])
    settings, config = commands.parse(guess.EXPERIMENT, conditions)
    assert settings.data == sources.Request("subset", 500, 3)
    assert config == guess.Config(seconds=0.5)


def test_a_sentence_that_holds_for_several_recipes_is_printed_once(started, capsys, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(60):
            Image.new("RGB", (8, 8), (number, 0, 255 * (name == "a"))).save(
                tmp_path / "photos" / name / f"{number}.png"
            )
    flags = ["--budget", "smoke", "--no-log", "--logdir", str(tmp_path), "--data", f"folder:{tmp_path / 'photos'}"]
    commands.run_all([guess.EXPERIMENT, dice.EXPERIMENT], flags)
    assert capsys.readouterr().out.count("these are your own images") == 1


@pytest.mark.parametrize("images", [60, 100, 127])
def test_a_batch_that_is_too_large_is_refused_with_one_that_works(capsys, tmp_path, images):
    flags = ["--train-images", f"{images // 10 * 10}", "--epochs", "1", "--logdir", str(tmp_path)]
    assert commands.run(load("sequential"), flags) == 2
    fits = int(re.search(r"--batch-size (\d+)", capsys.readouterr().err)[1])
    assert 1 < fits <= images
    assert not list(tmp_path.rglob("record.json"))
    request, config = commands.parse(load("sequential"), [*flags, "--batch-size", str(fits)])
    invocation.check_with_images(load("sequential"), request, config)


def test_more_images_than_there_are_are_refused(capsys, tmp_path):
    flags = ["--train-images", "200", "--images", "500", "--logdir", str(tmp_path / "logs")]
    assert commands.run(load("sequential"), flags) == 2
    assert (
        "There are 200 training images, and --images 500 would take more: add --images 200." in capsys.readouterr().err
    )
    assert not (tmp_path / "logs").exists()  # Nothing is left of what was refused.


def test_an_empty_source_is_not_the_default(capsys, tmp_path):
    """As of a variable of the shell that is not set."""
    assert commands.run(load("sequential"), ["--data", "", "--logdir", str(tmp_path)]) == 2
    assert "data source" in capsys.readouterr().err


def test_of_several_recipes_a_refusal_names_its_own(capsys):
    commands.run_all([guess.EXPERIMENT, dice.EXPERIMENT], ["--variants", "nobody"])
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("guess: There is no variant 'nobody'")
    assert second.startswith("dice: There is no variant 'nobody'")
    commands.run_all([guess.EXPERIMENT], ["--variants", "nobody"])
    assert capsys.readouterr().err.startswith("There is no variant")


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


def test_a_recipe_has_its_question_without_docstrings(monkeypatch):
    experiment = load("sequential")
    question = experiment.question
    assert question.endswith("?")
    monkeypatch.setattr(experiment.recipe, "__doc__", None)
    assert experiment.question == question


@pytest.mark.processes
@pytest.mark.parametrize("front", ["recipes", "lab"])
def test_help_says_where_its_texts_are_if_python_drops_docstrings(front):
    command = [sys.executable, "-OO", "-m", front, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "PYTHONOPTIMIZE" in done.stdout) == (0, True), done.stderr


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
