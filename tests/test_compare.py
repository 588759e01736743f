"""The log that is to be opened first: what it says of each variant, while runs go on and when they are done."""

import dataclasses
import json
import os
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
from scipy import stats
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from lab.evidence.records import write_json
from lab.experiments import sequential as sequential_experiment
from lab.report.report import Report
from lab.tensorboard import comparison, following, pictures, server
from pipelines import sources
from recipes import sequential
from tests.test_board import events, series
from tests.test_measures import found_by

USUAL = {**os.environ, "PYTHONUNBUFFERED": "1"}
CURVES = {"accuracy": [0.2, 0.5], "val_accuracy": [0.1, 0.3], "loss": [2.0, 1.0], "val_loss": [2.5, 2.0]}


def leave(folder, variant, seed, curves=CURVES, rates=((0, 0.1), (9, 0.0))):
    """What a run in flight leaves."""
    write_json(folder / variant / f"seed-{seed}" / comparison.KEPT, {"curves": curves, "rates": rates})


def drawn(folder, tag):
    return series(events(folder), tag)


def test_a_curve_is_the_mean_over_seeds_within_its_95_percent_interval(tmp_path):
    for seed, accuracies in enumerate(([0.2, 0.4], [0.4, 0.8], [0.6, 0.9])):
        leave(tmp_path, "adam", seed, {**CURVES, "val_accuracy": accuracies})
    comparison.write_progress(tmp_path, "…")
    folder = tmp_path / "compare" / "adam"
    steps, means = drawn(folder, "accuracy/validation")
    assert steps == [1, 2]
    assert means == pytest.approx([0.4, 0.7])
    half = stats.t.ppf(0.975, 2) * np.array([0.2, np.std([0.4, 0.8, 0.9], ddof=1)]) / 3**0.5
    assert drawn(folder, "the band/accuracy/validation low")[1] == pytest.approx(np.array([0.4, 0.7]) - half)
    assert drawn(folder, "the band/accuracy/validation high")[1] == pytest.approx(np.array([0.4, 0.7]) + half)
    assert drawn(folder, "gap/training minus validation accuracy")[1] == pytest.approx([0.2 - 0.4, 0.5 - 0.7])
    assert drawn(folder, "learning rate/at each step") == ([0, 9], pytest.approx([0.1, 0.0]))


def test_a_run_that_is_behind_or_broken_leaves_the_others_as_they_are(tmp_path):
    leave(tmp_path, "adam", 1, {"val_accuracy": [0.2, 0.6, None]})
    leave(tmp_path, "adam", 2, {"val_accuracy": [0.4]})
    (tmp_path / "adam" / "seed-3").mkdir()
    (tmp_path / "adam" / "seed-3" / comparison.KEPT).write_text('{"curves": ')
    leave(tmp_path, "sgd", 1, {"val_accuracy": []})
    comparison.write_progress(tmp_path, "…")
    assert drawn(tmp_path / "compare" / "adam", "accuracy/validation") == ([1, 2], pytest.approx([0.3, 0.6]))
    assert "accuracy/validation" not in events(tmp_path / "compare" / "sgd").Tags()["tensors"]


def test_what_is_written_anew_takes_the_place_of_what_was(tmp_path):
    for accuracy in (0.1, 0.2, 0.3):
        leave(tmp_path, "adam", 1, {"val_accuracy": [accuracy]})
        comparison.write_progress(tmp_path, f"{accuracy}")
    assert len(list((tmp_path / "compare" / "adam").iterdir())) == 1
    assert drawn(tmp_path / "compare" / "adam", "accuracy/validation") == ([1], pytest.approx([0.3]))
    answer = events(tmp_path / "compare" / "answer")
    assert tf.make_ndarray(answer.Tensors("answer")[0].tensor_proto).item() == b"0.3"


def layout_of(folder) -> list:
    content = tf.make_ndarray(events(folder).Tensors("custom_scalars__config__")[0].tensor_proto).item()
    (category,) = layout_pb2.Layout.FromString(content).category
    return list(category.chart)


def test_the_charts_are_those_of_the_curves_that_there_are(tmp_path):
    leave(tmp_path, "adam", 1, {**CURVES, "norm": [1.0, 2.0]})
    comparison.write_progress(tmp_path, "…")
    charts = layout_of(tmp_path / "compare" / "answer")
    tags = set(events(tmp_path / "compare" / "adam").Tags()["tensors"])
    assert [chart.title for chart in charts][::-1] == [
        *comparison.TAGS.values(),
        "curve/norm",
    ]  # Shown from the last on.
    for chart in charts:
        (line,) = chart.margin.series
        assert {line.value, line.lower, line.upper} <= tags
    assert json.loads((tmp_path / "compare" / "pins.json").read_text()) == list(comparison.TAGS.values())[:4]


class Silent:
    def started(self, job): ...

    def finished(self, job, records): ...


def test_the_log_is_written_anew_as_runs_end(tmp_path):
    job = types.SimpleNamespace(folder=str(tmp_path / "logged"), variants=("adam",), logging=True, alone=True)
    other = types.SimpleNamespace(folder=str(tmp_path / "not"), variants=("adam",), logging=False, alone=True)
    answer = tmp_path / "logged" / "compare" / "answer"
    with following.following(Silent(), [job, job, other]) as follower:
        leave(tmp_path / "logged", "adam", 1)
        leave(tmp_path / "not", "adam", 1)
        follower.finished(other, [{}])
        follower.finished(job, [{}])
        words = tf.make_ndarray(events(answer).Tensors("answer")[0].tensor_proto).item().decode()
        assert words.startswith("1 of 2 runs are done")
        before = list(answer.iterdir())
        follower.refresh(job.folder)
        assert list(answer.iterdir()) == before  # Nothing is new.
    assert not (tmp_path / "not" / "compare").exists()


def test_the_log_is_written_anew_while_runs_go_on_unless_they_measure_times(tmp_path, monkeypatch):
    monkeypatch.setattr(following, "SECONDS", 0.01)
    for alone in (False, True):
        folder = tmp_path / f"alone {alone}"
        job = types.SimpleNamespace(folder=str(folder), variants=("adam",), logging=True, alone=alone)
        with following.following(Silent(), [job]) as follower:
            leave(folder, "adam", 1)
            follower.ended.wait(1.0)
        assert (folder / "compare" / "adam").exists() == (not alone)


@pytest.fixture(scope="module")
def whole(smoke):
    done, logs = smoke("sequential")
    assert done.returncode == 0, done.stdout
    (folder,) = logs.iterdir()
    return folder


def test_a_run_leaves_the_rates_that_it_trained_with(whole):
    variant = sequential_experiment.VARIANTS[-1]
    (run,) = (whole / variant).iterdir()
    rates = json.loads((run / comparison.KEPT).read_text())["rates"]
    steps, each = series(events(run / "train"), "learning_rate/by_step")
    assert [rate for _, rate in rates] == [each[steps.index(step)] for step, _ in rates]
    assert rates[0][0] == steps[0]
    assert rates[-1][0] == steps[-1]
    record = json.loads((run / "record.json").read_text())
    assert json.loads((run / comparison.KEPT).read_text())["curves"] == record["curves"]


def test_when_all_is_done_there_is_a_run_for_each_variant_and_one_with_the_answer(whole):
    runs = whole / "compare"
    assert {path.name for path in runs.iterdir() if path.is_dir()} == {*sequential_experiment.VARIANTS, "answer"}
    evidence = json.loads((whole / "evidence.json").read_text())
    for variant in sequential_experiment.VARIANTS:
        found = events(runs / variant)
        (record,) = [record for record in evidence["records"] if record["variant"] == variant]
        assert drawn(runs / variant, "accuracy/validation")[1] == pytest.approx(record["curves"]["val_accuracy"])
        steps, values = drawn(runs / variant, "by seed/test accuracy")
        assert (steps, values) == ([record["seed"]], pytest.approx([record["metrics"]["test_accuracy"]]))
        settings = plugin_data_pb2.HParamsPluginData.FromString(
            found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        ).session_start_info.hparams
        assert settings["variant"].string_value == variant
        names = [node.name for node in tf.compat.v1.GraphDef.FromString(found.Graph().SerializeToString()).node]
        (model,) = (whole / variant).glob(f"seed-*/{comparison.MODEL}")
        assert names == [layer["config"]["name"] for layer in json.loads(model.read_text())["config"]["layers"]]
        assert {"confusion matrix, all seeds", "misclassified, the first seed"} <= set(found.Tags()["tensors"])
    answer = events(runs / "answer")
    text = tf.make_ndarray(answer.Tensors("answer")[0].tensor_proto).item().decode()
    assert all(f"| {variant} |" in text for variant in sequential_experiment.VARIANTS)
    assert {"card", "figure"} <= set(answer.Tags()["tensors"])
    pins = json.loads((runs / "pins.json").read_text())
    assert pins[0] == "accuracy/validation"


def test_the_hparams_page_has_no_column_that_is_empty(whole):
    content = events(whole).summary_metadata["_hparams_/experiment"].plugin_data.content
    columns = {info.name for info in plugin_data_pb2.HParamsPluginData.FromString(content).experiment.hparam_infos}
    records = json.loads((whole / "evidence.json").read_text())["records"]
    set_ = {name for record in records for name, value in record["config"].items() if value is not None}
    assert columns == {"variant", "seed", *set_}


def test_a_model_of_a_kind_that_has_no_graph_of_layers_is_left_out():
    assert comparison.graph_of('{"class_name": "Own", "config": {"layers": [{"config": 3}]}}') == b""


def test_a_graph_of_mixed_precision_is_drawn_and_nothing_is_complained_of(caplog):
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="deep", dtype=policy)], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2, name="head", dtype=policy)])
    graph = tf.compat.v1.GraphDef.FromString(comparison.graph_of(model.to_json()))
    dtypes = {node.name: tf.dtypes.as_dtype(node.attr["dtype"].type).name for node in graph.node}
    assert (dtypes["inner/deep"], dtypes["head"]) == ("bfloat16", "bfloat16")
    assert [list(node.input) for node in graph.node if node.name == "head"] == [["inner/deep"]]
    assert caplog.text == ""


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path):
    leave(tmp_path, "adam", 1)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "compare").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic link"):
        comparison.write_progress(tmp_path, "…")
    assert list(outside.iterdir()) == []


def test_misclassified_images_are_those_that_are_wrong():
    images = np.full((4, 8, 8, 3), np.array([10, 60, 120, 200])[:, None, None, None], np.uint8)
    test = sources.Split(images, np.array([0, 1, 2, 0], np.int32), np.array(list("abcd")))
    assert pictures.misclassified(test, test.labels, ["a", "b", "c"]) is None
    picture = pictures.misclassified(test, np.array([0, 2, 2, 1]), ["a", "b", "c"])
    width = picture.shape[1] // 2
    assert (picture[0, 0, 0], picture[0, width, 0]) == (60, 200)


def test_a_sample_is_shown_as_one_picture(tmp_path):
    images = np.stack([np.full((16, 16, 1), shade, np.uint8) for shade in range(14)])
    picture = pictures.tiled(images)
    assert picture.shape == (2 * 128, 6 * 128, 3)  # Twelve of them.
    assert [int(picture[64 + 128 * (i // 6), 64 + 128 * (i % 6), 0]) for i in range(12)] == list(range(12))
    assert pictures.tiled(images[:7])[-1, -1].tolist() == [255, 255, 255]


def test_reference_curves_are_those_of_the_evidence_and_the_same_bytes_each_time(tmp_path):
    found = found_by({"a": [0.5, 0.6], "b": [0.1, 0.3]})
    for record in found["records"]:
        record["curves"] = {"val_accuracy": [0.5 * record["metrics"]["test_accuracy"], 0.4]}
        record |= {"config": {}, "settings": {}, "seconds": {}, "blocks": []}
    experiment = dataclasses.replace(
        sequential_experiment.EXPERIMENT, train=sequential.train, variants=("a", "b"), claims=[]
    )
    for name in ("once", "again"):
        comparison.write_reference(tmp_path / name, Report(experiment, found, None))
    files = [
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*")) for name in ("once", "again")
    ]
    assert files[0] == files[1]
    for path in files[0]:
        if (tmp_path / "once" / path).is_file():
            assert (tmp_path / "once" / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    assert drawn(tmp_path / "once" / "a", "accuracy/validation") == ([1, 2], pytest.approx([0.275, 0.4]))
    assert drawn(tmp_path / "once" / "b", "by seed/test accuracy") == ([1, 2], pytest.approx([0.1, 0.3]))


def test_the_address_says_what_is_to_be_seen_first():
    asked = urllib.parse.parse_qs(server.query(["loss/training", "a, b"], several=True))
    assert json.loads(asked["pinnedCards"][0]) == [
        {"plugin": "scalars", "tag": "loss/training"},
        {"plugin": "scalars", "tag": "a, b"},
    ]
    assert asked["smoothing"] == ["0"]
    assert asked["runColorGroup"] == ["regex:([^/]+)$"]
    assert "runColorGroup" not in server.query([], several=False)


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


@pytest.mark.parametrize(
    ("command", "shown", "of_seeds"),
    [
        (
            ["-m", "recipes", "board", "optimizers", "sequential"],
            {"optimizers/here/adam", "sequential/here/adam"},
            True,
        ),
        (["-m", "tests.toys.dice", "--board", "--seeds", "1"], {"fair", "answer"}, False),
    ],
    ids=["of several recipes", "on a recipe"],
)
def test_a_board_shows_the_variants_and_the_runs_of_each_seed_until_ctrl_c(tmp_path, command, shown, of_seeds):
    for name in ("optimizers", "sequential"):
        folder = tmp_path / name / "20260101-000000"
        leave(folder, "adam", 1)
        comparison.write_progress(folder, "…")
    command = [sys.executable, *command, "--logdir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=USUAL)
    try:
        variants, seeds = addresses(process)
        assert shown <= wait_for(shown, variants)
        each = {"optimizers/compare/adam", "sequential/compare/adam"} if of_seeds else {"fair/seed-1"}
        assert each <= wait_for(each, seeds)
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


def board(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "recipes", "board", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["optimizers", "--logdir", "nowhere"], 1, "There are no TensorBoard files of optimizers under nowhere: run "),
        (["--port", "70000"], 2, "--port must be from 0 to 65535, not 70000."),
        (["--picture", "nowhere/board.png"], 2, "--picture: there is no folder nowhere."),
        (["unknown"], 2, "there is no recipe 'unknown'"),
    ],
)
def test_a_board_of_nothing_is_refused_in_a_sentence(arguments, code, says):
    done = board(*arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert says in done.stderr
