"""Checks of tensor and pipeline parallelism."""

import pytest
import tensorflow as tf

from lab import parallelism


@pytest.mark.parametrize(
    ("stages", "microbatches", "idle"), [(1, 5, 0), (2, 1, 1 / 2), (4, 4, 3 / 7), (4, 1, 3 / 4), (4, 60, 3 / 63)]
)
def test_a_pipeline_waits_while_it_fills_and_empties(stages, microbatches, idle):
    assert parallelism.idle_share(stages, microbatches) == pytest.approx(idle)
    assert parallelism.pipelines_idle_as_said()


def test_a_formula_that_is_wrong_is_noticed(monkeypatch):
    monkeypatch.setattr(parallelism, "idle_share", lambda stages, microbatches: (stages - 1) / (microbatches + stages))
    assert not parallelism.pipelines_idle_as_said()


def test_a_layer_that_is_split_gives_the_same_outputs(monkeypatch):
    devices = []
    monkeypatch.setattr(tf, "device", lambda name, device=tf.device: devices.append(name) or device(name))
    assert parallelism.split_layer_gives_the_same()
    seen = [device.name for device in tf.config.list_logical_devices("CPU")][:2]
    assert set(devices) == set(seen)


def test_parts_that_are_not_added_up_are_noticed(monkeypatch):
    monkeypatch.setattr(tf, "add_n", lambda parts: parts[0])
    assert not parallelism.split_layer_gives_the_same()


def test_units_in_the_wrong_order_are_noticed(monkeypatch):
    monkeypatch.setattr(tf, "concat", lambda parts, axis, concat=tf.concat: concat(parts[::-1], axis))
    assert not parallelism.split_layer_gives_the_same()
