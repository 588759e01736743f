"""A reader's own images and model: scikit-learn's digits written out as PNGs."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from lab import measure
from lab.cli import commands, validate
from lab.execute.job import Job, run_job
from lab.experiments import NAMES, load
from lab.settings import Settings
from pipelines import decoding, encoded, sources
from pipelines.errors import UsageError
from pipelines.sources import Request
from tests.conftest import ROOT, evidence_in
from tests.toys import dice, guess, pair

MODEL = """
import keras
from keras import layers

@keras.saving.register_keras_serializable()
class Twice(layers.Layer):
    def call(self, x):
        return 2 * x

def my_model(shape, classes):
    images = keras.Input(shape)
    x = Twice()(layers.Rescaling(1 / 255)(images))
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    return keras.Model(images, layers.Dense(classes, name="head")(layers.Flatten()(x)))

def loud(shape, classes):
    x = images = keras.Input(shape)
    for _ in range(2):
        x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    return keras.Model(images, layers.Dense(classes)(layers.Flatten()(x)))
"""


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The 1,797 handwritten digits, 8 × 8 gray pixels each, in a folder for each."""
    folder = tmp_path_factory.mktemp("digits")
    found = load_digits()
    for number, (image, digit) in enumerate(zip(found.images, found.target, strict=True)):
        (folder / f"digit_{digit}").mkdir(exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).save(folder / f"digit_{digit}" / f"{number:04}.png")
    return folder


@pytest.fixture(scope="session")
def my_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "mine.py"
    path.write_text(MODEL)
    return path


def test_a_folder_is_split_stratified_and_resized(digits):
    data = sources.load(Request(f"folder:{digits}", image_size=16))
    assert data.classes == tuple(f"digit_{digit}" for digit in range(10))
    assert data.shape == (16, 16, 3)
    parts = data.train, data.validation, data.test
    ids = [set(part.ids) for part in parts]
    assert len(set.union(*ids)) == sum(map(len, ids)) == 1797
    for part, share in zip(parts, (0.64, 0.16, 0.2), strict=True):
        assert np.bincount(part.labels) / np.bincount(load_digits().target) == pytest.approx(share, abs=0.01)
    picture, _ = decoding.decode(digits / data.train.ids[0], 16)
    assert np.array_equal(data.train.images[0], picture)
    assert data.train.ids[0].startswith(data.classes[data.train.labels[0]])


def test_train_and_test_folders_are_respected(tmp_path, digits):
    for part, kept in (("train", slice(0, 40)), ("test", slice(40, 50))):
        for digit in (3, 7):
            (tmp_path / part / str(digit)).mkdir(parents=True)
            for path in sorted((digits / f"digit_{digit}").iterdir())[kept]:
                os.link(path, tmp_path / part / str(digit) / path.name)
    data = sources.load(Request(f"folder:{tmp_path}"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [64, 16, 20]
    assert all(name.startswith("test/") for name in data.test.ids)
    assert all(name.startswith("train/") for name in [*data.train.ids, *data.validation.ids])


def test_a_changed_folder_is_read_anew(tmp_path, digits):
    for digit in (0, 1):
        (tmp_path / str(digit)).mkdir()
        for path in sorted((digits / f"digit_{digit}").iterdir())[:20]:
            (tmp_path / str(digit) / path.name).write_bytes(path.read_bytes())
    request = Request(f"folder:{tmp_path}")
    before = sources.verify(request)
    some = next((tmp_path / "0").iterdir())
    Image.new("RGB", (8, 8), "red").save(some)
    after = sources.verify(request)
    assert before.digest != after.digest


def test_the_files_to_read_are_the_training_images(digits):
    import tensorflow as tf

    request = Request(f"folder:{digits}", train_images=100)
    data = sources.load(request)
    for _ in range(2):  # The second time from what is kept.
        found = list(encoded.read(request))
        assert [int(label) for _, label in found] == data.train.labels.tolist()
        assert np.array_equal(tf.io.decode_png(found[0][0], channels=3), data.train.images[0])


@pytest.mark.variants
@pytest.mark.parametrize("name", [name for name in NAMES if name != "search"])
def test_every_recipe_of_images_runs_on_digits(digits, tmp_path, name):
    experiment = load(name)
    request = Request(f"folder:{digits}", train_images=200)
    config = dataclasses.asdict(experiment.config_at("smoke"))
    short = {"epochs": 1, "trials": 1, "steps": 11}
    config |= {key: max(value, experiment.least.get(key, value)) for key, value in short.items() if key in config}
    if "target" in config:
        config["target"] = None
    variants = experiment.usual("smoke")[-2:] if experiment.compare else experiment.names[:1]
    job = Job(experiment.module, variants, 1, config, request, str(tmp_path), alone=True)
    for record in run_job(job):
        assert record.status == "finished", record.cause


@pytest.mark.parametrize("flags", [[], ["--rate", "0.5"]])
def test_a_rate_that_is_given_is_not_called_the_recipes(started, capsys, digits, tmp_path, flags):
    own = ["--budget", "smoke", "--data", f"folder:{digits}", "--logdir", str(tmp_path), *flags]
    assert commands.run(guess.EXPERIMENT, own) == 0
    printed = capsys.readouterr().out
    assert ("Each rate is the recipe's, tuned on CIFAR-10. To find your own:" in printed) == (not flags)
    assert (" tune --variants fair loaded " in printed) == (not flags)


def test_tuning_on_your_own_images_ends_with_the_command_that_uses_what_won(
    started, capsys, monkeypatch, digits, tmp_path
):
    tuning = dataclasses.replace(guess.TUNING, curve={"fair": 3})
    monkeypatch.setattr(guess, "EXPERIMENT", dataclasses.replace(guess.EXPERIMENT, tuning=tuning))
    own = ["--data", f"folder:{digits}", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, ["tune", *own]) == 0
    printed = capsys.readouterr().out
    tuned = next(tmp_path.rglob("tuning.json"))
    (command,) = re.findall(r"Next +python -m tests\.toys\.guess (.*)", printed)
    words = ["--variants", "fair", "loaded", "--tuned", str(tuned), "--data", f"folder:{digits}"]
    assert shlex.split(command)[:7] == words
    assert "validation accuracy 50." in printed
    assert json.loads(tuned.read_text())["curve"] == []
    capsys.readouterr()
    started.clear()
    rates = {"fair": 0.5, "loaded": 0.25}  # The toy's own winners are what it has without a sweep.
    sweep = json.loads(tuned.read_text())
    sweep["winners"] = {name: {**winner, "rate": rates[name]} for name, winner in sweep["winners"].items()}
    tuned.write_text(json.dumps(sweep))
    assert commands.run(guess.EXPERIMENT, [*shlex.split(command), "--seeds", "2", "--no-log"]) == 0
    assert {(job.variants[0], job.config["rate"]) for job in started} == set(rates.items())
    assert "To find your own:" not in capsys.readouterr().out
    (card,) = tmp_path.rglob("card.md")
    assert (
        f"| settings of each variant | fair: rate {rates['fair']}; loaded: rate {rates['loaded']} |" in card.read_text()
    )


def test_tuning_one_variant_ends_with_its_flags(started, capsys, digits, tmp_path):
    own = ["--data", f"folder:{digits}", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, ["tune", "--variants", "fair", *own]) == 0
    said = capsys.readouterr().out
    assert f"Next         python -m tests.toys.guess --variants fair --rate 1 --data folder:{digits}" in said


@pytest.fixture
def tuned(started, digits, tmp_path):
    """The file of a sweep of the variant "fair"."""
    own = ["--data", f"folder:{digits}", "--logdir", str(tmp_path / "tuned")]
    assert commands.run(guess.EXPERIMENT, ["tune", "--variants", "fair", *own]) == 0
    return next(tmp_path.rglob("tuning.json"))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), ""),
        (("--variants", "fair", "loaded"), "has no settings of loaded: tune it, or choose from fair."),
        (("--rate", "1"), "has each variant's own --rate: leave the flag out."),
        (("--data", "subset"), "use the same here, or tune again."),
        (("--tuned", "nowhere.json"), "nowhere.json can't be read"),
        (("--tuned", __file__), "name one that `tune` wrote."),
    ],
    ids=["fair", "loaded", "rate", "images", "missing", "broken"],
)
def test_what_was_tuned_is_used_or_refused_in_a_sentence(tuned, digits, tmp_path, capsys, flags, sentence):
    own = ["--data", f"folder:{digits}", "--logdir", str(tmp_path / "logs"), "--no-log", "--tuned", str(tuned)]
    assert commands.run(guess.EXPERIMENT, [*own, *flags]) == (2 if sentence else 0)
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "logs").exists() == (not sentence)


def test_what_was_tuned_of_another_recipe_is_refused(tuned, digits, capsys):
    assert commands.run(dice.EXPERIMENT, ["--data", f"folder:{digits}", "--tuned", str(tuned)]) == 2
    assert "is of guess and not of dice." in " ".join(capsys.readouterr().err.split())


def test_variants_that_are_compared_in_one_process_share_a_config_and_those_apart_have_their_own(tuned, digits):
    sweep = json.loads(tuned.read_text())
    tuned.write_text(json.dumps({**sweep, "recipe": "pair", "winners": {"short": {"repeats": 2}}}))
    asked = Settings("quick", (1,), ("short",), Request(f"folder:{digits}"))
    with pytest.raises(UsageError, match="short of pair share one config: leave --tuned out"):
        validate.with_tuned(pair.EXPERIMENT, asked, tuned, variants_given=True)
    apart = dataclasses.replace(pair.EXPERIMENT, apart=("short",))
    assert validate.with_tuned(apart, asked, tuned, variants_given=True).tuned == {"short": {"repeats": 2}}


def test_runs_with_other_settings_are_not_taken_over(tuned, started, digits, tmp_path, capsys):
    own = ["--data", f"folder:{digits}", "--logdir", str(tmp_path / "logs"), "--no-log", "--variants", "fair"]
    assert commands.run(guess.EXPERIMENT, own) == 0
    assert commands.run(guess.EXPERIMENT, [*own, "--tuned", str(tuned), "--resume"]) == 2
    assert commands.run(guess.EXPERIMENT, [*own, "--tuned", str(tuned)]) == 0
    started.clear()
    assert commands.run(guess.EXPERIMENT, [*own, "--tuned", str(tuned), "--resume"]) == 0
    assert started == []


@pytest.mark.processes
def test_digits_through_optimizers_with_a_model_of_ones_own(digits, my_model, tmp_path):
    """README's two flags, as a user types them."""
    save = tmp_path / "models"
    flags = ["--budget", "smoke", "--data", f"folder:{digits}", "--model", f"{my_model}:my_model", "--save", str(save)]
    flags += ["--variants", "momentum", "adam_race", "--rate", "0.01", "--logdir", str(tmp_path / "logs")]
    command = [sys.executable, "-m", "recipes.optimizers", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The published results do not apply: these are your own images and model." in done.stdout
    assert "To find your own:" not in done.stdout  # A rate was given.
    assert "Published, from" not in done.stdout
    assert "no better than a guess" not in done.stdout
    found = evidence_in(tmp_path / "logs")
    assert found["config"]["target"] is None
    assert found["classes"] == 10
    assert found["model"].startswith(f"{my_model}:my_model ")
    (record,) = (record for record in found["records"] if record["variant"] == "momentum")
    assert record["metrics"]["test_accuracy"] > 0.5
    assert "epochs_to_target" not in record["metrics"]

    code = f"import sys; sys.path.insert(0, {str(my_model.parent)!r})\nimport pipelines, mine, keras, numpy as np\n"
    code += "from pipelines import sources\n"
    code += f"data = sources.load(sources.Request('folder:{digits}'))\n"
    model = save / f"momentum-seed-{record['seed']}.keras"
    code += f"model = keras.models.load_model({str(model)!r})\n"
    code += "right = model.predict(data.test.images, verbose=0).argmax(axis=1) == data.test.labels\nprint(right.mean())"
    again = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert float(again.stdout) == pytest.approx(record["metrics"]["test_accuracy"]), again.stderr


@pytest.mark.processes
def test_a_rate_too_high_for_a_model_of_ones_own_is_said_to_be(digits, my_model, tmp_path, capsys):
    """The recipe's rate is for a model with BatchNormalization and rescaled images. One without learns nothing."""
    flags = ["--budget", "smoke", "--data", f"folder:{digits}", "--model", f"{my_model}:loud", "--no-log"]
    flags += ["--variants", "momentum", "adam_race", "--logdir", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        commands.main(load("optimizers"), flags)
    assert not ended.value.code
    said = " ".join(capsys.readouterr().out.split())
    assert "momentum: no clear gain over a guess here. Try more epochs than" in said
    assert "or another rate (--rate): `tune` compares several." in said
    assert "adam_race: no clear gain" not in said


@pytest.mark.processes
def test_measuring_from_python_gives_table_figure_and_verdicts(tmp_path):
    found = measure(
        load("sequential"),
        budget="smoke",
        variants=["linear", "convnet"],
        seeds=2,
        epochs=1,
        logdir=tmp_path,
        save=tmp_path,
    )
    assert [row["variant"] for row in found.table()] == ["linear", "convnet"]
    assert found.verdicts()["B1"] == "supported"
    assert len(found.figure().axes) == 2
    assert {(record.variant, record.seed) for record in found.records} == {
        (variant, seed) for variant in ("linear", "convnet") for seed in (301, 302)
    }
    assert (found.folder / "evidence.json").exists()
    for record in found.records:
        model = keras.models.load_model(tmp_path / f"{record.variant}-seed-{record.seed}.keras")
        right = model.predict(sources.load().test.images, verbose=0).argmax(axis=1) == sources.load().test.labels
        assert right.mean() == pytest.approx(record.metrics["test_accuracy"], abs=0.001)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"variants": ["crooked"]}, "no variant 'crooked'"),
        ({"seeds": 0}, "--seeds must be from 1"),
        ({"sedes": 3}, "no such setting"),
        ({"data": "imagenet"}, "no data source 'imagenet'"),
        ({"epochs": 0}, "--epochs must be from 1 to"),
    ],
)
def test_measuring_what_cannot_be_is_a_sentence(arguments, words, tmp_path):
    with pytest.raises(Exception, match=words) as error:
        measure(load("sequential"), budget="smoke", logdir=tmp_path, **arguments)
    assert type(error.value).__name__ in ("UsageError", "RequestError")
