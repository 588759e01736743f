"""Files that are read back, whatever has become of them: a sentence, or what they said before; never a traceback."""

import contextlib
import copy
import dataclasses
import functools
import io
import json
import os
import re
import shutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from lab import table as tables
from lab.cli import commands, live_table
from lab.cli import cookbook as whole
from lab.evidence import lineage, schemas
from lab.evidence.records import EvidenceError, read_json, write_json
from lab.execute import cluster, invocation, job, scheduler
from lab.execute.own_model import own_model
from lab.experiments import load
from lab.report import front_page, publish, publishable
from lab.report.card import markdown
from lab.report.published import RESULTS, Published, floors_of
from lab.report.report import Report
from lab.search import search
from lab.settings import Settings, images_of
from lab.tensorboard import server
from pipelines import cifar10, folders, image_cache
from pipelines.errors import DataError, RequestError, UsageError
from tests.conftest import ROOT, examples
from tests.faults.spoiling import altered, anything, spoiled, spoiled_bytes, text_of, texts
from tests.toys import guess, runner

EXPERIMENT = load("sequential")
HOME = RESULTS / "sequential"


def some_seeds(found: dict[str, Any], count: int = 2) -> dict[str, Any]:
    """Evidence with fewer seeds, so that what is changed in it is not always a curve."""
    seeds = found["seeds"][:count]
    records = [{**record, "curves": {}} for record in found["records"] if record["seed"] in seeds]
    shortened = {**found, "parts": {}, "seeds": seeds, "records": records}
    shortened.pop("until_decided", None)
    return shortened


def some_trials(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "parts": {}, "search": found["search"][:6], "curve": found["curve"][:6]}


EVIDENCE = some_seeds(lineage.read(HOME / "evidence.json"))
TUNING = some_trials(lineage.read(HOME / "tuning.json"))
SUMMARY = read_json(RESULTS / "optimizers" / "summary.json")
SUMMARY = {**SUMMARY, "claims": SUMMARY["claims"][:2]}
FLOORS = lineage.read(HOME / "floors.json")
(MACHINE,) = (read_json(path) for path in list((RESULTS / "input_pipeline").glob("machine-*.json"))[:1])
LINKS = [{"from": "a", "to": "b", "config": {"rate": None}, "commit": "c", "dropped": ["seconds"]}]
TRIAL = {"trial": "0", "settings": {"rate": 1.0}, "epochs": None, "validation_accuracy": 0.5, "status": "completed"}


def read_as(content: bytes, path: Path) -> Any:
    """What is read of these bytes; None where they are no JSON, which is a sentence."""
    path.write_bytes(content)
    try:
        return read_json(path)
    except EvidenceError:
        return None


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files") / "file.json"


def test_nothing_is_complained_of_in_whole_files():
    assert schemas.complaint_of_evidence(EVIDENCE, "sequential", EXPERIMENT.names) == ""
    assert schemas.complaint_of_tuning(TUNING, "sequential") == ""
    assert schemas.complaint_of_summary(SUMMARY) == ""
    assert schemas.complaint_of_floors(FLOORS) == ""
    assert schemas.complaint_of_machine(MACHINE) == ""
    assert schemas.complaint_of_links(LINKS) == ""
    assert schemas.complaint_of_search({"found": {"fair": [TRIAL]}}) == ""


# What may be missing or anything at all: what variants, metrics, settings, versions and parts are called, and these.
NAMED = r"(settings|config|versions|keras|winners|floors|found|metrics|seconds|curves)\.[^.]+(\.RATES|\.rate)?"
OPTIONAL = {
    "evidence": "machine.abilities|data.image_size|parts|carried",
    "sweep": r"machine.abilities|data.image_size|parts|carried|winners\.[^.]+\.validation_accuracy",
    "summary": "",
    "floors": r"command|commit|(machine|data|versions)(\..*)?|carried",
    "machine": "machine.abilities|commit|claims.0.machine",
    "links": "",
    "search": "",
}
VALIDATED = {
    "evidence": (EVIDENCE, lambda found: schemas.complaint_of_evidence(found, "sequential", EXPERIMENT.names)),
    "sweep": (TUNING, lambda found: schemas.complaint_of_tuning(found, "sequential")),
    "summary": (SUMMARY, schemas.complaint_of_summary),
    "floors": (FLOORS, schemas.complaint_of_floors),
    "machine": (MACHINE, schemas.complaint_of_machine),
    "links": (LINKS, schemas.complaint_of_links),
    "search": ({"found": {"fair": [TRIAL]}}, schemas.complaint_of_search),
}
FREE = r"(.*\.)?(settings|config|keras)\..+"  # Settings are whatever a recipe's are.
TOO_LARGE = 1e39  # No text, no list, no object, no whole number, and no number that a training could have.


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where there is something in JSON: of lists, in the first of what they hold."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, below in inner:
        yield from places(below, (*path, key))


@pytest.mark.parametrize("kind", VALIDATED)
def test_each_field_is_asked_for_and_looked_at(kind):
    content, complaint = VALIDATED[kind]
    for *above, last in places(content):
        name = ".".join(map(str, (*above, last)))
        for change in ("missing", "too large"):
            spoilt = copy.deepcopy(content)
            within = functools.reduce(lambda part, key: part[key], above, spoilt)
            if change == "too large":
                within[last] = TOO_LARGE
            elif isinstance(last, str):
                del within[last]
            else:
                continue
            free = re.fullmatch(rf"(.*\.)?{NAMED}" if change == "missing" else FREE, name)
            optional = re.fullmatch(OPTIONAL[kind], name)
            assert complaint(spoilt) or free or optional, f"{name} is {change}"


def outside_code(page: str) -> str:
    """Markdown without its code spans, in which nothing is anything but text."""
    return re.sub(r"`[^`\n]*`", "", page)


@given(spoiled(EVIDENCE))
def test_of_any_evidence_there_is_a_complaint_or_a_report(file, content):
    found = read_as(content, file)
    if schemas.complaint_of_evidence(found, "sequential", EXPERIMENT.names):
        return
    report = Report(EXPERIMENT, found, TUNING)
    report.verdict_lines()
    report.table()
    text = markdown(report)
    assert "<script" not in outside_code(text)
    publish.summary_of(report)
    publishable.objections(EXPERIMENT, file)


@given(spoiled(TUNING))
def test_of_any_sweep_there_is_a_complaint_or_a_report(file, content):
    found = read_as(content, file)
    if not schemas.complaint_of_tuning(found, "sequential"):
        assert "<script" not in outside_code(markdown(Report(EXPERIMENT, EVIDENCE, found)))
    path = file.with_name("tuning.json")
    path.write_bytes(content)
    publishable.objections(EXPERIMENT, path)


@given(spoiled(SUMMARY))
def test_of_any_summary_there_is_a_complaint_or_a_front_page(file, content):
    results = file.parent / "results"
    (results / "optimizers").mkdir(parents=True, exist_ok=True)
    (results / "optimizers" / "summary.json").write_bytes(content)
    marks = "\n".join(line for part in front_page.PARTS for line in front_page.marks(part))
    try:
        page = front_page.readme(marks, results)
    except EvidenceError:
        return
    found = front_page.summaries(results)
    assert "<script" not in page + front_page.ledger(found) + front_page.gallery(found)


@given(spoiled(SUMMARY))
def test_of_any_summary_the_list_has_a_row(file_that_says, content):
    with file_that_says(RESULTS / "optimizers" / "summary.json", content):
        assert len(whole.listing(["optimizers", "sequential"]).rows) == 2


@pytest.fixture(scope="module")
def file_that_says():
    """A function: as long as a block runs, a file holds these bytes."""
    read = Path.read_text

    @contextlib.contextmanager
    def holding(path, content):
        def instead(self, **how):
            return content.decode("utf-8") if self == path else read(self, **how)

        Path.read_text = instead
        try:
            yield
        finally:
            Path.read_text = read

    return holding


@given(spoiled(LINKS))
def test_any_links_are_followed_or_complained_of(file, content):
    path = file.with_name(lineage.NAME)
    path.write_bytes(content)
    try:
        links = lineage.links(file.parent)
    except EvidenceError:
        return
    finally:
        path.unlink()
    lineage.followed(copy.deepcopy({**EVIDENCE, "code": "a"}), links)


@given(spoiled(FLOORS))
def test_any_floors_are_read_or_complained_of(file, content):
    folder = file.parent / "floors" / "sequential"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "floors.json").write_bytes(content)
    with contextlib.suppress(EvidenceError):
        floors_of(EXPERIMENT, folder.parent)


@given(spoiled(MACHINE))
def test_any_verdicts_of_another_machine_are_shown_or_complained_of(file, content):
    other = read_as(content, file)
    if schemas.complaint_of_machine(other):
        return
    experiment = load("input_pipeline")
    found = some_seeds(lineage.read(RESULTS / "input_pipeline" / "evidence.json"))
    assert "<script" not in outside_code(markdown(Report(experiment, found, None), others=[other]))


@given(spoiled({"found": {"fair": [TRIAL, TRIAL]}}))
def test_anything_that_a_search_found_is_taken_or_complained_of(file, content):
    (file.parent / "search.json").write_bytes(content)
    begun = types.SimpleNamespace(folder=file.parent)
    with contextlib.suppress(EvidenceError):
        for trials in search._found_before(begun).values():
            for trial in trials:
                assert set(TRIAL) <= set(trial)


REPLAYED = load("search_replayed")


@given(altered({**read_json(RESULTS / "search_replayed" / "tuning.json"), "parts": {}}))
@examples(10)
def test_any_table_is_whole_or_complained_of(content):
    table = REPLAYED.table
    with mock.patch.object(tables, "read_json", return_value=content), contextlib.suppress(EvidenceError):
        rows = table.read("search_replayed")
        metrics = len(next(iter(rows.values()))[0])
        assert all(values.shape == (len(table.seeds), metrics) for values in rows.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda records: records.pop(), "is not whole"),
        (lambda records: records[0].update(seed=2), "is not whole"),
        (lambda records: records[0]["config"].update(rate=0.123), "rate 0.123 is none of its settings"),
        (lambda records: records[0]["config"].pop("width"), "width None is none of its settings"),
        (lambda records: records[0]["metrics"].pop("epoch_4"), "not the same everywhere"),
        (lambda records: records.clear(), "no list of records"),
    ],
)
def test_a_table_lacks_nothing_and_has_nothing_else(change, says):
    content = read_json(RESULTS / "search_replayed" / "tuning.json")
    change(content["search"])
    with mock.patch.object(tables, "read_json", return_value=content), pytest.raises(EvidenceError, match=says):
        REPLAYED.table.read("search_replayed")


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("evidence", lambda found: found.update(budget="<script>"), "one of smoke, quick, full"),
        ("sweep", lambda found: found["search"][0]["config"].update(rate=[0.1]), "--rate should be one value"),
        ("summary", lambda found: found["claims"][0]["numbers"].clear(), "a text for each effect"),
    ],
)
def test_what_made_up_files_have_found_is_complained_of(kind, change, says):
    content, complaint = VALIDATED[kind]
    spoilt = copy.deepcopy(content)
    change(spoilt)
    assert says in complaint(spoilt)


def test_a_summary_holds_no_page_of_its_own():
    summary = copy.deepcopy(SUMMARY)
    evil = "<script>|[a](javascript:b)"
    for claim in summary["claims"]:
        claim.update(id=evil, text=evil, source=evil, said=evil, verdict=evil, numbers=[evil] * len(claim["numbers"]))
    found = {"optimizers": summary}
    page = front_page.ledger(found) + front_page.surprises(found) + front_page.at_full(found)
    assert "&lt;script" in page
    assert "<script" not in page
    assert "[a]" not in page


# Records, where a command goes on


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """An invocation whose runs are done, one of them, and its record as it was."""
    logs = tmp_path_factory.mktemp("logs")
    settings = Settings("quick", (1, 2), (), images_of("quick"), logs, log=False)
    begun = invocation.Invocation.begin(guess.EXPERIMENT, settings, guess.Config(), "python")
    work = scheduler.Work.of(begun, begun.plan(), print)
    for one in list(work.jobs):
        records = job.run_job(dataclasses.replace(one, alone=True))
        work.finish(one, records)
    one = work.jobs[0]
    path = scheduler.record_path(one.folder, one.variants[0], one.seed)
    yield begun, one, path, read_json(path)
    begun.end()


@given(st.data())
def test_a_record_is_kept_as_it_was_or_not_at_all(begun, data):
    """Whatever has become of it, no other number gets into the evidence."""
    invocation_, one, path, before = begun
    path.write_bytes(data.draw(spoiled(before)))
    said: list[str] = []
    found = scheduler._kept(invocation_, one, one.variants[0], said.append)
    assert found is None or text_of(found) == text_of(schemas.unsealed(before)[0])
    assert (found is None) == bool(said)


def test_a_whole_record_is_kept(begun):
    invocation_, one, path, before = begun
    write_json(path, before)
    assert scheduler._kept(invocation_, one, one.variants[0], pytest.fail) == schemas.unsealed(before)[0]


@given(st.data())
def test_no_broken_invocation_blocks_a_good_one(begun, data):
    invocation_, *_ = begun
    newer = invocation_.folder.parent / "99990101-000000"
    newer.mkdir(exist_ok=True)
    header = {**invocation_.header, "parts": {}}
    (newer / "invocation.json").write_bytes(data.draw(spoiled(header)))
    try:
        assert invocation._find(invocation_.folder.parent, invocation_.header) in (newer, invocation_.folder)
    finally:
        shutil.rmtree(newer)


@given(spoiled({"part": "", "epoch": 3, "epochs": 5, "accuracy": 0.5}))
def test_any_progress_is_shown_or_not(begun, content):
    _, one, path, _ = begun
    path.with_name("progress.json").write_bytes(content)
    found = job.read_progress(Path(one.folder), one.variants[0], one.seed)
    console = Console(file=io.StringIO(), force_terminal=True)
    with live_table.watching(console, [one], 1, lambda folder, variant, seed: found) as watcher:
        watcher.started(one)


@given(spoiled(["compare/accuracy"]))
def test_any_list_of_pins_is_one_of_texts(file, content):
    (file.parent / server.compare.PINS).write_bytes(content)
    assert all(isinstance(tag, str) for tag in server.pins(file.parent))


# The books of a search


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The logs of a whole search, and what it has found."""
    logs = tmp_path_factory.mktemp("searched") / "logs"
    with in_this_process():
        assert commands.run(runner.EXPERIMENT, [*SEARCH, "--logdir", str(logs)]) == 0
    (path,) = logs.rglob("search.json")
    return logs, read_json(path)["found"]


SEARCH = ["search", "random", "--variants", "fair", "--trials", "3", "--no-log", "--jobs", "1"]


@contextlib.contextmanager
def in_this_process():
    from lab.execute import executor

    before = executor.side_by_side

    def one_by_one(work, jobs, gpus, started, start=None):
        for one in work:
            started(one)
            yield one, job.run_job(dataclasses.replace(one, alone=True))

    executor.side_by_side = one_by_one
    try:
        yield
    finally:
        executor.side_by_side = before


@given(st.data())
@examples(20)
def test_a_search_goes_on_to_the_same_end_or_says_that_its_books_are_broken(searched, tmp_path_factory, data):
    logs, found = searched
    copied = tmp_path_factory.mktemp("copied") / "logs"
    shutil.copytree(logs, copied)
    (book,) = copied.rglob("search.json")
    book.unlink()
    books = sorted([*copied.rglob("oracle.json"), *copied.rglob("trial.json")])
    broken = data.draw(st.sampled_from(books))
    broken.write_bytes(data.draw(spoiled(json.loads(broken.read_text()))))
    with in_this_process():
        code = commands.run(runner.EXPERIMENT, [*SEARCH, "--logdir", str(copied), "--resume"])
    assert code in (0, 1, 2)
    if code == 0:
        again = {trial["trial"]: trial for trial in read_json(book)["found"]["fair"]}
        known = {repr(trial["settings"]): trial["validation_accuracy"] for trial in found["fair"]}
        for trial in again.values():
            assert known.get(repr(trial["settings"]), trial["validation_accuracy"]) == trial["validation_accuracy"]
    shutil.rmtree(copied.parent)


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
        found = image_cache.get("key", lambda: arrays)
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in arrays.items()
        }
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[bytes]:
    place, found = tmp_path_factory.mktemp("pictures"), []
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for name, image in (("a.png", pixels), ("b.jpg", pixels), ("c.png", pixels[..., 0])):
        Image.fromarray(image).save(place / name)
        found.append((place / name).read_bytes())
    return found


@given(st.data())
def test_any_file_is_an_image_or_a_sentence(file, pictures, data):
    path = file.with_name("image.png")
    path.write_bytes(data.draw(spoiled_bytes(data.draw(st.sampled_from(pictures)))))
    with contextlib.suppress(RequestError):
        found = folders.decode(path, 8)
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
    how = data.draw(st.sampled_from(["gone", "pipe", "folder", "cut", "flipped"]))
    if how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how != "gone":
        path.write_bytes(data.draw(spoiled_bytes(content, how)))
    with pytest.raises(DataError, match="git checkout -- pipelines/data"):
        cifar10.check_sums(folder)
    shutil.rmtree(folder)


# The rest


@given(st.one_of(texts, anything.map(json.dumps), altered(json.loads(cluster.SHAPE)).map(json.dumps)))
def test_any_tf_config_is_a_cluster_or_a_sentence(text):
    try:
        index, workers = cluster.own_task(text)
    except UsageError:
        return
    assert 0 <= index < len(workers)


@given(st.lists(st.sampled_from([line for part in front_page.PARTS for line in front_page.marks(part)] + ["text"])))
def test_a_readme_has_its_places_or_is_complained_of(lines):
    with contextlib.suppress(EvidenceError):
        front_page.readme("\n".join(lines), ROOT / "results")


@given(spoiled_bytes(b"def build(variant, data):\n    return None\n"))
def test_any_bytes_as_a_model_are_a_function_or_a_sentence(file, content):
    hypothesis.assume(content.count(b"(") < 2)  # It is code, and is run.
    path = file.with_name("model_of_bytes.py")
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        assert callable(own_model(f"{path}:build"))


@pytest.mark.parametrize("ends", ["0", "1", "'usage: none'", ""])
def test_a_model_whose_file_ends_the_process_is_a_sentence(tmp_path, ends):
    (tmp_path / "script.py").write_text(f"import sys\ndef build(variant, data): ...\nsys.exit({ends})\n")
    with pytest.raises(ValueError, match="failed \\(SystemExit"):
        own_model(f"{tmp_path / 'script.py'}:build")


def grown(found: dict[str, Any]) -> dict[str, Any]:
    """The same as evidence that grew until it decided: ten seeds of each variant."""
    records = [
        {**record, "seed": seed, "curves": {}, "metrics": {"test_accuracy": 0.5}, "correct": None}
        for record in found["records"]
        if record["seed"] == found["seeds"][0]
        for seed in range(101, 111)
    ]
    return {**found, "seeds": list(range(101, 111)), "records": records, "until_decided": 40}


@given(altered(grown(EVIDENCE)))
@examples(50)
def test_of_any_evidence_that_grew_there_is_a_complaint_or_a_report(file, content):
    if not schemas.complaint_of_evidence(content, "sequential", EXPERIMENT.names):
        markdown(Report(EXPERIMENT, content, None))


def test_published_files_that_are_broken_are_sentences(tmp_path):
    for name in ("evidence.json", "tuning.json", "attested.json"):
        shutil.copytree(HOME, tmp_path / name / "sequential")
        (tmp_path / name / "sequential" / name).write_text("[{")
        with pytest.raises(EvidenceError, match="not whole"):
            Published.read(EXPERIMENT, tmp_path / name)
