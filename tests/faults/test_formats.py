"""Files that are read back, whatever has become of them: a sentence that names the field, never a traceback."""

import contextlib
import copy
import functools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lab.evidence import schemas
from lab.evidence.records import EvidenceError, read, write_json
from lab.execute import cluster
from lab.execute.own_model import own_model
from lab.report.card import markdown
from lab.report.report import Report
from pipelines import cifar10, decoding, image_cache
from pipelines.errors import DataError, UsageError
from tests.conftest import examples
from tests.faults.spoiling import altered, anything, spoiled, spoiled_bytes, texts
from tests.toys import dice, made_up

RECORD = made_up.record(
    "fair",
    config={"noise": 0.02},
    cause="none",
    metrics={"test_accuracy": 0.6},
    correct=schemas.pack_bits(np.arange(10) < 6),
    curves={"loss": [1.0]},
    peak_memory_mib=1.0,
    settings={"RATES": 0.1},
    weights="00ff",
    blocks=[schemas.Block(variant="fair", others=0.0, again=1)],
)
OWN = schemas.Own(names=[*"abcdefghi", "<script>"], labels=np.arange(10).astype("<u2").tobytes(), remarks=["<script>"])
TRIAL = schemas.Trial(variant="fair", seed=1, config={"rate": 1.0}, status="failed", cause="none", metrics={"m": 1.0})
ORIGIN = {
    "recipe": "dice",
    "versions": {"keras": "3"},
    "keras": {"floatx": "float32"},
    "commit": "c",
    "parts": {"f": "0"},
}
SWEEP = made_up.sweep(**ORIGIN, winners={"fair": {"rate": 1.0}}, search=[TRIAL], curve=[TRIAL], config={"epochs": 1})
EFFECT = schemas.Effect(a="a", b="b", mean=1.0, low=0.0, high=2.0, seeds=10, verdict="supported")
FINDING = schemas.Finding(
    budget="quick", verdict="supported", machine="Zen", note="may be small", smallest=1.0, effects=[EFFECT]
)
CLAIM = schemas.ClaimSummary(id="D1", text="…", source="us", said="…", measure="m", unit="points", findings=[FINDING])
SUMMARY = {"question": "…", "answer": "…", "seeds": 10, "quick_seconds": 60, "stale": False, "claims": [CLAIM]}
LINK = schemas.Link(
    before="a", after="b", config={"noise": 0.02}, commit="c", from_commit="d", dropped=["seconds"], seeds=[1], runs=2,
    audited=True, machine=made_up.MACHINE, versions={"keras": "3"},
)  # fmt: skip
FLOORS = schemas.Floors(
    command="python", commit="c", machine=made_up.MACHINE, versions={"keras": "3"}, config={"noise": 0.02},
    data=made_up.origin()["data"], data_digest="0",
    floors={"fair": schemas.Floor(values=[0.5], mean=0.5, standard_deviation=0.0, floor=0.4)},
)  # fmt: skip
SEARCHED = schemas.SearchTrial(trial="0", settings={"rate": 1.0}, epochs=1, score=0.5, status="completed")
WHOLE: dict[str, tuple[Any, Any]] = {
    "record": (schemas.Record, RECORD),
    "evidence": (
        schemas.Evidence,
        made_up.evidence([RECORD], **ORIGIN, variants=["fair"], config={"noise": 0.02}, own=OWN),
    ),
    "tuning": (schemas.TuningSweep, SWEEP),
    "summary": (schemas.Summary, schemas.Summary(**SUMMARY)),
    "attested": (list[schemas.Link], [LINK]),
    "floors": (schemas.Floors, FLOORS),
    "search": (schemas.Search, schemas.Search(**made_up.origin(**ORIGIN), tuner="grid", found={"fair": [SEARCHED]})),
}
# What may be missing, and what variants, metrics, settings, versions and parts are called.
OPTIONAL = [
    "abilities",
    "image_size",
    "environment",
    "parts",
    "machine",
    "said",
    "check",
    "note",
    "few",
    "over",
    "stale",
    "level",
    "smallest",
]
OPTIONAL += ["own", "remarks", "digits", "effects", "low", "high", "rests_on", "expected_false"]
NAMED = ["settings", "config", "versions", "keras", "environment", "parts", "winners", "floors", "found", "metrics"]
NAMED += ["seconds", "curves"]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files") / "file.json"


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where there is something in JSON: of lists, in the first of what they hold."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, below in inner:
        yield from places(below, (*path, key))


def read_as(path: Path, kind: Any) -> tuple[Any, str]:
    """What is read, and the sentence where it can't be."""
    try:
        return read(path, kind), ""
    except EvidenceError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", WHOLE)
def test_each_field_is_asked_for_and_has_a_type(file, kind):
    type_, whole = WHOLE[kind]
    content = msgspec.to_builtins(whole)
    for *above, last in places(content):
        path = [*above, last]
        is_key = [number > 0 and (path[number - 1] in NAMED or path[0] == "winners") for number in range(len(path))]
        fields = [name for name, key in zip(path, is_key, strict=True) if isinstance(name, str) and not key]
        wanted = rf"[`.]{fields[-1]}\b" if fields else r"\$\[0\]"
        for change in ("missing", "another type"):
            spoilt = copy.deepcopy(content)
            within = functools.reduce(lambda part, key: part[key], above, spoilt)
            if change == "another type":
                within[last] = [[]]
                free = path[-2:-1] in (["config"], ["settings"])  # A recipe's own, whatever they are.
            elif isinstance(last, str):
                del within[last]
                free = is_key[-1] or last in OPTIONAL or (kind, last) == ("attested", "seeds")
            else:
                continue
            file.write_text(json.dumps(spoilt))
            found, said = read_as(file, type_)
            assert free if found is not None else re.search(wanted, said), f"{path} {change}: {said}"


@pytest.mark.parametrize("kind", WHOLE)
@given(st.data())
@examples(50)
def test_whatever_has_become_of_a_file_is_read_or_a_sentence(file, kind, data):
    type_, whole = WHOLE[kind]
    file.write_bytes(data.draw(spoiled(msgspec.to_builtins(whole))))
    found, said = read_as(file, type_)
    if found is None:
        assert said.startswith(str(file))
    else:
        write_json(file, found)
        assert msgspec.json.encode(read(file, type_)) == msgspec.json.encode(found)


def outside_code(page: str) -> str:
    """Markdown without its code spans, in which nothing is anything but text."""
    return re.sub(r"`[^`\n]*`", "", page)


@given(st.data())
def test_a_card_can_be_made_of_all_evidence_that_is_read(file, data):
    read_back = []
    for kind in ("evidence", "tuning"):
        type_, whole = WHOLE[kind]
        file.write_bytes(data.draw(spoiled(msgspec.to_builtins(whole))))
        read_back.append(read_as(file, type_)[0] or whole)
    assert "<script" not in outside_code(markdown(Report(dice.EXPERIMENT, *read_back)))


# Images


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return {"train_images": np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3), "classes": np.array(["a", "b"])}


@given(st.data())
def test_what_is_kept_of_images_is_what_was_decoded_or_made_anew(tmp_path_factory, arrays, data):
    place = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KERAS_RECIPES_CACHE", str(place))
        image_cache.get("key", lambda: arrays)
        files = sorted(path for path in place.rglob("*") if path.is_file())
        path = data.draw(st.sampled_from(files))
        path.write_bytes(data.draw(spoiled_bytes(path.read_bytes())))
        found, _ = image_cache.get("key", lambda: arrays)
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in arrays.items()
        }
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[bytes]:
    place, found = tmp_path_factory.mktemp("pictures"), []
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for name in ("a.png", "b.jpg", "c.webp", "d.bmp", "e.gif", "f.tif"):
        Image.fromarray(pixels).save(place / name)
        found.append((place / name).read_bytes())
    return found


@given(st.data())
def test_any_file_is_an_image_or_a_sentence(file, pictures, data):
    path = file.with_name("image.png")
    path.write_bytes(data.draw(spoiled_bytes(data.draw(st.sampled_from(pictures)))))
    with contextlib.suppress(decoding.BadImageError):
        found, _ = decoding.decode(path, 8)
        assert (found.shape, found.dtype) == ((8, 8, 3), np.uint8)


@given(st.data())
@examples(20)
def test_no_byte_of_the_bundled_images_is_changed_unnoticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("subset") / "1.0.0"
    folder.mkdir()
    for path in cifar10.SUBSET_FOLDER.iterdir():
        (folder / path.name).symlink_to(path)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = path.read_bytes()
    path.unlink()
    how = data.draw(st.sampled_from(["gone", "folder", "cut", "flipped"]))
    if how == "folder":
        path.mkdir()
    elif how != "gone":
        path.write_bytes(data.draw(spoiled_bytes(content, how)))
    with pytest.raises(DataError, match="git checkout -- pipelines/data"):
        cifar10.check_sums(folder)
    shutil.rmtree(folder)


# What else is read


@given(st.one_of(texts, anything.map(json.dumps), altered(json.loads(cluster.SHAPE)).map(json.dumps)))
def test_any_tf_config_is_a_cluster_or_a_sentence(text):
    try:
        index, workers = cluster.own_task(text)
    except UsageError:
        return
    assert 0 <= index < len(workers)


@pytest.mark.processes
@given(spoiled_bytes(b"def build(shape, classes):\n    return None\n"))
def test_any_bytes_as_a_model_are_a_function_or_a_sentence(file, content):
    hypothesis.assume(content.count(b"(") < 2)  # It is code, and is run.
    path = file.with_name("model_of_bytes.py")
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        assert callable(own_model(f"{path}:build"))


@pytest.mark.parametrize("ends", ["0", "1", "'usage: none'", ""])
def test_a_model_whose_file_ends_the_process_is_a_sentence(tmp_path, ends):
    (tmp_path / "script.py").write_text(f"import sys\ndef build(shape, classes): ...\nsys.exit({ends})\n")
    with pytest.raises(UsageError, match="ends the process when it is run"):
        own_model(f"{tmp_path / 'script.py'}:build")
