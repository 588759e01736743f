"""The benchmark's contestants train, and one that can't is named with its reason."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import strong_images, throughput
from pipelines import sources
from pipelines.errors import MachineError, UsageError


@pytest.mark.parametrize("name", throughput.KERAS)
def test_an_epoch_of_a_contestant_trains_the_recipes_net_on_each_image_once(monkeypatch, name):
    import keras

    seen = []
    fit = keras.Model.fit

    def noted(model, feed, **how):
        history = fit(model, feed, **how)
        seen.append((model.count_params(), len(feed), history.history["accuracy"][-1]))
        return history

    monkeypatch.setattr(keras.Model, "fit", noted)
    train = sources.load().train
    epoch = throughput.KERAS[name]()
    epoch()
    from recipes import optimizers

    [(weights, steps, accuracy)] = seen
    assert weights == optimizers.build_model(train.images.shape[1:], 10).count_params()
    assert steps == len(train) // throughput.BATCH
    assert accuracy > 0.25  # 0.1 is chance.


@pytest.mark.processes
def test_contestants_take_turns(capsys):
    seconds = throughput.race(2, sys.executable)
    assert all(len(times) == 2 and min(times) > 0 for times in seconds.values())
    throughput.report_race(seconds)
    printed = capsys.readouterr().out
    assert all(name in printed for name in throughput.KERAS)
    assert "times as fast" in printed


def test_a_contestant_that_does_not_start_is_named_with_its_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(throughput, "_write_images", lambda _: None)
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no keras here >&2; exit 3\n")
    broken.chmod(0o755)
    with (
        pytest.raises(MachineError, match="ours did not start: no keras here"),
        throughput.processes({"ours": str(broken)}),
    ):
        pass


def test_a_contestant_that_ends_in_the_middle_is_named(monkeypatch):
    monkeypatch.setattr(throughput, "KERAS", {"ours": None})
    gone = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    gone.kill()
    gone.wait()
    monkeypatch.setattr(throughput, "processes", lambda _: throughput.contextlib.nullcontext({"ours": gone}))
    with pytest.raises(MachineError, match="ours ended in the middle"):
        throughput.race(1, sys.executable)


def test_an_interpreter_that_is_none_is_refused():
    with pytest.raises(UsageError, match="no Python interpreter"):
        throughput.race(1, "no_such_python")


def test_ratios_are_of_the_same_round(capsys):
    throughput.report_race({"ours": [1.0, 2.0, 4.0], "other": [2.0, 4.0, 4.0]})
    assert "ours is 2.00 times as fast" in capsys.readouterr().out


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
