"""The benchmark's contestants train, and one that can't is named with its reason."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from benchmarks import contestants, strong_images, throughput
from lab.cli import cookbook
from pipelines import sources
from pipelines.errors import MachineError, UsageError
from recipes import optimizers, strong_baseline
from tests.conftest import ROOT

RECIPES = {"small": optimizers, "strong": strong_baseline}


# Contestants


@pytest.mark.variants
@pytest.mark.parametrize("net", ["small", "strong"])
@pytest.mark.parametrize("name", contestants.KERAS)
def test_a_round_of_a_contestant_trains_the_recipes_net_on_each_image_twice(monkeypatch, name, net):
    seen = []
    fit = keras.Model.fit

    def noted(model, feed, **how):
        history = fit(model, feed, **how)
        if how["epochs"] != 100:  # Not the start of the strong recipe.
            seen.append((model, feed, history.history))
        return history

    monkeypatch.setattr(keras.Model, "fit", noted)
    monkeypatch.setitem(contestants.NETS, net, contestants.NETS[net]._replace(epochs=2))
    train, weights = contestants.in_keras(name, net)
    assert not seen
    train()
    ((model, feed, history),) = seen
    own = RECIPES[net].build_model((32, 32, 3), 10)
    assert weights == sum(int(np.prod(weight.shape)) for weight in own.trainable_weights)
    size = contestants.NETS[net]
    assert len(feed) == size.images // size.batch
    assert feed.element_spec[0].shape[0] == size.batch
    first, second = history["loss"]
    assert second < first
    if net == "small":
        assert history["accuracy"][1] > 0.25  # 0.1 is chance.
        assert model.steps_per_execution == (16 if name == "ours" else 1)
    else:
        norms = {type(layer) for layer in layers_of(model) if isinstance(layer, keras.layers.BatchNormalization)}
        norm, muon = OF_STRONG[name]
        assert (norms, type(model.optimizer)) == ({norm}, muon)
        convolutions = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.Conv2D)]
        assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}


OF_STRONG = {
    "ours": (strong_baseline.FusedBatchNorm, strong_baseline.GramMuon),
    "plain Keras": (keras.layers.BatchNormalization, optimizers.ConvMuon),
}


def layers_of(model):
    return list(model._flatten_layers(include_self=False))


def test_contestants_train_on_other_images_each_time_they_are_shuffled():
    train = sources.load().train.take(np.arange(500))
    feed = contestants.plain_feed(train, 250)
    first, second = (np.concatenate([labels for _, labels in feed]) for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(train.labels)
    assert list(first) != list(second)


IN_ITS_OWN_PROCESS = """
import os, sys
from benchmarks import contestants
contestants.in_keras = lambda name, net: (lambda: print("epoch", name, net), 5)
contestants.main("ours", "strong", int(sys.argv[1]))
import tensorflow as tf
asked = tf.config.threading
print(asked.get_intra_op_parallelism_threads(), asked.get_inter_op_parallelism_threads(), len(os.sched_getaffinity(0)))
"""


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to a core")
@pytest.mark.parametrize("cores", [1, 2])
def test_a_contestant_warms_up_answers_each_line_and_keeps_to_its_cores(cores):
    done = subprocess.run(
        [sys.executable, "-c", IN_ITS_OWN_PROCESS, str(cores)], input="\n", capture_output=True, text=True, cwd=ROOT
    )
    warm_up, ready, again, seconds, threads = done.stdout.splitlines()
    assert (warm_up, ready, again) == ("epoch ours strong", "ready 5", "epoch ours strong")
    assert float(seconds) >= 0
    assert threads == f"{cores} {cores} {min(cores, throughput.available())}"


# Races


@pytest.fixture
def python(monkeypatch, tmp_path):
    """Makes an interpreter that does what some lines of a shell say."""
    monkeypatch.setattr(throughput, "_write_images", lambda _: None)

    def made(name, lines):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        return str(path)

    return made


READY = "echo hello; echo ready 5; while read line; do echo 0.5; done"


@pytest.mark.processes
def test_contestants_take_turns(capsys):
    names = throughput.interpreters(sys.executable)
    seconds = throughput.race(2, names, "small", 1)
    assert list(seconds) == list(names)
    assert all(len(times) == 2 and min(times) > 0 for times in seconds.values())
    throughput.report_race(seconds, "small", 1)
    printed = capsys.readouterr().out
    assert all(name in printed for name in contestants.KERAS)
    assert "times as fast" in printed


def test_each_round_has_an_order_of_its_own_and_one_trains_at_a_time(python, tmp_path):
    said = tmp_path / "said.txt"
    turn = "echo ready 5; while read line; do echo NAME >> FILE; sleep 0.01; echo NAME >> FILE; echo 0.5; done"
    names = {name: python(name, turn.replace("NAME", name).replace("FILE", str(said))) for name in ("ours", "other")}
    throughput.race(25, names, "small", 1)
    words = said.read_text().split()
    assert words[::2] == words[1::2]
    orders = set(zip(words[::4], words[2::4], strict=True))
    assert orders == {("ours", "other"), ("other", "ours")}


def test_a_race_tells_its_contestants_the_net_and_the_cores_and_gives_none_a_gpu(python, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    said = tmp_path / "said.txt"
    ours = python("ours", f'echo "$@" $OMP_NUM_THREADS $MKL_NUM_THREADS "GPU:$CUDA_VISIBLE_DEVICES" > {said}; {READY}')
    assert throughput.race(3, {"ours": ours}, "strong", 2) == {"ours": [0.5, 0.5, 0.5]}
    assert said.read_text() == "-m benchmarks.contestants ours strong 2 2 2 GPU:\n"


def test_without_ours_there_is_no_race(python):
    broken = python("broken", "echo no keras here >&2; exit 3")
    with (
        pytest.raises(MachineError, match="ours did not start: no keras here"),
        throughput.processes({"ours": broken}, "small", 1),
    ):
        pass


def test_another_that_does_not_start_is_left_out_with_its_reason_and_the_race_goes_on(python, capsys):
    ready = python("ready", READY)
    reason = "torch._inductor.exc.InductorError: InvalidCxxCompiler: No working C++ compiler found"
    without = python("without", f'printf "Traceback:\n  raise\n{reason}\n\nSet TORCH_LOGS for more\n" >&2; exit 1')
    names = {"ours": ready, "PyTorch compiled": without, "PyTorch eager": ready, "plain Keras": python("no", "exit 4")}
    assert list(throughput.race(1, names, "small", 1)) == ["ours", "PyTorch eager"]
    assert capsys.readouterr().out.split("\n\n") == [
        f"\nPyTorch compiled is left out of the small net on 1 core, since it did not start: {reason}",
        "plain Keras is left out of the small net on 1 core, since it did not start: exit code 4\n",
    ]


def test_contestants_with_other_weights_are_no_contestants(python):
    names = {"ours": python("ours", READY), "plain Keras": python("plain", READY.replace("ready 5", "ready 6"))}
    with pytest.raises(MachineError, match="different nets, by the number of weights: 5 of ours, 6 of plain Keras"):
        throughput.race(1, names, "small", 1)


def test_a_contestant_that_ends_in_the_middle_is_named(python):
    with pytest.raises(MachineError, match="ours ended in the middle"):
        throughput.race(1, {"ours": python("ours", "echo ready 5")}, "small", 1)


def test_pytorch_takes_part_where_it_can_be_imported(python, capsys):
    assert list(throughput.interpreters(python("has", "exit 0"))) == [*contestants.KERAS, *contestants.TORCH]
    assert capsys.readouterr().out == ""
    assert list(throughput.interpreters(python("lacks", "exit 1"))) == list(contestants.KERAS)
    assert "lacks can't import torch" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no Python interpreter"):
        throughput.interpreters("no_such_python")


# What is printed


def test_ratios_are_of_the_same_round(capsys):
    seconds = {"ours": [4.0, 8.0, 16.0], "plain Keras": [8.0, 20.0, 16.0], "PyTorch eager": [16.0, 10.0, 32.0]}
    throughput.report_race(seconds, "strong", 2)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "strong net on 2 cores, 8,000 images a round",
        "            ours    1,000 images/s (500 to 2,000)",
        "     plain Keras      500 images/s (400 to 1,000)      ours is 2.00 times as fast (1.00 to 2.50)",
        "   PyTorch eager      500 images/s (250 to 800)        ours is 2.00 times as fast (1.25 to 4.00), "
        "plain Keras is 2.00 times as fast (0.50 to 2.00)",
    ]
    throughput.report_race({"ours": [1.0]}, "small", 1)
    assert "small net on 1 core, 31,744 images a round" in capsys.readouterr().out


@pytest.mark.parametrize(("rounds", "left_out"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2)])
def test_an_interval_leaves_out_as_many_rounds_as_a_sign_test_does(rounds, left_out):
    """Of tables of the confidence interval of a median."""
    values = [float(value) for value in np.random.default_rng(1).permutation(rounds)]
    assert throughput.interval(values) == (left_out, rounds - 1 - left_out)


# Flags


@pytest.fixture
def races(monkeypatch):
    """What is raced, on a machine with two cores."""
    found = []
    monkeypatch.setattr(throughput, "available", lambda: 2)
    monkeypatch.setattr(throughput, "interpreters", lambda torch: {"ours": torch})
    monkeypatch.setattr(throughput, "race", lambda *given: found.append(given) or {"ours": [1.0]})
    return found


def test_both_nets_race_on_one_core_and_on_all(monkeypatch, capsys, races):
    assert cookbook.main(["benchmark", "--torch", "other"]) == 0
    pairs = [("small", 1), ("small", 2), ("strong", 1), ("strong", 2)]
    assert races == [(11, {"ours": "other"}, *pair) for pair in pairs]
    printed = capsys.readouterr().out
    assert all(f"{net} net on {cores} core" in printed for net, cores in pairs)
    assert "with a 95 % interval" in printed
    races.clear()
    monkeypatch.setattr(throughput, "available", lambda: 1)
    assert throughput.benchmark(rounds=5) == 0
    assert [given[2:] for given in races] == [("small", 1), ("strong", 1)]
    assert "with the range" in capsys.readouterr().out


def test_nets_and_cores_can_be_chosen(races):
    assert cookbook.main(["benchmark", "--nets", "strong", "--cores", "2", "2", "--rounds", "3"]) == 0
    assert [(given[0], *given[2:]) for given in races] == [(3, "strong", 2)]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--nets", "small", "huge"], "--nets: there is no net 'huge', use any of small, strong."),
        (["--cores", "3"], "--cores must be from 1 to 2, which is all that there are, not 3."),
        (["--cores", "1", "0"], "--cores must be from 1 to 2, which is all that there are, not 0."),
        (["--rounds", "0"], "--rounds must be at least 1, not 0."),
        (["--against", "no_checkout"], "--against: no_checkout is no checkout"),
    ],
)
def test_what_cannot_be_raced_is_refused(races, capsys, flags, sentence):
    assert cookbook.main(["benchmark", *flags]) == 2
    assert sentence in capsys.readouterr().err
    assert not races


def test_pytorchs_images_are_all_that_there_are(tmp_path, capsys):
    assert strong_images.main([str(tmp_path / "images"), "subset"]) == 0
    data = sources.load()
    train, test = (np.load(tmp_path / "images" / f"{part}.npz") for part in ("train", "test"))
    assert train["images"].shape == (len(data.train) + len(data.validation), 32, 32, 3)
    np.testing.assert_array_equal(train["images"][: len(data.train)], data.train.images)
    np.testing.assert_array_equal(train["labels"][len(data.train) :], data.validation.labels)
    np.testing.assert_array_equal(test["labels"], data.test.labels)
    assert strong_images.main([str(tmp_path), "nothing"]) == 2
    assert "no data source 'nothing'" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert strong_images.main([str(tmp_path / "file"), "subset"]) == 1
    assert strong_images.main([]) == 2
