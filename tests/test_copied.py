"""What a reader copies from a recipe works outside the laboratory: see `tests/copied.py` for how each is called."""

import ast
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from lab.experiments import NAMES
from tests import copied

slow = pytest.mark.variants
each = pytest.mark.parametrize("row", copied.TABLE)
SECOND = ("loaded", "loaded16")  # Trials of the second process.


@pytest.fixture(scope="module")
def tried(request, tmp_path_factory):
    """What happened in each trial that the selected tests ask for.

    Two processes do the trials: the second one loads what the first one saved. Where they take long, the rows are
    halved. With `-n 2` each of pytest's processes begins with another half, and finds the facts of the other one.
    """
    asked: dict[str, list[str]] = {}
    for item in request.session.items:
        if item.path == request.path and (trials := getattr(item.function, "trials", None)):
            row = item.callspec.params["row"]
            asked.setdefault(row, []).extend(trial for trial in trials(row) if not excused(row, trial))
    base, worker = tmp_path_factory.getbasetemp(), getattr(request.config, "workerinput", None)
    place = (base.parent if worker else base) / "copied"
    with filelock.FileLock(f"{place}.lock"):
        if not place.exists():
            copied.paste(place / "pasted")
            copied.make_images(place / "images")
    facts: dict[str, dict] = {}
    rows, slow_ones = sorted(asked), set().union(*asked.values()) > {"folder"}
    halves = [0, 1] if slow_ones else [0]
    for half in halves if worker is None or worker["workerid"] == "gw0" else halves[::-1]:
        told = place / f"half-{half}.json"
        with filelock.FileLock(f"{told}.lock"):
            if not told.exists():
                told.write_text(
                    json.dumps(in_two_processes(place, half, {row: asked[row] for row in rows[half :: len(halves)]}))
                )
        facts |= json.loads(told.read_text())

    def of(row: str, trial: str) -> dict:
        found = facts.get(row, {}).get(trial, {"error": "The process ended before this trial did."})
        if "error" in found:
            pytest.fail(f"{row}: {trial}\n{found['error']}", pytrace=False)
        return found

    return of


def in_two_processes(place: Path, half: int, asked: dict[str, list[str]]) -> dict[str, dict]:
    facts: dict[str, dict] = {row: {} for row in asked}
    for second in (False, True):
        wanted = {row: [trial for trial in trials if (trial in SECOND) == second] for row, trials in asked.items()}
        if any(wanted.values()):
            for row, found in in_a_process(place, f"{half}-{second}", wanted).items():
                facts[row].update(found)
    return facts


def in_a_process(place: Path, name: str, wanted: dict[str, list[str]]) -> dict[str, dict]:
    told = place / f"told-{name}.json"
    told.write_text("{}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "KERAS_"))}
    subprocess.run(
        [sys.executable, copied.__file__, place / "pasted", place / "images", json.dumps(wanted), told],
        cwd=place, env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}, timeout=3000,
    )  # fmt: skip
    return json.loads(told.read_text())


def trial(*names: str):
    """Mark a test by the trials whose facts it asks for."""

    def mark(test):
        test.trials = lambda row: names
        return test

    return mark


def careful(row: str) -> str:
    """The entry *Careful* of a recipe's docstring, in one line."""
    path = copied.ROOT / "recipes" / f"{row.partition('/')[0]}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    _, _, after = docstring.partition("\nCareful ")
    entry = after.partition("\nNumbers ")[0]
    return " ".join(entry.split())


def excused(row: str, trial: str) -> bool:
    """Whether a recipe says that it cannot do this; what cannot be saved can't be loaded."""
    cannot = copied.TABLE[row].cannot if row in copied.TABLE else {}
    return trial in cannot or (trial == "loaded" and "saved" in cannot)


def unless_excused(row: str, trial: str) -> None:
    if excused(row, trial):
        pytest.skip(copied.TABLE[row].cannot[trial])


@each
def test_what_a_recipe_cannot_do_it_says(row):
    known = careful(row)
    assert known
    for trial, reason in copied.TABLE[row].cannot.items():
        assert trial in copied.TRIALS
        assert reason in known


def check_folder(tried, row: str) -> None:
    facts = tried(row, "folder")
    assert facts["forbidden"] == []
    assert facts["finite"]
    assert facts["finite_outputs"]
    assert facts["moved"] > 0
    assert facts["smallest_variance"] >= 0
    assert [6 * len(copied.CLASSES), len(copied.CLASSES)] in facts["outputs"]
    assert len(facts["epochs"]) == 2
    for epoch in facts["epochs"]:
        assert all(math.isfinite(value) for value in epoch.values())
        assert {"loss", "val_loss"} <= set(epoch)


def check_one_step(tried, row: str) -> None:
    assert tried(row, "one_step")["moved"] > 0  # A ramp that begins at zero would lose it.


def check_last_batch(tried, row: str) -> None:
    facts = tried(row, "last_batch")
    if not facts["still"]:
        pytest.skip("nothing holds its weights still")
    assert not facts["random"], "Give arguments that turn dropout and augmentation off, or say `random=True`."
    assert facts["moved"] < 1e-5  # An average of equal weights is rounded.
    assert facts["reported"] == pytest.approx(facts["loss"], rel=1e-4)
    apart = abs(facts["by_batches"] - facts["loss"])
    assert apart > 5e-5 * facts["loss"]  # Else this would tell nothing.
    assert abs(facts["reported"] - facts["loss"]) < apart / 5


def check_float16(tried, row: str) -> None:
    facts = tried(row, "float16")
    assert facts["optimizer"]["mixed_float16"] == "LossScaleOptimizer"
    assert "float16" in facts["computes_in"]
    assert all(math.isfinite(loss) for loss in facts["losses"]["mixed_float16"])
    assert 0.5 < facts["moved"]["mixed_float16"] / facts["moved"]["float32"] < 2


def check_mirrored(tried, row: str) -> None:
    facts = tried(row, "mirrored")
    assert facts["replicas"] == 2
    assert facts["apart_at_first"] == 0
    assert facts["finite"]
    alone, both = facts["moved"]
    assert both == pytest.approx(alone, rel=0.5)
    if not facts["still"]:
        return
    assert not facts["random"], "Give arguments that turn dropout and augmentation off, or say `random=True`."
    assert facts["reported"] == pytest.approx(facts["loss"], rel=1e-3)
    if not facts["statistics_of_batches"]:  # Of which each device takes its own.
        assert facts["losses"][1][0] == pytest.approx(facts["losses"][0][0], rel=1e-3)
        assert facts["apart_at_last"] < 0.02 * alone


def check_saved(tried, row: str) -> None:
    before, after = tried(row, "saved"), tried(row, "loaded")
    assert after["apart"] < 1e-5
    for name in ("optimizer", "iterations"):
        assert after[name] == before[name]
    assert after["rate"] == pytest.approx(before["rate"])
    assert 0 < after["iterations"] < after["iterations_later"]
    assert after["finite"]


@slow
@each
@trial("folder")
def test_a_copy_trains_on_a_folder_of_images(tried, row):
    """Which is what `image_dataset_from_directory` returns, with two images in its last batch, and without `lab`."""
    unless_excused(row, "folder")
    check_folder(tried, row)


@slow
@each
@trial("one_step")
def test_a_training_of_one_step_moves_the_weights(tried, row):
    unless_excused(row, "one_step")
    check_one_step(tried, row)


@slow
@each
@trial("last_batch")
def test_the_loss_is_the_mean_over_images_though_the_last_batch_is_small(tried, row):
    unless_excused(row, "last_batch")
    check_last_batch(tried, row)


@slow
@each
@trial("float16")
def test_mixed_precision_moves_the_weights_as_far(tried, row):
    unless_excused(row, "float16")
    check_float16(tried, row)


@slow
@each
@trial("mirrored")
def test_two_devices_train_the_same_model(tried, row):
    """To rounding, or about, where each device takes the statistics of its own half of a batch."""
    unless_excused(row, "mirrored")
    check_mirrored(tried, row)


@slow
@each
@trial("saved", "loaded")
def test_a_saved_model_is_loaded_elsewhere_and_trains_on(tried, row):
    unless_excused(row, "saved")
    check_saved(tried, row)


CHECKS = {
    "folder": check_folder,
    "one_step": check_one_step,
    "last_batch": check_last_batch,
    "float16": check_float16,
    "mirrored": check_mirrored,
    "loaded": check_saved,
}


def of_its_fault(row: str) -> list[str]:
    """The trial that must notice a toy's fault; all of them, of the toy that has none."""
    fault = row.partition("/")[2]
    return [copied.FAULTS[fault]] if fault else list(CHECKS)


def with_what_they_need(row: str) -> list[str]:
    return [*of_its_fault(row), *(["saved"] if "loaded" in of_its_fault(row) else [])]


@slow
@pytest.mark.parametrize("row", ["pasted/", *(f"pasted/{fault}" for fault in copied.FAULTS)])
def test_a_trial_notices_a_fault_and_finds_none_where_there_is_none(tried, row):
    for name in of_its_fault(row):
        if row == "pasted/":
            CHECKS[name](tried, row)
        else:
            with pytest.raises((AssertionError, pytest.fail.Exception)):
                CHECKS[name](tried, row)


test_a_trial_notices_a_fault_and_finds_none_where_there_is_none.trials = with_what_they_need


@each
def test_where_several_steps_are_taken_at_once_it_is_said_that_two_devices_can_t(row):
    path = copied.ROOT / "recipes" / f"{row.partition('/')[0]}.py"
    for line in path.read_text(encoding="utf-8").splitlines():
        assert "steps_per_execution=" not in line or "tf.distribute" in line, line


@slow
@pytest.mark.parametrize("row", ["pasted/several_steps"])
@trial("several_steps")
def test_two_devices_can_t_take_several_steps_at_once(tried, row):
    """In Keras 3.15. Once this fails, recipes need not say so any more."""
    assert "placeholder" in tried(row, "several_steps")["complaint"]


@slow
@pytest.mark.parametrize("row", ["pasted/"])
@trial("saved16", "loaded16")
def test_a_float16_model_keeps_its_loss_scale_only_where_the_policy_is_set_before_it_is_loaded(tried, row):
    """Keras issue 15709. Once this fails, recipes need not say so any more."""
    before, after = tried(row, "saved16"), tried(row, "loaded16")
    assert before["optimizer"] == "LossScaleOptimizer"
    assert after["with_policy"] == before
    assert after["as_it_comes"]["optimizer"] == "SGD"
    assert after["as_it_comes"]["iterations"] == 0


def test_the_table_names_recipes_that_exist():
    assert {row.partition("/")[0] for row in copied.TABLE} <= set(NAMES)
