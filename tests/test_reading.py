"""What goes wrong with a reader's own images without a word unless somebody looks: stale, dark, alike and foreign."""

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from pipelines import decoding, sources
from pipelines.errors import RequestError
from pipelines.sources import Request


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """15 images of "a" and 15 of "b", none of them alike."""
    monkeypatch.setenv("KERAS_RECIPES_CACHE", str(tmp_path / "kept"))
    sources.say_once.cache_clear()
    for number in range(30):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 7, 0)).save(path)
    return tmp_path / "photos"


def said_of(capsys, source, **options):
    """The report on a source."""
    sources.verify(Request(str(source), **options))
    return capsys.readouterr().out


def refusal(source, **options):
    with pytest.raises(RequestError) as error:
        sources.load(Request(str(source), **options))
    return str(error.value)


# Folders


def test_what_a_server_and_windows_leave_behind_is_no_class(photos, capsys):
    junk = ("#recycle", "@Recycle", "@Recently-Snapshot", "#snapshot", "@eaDir", "$RECYCLE.BIN", "lost+found")
    for name in (*junk, "System Volume Information"):
        (photos / name).mkdir()
        shutil.copy(photos / "a" / "00.bmp", photos / name / "00.bmp")
    said = said_of(capsys, f"folder:{photos}")
    assert ": 30 in 2 classes" in said
    assert "8  files in hidden folders or thumbnails: #recycle" in said


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_read_anew(photos):
    before = sources.load(Request(f"folder:{photos}"))
    path = photos / before.train.ids[0]
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    Image.new("RGB", (9, 9), (99, 99, 99)).save(path)
    os.utime(path, ns=times)
    assert path.stat().st_mtime_ns == times[1]
    after = sources.verify(Request(f"folder:{photos}"))
    assert (after.train.images[0] == 99).all()


@pytest.mark.parametrize("names", [("1", "01"), ("2", "1", "1.0")])
def test_classes_that_are_equal_as_numbers_are_said(names, tmp_path, photos, capsys):
    rows = [f"{path.parent.name}/{path.name},{names[n % len(names)]}" for n, path in enumerate(photos.rglob("*.bmp"))]
    (photos / "table.csv").write_text("\n".join(["path,label", *rows]))
    wanted = {"1", "1.0", "01"} & {*names}
    said = said_of(capsys, f"csv:{photos / 'table.csv'}")
    assert f"Careful: classes whose names are equal as numbers, {' and '.join(map(repr, sorted(wanted)))}." in said
    assert "Careful" not in said_of(capsys, f"folder:{photos}")
    (photos / "a").rename(photos / "07")
    (photos / "b").rename(photos / "7")
    assert "equal as numbers, '07' and '7'." in said_of(capsys, f"folder:{photos}")


# Files


@pytest.mark.parametrize("most", [4095, 65535])
def test_sixteen_bits_of_which_few_are_used_are_said_to_be_dark(most, photos, capsys):
    for number, path in enumerate(sorted(photos.rglob("*.bmp"))):
        values = np.full((9, 9), most if number == 7 else 30 * number, np.uint16)
        Image.fromarray(values).save(path.with_suffix(".png"))
        path.unlink()
    said = said_of(capsys, f"folder:{photos}")
    dark = "The brightest pixel of these 30 images is 15 of 255, so they are nearly black: "
    assert (dark in said) == (most == 4095)
    assert ("nearly black" in said) == (most == 4095)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (b"\xff\x0a\x7a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b'<?xml version="1.0"?>\n<!-- %s -->\n<svg width="9">' % (b"x" * 200), "SVG"),
        (b"\0\0\0\x1cftypavif\0", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0", "HEIC"),
        (b"\0\0\0\x18ftypisom\0", "MP4"),
    ],
)
def test_images_of_other_formats_are_known_by_their_first_bytes(content, kind):
    with pytest.raises(decoding.BadImageError, match=f"^is an? {kind} file$"):
        decoding.decode(content, 8)


def test_each_jpeg_2000_that_is_written_here_is_known():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG2000")
    with pytest.raises(decoding.BadImageError, match=r"^is a JPEG 2000 file$"):
        decoding.decode(file.getvalue(), 8)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_skipping_is_not_suggested_where_it_cannot_help(photos, skip_bad):
    for path in (photos / "b").iterdir():
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    sentence = refusal(f"folder:{photos}", skip_bad=skip_bad)
    assert "no image of the class 'b' can be used, so mend its files or take the class out." in sentence
    assert "Of all 30 files 15 can't be used: 'b/01.bmp' is a Git LFS pointer" in sentence
    assert "--skip-bad" not in sentence
    for path in (photos / "a").iterdir():
        path.write_bytes(b"")
    sentence = refusal(f"folder:{photos}", skip_bad=skip_bad)
    assert "none of the 30 files can be used: 'a/00.bmp' is empty;" in sentence
    assert sentence.endswith("; and 20 more. Mend them.")


# Tables


def table(photos, *rows, change=str):
    """Write a table of the photos with other rows, and return its source."""
    files = sorted(path.relative_to(photos) for path in photos.rglob("*.bmp"))
    lines = ["path,label", *(f"{change(str(path))},{path.parent}" for path in files), *rows]
    (photos / "table.csv").write_text("\n".join(lines))
    return f"csv:{photos / 'table.csv'}"


def test_backslashes_are_read_as_slashes_where_that_finds_the_files(photos, capsys):
    said = said_of(
        capsys, table(photos, r"a\nowhere.bmp,a", change=lambda path: path.replace("/", "\\")), skip_bad=True
    )
    assert ": 30 in 2 classes" in said
    assert "Backslashes in paths are read as slashes: 30 rows." in said
    assert r"row 32 names 'a\nowhere.bmp', which is no file there" in said
    (photos.parent / "secret.bmp").write_bytes(b"")
    assert "leads out of the table's folder" in refusal(table(photos, r"..\secret.bmp,a"))


def test_a_name_with_a_backslash_in_it_is_read(photos, capsys):
    (photos / "a" / "00.bmp").rename(photos / "a" / r"0\0.bmp")
    assert "Backslashes" not in said_of(capsys, table(photos))


def test_paths_of_windows_are_one_sentence(photos):
    sentence = refusal(table(photos, change=lambda path: f"C:\\photos\\{path}"))
    first = r"row 2 names 'C:\photos\a/00.bmp', a Windows path, and not one relative to the table"
    assert f"none of the 30 rows can be used: {first}, and 29 more like it. Mend the table." in sentence
    assert "--skip-bad" not in sentence


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_class_whose_files_are_missing_does_not_vanish(photos, skip_bad):
    sentence = refusal(table(photos, "c/0.bmp,c", "c/1.bmp,c", "d.bmp,a"), skip_bad=skip_bad)
    assert "no row of the class 'c' can be used, so mend its rows or take them out." in sentence
    assert "Of all 33 rows 3 can't be used: row 32 names 'c/0.bmp'" in sentence
    assert "--skip-bad" not in sentence


def test_rows_that_are_left_out_are_counted_and_not_all_listed(photos, capsys):
    bad = [*(f"no{number}.bmp,a" for number in range(40)), "a/00.bmp,b", "a/00.bmp,a", "a/02.bmp", "a/04.bmp,a"]
    source = table(photos, *bad)
    sentence = refusal(source)
    assert " 44 of 74 rows can't be used: " in sentence
    assert "row 32 names 'no0.bmp', which is no file there, and 39 more like it; " in sentence
    assert "'a/00.bmp' has several labels, 'a' (row 2) and 'b' (row 72)" in sentence
    assert sentence.count("row ") == 4
    assert "44 of 74 rows of the table can't be used and are left out: " in said_of(capsys, source, skip_bad=True)


@pytest.mark.parametrize("first", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n'])
def test_a_first_line_for_excel_tells_the_separator(first, photos, capsys):
    source = table(photos)
    path = photos / "table.csv"
    _, *rows = path.read_text().splitlines()
    path.write_text(first + "\n".join(["path;a,b,c,d;label", *(row.replace(",", ";;") for row in rows)]))
    assert ": 30 in 2 classes" in said_of(capsys, source)


def test_classes_with_the_same_folders_inside_are_classes_and_that_is_said(photos, capsys):
    for path in sorted(photos.rglob("*.bmp")):
        place = path.parent / ("indoor" if int(path.stem) % 4 < 2 else "outdoor")
        place.mkdir(exist_ok=True)
        path.rename(place / path.name)
    said = said_of(capsys, f"folder:{photos}")
    assert "30 in 2 classes" in said
    assert (
        "Careful: both 'a' and 'b' hold the folders 'indoor' and 'outdoor'. If those are the classes, name one" in said
    )
