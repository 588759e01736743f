"""The log that is to be opened first: what it says of each variant, and how `board` finds and serves it."""

import dataclasses
import io
import json
import re
import signal
import subprocess
import sys
import time
import types
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from lab.evidence.records import NOTES, write_json
from lab.execute.job import Job, run_job
from lab.report import published
from lab.report.report import Report
from lab.tensorboard import comparison, events, pictures, server
from lab.tensorboard.log import TensorBoardLog
from pipelines import sources
from pipelines.errors import MachineError
from tests.conftest import ROOT
from tests.test_board import events as read
from tests.test_board import series
from tests.toys import dice, made_up

CURVES = {"accuracy": [0.2, 0.5], "val_accuracy": [0.1, 0.3], "loss": [2.0, 1.0], "val_loss": [2.5, 2.0]}


def record(variant="adam", seed=1, curves=None, **metrics):
    return made_up.record(
        variant,
        seed,
        curves={**CURVES, **(curves or {})},
        metrics=metrics or {"test_accuracy": 0.5},
        config={"epochs": 2},
    )


def leave_rates(folder, variant="adam", seed=1, rates=((0, 0.1), (9, 0.0))):
    write_json(folder / variant / f"seed-{seed}" / events.RATES, rates)


def finish(folder, records, classes=("a", "b"), samples=None):
    """What `measure` does at the end of an invocation of dice's experiment, with these records."""
    names = list(dict.fromkeys(each.variant for each in records))
    experiment = dataclasses.replace(dice.EXPERIMENT, variants=dict.fromkeys(names, 0.5), claims=[])
    labels = np.arange(8, dtype=np.int32) % len(classes)
    test = sources.Split(np.zeros((8, 8, 8, 3), np.uint8), labels, np.array(list("abcdefgh")))
    data = types.SimpleNamespace(test=test, classes=classes)
    comparison.write_finished(folder, Report(experiment, made_up.evidence(records), None), "# A card", data, samples)


def drawn(folder, tag):
    return series(read(folder), tag)


def text(folder, tag="answer") -> str:
    return tf.make_ndarray(read(folder).Tensors(tag)[0].tensor_proto).item().decode()


def test_while_runs_go_on_the_curves_are_those_of_the_runs_that_have_ended(tmp_path):
    records = [record("adam", 1, {"val_accuracy": [0.2, 0.4]}), record("sgd", 1, {"val_accuracy": [0.1, 0.1]})]
    comparison.refresh(tmp_path, records, "adam")
    assert drawn(tmp_path / "compare" / "adam", "accuracy/validation")[1] == pytest.approx([0.2, 0.4])
    comparison.refresh(tmp_path, [*records, record("adam", 2, {"val_accuracy": [0.4, 0.8]})], "adam")
    assert drawn(tmp_path / "compare" / "adam", "accuracy/validation")[1] == pytest.approx([0.3, 0.6])
    assert not (tmp_path / "compare" / "sgd").exists()
    assert "3 runs" in text(tmp_path / "compare" / "answer")


def test_a_curve_is_the_mean_over_seeds_within_its_95_percent_interval(tmp_path):
    records = []
    for seed, accuracies in enumerate(([0.2, 0.4], [0.4, 0.8], [0.6, 0.9])):
        records.append(record("adam", seed, {"val_accuracy": accuracies}))
        leave_rates(tmp_path, "adam", seed)
    finish(tmp_path, records)
    folder = tmp_path / "compare" / "adam"
    steps, means = drawn(folder, "accuracy/validation")
    assert steps == [1, 2]
    assert means == pytest.approx([0.4, 0.7])
    half = stats.t.ppf(0.975, 2) * np.array([0.2, np.std([0.4, 0.8, 0.9], ddof=1)]) / 3**0.5
    assert drawn(folder, "the band/accuracy/validation low")[1] == pytest.approx(np.array([0.4, 0.7]) - half)
    assert drawn(folder, "the band/accuracy/validation high")[1] == pytest.approx(np.array([0.4, 0.7]) + half)
    assert drawn(folder, "gap/training minus validation accuracy")[1] == pytest.approx([0.2 - 0.4, 0.5 - 0.7])
    assert drawn(folder, "learning rate/at each step") == ([0, 9], pytest.approx([0.1, 0.0]))


def test_a_curve_that_ended_early_counts_as_far_as_it_goes_and_a_failed_run_does_not(tmp_path):
    records = [record("adam", 1, {"val_accuracy": [0.2, 0.6, None]}), record("adam", 2, {"val_accuracy": [0.4]})]
    failed = made_up.record("adam", 3, status="failed", curves={"val_accuracy": [0.9, 0.9]})
    finish(tmp_path, [*records, failed, record("sgd", 1, {"val_accuracy": []})])
    assert drawn(tmp_path / "compare" / "adam", "accuracy/validation") == ([1, 2], pytest.approx([0.3, 0.6]))
    assert "accuracy/validation" not in read(tmp_path / "compare" / "sgd").Tags()["tensors"]


def test_what_is_written_again_takes_the_place_of_what_was(tmp_path):
    for accuracy in (0.1, 0.3):
        finish(tmp_path, [record(curves={"val_accuracy": [accuracy]})])
    folder = tmp_path / "compare" / "adam"
    assert drawn(folder, "accuracy/validation") == ([1], pytest.approx([0.3]))
    assert len(list(folder.iterdir())) == 1


def layout_of(folder) -> list:
    content = tf.make_ndarray(read(folder).Tensors("custom_scalars__config__")[0].tensor_proto).item()
    (category,) = layout_pb2.Layout.FromString(content).category
    return list(category.chart)


def test_the_charts_are_those_of_the_curves_that_there_are(tmp_path):
    leave_rates(tmp_path)
    finish(tmp_path, [record(curves={"norm": [1.0, 2.0]})])
    charts = layout_of(tmp_path / "compare" / "answer")
    tags = set(read(tmp_path / "compare" / "adam").Tags()["tensors"])
    titles = [chart.title for chart in charts][::-1]  # Shown from the last on.
    assert titles == [*comparison.TAGS.values(), "curve/norm"]
    for chart in charts:
        (line,) = chart.margin.series
        assert {line.value, line.lower, line.upper} <= tags


def leave_run(folder, each):
    """What a run that logs leaves: its row of HParams, its model, its predictions."""
    run = folder / each.variant / f"seed-{each.seed}"
    run.mkdir(parents=True)
    TensorBoardLog(run).finished(each)
    TensorBoardLog(run).predictions(np.eye(2)[np.arange(8) // 2 % 2])
    return run


def invocation(folder, variants=("adam", "sgd"), **metrics):
    records = [record(name, seed, **metrics) for name in variants for seed in (1, 2)]
    for each in records:
        leave_run(folder, each)
    finish(folder, records)
    return records


def rows(folder) -> dict[str, tuple[dict, dict]]:
    """The rows of the HParams page on a folder, by TensorBoard's own backend: settings and metrics."""
    found = plugin_event_multiplexer.EventMultiplexer()
    found.AddRunsFromDirectory(str(folder))
    found.Reload()
    provider = data_provider.MultiplexerDataProvider(found, str(folder))
    backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    asked = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=1000, allowed_statuses=[0, 1, 2, 3])
    groups = list_session_groups.Handler(context.RequestContext(), backend, "", asked).run().session_groups
    plain = lambda value: value.string_value or value.number_value  # noqa: E731
    return {
        group.name: (
            {name: plain(value) for name, value in group.hparams.items() if value.WhichOneof("kind") != "null_value"},
            {value.name.tag: value.value for value in group.metric_values},
        )
        for group in groups
    }


def test_hparams_has_a_row_for_each_run_and_each_variant_with_its_own_metrics(tmp_path):
    """Also where two experiments, which have no metric in common, lie under one folder."""
    first, second = tmp_path / "optimizers" / "20260101-000000", tmp_path / "monitoring" / "20260102-000000"
    records = invocation(first) + invocation(second, ("fast",), step_seconds=0.1, waiting=0.2)
    for folder, mine in ((first, records[:4]), (second, records[4:]), (tmp_path, records)):
        found = rows(folder)
        wanted = {f"final/{name}" for each in mine for name in each.metrics}
        assert {name for _, metrics in found.values() for name in metrics} == wanted
        for each in mine:
            home = "20260101-000000 optimizers" if each in records[:4] else "20260102-000000 monitoring"
            for name in (f"seed-{each.seed} {each.variant} {home}", f"{each.variant} {home}"):
                ((settings, metrics),) = (row for whole, row in found.items() if whole.startswith(name))
                assert metrics == {f"final/{key}": pytest.approx(value) for key, value in each.metrics.items()}
                assert (settings["variant"], settings["epochs"]) == (each.variant, 2)
        assert len(found) == len(mine) + len({each.variant for each in mine})
    assert sorted(name.split()[0] for name in rows(first / "compare")) == ["adam", "sgd"]


def test_hparams_of_the_same_recipe_twice_are_different_rows(tmp_path):
    for stamp in ("20260101-000000", "20260102-000000"):
        invocation(tmp_path / "optimizers" / stamp)
    assert len(rows(tmp_path)) == 2 * (2 * 2 + 2)


def leave_search(folder, trials=3):
    """What `--search` leaves: a run of its own for each trial, all of them at one seed."""
    for trial in range(trials):
        each = made_up.record("adam", 801, config={"rate": 0.1**trial}, metrics={"validation_accuracy": 0.1 * trial})
        leave_run(folder / "adam-trials" / f"run-{trial}", each)


def test_a_searchs_trials_have_a_row_each(tmp_path):
    folder = tmp_path / "random-3" / "optimizers" / "20260101-000000"
    leave_search(folder)
    found = rows(folder)
    assert len(found) == 3
    for trial in range(3):
        settings, metrics = found[f"seed-801 adam run-{trial} adam-trials 20260101-000000 optimizers"]
        assert settings["rate"] == pytest.approx(0.1**trial)
        assert metrics == {"final/validation_accuracy": pytest.approx(0.1 * trial)}


def test_when_all_is_done_there_is_a_run_for_each_variant_and_one_with_the_answer(tmp_path):
    records = [record("adam", 1), record("adam", 2, test_accuracy=0.7), record("sgd", 1), record("sgd", 2)]
    for each in records:
        leave_run(tmp_path, each)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    (tmp_path / "adam" / "seed-1" / events.MODEL).write_text(model.to_json())
    (tmp_path / "sgd" / "seed-1" / events.MODEL).write_text(
        '{"class_name": "Own", "config": {"layers": [{"config": 3}]}}'
    )
    (tmp_path / "sgd" / "seed-2" / NOTES).write_text("No graph of the model: TypeError.\n")
    finish(tmp_path, records, samples={"adam": np.zeros((3, 8, 8, 3), np.uint8)})
    runs = tmp_path / "compare"
    assert {path.name for path in runs.glob("*/")} == {"adam", "sgd", "means", "answer"}
    adam, sgd = read(runs / "adam"), read(runs / "sgd")
    assert drawn(runs / "adam", "by seed/test accuracy") == ([1, 2], pytest.approx([0.5, 0.7]))
    shown = {"confusion matrix, all seeds", "misclassified, the first seed"}
    assert shown | {"trained on, a sample"} <= set(adam.Tags()["tensors"])
    assert shown <= set(sgd.Tags()["tensors"])
    names = [node.name for node in tf.compat.v1.GraphDef.FromString(adam.Graph().SerializeToString()).node]
    assert names[-1] == "head"
    # A model that has no graph of layers is left out, and said.
    assert "graph of sgd" in (tmp_path / NOTES).read_text()
    assert text(runs / "sgd", "left out") == "No graph of the model: TypeError."
    assert all(f"| {variant} |" in text(runs / "answer") for variant in ("adam", "sgd"))
    assert text(runs / "answer", "card") == "# A card"


def test_a_run_leaves_the_rates_that_it_trained_with(tmp_path):
    config = {"epochs": 2, "batch_size": 50}
    (found,) = run_job(
        Job(
            "lab.experiments.sequential",
            ("dense_65",),
            1,
            config,
            sources.Request(train_images=500),
            str(tmp_path),
            alone=True,
        )
    )
    assert found.status == "finished", found.cause
    steps, rates = series(read(tmp_path / "dense_65" / "seed-1" / "train"), "learning_rate/by_step")
    finish(tmp_path, [found])
    kept_steps, kept = drawn(tmp_path / "compare" / "dense_65", "learning rate/at each step")
    assert kept == [rates[steps.index(step)] for step in kept_steps]
    assert (kept_steps[0], kept_steps[-1]) == (steps[0], steps[-1])


def test_a_graph_of_mixed_precision_is_drawn_and_nothing_is_complained_of(caplog):
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="deep", dtype=policy)], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2, name="head", dtype=policy)])
    graph = tf.compat.v1.GraphDef.FromString(comparison.graph_of(model.to_json()))
    dtypes = {node.name: tf.dtypes.as_dtype(node.attr["dtype"].type).name for node in graph.node}
    assert (dtypes["inner/deep"], dtypes["head"]) == ("bfloat16", "bfloat16")
    assert [list(node.input) for node in graph.node if node.name == "head"] == [["inner/deep"]]
    assert caplog.text == ""


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_confusion_matrix_has_a_row_for_each_true_class():
    """All of class 0 are taken for 1, so that only the upper middle cell of its row is dark."""
    labels, predicted = np.array([0, 0, 0, 1, 2]), np.array([1, 1, 1, 1, 2])
    picture = pixels(pictures.confusion(labels, predicted, ["", "", ""]))
    dark = (picture[..., 2] > picture[..., 0] + 40) & (picture[..., 0] < 60)  # The darkest blue is that of 3 images.
    rows, columns = np.nonzero(dark)
    height, width = picture.shape[:2]
    assert rows.mean() < 0.4 * height
    assert abs(columns.mean() / width - 0.55) < 0.1


@pytest.mark.parametrize("classes", [2, 31, 100])
def test_a_confusion_matrix_of_many_classes_fits_on_a_screen(classes):
    labels = np.arange(classes)
    height, width, _ = pixels(pictures.confusion(labels, labels, [f"class {i}" for i in labels])).shape
    assert 200 < height < 2000
    assert 200 < width < 2000


def test_of_too_many_classes_no_confusion_matrix_is_drawn(tmp_path):
    leave_run(tmp_path, record())
    finish(tmp_path, [record()], [str(number) for number in range(pictures.MOST_DRAWN + 1)])
    assert "confusion matrix, all seeds" not in read(tmp_path / "compare" / "adam").Tags()["tensors"]


def test_misclassified_images_are_those_that_are_wrong(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "tiles", lambda *arguments: shown.append(arguments) or b"\0" * 24)
    run = tmp_path / "adam" / "seed-1"
    run.mkdir(parents=True)
    TensorBoardLog(run).predictions(np.eye(3)[[0, 2, 2, 1]])
    images = np.full((4, 8, 8, 3), np.array([10, 60, 120, 200])[:, None, None, None], np.uint8)
    test = sources.Split(images, np.array([0, 1, 2, 0], np.int32), np.array(list("abcd")))
    list(comparison._pictures(tmp_path / "adam", types.SimpleNamespace(test=test, classes=["cat", "dog", "eel"])))
    ((wrong, titles),) = shown
    assert wrong[:, 0, 0, 0].tolist() == [60, 200]
    assert titles == ["dog\nnot eel", "cat\nnot dog"]


def test_a_sample_is_shown_as_one_picture():
    images = np.stack([np.full((16, 16, 1), shade, np.uint8) for shade in range(14)])
    picture = pixels(pictures.tiles(images))
    assert picture.shape == (2 * 128, 6 * 128, 3)  # Twelve of them.
    assert [int(picture[64 + 128 * (i // 6), 64 + 128 * (i % 6), 0]) for i in range(12)] == list(range(12))
    assert pixels(pictures.tiles(images[:7]))[-1, -1].tolist() == [255, 255, 255]


def test_the_address_says_what_is_to_be_seen_first():
    asked = urllib.parse.parse_qs(server.query())
    assert [card["tag"] for card in json.loads(asked["pinnedCards"][0])][:2] == ["accuracy/validation", "loss/training"]
    assert asked["smoothing"] == ["0"]
    assert asked["runColorGroup"] == ["regex:([^/]+)$"]


def test_the_newest_comparison_runs_and_search_are_found(tmp_path):
    home = tmp_path / "optimizers"
    for stamp in ("20260101-000000", "20260102-000000"):
        finish(home / stamp, [record(), record("sgd")])
    (home / "20260103-000000").mkdir()  # Of a tuning sweep, which leaves no TensorBoard files.
    leave_run(home / "20260104-000000", record())  # Its runs go on, or were stopped.
    leave_search(tmp_path / "grid-2" / "optimizers" / "20260105-000000", 2)
    leave_search(tmp_path / "random-3" / "optimizers" / "20260104-000000")
    assert server.newest(tmp_path, "optimizers") == {
        "compared": home / "20260102-000000" / "compare",
        "runs": home / "20260104-000000",
        "search": tmp_path / "grid-2" / "optimizers" / "20260105-000000",
    }
    assert server.newest(tmp_path, "sequential") == {}


@pytest.fixture
def started(monkeypatch):
    """The folders that TensorBoard is started on, instead of starting it."""
    found = []
    monkeypatch.setattr(server, "start", lambda folders, port=0: found.append((folders, port)) or "http://here/")
    return found


def test_a_search_alone_is_served_on_the_page_with_its_trials(tmp_path, started):
    folder = tmp_path / "random-3" / "optimizers" / "20260101-000000"
    leave_search(folder)
    said = []
    assert server.serve_newest([], tmp_path, said.append, port=7) == "http://here/#hparams"
    assert started == [({"optimizers": folder}, 7)]
    assert str(folder) in said[1]


def test_published_curves_are_those_of_the_evidence_and_an_earlier_versions_are_called_so(
    tmp_path, started, monkeypatch
):
    evidence = made_up.evidence([record("dense_65"), record("dense_65", 2), record("convnet_200")])
    for stale, label in (("", "published"), ("the code has changed since", "published, earlier version")):
        found = published.Published(evidence, None, stale)
        monkeypatch.setattr(published.Published, "read", lambda *_, found=found: found)
        server.serve_newest(["sequential"], tmp_path / "nowhere", print, reference=True)
        ((name, folder),) = started.pop()[0].items()
        assert name == f"sequential/{label}"
        assert drawn(folder / "dense_65", "accuracy/validation") == ([1, 2], pytest.approx([0.1, 0.3]))
        assert ("earlier version" in text(folder / "answer", "card")) == bool(stale)


def test_where_there_is_nothing_it_says_what_there_is(tmp_path):
    (tmp_path / "optimizers" / "20260103-000000").mkdir(parents=True)
    with pytest.raises(MachineError, match="files of optimizers"):
        server.serve_newest(["optimizers"], tmp_path, print)


def runs_at(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}data/runs", timeout=30) as answer:
        return json.load(answer)


def addresses(process: subprocess.Popen) -> list[str]:
    """What a board prints, once it waits: the comparisons' address and that of the runs of seeds, without a query."""
    found = []
    for line in process.stdout:
        found += re.findall(r"http://127\.0\.0\.1:\d+/", line)
        if "until Ctrl-C" in line:
            return found
    raise AssertionError(f"it ended: {found}")


def wait_for(runs: set[str], url: str) -> set[str]:
    """The runs at an address, once those are among them or a minute has passed."""
    deadline = time.monotonic() + 60
    while not runs <= (there := set(runs_at(url))) and time.monotonic() < deadline:
        time.sleep(0.3)
    return there


@pytest.mark.processes
def test_a_board_shows_the_variants_and_the_runs_of_each_seed_until_ctrl_c(tmp_path):
    for name in ("optimizers", "sequential"):
        invocation(tmp_path / name / "20260101-000000", ("adam",))
    command = [sys.executable, "-u", "-m", "recipes", "board", "optimizers", "sequential", "--logdir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        variants, seeds = addresses(process)
        shown = {"optimizers/here/adam", "sequential/here/adam"}
        assert shown <= wait_for(shown, variants)
        shown = {"optimizers/adam/seed-1/final", "sequential/adam/seed-1/final"}
        assert shown <= wait_for(shown, seeds)
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["optimizers", "--logdir", "nowhere"], 1, "optimizers"),
        (["--port", "70000"], 2, "70000"),
        (["unknown"], 2, "unknown"),
    ],
)
def test_a_board_of_nothing_is_refused_in_a_sentence(arguments, code, named):
    command = [sys.executable, "-m", "recipes", "board", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert named in done.stderr
