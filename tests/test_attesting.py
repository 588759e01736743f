"""Evidence is carried over a change of code that changes no number, and over no other."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from lab.evidence import carry_over, lineage, schemas
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Evidence, pack_bits
from lab.experiment import Unit
from lab.table import Table
from tests.conftest import ROOT
from tests.toys import dice, made_up

COMMIT = "a1" * 20


def record(variant="fair", seed=1, **changes):
    usual = {
        "curves": {"loss": [1.0]},
        "weights": "00ff",
        "config": {"noise": 0.02},
        "metrics": {"test_accuracy": 0.5, "images_per_second": 10.0},
    }
    return made_up.record(variant, seed, **{**usual, **changes})


def found(records, **fields):
    whole = {"recipe": "dice", "code": "old", "commit": COMMIT, "config": {"noise": 0.02}}
    return made_up.evidence(records, **{**whole, **fields})


def compared(**changes):
    return carry_over.differences([record()], [record(**changes)], ["images_per_second"])


def test_what_is_the_same_but_for_times_differs_in_nothing():
    assert compared(metrics={"test_accuracy": 0.5, "images_per_second": 99.0}) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"metrics": {"test_accuracy": 0.5 + 1e-16 * 2}}, "test_accuracy"),
        ({"metrics": {"test_accuracy": 0.5, "more": 1.0}}, "more"),
        ({"metrics": {}}, "test_accuracy"),
        ({"curves": {"loss": [1.0000000000000002]}}, "curves"),
        ({"curves": {"loss": [1.0, 0.5]}}, "curves"),
        ({"weights": "00fe"}, "weights"),
        ({"correct": pack_bits(np.ones(8, bool))}, "correct"),
        ({"status": "diverged"}, "status"),
        ({"settings": {"RATES": 0.1}}, "settings"),
        ({"config": {"noise": 0.03}}, "--noise"),
        ({"status": "failed"}, "it failed"),
    ],
)
def test_each_part_of_a_record_is_compared_to_the_bit(changes, named):
    (sentence,) = compared(**changes)
    assert sentence.startswith("fair seed 1")
    assert sentence.endswith(f": {named}.")


def test_a_run_that_is_missing_on_a_side_is_a_difference():
    for old, new in (([record()], []), ([], [record()])):
        (sentence,) = carry_over.differences(old, new, [])
        assert "fair seed 1" in sentence


def test_a_field_that_the_config_has_been_given_is_no_difference():
    assert compared(config={"noise": 0.02, "new": 5}) == []


def drawn(whole, number, together=False):
    return carry_over.drawn(whole, f"{number:040x}", together)


def test_the_seeds_are_the_first_one_and_that_of_the_commit():
    whole = found([record(v, s) for s in range(101, 111) for v in ("fair", "clear")])
    two = {tuple(drawn(whole, number)) for number in range(50)}
    assert two == {tuple((v, s) for v in ("clear", "fair") for s in (101, other)) for other in range(102, 111)}
    grown = found([*whole.records, *(record("fair", s) for s in range(111, 121))])
    latest = max(seed for number in range(50) for _, seed in drawn(grown, number))
    assert latest == 110  # The last seed that all variants have.


def test_what_diverged_is_run_again_and_with_it_what_is_run_together():
    runs = [(v, s) for s in range(101, 111) for v in ("fair", "clear")]
    odd = ("fair", 104)
    whole = found([record(*run, status="diverged" if run == odd else "finished") for run in runs])
    assert [seed for variant, seed in drawn(whole, 0) if variant == "clear"] == [101, 102]
    assert [seed for variant, seed in drawn(whole, 0) if variant == "fair"] == [101, 102, 104]
    assert ("clear", 104) in drawn(whole, 0, together=True)


def test_a_failed_run_is_never_attested():
    with pytest.raises(EvidenceError, match="failed run"):
        drawn(found([record(status="failed"), record(seed=2)]), 0)


def of_all(**changes):
    return found([record(v, s, **changes) for s in (1, 2) for v in dice.VARIANTS])


def test_times_stay_behind_and_a_recipe_about_nothing_else_is_refused():
    assert carry_over.check_can_carry(dice.EXPERIMENT, of_all()) == ["images_per_second"]
    timed = dataclasses.replace(dice.EXPERIMENT, units={"test_accuracy": Unit("pace", timed=True)})
    with pytest.raises(EvidenceError, match="is about times"):
        carry_over.check_can_carry(timed, of_all())


def test_other_variants_or_other_tuned_settings_are_refused():
    with pytest.raises(EvidenceError, match="clear, faint, unclaimed"):
        carry_over.check_can_carry(dice.EXPERIMENT, found([record()]))
    with pytest.raises(EvidenceError, match="tuned for fair"):
        carry_over.check_can_carry(dice.EXPERIMENT, of_all(settings={"RATES": 0.1}))


def link(before, after, config, number, *dropped):
    return schemas.Link(
        before=before, after=after, config=config, commit=number, from_commit="0", dropped=list(dropped), runs=1,
        audited=True, machine=made_up.MACHINE, versions={},
    )  # fmt: skip


def test_links_are_followed_one_after_another_and_fill_in_new_settings():
    config = {"noise": 0.02, "new": 5}
    along = [
        link("old", "mid", {"noise": 0.02}, "1", "images_per_second"),
        link("mid", "new", config, "2"),
        link("other", "x", {}, "3"),
    ]
    before = found([record()])
    after = lineage.followed(before, along)
    assert (after.code, after.carried, after.config) == ("new", "2", config)
    assert after.records[0].config == config
    assert after.records[0].metrics == {"test_accuracy": 0.5}
    assert lineage.followed(before, along[1:]) == before  # It does not begin where the evidence is.


def stand_ins(monkeypatch, folder, here=made_up.MACHINE):
    """In the place of git, of this machine, and of what asks the old code for its hash."""
    monkeypatch.setattr(carry_over, "commit", lambda: f"{7:040x}")
    monkeypatch.setattr(carry_over, "is_commit", lambda name: True)
    monkeypatch.setattr(carry_over, "checked_out", lambda name: contextlib.nullcontext(folder))
    monkeypatch.setattr(carry_over, "machine", lambda: here)
    monkeypatch.setattr(carry_over, "versions", dict)
    monkeypatch.setattr(carry_over, "_check_code", lambda *_: None)


def test_what_was_carried_once_is_carried_again(monkeypatch, tmp_path):
    """Its times stayed behind the first time, and new runs have some."""
    stand_ins(monkeypatch, tmp_path)
    home = tmp_path / "dice"
    first = link("old", "mid", {"noise": 0.02}, COMMIT, "images_per_second")
    write_json(home / "evidence.json", of_all())
    write_json(home / lineage.NAME, [first])
    again = list(of_all().records)
    monkeypatch.setattr(carry_over, "_run", lambda *_: again)
    carry_over.carry_over(dice.EXPERIMENT, lambda _: None, tmp_path)
    assert lineage.read_followed(home / "evidence.json", Evidence).code == dice.EXPERIMENT.code
    write_json(home / lineage.NAME, [first])
    again[0] = replace(again[0], metrics={"test_accuracy": 0.5 + 1e-16 * 2})
    with pytest.raises(EvidenceError, match="test_accuracy"):
        carry_over.carry_over(dice.EXPERIMENT, lambda _: None, tmp_path)
    assert lineage.links(home) == [first]


def test_on_another_machine_the_old_code_runs_again_and_on_its_own_what_is_published_stands_for_it(
    monkeypatch, tmp_path
):
    write_json(tmp_path / "dice" / "evidence.json", of_all())
    trees = []
    monkeypatch.setattr(carry_over, "_run", lambda tree, *_: trees.append(tree) or list(of_all().records))
    for machine, asked in ((made_up.MACHINE, [ROOT]), (replace(made_up.MACHINE, cpu="abacus"), [ROOT, tmp_path])):
        stand_ins(monkeypatch, tmp_path, machine)
        carry_over.carry_over(dice.EXPERIMENT, lambda _: None, tmp_path)
        assert lineage.links(tmp_path / "dice")[-1].audited == (machine == made_up.MACHINE)
        assert trees == asked
        trees.clear()
        (tmp_path / "dice" / lineage.NAME).unlink()


def test_a_table_of_other_code_is_measured_again(tmp_path):
    write_json(tmp_path / "dice" / "tuning.json", made_up.sweep(recipe="dice", code="old", commit=COMMIT))
    write_json(tmp_path / "dice" / "evidence.json", of_all())
    experiment = dataclasses.replace(dice.EXPERIMENT, tuning=None, table=Table(dice.train, {"fast": (0, 1)}, (1, 2)))
    with pytest.raises(EvidenceError, match=r"`python -m tests.toys.dice tune` measures it again"):
        carry_over.carry_over(experiment, lambda _: None, tmp_path)


def test_a_seed_is_run_with_the_variants_that_were_chosen_of_it(monkeypatch, tmp_path):
    asked = []

    def measured(command, **_):
        asked.append(command[command.index("--variants") + 1 : command.index("--no-log")])
        write_json(Path(command[-1]) / "evidence.json", found([]))

    monkeypatch.setattr(carry_over.subprocess, "run", measured)
    chosen = [("clear", 1), ("fair", 1), ("fair", 2)]
    carry_over._run(tmp_path, dice.EXPERIMENT, "quick", chosen, lambda _: None)
    assert asked == [["clear", "fair"], ["fair"]]


# The command, in a copy of the project with a history of its own

TECHNIQUE = """
from dataclasses import dataclass

import numpy as np

VARIANTS = {"fair": 0.5, "clear": 0.6}


@dataclass(frozen=True)
class Config:
    noise: float = 0.02


def train(variant, config, run):
    noise = np.random.default_rng(run.seed).normal(0, config.noise)
    return {"test_accuracy": float(VARIANTS[variant] + noise)}


if __name__ == "__main__":
    from lab import main

    main("dice")
"""
DECLARED = """
from lab import Claim, Experiment
from recipes import dice as recipe

CLAIMS = [Claim("D1", "A loaded die wins", "us", "test_accuracy", higher="clear", than="fair")]
EXPERIMENT = Experiment(recipe, recipe.VARIANTS, CLAIMS, recipe.Config, train=recipe.train, first_seed=1)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A checkout with a recipe more, its evidence, and a change of its code that changes no number."""
    folder = tmp_path_factory.mktemp("project")
    skip = shutil.ignore_patterns("__pycache__", "data", "results")
    for name in ("recipes", "lab", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    (folder / "pipelines" / "data").symlink_to(ROOT / "pipelines" / "data")
    (folder / ".gitignore").write_text("logs\npipelines/data\n__pycache__\n")
    (folder / "recipes" / "dice.py").write_text(TECHNIQUE)
    (folder / "lab" / "experiments" / "dice.py").write_text(DECLARED)
    git(folder, "init", "-q")
    commit(folder, "Before")
    done = python(folder, "-m", "recipes.dice", "--seeds", "10", "--no-log")
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "logs").rglob("evidence.json")
    (folder / "results" / "dice").mkdir(parents=True)
    shutil.copy(path, folder / "results" / "dice" / "evidence.json")
    edit(folder, "def train(", "def worth(variant):\n    return VARIANTS[variant]\n\n\ndef train(")
    edit(folder, "float(VARIANTS[variant] + noise)", "float(worth(variant) + noise)")
    edit(folder, "noise: float = 0.02", "noise: float = 0.02\n    unused: int = 3")
    commit(folder, "A helper, and a field")
    return folder


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, why: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", why)


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "recipes" / "dice.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def python(folder: Path, *words: str) -> subprocess.CompletedProcess:
    path = {**os.environ, "PYTHONPATH": str(folder)}  # Not the project that is installed.
    return subprocess.run([sys.executable, *words], cwd=folder, env=path, capture_output=True, text=True, timeout=300)


@pytest.mark.processes
def test_a_change_that_changes_no_number_is_carried_over(project):
    status = python(project, "-m", "lab", "status", "dice").stdout
    assert "stale" in status
    for name in ("Config", "train", "worth"):
        assert name in status
    done = python(project, "-m", "lab", "attest", "dice")
    assert done.returncode == 0, done.stderr
    assert "dice is carried over: 4 runs" in done.stdout
    (written,) = lineage.links(project / "results" / "dice")
    assert written.config == {"noise": 0.02, "unused": 3}
    assert written.audited
    assert "stale" not in python(project, "-m", "lab", "status", "dice").stdout
    assert python(project, "-c", OBJECTIONS).stdout == "[]\n"  # It may be published as it is.
    (project / "results" / "dice" / lineage.NAME).unlink()


OBJECTIONS = """
from pathlib import Path
from lab.experiments.dice import EXPERIMENT
from lab.report.publishable import objections
print(objections(EXPERIMENT, Path("results/dice/evidence.json")))
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("cheat", "says"),
    [
        (lambda p: edit(p, "+ noise)", "+ noise + 1e-16)"), "Commit all changes first"),
        (lambda p: (edit(p, "(worth(variant) +", "(worth(variant) + 1e-9 +"), commit(p, "A number")), "test_accuracy"),
        (lambda p: of_published(p, code="0123456789abcdef"), "has the code"),
        (lambda p: of_published(p, commit="ab" * 20), "There is no commit"),
        (lambda p: of_published(p, touch=0.61), "clear seed 1"),
    ],
    ids=["not committed", "another number", "another version", "no such commit", "evidence that was touched up"],
)
def test_a_cheat_is_refused(project, tmp_path, cheat, says):
    copied = tmp_path / "cheat"
    shutil.copytree(project, copied, symlinks=True)
    cheat(copied)
    done = python(copied, "-m", "lab", "attest", "dice")
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copied / "results" / "dice" / lineage.NAME).exists()


def of_published(folder: Path, touch: float | None = None, **fields) -> None:
    """Change published evidence, or the accuracy of clear at the first seed."""
    path = folder / "results" / "dice" / "evidence.json"
    whole = replace(read(path, Evidence), **fields)
    if touch:
        runs = [(one.variant, one.seed) for one in whole.records]
        whole.records[runs.index(("clear", 1))].metrics["test_accuracy"] = touch
    write_json(path, whole)
    commit(folder, "Evidence")
