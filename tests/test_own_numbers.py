"""What is said of numbers on a reader's own images: what a guess is worth, and what makes them mislead."""

import dataclasses
import json
import re

import msgspec
import numpy as np
import pytest
from msgspec import structs
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits

from lab import measure
from lab.cli import commands
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Evidence, Own, pack_bits, recall_of
from lab.execute import own_images
from lab.execute.job import _Run
from lab.experiments import load
from lab.report import card, summary
from lab.report.pages import with_seeds
from lab.report.report import Report
from lab.settings import Settings
from pipelines import remarks, sources
from pipelines.errors import UsageError
from pipelines.sources import OnDisk, Request, Split
from tests.conftest import evidence_in, typed_evidence_in
from tests.test_measures import Table
from tests.toys import guess, made_up, tiny

DRAW = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def anew():
    """Nothing was said before, and each test has the same noise."""
    DRAW.bit_generator.state = np.random.default_rng(7).bit_generator.state
    sources.say_once.cache_clear()


@pytest.fixture
def photos(tmp_path):
    """Write a folder of images: for each folder's name the pixels of its images, or how many of noise."""

    def write(**folders):
        for name, images in folders.items():
            place = tmp_path / "photos" / name.replace("__", "/")
            place.mkdir(parents=True)
            for number, pixels in enumerate(noise(images) if isinstance(images, int) else images):
                Image.fromarray(pixels).save(place / f"{number:03}.png")
        return f"folder:{tmp_path / 'photos'}"

    return write


def noise(count, size=8):
    return DRAW.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def constant(count, value=90):
    return np.full((count, 8, 8, 3), value, np.uint8)


def arrow(left):
    """An arrow of 32 × 32 pixels at a random place, on a random background."""
    pixels = np.full((32, 32, 3), DRAW.integers(0, 60), np.uint8)
    top, start = 16 + DRAW.integers(-3, 4), 7 + DRAW.integers(-3, 4)
    pixels[top - 1 : top + 2, start : start + 18] = 200
    for step in range(7):
        column = start + step if left else start + 17 - step
        pixels[top - step : top + step + 1, column] = 200
    return pixels


def arrows(count):
    return {"left": [arrow(True) for _ in range(count)], "right": [arrow(False) for _ in range(count)]}


def part(images, labels):
    return Split(np.asarray(images), np.asarray(labels, np.int32), np.array([f"{n}.png" for n in range(len(labels))]))


def run(source, tmp_path, *flags, experiment=guess.EXPERIMENT):
    own = ["--budget", "smoke", "--data", source, "--logdir", str(tmp_path / "logs"), "--no-log", *flags]
    return commands.run(experiment, own)


def the_card(tmp_path):
    (path,) = (tmp_path / "logs").rglob("card.md")
    return path.read_text(encoding="utf-8")


# A guess, and the classes


def evidence(right, truth, names, **fields):
    """Evidence of one variant "fair", of one seed for each row of `right`."""
    records = [
        made_up.record(
            "fair", seed, metrics={"test_accuracy": float(np.mean(row))}, correct=pack_bits(np.array(row, bool))
        )
        for seed, row in enumerate(right, 1)
    ]
    own = Own(names=names, labels=np.array(truth, "<u2").tobytes(), **fields)
    return made_up.evidence(
        records, variants=["fair"], test_images=len(truth), classes=len(names), own=own, recipe="guess"
    )


def test_recall_is_the_share_of_each_class():
    found = recall_of(np.array([1, 0, 1, 1, 0], bool), np.array([0, 0, 1, 1, 1]), 3)
    assert found[:2].tolist() == [0.5, pytest.approx(2 / 3)]
    assert np.isnan(found[2])


def test_balanced_accuracy_is_the_mean_of_the_recalls(tmp_path, monkeypatch):
    """Whoever always answers with the largest class has an accuracy of 80 %, and a balanced one of 50 %."""
    test = part(np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8), [0] * 8 + [1] * 2)
    data = sources.Data(test, test, test, ("a", "b"), "0")
    of = {}
    for source in ("folder:x", "subset"):
        run = _Run("a", 1, Request(source), None, tmp_path)
        of[source] = run.scores(Table([[1.0, 0.0]] * 10), data)
    assert of["folder:x"]["test_accuracy"] == 0.8
    assert of["folder:x"]["balanced_accuracy"] == 0.5
    assert "balanced_accuracy" not in of["subset"]
    diverged = _Run("a", 1, Request("folder:x"), None, tmp_path)
    assert diverged.scores(Table([[np.nan, np.nan]] * 10), data)["balanced_accuracy"] == 0.5


def test_a_table_has_balanced_accuracy_after_test_accuracy():
    record = made_up.record("fair", metrics={"balanced_accuracy": 0.5, "generalization_gap": 0.1, "test_accuracy": 0.8})
    header, rows = Report(guess.EXPERIMENT, made_up.evidence([record])).table()
    assert header[1:3] == ["test accuracy (%)", "balanced accuracy (%)"]
    assert rows[0][1:3] == ["80.00", "50.00"]


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("common", "stuck", "sentence"),
    [
        (190, "fair, loaded", "Always answering 'a' would be right for 95.0 % of the test images."),
        (100, "fair", "Always answering 'a' would be right for 50.0 % of the test images."),
    ],
    ids=["one_class", "two_classes"],
)
def test_a_guess_is_always_the_largest_class(photos, tmp_path, capsys, common, stuck, sentence):
    """The toy's coins are right half of the time, and for 80 %."""
    assert run(photos(a=common, b=200 - common), tmp_path, "--seeds", "1") == 0
    said = capsys.readouterr().out
    assert sentence in said
    assert sentence in the_card(tmp_path)
    assert f"{stuck}: no clear gain over a guess here. Try another rate (--rate): `tune` compares several." in said


@pytest.mark.usefixtures("started")
def test_test_images_too_few_to_tell_from_a_guess_blame_no_rate(photos, tmp_path, capsys):
    """Of eight images in two classes, a guess is right for all once in 256 times."""
    assert run(photos(a=20, b=20), tmp_path, "--seeds", "1") == 0
    said = capsys.readouterr().out
    assert "8 test images are too few to tell any model from a guess." in said
    assert "over a guess" not in said


@pytest.mark.parametrize(("training", "remedy"), [(0.95, "augmentation"), (0.6, "more epochs than 3 (--epochs)")])
def test_what_to_try_depends_on_the_training_accuracy(capsys, tmp_path, training, remedy):
    """A training that knows its images was neither too short nor at a wrong rate."""
    own = Own(names=["a", "b"], labels=np.array([0, 1] * 50, "<u2").tobytes())
    metrics, curves = {"test_accuracy": 0.5, "train_accuracy": training}, {"val_accuracy": [0.5] * 3}
    record = made_up.record("fair", metrics=metrics, curves=curves)
    config = {"epochs": None}  # Each variant's own.
    found = made_up.evidence([record], own=own, test_images=100, classes=2, config=config, variants=["fair"])
    settings = Settings("quick", (1,), ("fair",), Request("folder:x"))
    summary._say_remarks(Report(guess.EXPERIMENT, found), settings, Console(width=200), set())
    assert "fair: no clear gain over a guess here. " in (said := capsys.readouterr().out)
    assert remedy in said


@pytest.mark.parametrize(
    ("accuracy", "guess", "images", "chance"),
    [(1.0, 0.5, 8, 1 / 256), (0.0, 0.5, 8, 1.0), (0.5, 0.5, 2, 0.75), (1.0, 0.1, 3, 0.001)],
)
def test_how_often_a_guess_is_as_good(accuracy, guess, images, chance):
    assert summary._by_guessing(accuracy, guess, images) == pytest.approx(chance)


@pytest.mark.parametrize(("truth", "verdict"), [([0] * 19 + [1], "undecided"), ([0, 1] * 10, "supported")])
def test_both_at_the_share_of_the_largest_class_decide_nothing(truth, verdict):
    values = {"fair": [0.5] * 10, "loaded": [0.7, 0.71] * 5}
    own = Own(names=["a", "b"], labels=np.array(truth, "<u2").tobytes())
    report = Report(guess.EXPERIMENT, made_up.of_values(values, own=own, test_images=20, classes=2))
    (judgement,) = report.judgements
    assert judgement.verdict == verdict
    assert (judgement.comparisons[0].note == "both mostly at chance accuracy") == (verdict == "undecided")


def test_recalls_are_means_over_seeds_and_the_lowest_is_named():
    truth = [0, 0, 1, 1, 2, 2, 2, 2]
    rows = [[1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 0, 0, 1]]
    report = Report(guess.EXPERIMENT, evidence(rows, truth, ["a", "b", "c"]))
    assert report.recalls["fair"].tolist() == [1.0, 0.75, 0.375]
    assert report.lowest_recall("fair") == "'c' 37.5 %"
    assert report.largest_class == ("c", 0.5)
    assert "| b | 2 | 75.0 |\n| c | 4 | 37.5 |" in card.markdown(report)
    none = Report(guess.EXPERIMENT, evidence([[0] * 8], truth, ["a", "b", "c"]))
    assert none.lowest_recall("fair") == "'a' and 2 more 0.0 %"


def test_of_many_classes_the_card_shows_those_with_the_lowest_recall():
    truth = np.repeat(np.arange(70), 2)
    right = np.ones(140, bool)
    right[[3, 138, 139]] = False  # One image of class 1, and both of class 69.
    page = card.markdown(Report(guess.EXPERIMENT, evidence([right], truth, [f"c{n}" for n in range(70)])))
    assert "| c1 | 2 | 50.0 |" in page
    assert "| c69 | 2 | 0.0 |\n| and 20 more classes | 40 | 100.0 to 100.0 |" in page
    assert len(re.findall(r"\n\| c\d+ ", page)) == 50


def test_a_card_of_hostile_evidence_shows_text():
    bad = "<img src=x>|[a](b)\x1b[2J"
    found = evidence([[1, 0]], [0, 1], [bad, "b" * 200], remarks=[bad])
    page = card.markdown(Report(guess.EXPERIMENT, structs.replace(found, command="a `b` 'c", config={}, seeds=[1])))
    for text in ("<img", "[a](b)", "\x1b", "b" * 50):
        assert text not in page


SPOILT = {
    "names": (lambda own: own["names"].pop(), "`names` of `own` should be of 2 classes"),
    "labels": (lambda own: own.update(labels=""), "`labels` of `own` should be of 4 images"),
    "a label": (lambda own: own.update(labels="AAAAAAIAAAA="), "`labels` of `own` has one that is none of 2 classes"),
    "no base64": (lambda own: own.update(labels="*"), "labels"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_classes_and_labels_in_evidence_must_fit(fault, tmp_path):
    path, (spoil, words) = tmp_path / "evidence.json", SPOILT[fault]
    content = msgspec.to_builtins(evidence([[1, 0, 1, 1]], [0, 0, 1, 1], ["a", "b"]))
    write_json(path, content)
    assert read(path, Evidence).own.truth.tolist() == [0, 0, 1, 1]
    spoil(content["own"])
    path.write_text(json.dumps(content))
    with pytest.raises(EvidenceError) as error:
        read(path, Evidence)
    assert words in str(error.value)


def test_evidence_on_cifar10_has_no_field_for_own_images():
    assert "own" not in msgspec.to_builtins(made_up.evidence([made_up.record()]))


# Copies


def test_noise_with_each_image_three_times_and_random_labels_is_a_leak(photos, capsys):
    images = np.repeat(noise(120), 3, axis=0)
    label = DRAW.integers(0, 2, 360)
    data = sources.verify(Request(photos(a=images[label == 0], b=images[label == 1])))
    rest = {image.tobytes() for part in (data.train, data.validation) for image in part.images}
    leaked = sum(image.tobytes() in rest for image in data.test.images)
    assert leaked > 50
    said = (
        f"{leaked} of {len(data.test)} test images are also among the training or validation images, so test accuracy"
    )
    assert data.remarks[0].startswith(said)
    assert data.remarks[1].startswith("About ")
    assert "validation images are also among the training images" in data.remarks[1]
    by_image = {}
    for pixels, of in zip(images, label, strict=True):
        by_image.setdefault(pixels.tobytes(), []).append(of)
    contrary = sum(len(labels) for labels in by_image.values() if len(set(labels)) > 1)
    assert data.remarks[2].startswith(f"{contrary} of 360 images have a copy with another label: '")
    printed = capsys.readouterr().out
    assert f"Careful: {said}" in printed
    assert "; and " in data.remarks[0]
    example = data.remarks[0].partition(": ")[2].partition(";")[0].split(" is ")
    pixels = {f"'{name}'": image.tobytes() for part in (data.train, data.validation, data.test)
              for name, image in zip(part.ids, part.images, strict=True)}  # fmt: skip
    assert pixels[example[0]] == pixels[example[1]]
    assert example[0] in {f"'{name}'" for name in data.test.ids}


def test_two_copies_in_different_parts_with_different_labels(photos):
    one = noise(1)
    folders = {"train__a": 20, "train__b": np.concatenate([noise(19), one])}
    folders |= {"val__a": 5, "val__b": 5, "test__a": np.concatenate([one, noise(4)]), "test__b": 5}
    data = sources.verify(Request(photos(**folders)))
    assert data.remarks == (
        "1 of 10 test images is also among the training or validation images, so test accuracy is too high: "
        "'test/a/000.png' is 'train/b/019.png'.",
        "2 of 60 images have a copy with another label: 'train/b/019.png' of class 'b' and 'test/a/000.png' of class "
        "'a'.",
    )


def test_copies_among_training_images_are_no_warning(photos, capsys):
    twice = np.repeat(noise(10), 2, axis=0)
    data = sources.verify(Request(photos(train__a=twice, train__b=20, val__a=5, val__b=5, test__a=5, test__b=5)))
    assert data.remarks == ()
    said = capsys.readouterr().out
    assert "Copies of an image in the same part: 10 training." in said
    assert "Careful" not in said


def test_a_copy_of_a_validation_image_is_found_in_the_test_part(photos):
    one = noise(1)
    folders = {"train__a": 20, "train__b": 20, "val__a": np.concatenate([one, noise(4)]), "val__b": 5}
    data = sources.verify(Request(photos(**folders, test__a=np.concatenate([noise(4), one]), test__b=5)))
    assert len(data.remarks) == 1
    assert "'test/a/004.png' is 'val/a/000.png'" in data.remarks[0]


def test_images_on_disk_are_looked_at_alike(photos, monkeypatch):
    source = photos(a=np.repeat(noise(15), 2, axis=0), **arrows(30))
    in_memory = sources.verify(Request(source))
    monkeypatch.setattr(sources, "IN_MEMORY", 0)
    on_disk = sources.verify(Request(source))
    assert isinstance(on_disk.train.images, OnDisk)
    sources._remarks.cache_clear()
    on_disk = sources.verify(Request(source))
    assert (on_disk.report, on_disk.mirrored) == (in_memory.report, in_memory.mirrored)
    assert on_disk.mirrored


def test_nothing_is_said_of_images_that_are_all_different(photos, capsys):
    data = sources.verify(Request(photos(a=30, b=30)))
    assert (data.remarks, data.mirrored) == ((), "")
    assert "Careful" not in capsys.readouterr().out


def test_constant_images_are_copies_and_no_mirrors(photos):
    data = sources.verify(Request(photos(a=constant(30), b=constant(30, 200))))
    assert "12 of 12 test images are also among" in data.remarks[0]
    assert not any("another label" in remark for remark in data.remarks)
    assert data.mirrored == ""


# Mirrors


def test_arrows_mirror_one_another(photos):
    data = sources.verify(Request(photos(**arrows(30), other=30)))
    assert data.mirrored.startswith("Mirrored, images of 'left' look like 'right', or the other way round (")
    assert "more pair" not in data.mirrored


def test_some_digits_look_like_others_when_they_are_mirrored():
    """Flips cost some points there."""
    found = load_digits()
    images = np.repeat((found.images * 15).astype(np.uint8)[..., None], 3, axis=3)
    said = remarks._on_mirrors(part(images, found.target), [str(digit) for digit in range(10)])
    assert "images of '3' look like '8'" in said


def test_cifar10_has_no_mirrored_classes():
    data = sources.load()
    assert remarks._on_mirrors(data.train, data.classes) == ""


@pytest.mark.parametrize(("classes", "count"), [(2, 20), (2, 400), (10, 100), (50, 300), (60, 60)])
def test_noise_and_classes_of_one_image_have_no_mirrors(classes, count):
    for _ in range(5):
        found = part(noise(count), np.arange(count) % classes)
        assert remarks._on_mirrors(found, [str(n) for n in range(classes)]) == ""


def test_symmetric_images_have_no_mirrors():
    half = noise(100)
    whole = np.concatenate([half, half[:, :, ::-1]], axis=2)
    assert remarks._on_mirrors(part(whole, np.arange(100) % 2), ["a", "b"]) == ""


def test_a_few_images_that_change_sides_are_no_mirrored_classes():
    """Sure to be no chance, and too few to matter: 16 of 200 in each class."""
    half = noise(368, 32)
    half[:, :, :16] = half[:, :, 31:15:-1]  # Symmetric, which no mirror changes.
    images = np.concatenate([half, *([arrow(left) for _ in range(16)] for left in (True, False))])
    labels = np.concatenate([np.arange(368) % 2, np.repeat([0, 1], 16)])
    assert remarks._on_mirrors(part(images, labels), ["left", "right"]) == ""


def test_the_nearest_mean_is_nearest_and_not_the_longest():
    means = remarks._Means(np.array([[[1.0, 0.0]], [[10.0, 0.0]]], np.float32), np.array([0, 1]), 3)
    assert means.nearest(np.array([[[2.0, 0.0]], [[9.0, 0.0]]], np.float32)) == [0, 1]


FLIPS = [  # An experiment, flags, and what is said of flips.
    ("optimizers", (), "Training images are mirrored here: add --flip no."),
    ("optimizers", ("--flip", "no"), None),
    ("optimizers", ("--variants", "adam_overfit"), None),
    ("sequential", (), None),
    ("sequential", ("--flip", "yes"), "add --flip no."),
    ("strong_baseline", (), "strong_baseline may mirror training images, and has no --flip no to prevent it."),
    ("regularization", ("--variants", "none", "dropout"), None),
    ("regularization", ("--variants", "none", "augmentation"), "augmentation mirrors training images: leave it out."),
    ("regularization", ("--variants", "by_tf_data"), "add --flip no."),
]


@pytest.mark.parametrize(("name", "flags", "words"), FLIPS)
def test_what_to_do_about_mirrors(name, flags, words):
    experiment = load(name)
    settings, config = commands.parse(experiment, ["--data", "folder:x", *flags])
    said = own_images._on_mirrors(experiment, settings, config, "Mirrored.")
    assert said == (f"Mirrored. {words}" if words and not words.startswith("add") else said)
    assert bool(said) == bool(words)
    assert (words or "") in said
    assert own_images._on_mirrors(experiment, settings, config, "") == ""


@pytest.mark.usefixtures("started")
def test_a_warning_is_printed_before_training_and_stands_on_the_card(photos, tmp_path, capsys):
    pictures = arrows(30)
    pictures["left"] += pictures["left"][:15]
    assert run(photos(**pictures), tmp_path) == 0
    said = capsys.readouterr().out
    copies = next(line for line in said.splitlines() if "are also among" in line)
    assert copies.removeprefix("Careful: ") in evidence_in(tmp_path / "logs")["own"]["remarks"]
    warning = said[said.index("Mirrored, images of 'left'") :].splitlines()[0]
    assert said.index(warning) < said.index("fair seed 1")
    assert "guess may mirror training images" in warning
    assert warning in the_card(tmp_path)
    assert warning in evidence_in(tmp_path / "logs")["own"]["remarks"]


# Few images


def looked_at(images, experiment="sequential", flags=(), variants=(), tests=2_000):
    """The batch size of a run on so many training images, and what is said of it."""
    experiment = load(experiment) if isinstance(experiment, str) else experiment
    settings, config = commands.parse(experiment, ["--data", "folder:x", *flags])
    settings = dataclasses.replace(settings, variants=tuple(variants) or settings.variants)
    train, test = (Split(np.zeros(n), np.zeros(n, np.int32), np.zeros(n)) for n in (images, tests))
    data = sources.Data(train, test, test, ("a", "b"), "0")
    return own_images.look(experiment, settings, config, data)[0].batch_size


@pytest.mark.parametrize(
    ("images", "flags", "size"),
    [
        (2_000, (), 128),
        (1_024, (), 128),
        (1_023, (), 64),
        (200, (), 16),
        (60, (), 8),
        (12, (), 8),
        (7, (), 4),
        (1, (), 1),
        (2_000, ("--images", "200"), 16),
        (200, ("--batch-size", "128"), 128),
        (200, ("--batch_size=128",), 128),
        (200, ("--budget", "smoke"), 16),
        (600, ("--budget", "smoke"), 64),
    ],
)
def test_a_batch_size_that_fits_few_images(images, flags, size):
    assert looked_at(images, flags=flags) == size


def test_a_variants_own_batches_and_images_count_too(capsys):
    assert looked_at(1_500, "strong_baseline", variants=["baseline"]) == 128
    assert "1,500 training images are few for batches of 250, so a batch has 128." in capsys.readouterr().out
    assert looked_at(1_500, "strong_baseline", variants=["baseline", "batch_1024"]) == 128
    assert "The same size is used for batch_1024." in capsys.readouterr().out
    assert looked_at(3_000, "strong_baseline", variants=["batch_1024"]) == 250
    fewer = dataclasses.replace(load("optimizers"), own_flags={"adam": {"images": 200}})
    assert [looked_at(30_000, fewer, variants=[name]) for name in ("adam", "muon")] == [16, 128]
    assert looked_at(30_000, "optimizers", ["--images", "100"], ["adam_overfit"]) == 8


@pytest.mark.parametrize(
    ("images", "flags", "taken"), [(137, (), None), (2_000, (), 1_000), (137, ("--images", "500"), 500)]
)
def test_a_recipe_of_a_thousand_images_takes_all_where_there_are_fewer(capsys, images, flags, taken):
    experiment = load("regularization")
    settings, config = commands.parse(experiment, ["--data", "folder:x", *flags])
    part = Split(np.zeros(images), np.zeros(images, np.int32), np.zeros(images))
    data = sources.Data(part, part, part, ("a", "b"), "0")
    assert own_images.look(experiment, settings, config, data)[0].images == taken
    said = "There are 137 training images and not 1,000, so all are used."
    assert (said in capsys.readouterr().out) == (taken is None)


@dataclasses.dataclass(frozen=True)
class Sized(guess.Config):
    batch_size: int = 128


@pytest.mark.parametrize("action", [["run"], ["tune"], ["search", "random", "--trials", "2"]])
def test_a_folder_of_60_images_trains_at_the_default_batch_size(photos, tmp_path, capsys, monkeypatch, started, action):
    monkeypatch.setattr(guess, "EXPERIMENT", dataclasses.replace(guess.EXPERIMENT, config=Sized))
    own = ["--data", photos(a=30, b=30), "--logdir", str(tmp_path / "logs"), "--variants", "fair"]
    assert commands.run(guess.EXPERIMENT, [*action, *own]) == 0
    assert {job.config["batch_size"] for job in started} == {8}
    (path,) = (tmp_path / "logs").rglob("invocation.json")
    assert json.loads(path.read_text())["config"]["batch_size"] == 8
    said = capsys.readouterr().out
    assert said.count("38 training images are few for batches of 128, so a batch has 8. Choose another size with") == 1


@pytest.mark.variants
@pytest.mark.usefixtures("started")
def test_python_trains_on_60_images_too(photos, tmp_path):
    how = {"variants": ["linear"], "seeds": 1, "logdir": tmp_path, "log": False}
    found = measure("tests.toys.tiny", data=photos(a=30, b=30), **how)
    (record,) = found.records
    assert (record.status, record.config["batch_size"]) == ("finished", 8)
    assert record.metrics["balanced_accuracy"] == pytest.approx(found.report.recalls["linear"].mean())


@pytest.mark.usefixtures("started")
def test_a_batch_size_that_was_given_and_does_not_fit_is_refused(photos, tmp_path, capsys):
    source = photos(a=30, b=30)
    assert run(source, tmp_path, "--batch-size", "64", experiment=tiny.EXPERIMENT) == 2
    assert "38 training images, fewer than a batch of 64: add --batch-size 32." in capsys.readouterr().err
    with pytest.raises(UsageError, match="fewer than a batch of 64"):
        measure("tests.toys.tiny", data=source, batch_size=64, logdir=tmp_path, log=False)


@pytest.mark.parametrize(("tests", "words"), [(20, "±22 points"), (400, "±4.9 points"), (1_100, ""), (2_000, "")])
def test_what_few_test_images_cannot_tell(tests, words, capsys):
    looked_at(9_999, tests=tests)
    said = capsys.readouterr().out
    start = f"Careful: With {tests} test images, an accuracy is known to within {words} (95 %). Differences of"
    assert said.startswith(f"{start} 1 point, the least that count here, can't be seen") if words else said == ""


def test_where_no_claim_is_about_accuracy_few_test_images_are_no_remark(capsys):
    timed = dataclasses.replace(tiny.EXPERIMENT, claims=())
    assert own_images._on_few(timed, 20) == ""
    assert "Differences of 0.5 points, the least" in own_images._on_few(load("strong_baseline"), 1_500)


# The card


@pytest.mark.usefixtures("started")
def test_the_card_says_how_to_measure_again_on_the_same_images(photos, tmp_path):
    source = photos(a=30, b=30)
    assert run(source, tmp_path, "--seeds=1", "--rate", "0.5", "--variants", "fair", "loaded") == 0
    page = the_card(tmp_path)
    kept = f"python -m tests.toys.guess --budget smoke --data {source} --logdir {tmp_path / 'logs'} --no-log"
    assert f"`{kept} --seeds=1 --rate 0.5 --variants fair loaded` repeats it" in page
    assert f"`{kept} --rate 0.5 --variants fair loaded --seeds 10` takes the ten seeds" in page
    assert "`python -m tests.toys.guess --seeds" not in page
    assert "../.." not in page
    assert "CIFAR" not in page
    assert "With 12 test images, an accuracy is known to within ±28 points" in page


@pytest.mark.usefixtures("started")
def test_the_card_of_what_python_measured_has_its_call(photos, tmp_path):
    source, logs = photos(a=30, b=30), tmp_path / "logs"
    measure("tests.toys.guess", data=source, variants=["fair"], seeds=[3], rate=0.5, logdir=logs, log=False)
    call = typed_evidence_in(logs).command
    assert call == (
        f"measure('tests.toys.guess', variants=['fair'], seeds=[3], data={source!r}, logdir={str(logs)!r}, log=False, "
        "rate=0.5)"
    )
    assert f"`{call}` repeats it" in the_card(tmp_path)
    assert "with `seeds=10` it takes the ten seeds that a verdict needs" in the_card(tmp_path)


def test_a_command_with_ten_seeds_keeps_its_other_flags():
    command = "python -m recipes.a run --data 'folder:a b' --seeds 3 --model m.py:f --resume --save x --flip no"
    assert with_seeds(command, 10) == "python -m recipes.a run --data 'folder:a b' --model m.py:f --flip no --seeds 10"
    for other in ("measure('a')", "python 'a"):
        with pytest.raises(ValueError, match=r"no command|No closing"):
            with_seeds(other, 10)


def test_the_published_card_is_as_before():
    page = card.markdown(Report(guess.EXPERIMENT, made_up.evidence([made_up.record("fair")], recipe="guess")))
    assert "`python -m tests.toys.guess --seeds 10` measures it again." not in page
    assert "repeats it with three seeds, and `python -m tests.toys.guess --seeds 10` with the ten" in page
    assert "[How to read a verdict, and what the sources are](../../docs/verdicts.md)." in page
    assert "Recall by class" not in page
