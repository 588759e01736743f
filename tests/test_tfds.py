"""Sets of tensorflow-datasets: small ones that the tests write, and what is said of those that can't be had."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from pipelines import decoding, sources, tfds_source
from pipelines.errors import DataError, RequestError
from pipelines.sources import Request
from tests.conftest import ROOT


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The data folder of tensorflow-datasets. It reads the variable when it is imported."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_RECIPES_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(decoding, "AT_A_TIME", 7)
    sources.say_once.cache_clear()
    return tmp_path


def write(home, name, splits, *, names=("blue", "green", "red"), channels=3, image="image", dtype=np.uint8, **options):
    """Prepare a set as tensorflow-datasets does: `splits` maps a name to labels, whose images show them."""
    draw = np.random.default_rng(0)

    def examples(labels):
        for number, label in enumerate(labels):
            pixels = draw.integers(0, 80, (12, 12, channels))
            pixels[..., label % channels] += 120
            yield number, {image: pixels.astype(dtype), "label": label}

    written = {split: list(examples(labels)) for split, labels in splits.items()}
    shape = tfds.features.Image(shape=(None, None, channels), dtype=dtype)
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict({image: shape, "label": tfds.features.ClassLabel(names=list(names))}),
        split_datasets=written,
        data_dir=home,
        file_format="tfrecord",
        disable_shuffling=True,
        **options,
    )
    return {split: np.stack([example[image] for _, example in of]) for split, of in written.items()}


@pytest.fixture
def unreachable(monkeypatch):
    """Everything is reached by a proxy, at which nobody listens."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


EACH = [0, 1, 2]


def shown(images):
    """Images as they are trained on: gray ones have three equal channels, and transparency shows white."""
    if images.shape[-1] < 4:
        return np.broadcast_to(images, (*images.shape[:-1], 3))
    white = Image.new("RGBA", images.shape[1:3], "white")
    return np.stack([Image.alpha_composite(white, Image.fromarray(image)).convert("RGB") for image in images])


@pytest.mark.parametrize(("validation", "channels"), [("val", 1), ("Valid", 3), ("validation", 4), (None, 3)])
def test_a_set_is_read_as_it_was_written(home, validation, channels):
    splits = {"train": EACH * 10, "test": EACH * 2} | ({validation: EACH * 3} if validation else {})
    images = write(home, "flags", splits, channels=channels)
    data = sources.verify(Request("tfds:flags", image_size=12))
    assert data.classes == ("blue", "green", "red")
    assert np.array_equal(data.test.images, shown(images["test"]))
    assert data.test.labels.tolist() == splits["test"]
    if validation:
        assert np.array_equal(data.validation.images, shown(images[validation]))
        assert len(data.train) == 30
    else:
        assert (len(data.train), len(data.validation)) == (24, 6)


def test_a_class_without_an_image_is_dropped_and_said(home, capsys):
    write(home, "two_of_three", {"train": [0, 2] * 10, "test": [2, 0]})
    data = sources.verify(Request("tfds:two_of_three"))
    assert data.classes == ("blue", "red")
    assert data.test.labels.tolist() == [1, 0]
    said = capsys.readouterr().out
    assert "without an image are dropped: 'green'." in said
    sources.verify(Request("tfds:two_of_three"))
    assert capsys.readouterr().out == ""  # Once for a command, which may ask for the images of many recipes.


def test_splits_that_are_not_used_are_said(home, capsys):
    write(home, "contest", {"train": EACH * 10, "test": [-1] * 4, "extra": EACH})
    data = sources.verify(Request("tfds:contest"))
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 6, 6)
    said = capsys.readouterr().out
    assert "test (4 images, 4 without a label)" in said
    assert "extra (3 images)" in said


def test_bad_images_are_listed_and_can_be_left_out(home, monkeypatch, capsys):
    """Whatever the set's own code has let through."""
    write(home, "flags", {"train": EACH * 10, "test": EACH * 2})
    real, seen = decoding.decode, []

    def decode(file, size):
        seen.append(file)
        if len(seen) in (1, 31):
            raise decoding.BadImageError("is empty")
        return real(file, size)

    monkeypatch.setattr(decoding, "decode", decode)
    monkeypatch.setattr(decoding, "MOST_THREADS", 1)
    with pytest.raises(RequestError, match="'train_0000000' is empty"):
        sources.verify(Request("tfds:flags", image_size=12))
    seen.clear()
    data = sources.verify(Request("tfds:flags", image_size=12, skip_bad=True))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [23, 6, 5]
    for part in (data.train, data.validation, data.test):
        assert part.images.mean(axis=(1, 2)).argmax(axis=1).tolist() == part.labels.tolist()
    said = capsys.readouterr().out
    assert "'train_0000000' is empty" in said
    assert "'test_0000000' is empty" in said


def test_a_configuration_and_a_version_are_read_by_name(home):
    write(home, "flags", {"train": EACH * 10, "test": EACH * 2}, config="small")
    for name in ("flags/small", "flags/small:1.0.0"):
        assert len(sources.verify(Request(f"tfds:{name}")).test) == 6
    with pytest.raises(RequestError, match="no set 'flags/large'"):
        sources.load(Request("tfds:flags/large"))


def test_a_set_that_was_written_again_is_read_again(home):
    write(home, "changing", {"train": EACH * 10, "test": EACH})
    before = sources.verify(Request("tfds:changing"))
    shutil.rmtree(home / "changing")
    write(home, "changing", {"train": EACH * 20, "test": EACH})
    assert len(sources.verify(Request("tfds:changing")).train) == 2 * len(before.train)


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ({"splits": {"test": EACH * 9}}, "test (27 images)"),
        ({"splits": {"train": [-1] * 9}}, "train (9 images, 9 without a label)"),
        ({"splits": {"train": EACH * 9}, "image": "photo"}, "photo (Image)"),
        ({"splits": {"train": EACH * 9}, "dtype": np.uint16}, "uint16"),
        ({"splits": {"train": [1] * 30}}, "'green'"),
        ({"splits": {"train": [*EACH * 9, 2], "test": [0, 0, 1]}}, "'red' (10 in train, 0 in test)"),
    ],
    ids=["no training", "no labels", "no image", "16 bits", "one class", "a class is not tested"],
)
def test_a_set_that_will_not_do(home, what, names):
    write(home, "wrong", **what)
    with pytest.raises(RequestError) as error:
        sources.verify(Request("tfds:wrong"))
    assert "wrong" in str(error.value)
    assert names in str(error.value)


@pytest.mark.parametrize("name", ["no_such_set", "mnist/no_such_config", "mnist:9.9.9", "a b", "../mnist"])
def test_a_name_that_does_not_exist(home, name):
    with pytest.raises(RequestError, match=f"no set {name!r}"):
        sources.load(Request(f"tfds:{name}"))


@pytest.mark.parametrize("damage", [lambda content: content[:-50], lambda content: b"x" * len(content)])
def test_a_set_that_is_broken(home, damage):
    write(home, "flags", {"train": EACH * 10, "test": EACH * 2})
    (path,) = (home / "flags" / "1.0.0").glob("*train*")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"flags/1\.0\.0") as error:
        sources.verify(Request("tfds:flags"))
    assert not isinstance(error.value, RequestError)


@pytest.mark.parametrize(("source", "host"), [("tfds:mnist", "storage.googleapis.com"), ("full", "www.cs.toronto.edu")])
def test_without_a_network_a_set_is_refused_before_its_download_begins(home, unreachable, monkeypatch, source, host):
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda *_, **__: pytest.fail("It began."))
    with pytest.raises(DataError) as error:
        sources.load(Request(source))
    assert host in str(error.value)
    assert str(home / "downloads" / "manual") in str(error.value)
    assert str(error.value).count("ubyte.gz") == (4 if source == "tfds:mnist" else 0)


@pytest.mark.usefixtures("unreachable")
def test_of_many_addresses_six_are_named(tmp_path):
    urls = [f"http://127.0.0.1/{number}.zip" for number in range(9)]
    with pytest.raises(DataError, match=r"4\.zip, http://127\.0\.0\.1/5\.zip and 3 more elsewhere"):
        tfds_source._check_reachable("many/1.0.0", urls, tmp_path)


@pytest.mark.parametrize("name", ["huggingface:mnist", "kaggle:pets/small:1.0.0"])
def test_a_set_of_a_community_is_refused_before_it_is_looked_for(name, monkeypatch, capfd):
    monkeypatch.setattr(tfds, "builder", lambda *_: pytest.fail("It is looked for."))
    with pytest.raises(RequestError, match=f"'tfds:{name}' is of the community collection '{name.partition(':')[0]}'"):
        sources.load(Request(f"tfds:{name}"))
    assert capfd.readouterr() == ("", "")


def test_a_file_that_was_put_in_its_place_by_hand_is_used(home, unreachable):
    by_hand = home / "downloads" / "manual"
    by_hand.mkdir(parents=True)
    (by_hand / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="could not prepare cifar10"):
        sources.load(Request("full"))


@pytest.mark.processes
def test_a_recipe_is_run_on_a_set_by_name(home):
    write(home, "flags", {"train": EACH * 20, "valid": EACH * 5, "test": EACH * 5})
    flags = ["--data", "tfds:flags", "--budget", "smoke", "--batch-size", "10", "--variants", "linear"]
    command = [sys.executable, "-m", "recipes.sequential", *flags, "--logdir", str(home / "logs")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Evidence" in done.stdout
    assert "100.00" in done.stdout
