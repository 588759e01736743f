"""What makes a metric, against numbers worked out by hand: a flipped sign anywhere on the way fails a test."""

import dataclasses
import math
import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from rich.console import Console
from rich.live import Live

from lab import Run
from lab.cli import live_table
from lab.core import scoring, timing
from lab.core.callbacks import Stopwatch
from lab.core.perform import record_of
from lab.evidence.records import read, write_json
from lab.evidence.schemas import Record
from lab.execute.job import Job, run_job
from lab.experiments import load
from pipelines import sources
from tests.toys import made_up


def part(labels) -> sources.Split:
    """Images that say their own number: every pixel of image i is i."""
    n = len(labels)
    images = np.repeat(np.arange(n, dtype=np.uint8), 12).reshape(n, 2, 2, 3)
    return sources.Split(images, np.array(labels, np.int32), np.array([str(i) for i in range(n)]))


class Table(keras.Model):
    """Looks an image's logits up by the number that it says."""

    def __init__(self, logits):
        super().__init__()
        self.logits = keras.ops.convert_to_tensor(np.array(logits, np.float32))

    def call(self, images, training=False):
        assert not training
        return keras.ops.take(self.logits, keras.ops.cast(images[:, 0, 0, 0], "int32"), axis=0)


def test_scores_by_hand():
    """Six images of three classes. The model takes image i for class i % 3 with a logit of 2 against 0."""
    model = Table([[2.0 * (i % 3 == c) for c in range(3)] for i in range(6)])
    train, test = part([0, 1, 2, 0, 1, 0]), part([0, 1, 0, 0, 2, 1])
    data = sources.Data(train, test, test, ("a", "b", "c"), "0")
    found = scoring.score(model, data, test)
    assert found.metrics["train_accuracy"] == pytest.approx(5 / 6)
    assert found.metrics["test_accuracy"] == pytest.approx(3 / 6)
    assert found.metrics["generalization_gap"] == pytest.approx(2 / 6)
    right, wrong = -math.log(math.e**2 / (math.e**2 + 2)), -math.log(1 / (math.e**2 + 2))
    assert found.metrics["test_loss"] == pytest.approx((3 * right + 3 * wrong) / 6, rel=1e-5)
    assert found.correct.tolist() == [True, True, False, True, False, False]
    assert found.finite
    assert scoring.chance(data) == pytest.approx(1 / 3)


def test_the_training_accuracy_is_of_images_from_all_classes():
    """Evenly taken: images of one's own often lie in the order of their classes."""
    train, test = part([i // 10 for i in range(100)]), part(range(10))
    model = Table([[float(i // 10 == c and c < 5) for c in range(10)] for i in range(100)])
    data = sources.Data(train, test, test, tuple("abcdefghij"), "0")
    assert scoring.score(model, data, test).metrics["train_accuracy"] == pytest.approx(0.5, abs=0.11)


@pytest.mark.parametrize(
    ("curve", "taken"),
    [
        ([0.3, 0.5], 2.0),
        ([0.3, 0.7], 1.5),
        ([0.9], 0.5),  # From a tenth to nine in one epoch.
        ([0.2, 0.4], None),
        ([], None),
        ([0.5, 0.2, 0.9], 1.0),
    ],
)
def test_epochs_to_a_target_by_hand(curve, taken):
    assert scoring.epochs_to(0.5, curve, 0.1) == (pytest.approx(taken) if taken is not None else None)
    assert scoring.epochs_to(0.5, curve, 0.6) == 0  # A guess is good enough.
    assert scoring.epochs_to(0.5, [0.4, 0.6], 0.3) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("losses", "logit", "diverged"),
    [([2.0, 1.0], 1.0, False), ([2.0, math.nan], 1.0, True), ([2.0, 1.0], math.nan, True), ([], 1.0, False)],
)
def test_a_run_has_diverged_where_its_losses_or_its_outputs_are_not_finite(tmp_path, losses, logit, diverged):
    test = part([0, 1, 0, 1])
    data = sources.Data(test, test, test, ("a", "b"), "0")
    run = Run("a", 1, sources.Request(), None, tmp_path)
    run.callbacks(data)[2].history = {"loss": losses}
    found = run.scores(Table([[logit * (i % 2 == c) for c in range(2)] for i in range(4)]), data)
    assert run.diverged == diverged
    assert found["test_accuracy"] == (0.5 if diverged else 1.0)  # Where it has, it counts as a guess.
    assert found["generalization_gap"] == 0.0
    assert (run.correct is None) == diverged


def test_log_ratios_by_hand(monkeypatch):
    """A clock that each step moves on: slow by three, fast by one, and both by ten in steps that are not counted."""
    clock, order, steps = [0.0], [], {"slow": 0, "fast": 0}
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def step(name, seconds):
        def one():
            steps[name] += 1
            order.append(name)
            clock[0] += 10 if steps[name] % 20 in range(1, 6) else seconds

        return one

    found = timing.interleaved(
        {"slow": step("slow", 3.0), "fast": step("fast", 1.0)}, rounds=8, seed=1, block=20, left_out=5
    )
    assert found.log_ratio("slow", "fast") == pytest.approx(math.log(3))
    assert found.log_ratio("fast", "slow") == pytest.approx(-math.log(3))
    assert found.step_seconds("slow") == pytest.approx(3.0)
    firsts = order[::40]
    assert set(firsts) == {"slow", "fast"}  # In an order that is drawn anew each round.
    assert {tuple(order[i : i + 20]) for i in range(0, len(order), 20)} == {("slow",) * 20, ("fast",) * 20}


def test_a_disturbed_block_is_timed_again_and_the_least_disturbed_one_counts(monkeypatch):
    """Of two processors, this process keeps one busy; the others' share of the machine is 30, 20, 1 and then 40 %."""
    clock, busy, own, blocks = [0.0], [0.0], [0.0], [0]
    others = [0.3, 0.2, 0.01, 0.4, 0.4, 0.4, 0.4]

    def step():
        seconds = 1.0 + 0.1 * blocks[0] // 10
        clock[0] += seconds
        own[0] += seconds
        busy[0] += seconds + 2 * seconds * others[blocks[0] // 10]
        blocks[0] += 1

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(timing, "_busy_seconds", lambda: busy[0])
    monkeypatch.setattr(timing.os, "times", lambda: (own[0], 0.0, 0.0, 0.0, clock[0]))
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 2)
    first = timing.interleaved({"a": step}, rounds=1, seed=1, block=10, left_out=1)
    assert first.disturbances == [{"variant": "a", "others": pytest.approx(0.01), "again": 2}]
    assert first.seconds["a"] == pytest.approx([9 * (1.0 + 0.1 * 20 // 10)])
    second = timing.interleaved({"a": step}, rounds=1, seed=1, block=10, left_out=1)  # It is never quiet.
    assert second.disturbances == [{"variant": "a", "others": pytest.approx(0.4), "again": timing.MOST_AGAIN}]


@pytest.mark.parametrize(
    ("others", "again", "kept", "calls"),
    [([0.3, 0.2, 0.01, 0.4], 3, 2, 3), ([0.3, 0.1, 0.2, 0.4, 0.0], 3, 1, 4), ([0.3, 0.0], 0, 0, 1), ([0.0], 3, 0, 1)],
)
def test_what_others_disturb_is_done_again_and_the_least_disturbed_counts(others, again, kept, calls):
    attempts = []

    def work(attempt):
        attempts.append(attempt)
        return f"attempt {attempt}", others[attempt]

    found = timing.undisturbed(work, again)
    assert found == (f"attempt {kept}", others[kept], calls - 1)
    assert attempts == list(range(calls))


def test_the_kernels_ticks_count_what_works_and_what_was_taken(monkeypatch, tmp_path):
    path = tmp_path / "stat"
    path.write_text("cpu  100 20 30 99999 88888 4 5 6 0 0\ncpu0 1 2 3\n")
    monkeypatch.setattr(timing, "TICKS", path)
    assert timing._busy_seconds() == pytest.approx((100 + 20 + 30 + 4 + 5 + 6) / os.sysconf("SC_CLK_TCK"))
    monkeypatch.setattr(timing, "TICKS", tmp_path / "none")
    assert timing._busy_seconds() == 0.0


@pytest.mark.parametrize(("rounds", "block"), [(0, 20), (1, 10)])
def test_timing_nothing_is_refused(rounds, block):
    with pytest.raises(ValueError, match="time nothing"):
        timing.interleaved({"a": int}, rounds=rounds, seed=1, block=block, left_out=10)


def test_a_stopwatch_tells_tracing_from_steps_where_a_call_is_several(monkeypatch):
    """Epochs of calls of 4, 4 and 2 steps, one second a step; the first call takes seven more: it is traced.

    Before them the run takes 5 seconds, each epoch begins with one of 0.5, and ends with a validation of 3.
    """
    from lab.core import callbacks

    clock = [1.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(callbacks, "answers_with_logits", lambda model: False)
    watch = Stopwatch(started=0.0)
    clock[0] += 4
    model = type("Model", (), {"optimizer": type("Optimizer", (), {"iterations": 0})()})()
    watch.set_model(model)
    watch.on_train_begin()
    for epoch in range(2):
        watch.on_epoch_begin(epoch)
        clock[0] += 0.5
        for number, steps in enumerate((4, 4, 2)):
            watch.on_train_batch_begin(4 * number)
            clock[0] += steps + (7 if (epoch, number) == (0, 0) else 0)
            model.optimizer.iterations += steps
            watch.on_train_batch_end(4 * number + 3)
        clock[0] += 3
        watch.on_epoch_end(epoch)
    watch.on_train_end()
    assert watch.seconds == pytest.approx({"setup": 5, "tracing": 7, "feed": 1, "steps": 20, "validation": 6})
    assert sum(watch.seconds.values()) == pytest.approx(clock[0])
    assert watch.images_per_second(100) == pytest.approx(100)
    assert watch.steps_per_epoch == 10


def test_a_stopwatch_where_a_fit_is_one_call(monkeypatch):
    """Nothing tells its steps from its tracing."""
    from lab.core import callbacks

    clock = [0.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(callbacks, "answers_with_logits", lambda model: False)
    watch = Stopwatch()
    model = type("Model", (), {"optimizer": type("Optimizer", (), {"iterations": 0})()})()
    watch.set_model(model)
    watch.on_train_begin()
    watch.on_epoch_begin(0)
    watch.on_train_batch_begin(0)
    clock[0] += 17
    model.optimizer.iterations += 10
    watch.on_train_batch_end(15)
    watch.on_epoch_end(0)
    watch.on_train_end()
    assert watch.seconds["steps"] == pytest.approx(17)


def test_validation_a_batch_a_call_says_what_keras_says():
    """Where a call of `fit` is several steps; of the last batch, which is smaller, as well."""
    data = sources.load(sources.Request(train_images=100))
    images, labels = data.validation.images[:250], data.validation.labels[:250]
    model = keras.Sequential([keras.Input(data.shape), keras.layers.Flatten(), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"], steps_per_execution=2)
    fit = {"validation_data": (images, labels), "validation_batch_size": 50, "verbose": 0}
    said = model.fit(images[:10], labels[:10], callbacks=[Stopwatch()], **fit).history
    assert "validate_by_batch" in model.test_function.__qualname__
    rows = np.array(model.predict(images, verbose=0))
    assert said["val_accuracy"][0] == pytest.approx((rows.argmax(axis=1) == labels).mean())
    assert said["val_loss"][0] == pytest.approx(scoring.cross_entropy(rows, labels), rel=1e-5)


def curves_of(tmp_path, seed: int) -> dict:
    config = dataclasses.asdict(load("sequential").config(epochs=1))
    request = sources.Request(train_images=1000)
    folder = str(tmp_path / f"{seed}")
    job = Job("lab.experiments.sequential", ("dense_65",), seed, config, request, folder, logging=False, alone=True)
    (record,) = run_job(job)
    return record.curves


@pytest.mark.processes
def test_a_seed_fixes_the_initial_weights_and_a_run(tmp_path, monkeypatch):
    seen = []
    real = keras.Model.compile

    def look(model, *arguments, **named):
        seen.append(model.layers[-1].kernel.numpy())
        return real(model, *arguments, **named)

    monkeypatch.setattr(keras.Model, "compile", look)
    curves = [curves_of(tmp_path, seed) for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


# What is shown


def view(part: str, folder: str, live=None) -> live_table.View:
    """Of two runs, one of which has ended."""
    jobs = [SimpleNamespace(variants=("a",), seed=seed, folder=folder, logging=False) for seed in (1, 2)]
    shown = live_table.View(Console(), jobs, 1, part, live)
    for job in jobs:
        shown.started(job)
    shown.finished(jobs[0], [made_up.record("a", metrics={"test_accuracy": 0.5, "validation_accuracy": 0.4})])
    return shown


def test_what_is_chosen_by_validation_is_shown_by_validation(capsys):
    view("test", "/logs/one/20260101-000000")
    view("validation", "/logs/one/20260101-000000/rate=0.1")
    test, validation = capsys.readouterr().out.splitlines()
    assert "1/2  a seed 1: test accuracy 50.0%" in test
    assert "1/2  a seed 1 rate=0.1: validation accuracy 40.0%" in validation


def test_a_live_table_has_a_row_for_each_variant(capsys):
    screen = Console(force_terminal=True, width=80)
    with Live(console=screen, auto_refresh=False) as live:
        table = view("test", "/logs", live).table()
    assert [list(column.cells) for column in table.columns] == [["a"], ["1 of 2"], ["50.0%"]]
    assert table.caption.startswith("1 under way, about ")
    assert "1 of 2" in capsys.readouterr().out


def test_what_a_recipe_returns_in_numpys_numbers_is_recorded_as_it_is_read_back(tmp_path):
    run = Run("a", 1, sources.Request(), None, tmp_path)
    run.blocks.append({"variant": "a", "others": np.float64(0.5), "again": np.int64(2)})
    record = record_of("a", 1, {}, metrics={"test_accuracy": np.float32(0.25), "steps": np.int64(3)}, run=run)
    write_json(tmp_path / "record.json", record)
    assert read(tmp_path / "record.json", Record) == record
    assert (record.metrics, record.blocks[0].again) == ({"test_accuracy": 0.25, "steps": 3}, 2)
