"""Folders and tables of a reader's own images: what is read, what is said of the rest, and what is refused."""

import io
import json
import os
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lab import measure
from lab.cli import commands
from lab.experiments import load
from pipelines import decoding, image_cache, sources, walking
from pipelines.errors import RequestError, UsageError
from pipelines.sources import Request
from tests.conftest import evidence_in
from tests.toys import guess


@pytest.fixture(autouse=True)
def anew(tmp_path, monkeypatch):
    """Nothing was decoded or said before."""
    monkeypatch.setenv("KERAS_RECIPES_CACHE", str(tmp_path / "kept"))
    sources.say_once.cache_clear()


def fill(folder, count=30, ending="png", **options):
    """Put so many images into a folder, none of them alike."""
    folder.mkdir(parents=True, exist_ok=True)
    first = len(list(folder.glob("[0-9][0-9].*")))
    for number in range(first, first + count):
        Image.new("RGB", (9, 9), (number, 7, 0)).save(folder / f"{number:02}.{ending}", **options)


@pytest.fixture
def photos(tmp_path):
    """30 images of "a" and 30 of "b"."""
    for name in ("a", "b"):
        fill(tmp_path / "photos" / name)
    return tmp_path / "photos"


def verified(folder, **options):
    return sources.verify(Request(f"folder:{folder}", **options))


def sizes(data):
    return [len(part) for part in (data.train, data.validation, data.test)]


# Layouts: what is used, and what is said


def test_the_report_accounts_for_every_file(photos, capsys):
    fill(photos / "a", 4, "webp")
    fill(photos / "b" / "more" / "still", 6)
    fill(photos / ".ipynb_checkpoints", 5)
    fill(photos / "__MACOSX" / "a", 2)
    fill(photos / "a" / "thumbnails", 3)
    fill(photos, 7)
    (photos / ".DS_Store").write_bytes(b"x")
    for name in ("IMG.HEIC", "notes.txt", "README"):
        (photos / "a" / name).write_bytes(b"x")
    (photos / "b" / "gone.png").symlink_to(photos / "b" / "nowhere.png")
    os.mkfifo(photos / "b" / "pipe.png")
    data = verified(photos)
    said = capsys.readouterr().out
    head, columns, *rows = said.splitlines()
    assert head == f"Images of folder:{photos}: 70 in 2 classes, resized to 32 × 32."
    assert columns.split() == ["class", "train", "validation", "test"]
    assert [row.split() for row in rows[:3]] == [
        ["0", "a", "22", "5", "7"],
        ["1", "b", "23", "6", "7"],
        ["all", *map(str, sizes(data))],
    ]
    for words in (
        "In folders within the folder of their class: 6 images.",
        "10  files in hidden folders or thumbnails: .ipynb_checkpoints",
        "7  images in no folder of a class: 00.png",
        "1  hidden files: .DS_Store",
        "1  .heic: a/IMG.HEIC",
        "1  .txt: a/notes.txt",
        "1  without an ending: a/README",
        "1  links that lead nowhere: b/gone.png",
        "1  neither files nor folders: b/pipe.png",
        "There is no test part, so a fifth of each class is held out for it, the same for all seeds.",
        "so a fifth of the other images of each class is used for it, another one for each seed.",
    ):
        assert words in said
    on_disk = sum(len(files) for _, _, files in os.walk(photos))
    assert on_disk == 70 + 10 + 7 + 1 + 1 + 1 + 1 + 1 + 1


def train_and(**parts):
    """What makes a folder of parts, each with so many images of "a" and "b"."""

    def made(folder):
        for part, count in parts.items():
            for name in ("a", "b"):
                fill(folder / part / name, count)

    return made


def flat_test(folder):
    train_and(train=20)(folder)
    fill(folder / "test", 30)


def beside(folder):
    train_and(train=20, test=5)(folder)
    fill(folder / "extra", 8)


def numbered(folder):
    for number in range(12):
        fill(folder / f"class {number}", 10)


def vehicles(folder):
    for name in ("bus", "car", "train"):
        fill(folder / name, 10)


def intel(folder):
    """A folder in a folder of the same name, as the archive of Intel's scenes has them."""
    train_and(**{"seg_train/seg_train": 20, "seg_test/seg_test": 6})(folder)
    fill(folder / "seg_pred" / "seg_pred", 8)


def objects(folder):
    for name in ("train_station", "test_tube", "bottle"):
        fill(folder / name / "more", 10)


def merged(folder):
    """One name, as Linux and as macOS write it, and two that nobody can see."""
    for name in ("caf\u00e9", "cafe\u0301", "b\u200c\u00a0", "c\nd\udce9"):
        fill(folder / name, 10)


LAYOUTS = {  # What makes the folder: classes, images in each part, and what is said.
    "train alone": (train_and(train=30), "ab", [38, 10, 12], "'train' is the train part."),
    "train and test": (train_and(train=20, test=10), "ab", [32, 8, 20], "There is no validation part"),
    "train and val": (train_and(train=20, val=10), "ab", [32, 20, 8], "'val' is the validation part"),
    "three": (train_and(train=20, valid=6, test=7), "ab", [40, 12, 14], "'test' is the test part."),
    "any case": (train_and(Train=20, VALIDATION=6, Test=7), "ab", [40, 12, 14], "'Train' is the train part"),
    "any case alone": (train_and(TRAIN=30), "ab", [38, 10, 12], "'TRAIN' is the train part."),
    "dev": (train_and(train=20, dev=6), "ab", [32, 12, 8], "'dev' is the validation part"),
    "Kaggle": (train_and(Training=20, Testing=6), "ab", [32, 8, 12], "'Testing' is the test part"),
    "flat test": (flat_test, "ab", [26, 6, 8], "30  images in no folder of a class: test/00.png"),
    "beside": (beside, "ab", [32, 8, 10], "8  images in 'extra', beside the parts: extra/00.png"),
    "Intel": (intel, "ab", [32, 8, 12], "8  images in 'seg_pred', beside the parts: seg_pred/seg_pred/00.png"),
    "sets": (train_and(training_set=20, test_set=6), "ab", [32, 8, 12], "'test_set' is the test part."),
    "years": (train_and(train2017=20, val2017=6), "ab", [32, 12, 8], "'val2017' is the validation part."),
    "capitals": (train_and(TrainImages=20, TestData=6), "ab", [32, 8, 12], "'TestData' is the test part."),
    "one word": (train_and(trainset=20, testdata=6), "ab", [32, 8, 12], "'testdata' is the test part."),
    "wrapped": (
        train_and(**{"train/images": 20, "test/images": 6}),
        "ab",
        [32, 8, 12],
        "The classes are the folders in 'images'.",
    ),
    "train alone wrapped": (train_and(**{"train/images": 30}), "ab", [38, 10, 12], "'train' is the train part."),
    "one wrapped": (train_and(**{"train/images": 20, "test": 6}), "ab", [32, 8, 12], "'test' is the test part."),
    "another part": (
        train_and(train=20, test=6, test1=5),
        "ab",
        [32, 8, 12],
        "10  images in 'test1', beside the parts",
    ),
    "words of parts": (objects, ["bottle", "test_tube", "train_station"], [18, 6, 6], "30 in 3 classes"),
    "numbers": (numbered, [f"class {n}" for n in range(12)], [72, 24, 24], "120 in 12 classes"),
    "a class called train": (vehicles, ["bus", "car", "train"], [18, 6, 6], "30 in 3 classes"),
    "odd names": (merged, [r"b\u200c\xa0", r"c\nd\udce9", "caf\u00e9"], [25, 7, 8], r"b\u200c\xa0"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read_and_said(layout, tmp_path, capsys):
    make, classes, counts, words = LAYOUTS[layout]
    make(tmp_path / "photos")
    data = verified(tmp_path / "photos")
    assert data.classes == tuple(classes)
    assert sizes(data) == counts
    assert words in capsys.readouterr().out


def test_each_image_gets_the_class_of_its_folder(tmp_path):
    """Also where folders are in another order than classes, and where a class lacks a folder in a part."""
    for part, numbers in (("train", (10, 2, 1)), ("test", (2, 10, 1))):
        for number in numbers:
            (tmp_path / part / str(number) / "deep").mkdir(parents=True)
            for copy in range(10):
                Image.new("L", (4, 4), 20 * number).save(tmp_path / part / str(number) / "deep" / f"{copy}.png")
    data = verified(tmp_path)
    assert data.classes == ("1", "2", "10")
    for part in (data.train, data.validation, data.test):
        assert [int(data.classes[label]) for label in part.labels] == (part.images[:, 0, 0, 0] / 20).tolist()


def test_endings_count_in_any_case(photos):
    for ending in ("JPG", "Jpeg", "jfif", "TIF", "WebP", "BMP", "Gif"):
        (photos / "a" / f"one.{ending}").write_bytes(encoded(Image.new("L", (8, 8)), "JPEG"))
    assert sum(sizes(verified(photos))) == 67


def test_a_thousand_classes_are_a_short_report(tmp_path, capsys):
    for number in range(70):
        fill(tmp_path / str(number), 5 + number % 2)
    verified(tmp_path, image_size=8)
    said = capsys.readouterr().out.splitlines()
    assert len(said) < 35
    assert "and 50 more classes, with 3 to 4 train, 1 to 1 validation, 1 to 1 test images each" in "\n".join(said)


@pytest.mark.usefixtures("started")
def test_the_report_comes_before_training_and_the_classes_lie_beside_the_models(tmp_path, capsys):
    for number in (10, 9):
        fill(tmp_path / "photos" / str(number))
    save = tmp_path / "models"
    how = {"budget": "smoke", "data": f"folder:{tmp_path / 'photos'}", "save": save, "logdir": tmp_path / "logs"}
    for _ in range(2):  # A cell of a notebook that is run again.
        measure(guess.EXPERIMENT, **how, variants=["fair"], log=False)
        said = capsys.readouterr().out
        assert 0 <= said.find("0  9 ") < said.find("1  10") < said.find("fair")
    assert json.loads((save / "classes.json").read_text(encoding="utf-8")) == ["9", "10"]
    (save / "fair-seed-1.keras").write_bytes(b"")
    fill(tmp_path / "photos" / "11")
    with pytest.raises(UsageError, match="models of other classes"):
        measure(guess.EXPERIMENT, **how, variants=["fair"], log=False)
    assert json.loads((save / "classes.json").read_text(encoding="utf-8")) == ["9", "10"]


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("flags", [[], ["--skip-bad"]])
def test_evidence_says_whether_bad_files_were_skipped(photos, tmp_path, flags):
    own = ["--budget", "smoke", "--data", f"folder:{photos}", "--logdir", str(tmp_path / "logs"), "--no-log", *flags]
    assert commands.run(guess.EXPERIMENT, [*own, "--variants", "fair"]) == 0
    assert evidence_in(tmp_path / "logs")["data"].get("skip_bad", False) == bool(flags)


# What will not do: one sentence that says what was found, and exit code 2


def one_class(folder):
    for path in (folder / "b").iterdir():
        path.unlink()


def keep(count, *names):
    def spoil(folder):
        for name in names:
            for path in sorted((folder / name).iterdir())[count:]:
                path.unlink()

    return spoil


def renamed(ending, name="*"):
    return lambda folder: [path.rename(path.with_suffix(ending)) for path in folder.glob(f"{name}/*.png")]


def without_subfolders(folder):
    for path in sorted(folder.rglob("*.png")):
        path.rename(folder / f"{path.parent.name}{path.name}")


def called(**names):
    return lambda folder: [(folder / old).rename(folder / new) for old, new in names.items()]


def moved_in(folder):
    for name in ("a", "b"):
        shutil.move(folder / name, folder / "Pets" / name)


def twice_validation(folder):
    (folder / "a").rename(folder / "rest")
    train_and(train=10, val=5, valid=5)(folder)


def anew_with(make):
    def made(folder):
        for path in list(folder.iterdir()):
            shutil.rmtree(path)
        make(folder)

    return made


def untested_class(folder):
    train_and(train=30)(folder)
    fill(folder / "test" / "a", 10)


def deep(folder):
    folder.joinpath("a", *["d"] * 60).mkdir(parents=True)


REFUSED = {  # What is done to a folder of 30 images of "a" and as many of "b", and what is said of it.
    "missing": (shutil.rmtree, ["There is no folder"]),
    "empty": (lambda f: [path.unlink() for path in f.rglob("*.png")], ["in 'a' no files", "in 'b' no files"]),
    "another format": (renamed(".heic"), ["in 'a' 30 .heic"]),
    "a class of another format": (renamed(".heic", "b"), ["class 'b'", "30 .heic"]),
    "an empty class": (lambda f: (f / "c").mkdir(), ["class 'c'", "no files"]),
    "loose": (without_subfolders, ["60 .png", "in 'a' no files"]),
    "one class": (lambda f: shutil.rmtree(f / "b"), ["one class only, 'a'"]),
    "one class and an empty one": (one_class, ["class 'b'", "no files"]),
    "two images": (keep(1, "a", "b"), ["2 images"]),
    "two of one class": (keep(2, "b"), ["'b' (2 in train)"]),
    "one of a class": (keep(1, "b"), ["'b' (1 in train)"]),
    "flat parts": (called(a="train", b="val"), ["straight in 'train' and 'val'"]),
    "cats and dogs": (
        called(a="train", b="test1"),
        ["straight in 'train' and 'test1', so their classes are not known"],
    ),
    "folds": (anew_with(train_and(fold1=9, fold2=9)), ["both 'fold1' and 'fold2' hold the folders 'a' and 'b'"]),
    "folds of a part": (
        anew_with(train_and(**{"train/fold1": 9, "train/fold2": 9, "test": 9})),
        ["/train' both 'fold1' and 'fold2' hold the folders 'a' and 'b'"],
    ),
    "a part in two folders": (
        anew_with(train_and(train1=9, train2=9, test1=9)),
        ["both 'train1' and 'train2' would be the train part"],
    ),
    "folder in a folder": (moved_in, ["one folder, 'Pets'", "name it instead, as folder:"]),
    "case": (lambda f: fill(f / "A"), ["'A' and 'a' differ in case only"]),
    "a part twice": (twice_validation, ["'val' and 'valid' would be the validation part"]),
    "no train": (anew_with(train_and(test=30)), ["images in 'test', but no folder `train`"]),
    "a class is not tested": (anew_with(untested_class), ["'b' (30 in train, 0 in test)", "Put some there"]),
    "deep": (deep, ["more than 50 deep"]),
    "a link out": (lambda f: (f / "c").symlink_to("/usr"), ["is a link out of the folder, to '/usr'"]),
}


@pytest.fixture
def refused(tmp_path, capsys):
    """Run a recipe on a source; return the one sentence that it is refused with."""

    def run(source, *flags):
        flags = ["--budget", "smoke", "--data", source, "--logdir", str(tmp_path / "logs"), *flags]
        assert commands.run(load("shuffling"), flags) == 2
        printed = capsys.readouterr()
        (sentence,) = printed.err.strip().splitlines()
        assert printed.out == ""
        assert not list((tmp_path / "logs").rglob("record.json"))
        return sentence

    return run


@pytest.mark.parametrize("fault", REFUSED)
def test_a_folder_that_will_not_do(fault, photos, refused):
    assert sources.load(Request(f"folder:{photos}"))
    spoil, names = REFUSED[fault]
    spoil(photos)
    sentence = refused(f"folder:{photos}")
    assert [name for name in names if name not in sentence] == []


def test_loops_of_links_end(photos, capsys):
    (photos / "a" / "up").symlink_to(photos)
    (photos / "a" / "b").symlink_to(photos / "b")
    (photos / "b" / "a").symlink_to(photos / "a")
    (photos / "b" / "self.png").symlink_to(photos / "b" / "self.png")
    verified(photos)
    said = capsys.readouterr().out
    assert "4  links back to a folder that they are in: a/b/a" in said
    assert "links that lead nowhere: a/b/self.png" in said


def test_links_that_multiply_are_refused(photos, monkeypatch):
    monkeypatch.setattr(walking, "MOST_LINKS", 20)
    for name in "abcde":
        for other in "abcde":
            (photos / name).mkdir(exist_ok=True)
            if other != name:
                (photos / name / other).symlink_to(photos / other)
    with pytest.raises(RequestError, match="more than 20 links"):
        verified(photos)


def test_a_folder_that_may_not_be_read_is_named(photos, monkeypatch):
    """The tests may run as root, who may read everything."""
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(RequestError, match=r"/b' can't be read \(Permission denied\)"):
        verified(photos)


NAMES_OF_NOTHING = [
    ("folder:nowhere", "There is no folder 'nowhere'"),
    ("folder:a\0b", r"There is no folder 'a\x00b'"),
    (f"folder:{'x' * 5000}", "There is no folder"),
    ("folder:/", "all that is on this machine"),
    ("folder:~nobody-of-that-name/x", "There is no folder '~nobody-of-that-name/x'"),
    ("folder:", "'csv:FILE' or 'tfds:NAME'"),
    ("photos", "write folder:photos"),
    ("photos.zip", "it is an archive, so unpack it"),
    ("folder:photos.zip", "it is an archive, so unpack it"),
    ("folder:packed", "it is an archive, so unpack it"),
    ("folder:table.csv", "write csv:table.csv"),
    ("folder:photos/a/00.png", "it is a file, so name a folder"),
    ("csv:photos", "write folder:photos"),
    ("csv:nowhere.csv", "There is no table 'nowhere.csv'"),
    ("csv:/dev/zero", "There is no table '/dev/zero'"),
    (f"csv:{'x' * 5000}", "There is no table"),
    ("csv:table.xlsx", "is a workbook"),
    ("https://example.org/photos.zip", "is an address, and nothing is downloaded"),
    ("folder:http://example.org/photos", "is an address, and nothing is downloaded"),
    ("imagenet", "no data source 'imagenet'"),
]


@pytest.mark.parametrize(("source", "words"), NAMES_OF_NOTHING, ids=lambda text: text[:20].replace("\0", "0"))
def test_a_source_that_is_none(source, words, photos, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    for name in ("photos.zip", "packed"):
        zipfile.ZipFile(name, "w").close()
    (tmp_path / "table.csv").write_text("path,label\n")
    assert words in refused(source)


def test_skipping_bad_files_of_the_bundled_images_is_refused(refused):
    assert "leave --skip-bad out" in refused("subset", "--skip-bad")


# Files


def noise(mode, size=(9, 7)):
    """An image of random pixels. Transparency is 0, 100 or 255."""
    draw, bands = np.random.default_rng(0), len(Image.new(mode, size).getbands())
    pixels = draw.integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    if mode in ("LA", "RGBA"):
        pixels[..., -1] = draw.choice([0, 100, 255], size[::-1])
    return Image.fromarray(pixels.squeeze(), mode)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(image, kind, **options):
    """A file's pixels as they are trained on, without resizing, and what is said of it."""
    side = image.size[0]
    pixels, said = decoding.decode(encoded(image.resize((side, side), Image.Resampling.NEAREST), kind, **options), side)
    return pixels, "; ".join(said)


def square(image):
    return image.resize((image.size[0],) * 2, Image.Resampling.NEAREST)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_formats_without_loss_keep_every_pixel(kind, mode):
    image = square(noise("L").point(lambda value: 255 * (value > 99)).convert("1") if mode == "1" else noise("L"))
    image = {"P": lambda: image.convert("P"), "RGB": lambda: Image.merge("RGB", [image] * 3)}.get(mode, lambda: image)()
    pixels, said = decoded(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))
    assert said == ""


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_opaque_alpha_changes_nothing_and_other_is_put_on_white(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = square(noise("RGBA"))
    alpha = np.asarray(image)[..., 3:] / 255
    pixels, said = decoded(image, kind, **options)
    wanted = np.asarray(image)[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(pixels - wanted).max() <= 1
    assert said == "with transparency, put on white"
    image.putalpha(255)
    pixels, said = decoded(image, kind, **options)
    assert np.array_equal(pixels, np.asarray(image)[..., :3])
    assert said == ""


def test_a_transparent_color_is_put_on_white():
    image = square(noise("P")).convert("RGB")
    image.putpixel((3, 3), (1, 2, 3))
    pixels, said = decoded(image, "PNG", transparency=(1, 2, 3))
    assert pixels[3, 3].tolist() == [255, 255, 255]
    assert "white" in said
    gray, said = decoded(square(noise("LA")), "PNG")
    assert (gray[..., 0] == gray[..., 1]).all()
    assert "white" in said


def test_sixteen_bits_are_reduced_to_their_upper_eight():
    values = np.random.default_rng(0).integers(0, 2**16, (9, 9), dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels, said = decoded(Image.fromarray(values), kind)
        assert np.array_equal(pixels[..., 0], values >> 8)
        assert said == "reduced from 16 to 8 bits a channel"
    pixels, said = decoding.decode(sixteen_bit_colors(values), 9)
    assert np.array_equal(pixels[..., 2], values >> 8)
    assert said == ("reduced from 16 to 8 bits a channel",)


def sixteen_bit_colors(values):
    """A PNG of 16 bits a channel, RGB, by hand: Pillow does not write them."""
    pixels = np.repeat(values[..., None], 3, axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", *values.shape[::-1], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_cmyk_is_converted_and_said():
    pixels, said = decoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100)
    assert np.abs(pixels.astype(int) - [0, 255, 255]).max() <= 3
    assert "CMYK" in said


def test_of_an_animation_the_first_picture_is_used():
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        pixels, said = decoded(first, kind, save_all=True, append_images=[second])
        assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 5, kind
        assert "the first is used" in said, kind


def test_a_phones_pictures_with_a_second_one_inside_are_jpegs():
    first, second = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 200))
    pixels, said = decoding.decode(encoded(first, "MPO", save_all=True, append_images=[second]), 16)
    assert np.abs(pixels.astype(int) - [200, 0, 0]).max() <= 3
    assert said == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_formats_without_loss_are_turned_too(kind):
    image, exif = square(noise("RGB")), Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels, _ = decoded(image.transpose(Image.Transpose.ROTATE_90), kind, exif=exif, **options)
    assert np.array_equal(pixels, np.asarray(image))


@pytest.mark.parametrize("orientation", range(11))
def test_pictures_are_turned_as_their_exif_data_say(orientation):
    """What a phone stores on its side is the same as what it shows, for JPEGs that are and are not decoded in part."""
    how = [None, *(Image.Transpose[name] for name in ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE"))]
    how += [Image.Transpose[name] for name in ("ROTATE_90", "TRANSVERSE", "ROTATE_270")]
    seen = noise("RGB", (4, 3)).resize((160, 120), Image.Resampling.BICUBIC)
    turn = how[orientation - 1] if 1 <= orientation <= 8 else None
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(seen if turn is None else seen.transpose(turn), "JPEG", quality=95, exif=exif)
    for size in (8, 120):
        pixels, said = decoding.decode(stored, size)
        wanted = np.asarray(seen.resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(pixels.astype(int) - wanted).mean() < 3
        assert said == (() if turn is None else ("turned as their EXIF data say",))


def test_a_large_jpeg_is_not_decoded_whole(monkeypatch):
    """Else 300 photos take 40 seconds, and not 6."""
    loaded, load_ = [], Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda self, mode: loaded.append(self.size) or load_(self, mode))
    decoding.decode(encoded(noise("RGB", (1600, 1200)), "JPEG"), 32)
    assert loaded == [(200, 150)]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_small_and_narrow_images_are_resized(size):
    pixels, _ = decoding.decode(encoded(Image.new("RGB", size, (9, 8, 7)), "PNG"), 32)
    assert (pixels == [9, 8, 7]).all()


def damaged(image):
    return encoded(image, "PNG")[:200]


BAD = {  # What is in a file, and what is said of it.
    b"text": "is no image, but begins with b'text'",
    b"": "is empty",
    b"GIF89a": "begins as a GIF file, but can't be decoded",
    b"\n<!DOCTYPE HTML>": "is an HTML file",
    b"version https://git-lfs.github.com/spec/v1": "is a Git LFS pointer",
    b"\0\0\0\x18ftypheic\0\0": "is a HEIC file",
    b"%!PS-Adobe-3.0 EPSF-3.0": "is a PostScript file",
    b"8BPS\0\1": "is a PSD file",
    damaged(noise("RGB", (64, 64))): "begins as a PNG file, but can't be decoded (OSError: image file is truncated",
    encoded(Image.new("F", (8, 8)), "TIFF"): "has pixels of kind F",
    encoded(Image.new("L", (10_000, 6_000)), "PNG"): "has 10,000 × 6,000 pixels, and 50,000,000 are the most",
    encoded(Image.new("L", (20_000, 20_000)), "PNG"): "has too many pixels: 50,000,000 are the most",
}


def test_all_bad_files_are_listed_at_once_and_can_be_left_out(photos, refused, capsys):
    places = [f"{'ab'[number % 2]}/bad{number:02}.png" for number in range(len(BAD))]
    for place, content in zip(places, BAD, strict=True):
        (photos / place).write_bytes(content)
    sentence = refused(f"folder:{photos}")
    assert f" {len(BAD)} of 72 files can't be used: " in sentence
    for place, words in zip(places, BAD.values(), strict=True):
        assert f"'{place}' {words}" in sentence
    assert sentence.endswith("or add --skip-bad (in Python skip_bad=True) to go on without them.")

    with pytest.MonkeyPatch.context() as patched:  # What was decoded is kept.
        patched.setattr(decoding, "decode", lambda *_: pytest.fail("It is decoded again."))
        data = verified(photos, skip_bad=True)
    assert sum(sizes(data)) == 60
    said = capsys.readouterr().out
    assert "12 of 72 files can't be used and are left out: 'a/bad00.png' is no image" in said
    assert {*data.train.ids, *data.validation.ids, *data.test.ids}.isdisjoint(places)
    for part in (data.train, data.validation, data.test):
        assert [data.classes[label] for label in part.labels] == [name[0] for name in part.ids]
        for image, name in zip(part.images, part.ids, strict=True):
            assert image[0, 0, 0] == int(name[2:4])
    refused(f"folder:{photos}")  # What was kept does not hide them.


def test_a_file_that_cannot_be_opened_is_bad(tmp_path):
    with pytest.raises(decoding.BadImageError, match=r"can't be opened \(Is a directory\)"):
        decoding.decode(tmp_path, 8)


def test_what_a_terminal_would_obey_is_escaped_in_the_report(tmp_path, capsys):
    for name in ("a\x1b[2J", "b\r"):
        fill(tmp_path / "c\x1b]0;d\x07" / name, 10)
        (tmp_path / "c\x1b]0;d\x07" / name / "e\x1b.t\x1b").write_bytes(b"")
    data = verified(tmp_path / "c\x1b]0;d\x07")
    assert data.classes == (r"a\x1b[2J", r"b\r")
    assert {*capsys.readouterr().out} & {"\x1b", "\r", "\x07"} == set()


def test_a_class_of_bad_files_alone_does_not_vanish(photos):
    fill(photos / "c", 0)
    (photos / "c" / "bad.png").write_bytes(b"")
    with pytest.raises(RequestError, match=r"no image of the class 'c' can be used.* 'c/bad\.png' is empty"):
        verified(photos, skip_bad=True)


def test_bad_files_beyond_a_hundred_are_counted(photos):
    for number in range(120):
        (photos / "a" / f"bad{number}.png").write_bytes(b"")
    with pytest.raises(RequestError, match=r"120 of 180 files .*; and 20 more\. Mend"):
        verified(photos)


def test_a_new_decoder_reads_anew(photos, monkeypatch):
    verified(photos)
    monkeypatch.setattr(image_cache, "room_for", lambda shape: np.zeros(shape, np.uint8))
    monkeypatch.setattr(decoding, "decode", lambda file, size: (np.full((size, size, 3), 99, np.uint8), ()))
    assert verified(photos).train.images.max() < 30  # From what is kept.
    monkeypatch.setattr(decoding, "VERSION", decoding.VERSION + 1)
    assert verified(photos).train.images.max() == 99


def test_a_terminal_shows_how_far_decoding_has_come(photos, monkeypatch, capsys):
    verified(photos)
    assert capsys.readouterr().err == ""
    screen = io.StringIO()
    monkeypatch.setattr(decoding, "Console", lambda **_: Console(file=screen, force_terminal=True, width=80))
    fill(photos / "a", 1)
    verified(photos)
    assert "Decoding images" in screen.getvalue()


# Tables


@pytest.fixture
def table(photos):
    """Write a table of the photos with other rows, and return its source."""

    def write(*rows, head="path,label", encoding="utf-8", separator=","):
        lines = [head, *(f"{name}/{number:02}.png,{name}" for name in ("a", "b") for number in range(30)), *rows]
        (photos / "labels.csv").write_text("\n".join(lines).replace(",", separator), encoding=encoding)
        return f"csv:{photos / 'labels.csv'}"

    return write


@pytest.mark.parametrize(
    "how", [{}, {"encoding": "utf-8-sig"}, {"separator": ";"}, {"separator": "\t"}, {"head": "Path, LABEL"}]
)
def test_a_table_is_read(table, how, capsys):
    data = sources.verify(Request(table(**how)))
    assert data.classes == ("a", "b")
    assert sizes(data) == [38, 10, 12]
    for part in (data.train, data.validation, data.test):
        assert [data.classes[label] for label in part.labels] == [name[0] for name in part.ids]
    said = capsys.readouterr().out
    assert ("divided by semicolons" in said) == (how.get("separator") == ";")


def test_a_row_that_is_there_twice_counts_once_and_is_said(table, capsys):
    assert sum(sizes(sources.verify(Request(table("a/00.png,a", "a/../a/01.png,a"))))) == 60
    assert "Rows that say the same as an earlier one: 2." in capsys.readouterr().out


ROWS = {
    "a/nowhere.png,a": "row 62 names 'a/nowhere.png', which is no file there",
    "a,a": "row 62 names 'a', a folder",
    "a/00.png,b": "'a/00.png' has several labels, 'a' (row 2) and 'b' (row 62)",
    "a/00.png,": "row 62 lacks a path or a label",
    ",a": "row 62 lacks a path or a label",
    "a/00.png": "row 62 lacks a path or a label",
    "a/00.png,a,b": "row 62 has too many cells",
    "a/0.png,-1": "row 62 names 'a/0.png', which is no file there",
    "c.png,-1": "row 62 has the label -1, and a class has no negative number",
    "c.png,a|b": "'c.png' has several labels, 'a|b' (row 62)",
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_will_not_do(row, table, photos, refused, capsys):
    Image.new("L", (8, 8)).save(photos / "c.png")
    source = table(row)
    assert ROWS[row] in refused(source)
    data = sources.verify(Request(source, skip_bad=True))
    assert sum(sizes(data)) == (59 if row == "a/00.png,b" else 60)
    left_out = 2 if row == "a/00.png,b" else 1
    verb = "is" if left_out == 1 else "are"
    said = f"{left_out} of 61 rows of the table can't be used and {verb} left out: {ROWS[row]}."
    assert said in capsys.readouterr().out


TABLES = {
    "no header": ("a/00.png,a\na/01.png,b", "has 'a/00.png', 'a': it must name one column 'path' and one 'label'"),
    "other columns": ("id,breed\n1,pug", "has 'id', 'breed': it must name"),
    "twice": ("path,label,label\n", "must name one column"),
    "empty": ("", "has nothing: it must name"),
    "no rows": ("path,label\n", "has 0 classes"),
    "out": (
        "path,label\n../secret.png,a",
        "Row 2 of",
    ),
    "absolute": ("path,label\n/SECRET,a", "leads out of the table's folder"),
    "quote": ('path,label\n"a,b', "is no row of a CSV file"),
    "UTF-16": ("path,label\n".encode("utf-16"), "is not written in UTF-8"),
    "case": ("path,label\na/00.png,Cat\na/01.png,cat", "'Cat' and 'cat' differ in case only"),
    "few": ("path,label\na/00.png,Cat\na/01.png,dog", "has 2 images: 20 are needed"),
}


@pytest.mark.parametrize("fault", TABLES)
def test_a_table_that_will_not_do(fault, photos, refused):
    content, words = TABLES[fault]
    secret = photos.parent / "secret.png"
    Image.new("L", (8, 8)).save(secret)
    content = content if isinstance(content, bytes) else content.replace("/SECRET", str(secret)).encode()
    (photos / "labels.csv").write_bytes(content)
    assert words in refused(f"csv:{photos / 'labels.csv'}")
