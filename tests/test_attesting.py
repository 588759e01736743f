"""Evidence is carried over a change of code that changes no number, and over no other."""

import contextlib
import copy
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.evidence import carry_over, lineage
from lab.evidence.records import EvidenceError, read_json, write_json
from lab.experiment import Unit
from lab.report import published
from tests.conftest import ROOT
from tests.toys import dice

COMMIT = "a1" * 20


def record(variant="fair", seed=1, **changes):
    plain = {
        "variant": variant, "seed": seed, "status": "finished", "curves": {"loss": [1.0]}, "correct": None,
        "weights": "00ff", "settings": {}, "config": {"noise": 0.02},
        "metrics": {"test_accuracy": 0.5, "images_per_second": 10.0},
    }  # fmt: skip
    return {**plain, **changes}


def found(records):
    names = list(dict.fromkeys(r["variant"] for r in records))
    seeds = sorted({r["seed"] for r in records})
    return {
        "code": "old",
        "commit": COMMIT,
        "config": {"noise": 0.02},
        "records": records,
        "variants": names,
        "seeds": seeds,
    }


def compared(**changes):
    old, new = {("fair", 1): record()}, {("fair", 1): record(**changes)}
    return carry_over.differences(old, new, ["images_per_second"])


def test_what_is_the_same_but_for_times_differs_in_nothing():
    assert compared(metrics={"test_accuracy": 0.5, "images_per_second": 99.0}) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metrics": {"test_accuracy": 0.5 + 1e-16 * 2}}, "test_accuracy"),
        ({"metrics": {"test_accuracy": 0.5, "more": 1.0}}, "more"),
        ({"metrics": {}}, "test_accuracy"),
        ({"curves": {"loss": [1.0000000000000002]}}, "curves"),
        ({"curves": {"loss": [1.0, 0.5]}}, "curves"),
        ({"weights": "00fe"}, "weights"),
        ({"correct": "/w=="}, "correct"),
        ({"status": "diverged"}, "status"),
        ({"settings": {"RATES": 0.1}}, "settings"),
        ({"config": {"noise": 0.03}}, "--noise"),
        ({"status": "failed"}, "it failed"),
    ],
)
def test_each_part_of_a_record_is_compared_to_the_bit(changes, says):
    (sentence,) = compared(**changes)
    assert sentence == f"fair seed 1 differs: {says}."


def test_a_run_that_is_missing_on_a_side_is_a_difference():
    assert carry_over.differences({("fair", 1): record()}, {}, []) == ["fair seed 1 was run on one side only."]


def test_a_field_that_the_config_has_been_given_is_no_difference():
    assert compared(config={"noise": 0.02, "new": 5}) == []


def drawn(whole, commit, together=False):
    return carry_over.drawn(whole, commit, together)


def test_the_seeds_are_the_first_one_and_that_of_the_commit():
    whole = found([record(v, s) for s in range(101, 111) for v in ("fair", "clear")])
    two = {tuple(drawn(whole, f"{n:040x}")) for n in range(50)}
    assert two == {tuple((v, s) for v in ("clear", "fair") for s in (101, other)) for other in range(102, 111)}
    grown = found([*whole["records"], *(record("fair", s) for s in range(111, 121))])
    assert max(seed for n in range(50) for _, seed in drawn(grown, f"{n:040x}")) == 110  # Where all variants were run.


def test_what_diverged_is_run_again_and_with_it_what_is_run_together():
    whole = found([record(v, s) for s in range(101, 111) for v in ("fair", "clear")])
    whole["records"][6]["status"] = "diverged"  # "fair" of seed 104.
    assert tuple(seed for variant, seed in drawn(whole, f"{0:040x}") if variant == "clear") == (101, 102)
    assert tuple(seed for variant, seed in drawn(whole, f"{0:040x}") if variant == "fair") == (101, 102, 104)
    assert ("clear", 104) in drawn(whole, f"{0:040x}", together=True)


def test_a_failed_run_is_never_attested():
    with pytest.raises(EvidenceError, match="failed run"):
        drawn(found([record(status="failed"), record(seed=2)]), COMMIT)


def of_all(**changes):
    return found([record(v, s, **changes) for s in (1, 2) for v in dice.VARIANTS])


def test_times_stay_behind_and_a_recipe_about_nothing_else_is_refused():
    assert carry_over.check_can_carry(dice.EXPERIMENT, of_all()) == ["images_per_second"]
    timed = dataclasses.replace(dice.EXPERIMENT, units={"test_accuracy": Unit("pace", timed=True)})
    with pytest.raises(EvidenceError, match="is about times"):
        carry_over.check_can_carry(timed, of_all())


def test_other_variants_or_other_tuned_settings_are_refused():
    with pytest.raises(EvidenceError, match="other variants now"):
        carry_over.check_can_carry(dice.EXPERIMENT, found([record()]))
    with pytest.raises(EvidenceError, match="tuned for fair"):
        carry_over.check_can_carry(dice.EXPERIMENT, of_all(settings={"RATES": 0.1}))


def test_links_are_followed_one_after_another_and_fill_in_new_settings():
    config = {"noise": 0.02, "new": 5}
    along = [
        {"from": "old", "to": "mid", "config": {"noise": 0.02}, "commit": "1", "dropped": ["images_per_second"]},
        {"from": "mid", "to": "new", "config": config, "commit": "2", "dropped": []},
        {"from": "other", "to": "x", "config": {}, "commit": "3", "dropped": []},
    ]
    before = found([record()])
    after = lineage.followed(copy.deepcopy(before), along)
    assert (after["code"], after["carried"], after["config"]) == ("new", "2", config)
    assert after["records"][0]["config"] == config
    assert after["records"][0]["metrics"] == {"test_accuracy": 0.5}
    assert lineage.followed(before, along[1:]) == before  # It does not begin where the evidence is.


def stand_ins(monkeypatch, folder):
    """In the place of git, of this machine, and of what asks the old code for its hash."""
    monkeypatch.setattr(carry_over, "commit", lambda: f"{7:040x}")
    monkeypatch.setattr(carry_over, "is_commit", lambda name: True)
    monkeypatch.setattr(carry_over, "checked_out", lambda name: contextlib.nullcontext(folder))
    monkeypatch.setattr(carry_over, "machine", lambda: {"cpu": "abacus"})
    monkeypatch.setattr(carry_over, "versions", dict)
    monkeypatch.setattr(carry_over, "_check_code", lambda *_: None)


def test_what_was_carried_once_is_carried_again(monkeypatch, tmp_path):
    """Its times stayed behind the first time, and new runs have some."""
    stand_ins(monkeypatch, tmp_path)
    monkeypatch.setattr(carry_over, "complaint_of_evidence", lambda *_: "")
    whole = {**of_all(), "machine": {"cpu": "abacus"}, "versions": {}, "budget": "quick"}
    link = {"from": "old", "to": "mid", "config": {"noise": 0.02}, "commit": COMMIT, "dropped": ["images_per_second"]}
    write_json(tmp_path / "dice" / "evidence.json", whole)
    write_json(tmp_path / "dice" / lineage.NAME, [link])
    new_runs = {(r["variant"], r["seed"]): r for r in of_all()["records"]}
    monkeypatch.setattr(carry_over, "_run", lambda *_: new_runs)
    assert "is carried over: " in carry_over.carry_over(dice.EXPERIMENT, lambda _: None, tmp_path)
    assert lineage.read(tmp_path / "dice" / "evidence.json")["code"] == dice.EXPERIMENT.code
    first = next(iter(new_runs))
    write_json(tmp_path / "dice" / lineage.NAME, [link])
    new_runs[first] = record(*first, metrics={"test_accuracy": 0.5 + 1e-16 * 2})
    with pytest.raises(EvidenceError, match="differs: test_accuracy"):
        carry_over.carry_over(dice.EXPERIMENT, lambda _: None, tmp_path)


# The command, in a copy of the project with a history of its own


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A checkout with a recipe more, its evidence, and a change of its code that changes no number."""
    folder = tmp_path_factory.mktemp("project")
    skip = shutil.ignore_patterns("__pycache__", "data", "results")
    for name in ("recipes", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    (folder / "pipelines" / "data").symlink_to(ROOT / "pipelines" / "data")
    (folder / ".gitignore").write_text("logs\npipelines/data\n__pycache__\n")
    shutil.copy(ROOT / "tests" / "toys" / "dice.py", folder / "recipes" / "dice.py")
    git(folder, "init", "-q")
    commit(folder, "Before")
    done = python(folder, "-m", "recipes.dice", "--seeds", "10", "--no-log")
    (path,) = (folder / "logs").rglob("evidence.json")
    (folder / "results" / "dice").mkdir(parents=True)
    shutil.copy(path, folder / "results" / "dice" / "evidence.json")
    assert done.returncode == 0, done.stderr
    edit(folder, "def train(", "def worth(variant: str) -> float:\n    return VARIANTS[variant]\n\n\ndef train(")
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
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_change_that_changes_no_number_is_carried_over(project):
    status = python(project, "-m", "recipes", "status", "dice").stdout
    assert "stale: the code that makes the numbers has changed since" in status
    assert "recipes.dice.train, recipes.dice.worth" in status
    assert "`python -m lab attest dice` carries it over" in status
    done = python(project, "-m", "recipes", "attest", "dice")
    assert done.returncode == 0, done.stderr
    assert "dice is carried over: 8 runs are the same to the bit, which are those that are published." in done.stdout
    (link,) = read_json(project / "results" / "dice" / "attested.json")
    assert link["config"] == {"noise": 0.02, "unused": 3}
    assert link["seeds"][0] == 1
    assert "evidence  current" in python(project, "-m", "recipes", "status", "dice").stdout
    assert python(project, "-c", OBJECTIONS).stdout == "[]\n"  # It may be published as it is.
    (project / "results" / "dice" / "attested.json").unlink()


OBJECTIONS = """
from pathlib import Path
from recipes.dice import RECIPE
from lab.report.publishable import objections
print(objections(RECIPE, Path("results/dice/evidence.json")))
"""


@pytest.mark.parametrize(
    ("config", "others"), [({"noise": 0.02}, []), ({"noise": 0.03}, ["noise"]), ({"gone": 1}, []), ({}, [])]
)
def test_evidence_is_of_the_settings_that_were_usual_then(config, others):
    """A field that Config has had since, or has no more, changes nothing by itself: the code that reads it would."""
    assert published.set_otherwise(dice.EXPERIMENT, {"budget": "quick", "config": config}) == others


def test_a_seed_is_run_with_the_variants_that_were_chosen_of_it(monkeypatch, tmp_path):
    asked = []

    def run(command, **_):
        asked.append(command[command.index("--variants") + 1 : command.index("--no-log")])
        folder = Path(command[command.index("--logdir") + 1])
        write_json(folder / "evidence.json", {"records": []})

    monkeypatch.setattr(carry_over.subprocess, "run", run)
    chosen = [("clear", 1), ("fair", 1), ("fair", 2)]
    carry_over._run(tmp_path, dice.EXPERIMENT, "quick", chosen, lambda _: None)
    assert asked == [["clear", "fair"], ["fair"]]


@pytest.mark.parametrize(
    ("cheat", "says"),
    [
        (lambda p: edit(p, "+ noise)", "+ noise + 1e-16)"), "Commit all changes first"),
        (lambda p: (edit(p, "(worth(variant) +", "(worth(variant) + 1e-9 +"), commit(p, "A number")), "test_accuracy"),
        (lambda p: of_published(p, lambda e: e.update(code="0123456789abcdef")), "has the code"),
        (lambda p: of_published(p, lambda e: e.update(commit="ab" * 20)), "There is no commit"),
        (lambda p: of_published(p, lambda e: e["records"][1]["metrics"].update(test_accuracy=0.61)), "clear seed 1"),
    ],
    ids=["not committed", "another number", "another version", "no such commit", "evidence that was touched up"],
)
def test_a_cheat_is_refused(project, tmp_path, cheat, says):
    copied = tmp_path / "cheat"
    shutil.copytree(project, copied, symlinks=True)
    cheat(copied)
    done = python(copied, "-m", "recipes", "attest", "dice")
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copied / "results" / "dice" / "attested.json").exists()


def of_published(folder: Path, change) -> None:
    path = folder / "results" / "dice" / "evidence.json"
    evidence = read_json(path)
    change(evidence)
    write_json(path, json.loads(json.dumps(evidence)))
    commit(folder, "Evidence")


# A table


def table_of(tmp_path, monkeypatch, code="old"):
    """A published table of two settings at two seeds, and stand-ins for what is measured again."""
    from lab.table import Table

    def entry(fast, seed):
        return {"variant": "setting", "seed": seed, "config": {"fast": fast}, "metrics": {"epoch_1": fast + seed / 10}}

    content = {
        "code": code, "commit": COMMIT, "machine": {"cpu": "abacus"}, "versions": {},
        "search": [entry(fast, seed) for seed in (1, 2) for fast in (0, 1)],
    }  # fmt: skip
    write_json(tmp_path / "tuning.json", content)
    experiment = dataclasses.replace(dice.EXPERIMENT, tuning=None, table=Table(dice.train, {"fast": (0, 1)}, (1, 2)))
    measured = {"new": [entry(1, 1), entry(1, 2)], "old": [entry(1, 1), entry(1, 2)]}
    stand_ins(monkeypatch, tmp_path)  # Its commit draws the second setting.
    asked = []

    def entries(tree, experiment, setting, say):
        asked.append(setting)
        return measured["new" if tree == carry_over.ROOT else "old"]

    monkeypatch.setattr(carry_over, "_entries", entries)
    return experiment, measured, asked


def test_a_table_is_carried_by_one_of_its_settings(tmp_path, monkeypatch):
    experiment, _, asked = table_of(tmp_path, monkeypatch)
    carry_over.attest_table(experiment, tmp_path, lambda _: None)
    (link,) = lineage.links(tmp_path)
    assert asked == [{"fast": 1}]
    assert (link["from"], link["to"], link["runs"], link["audited"]) == ("old", experiment.code_of("tuning"), 2, True)
    assert lineage.read(tmp_path / "tuning.json")["code"] == experiment.code_of("tuning")
    carry_over.attest_table(experiment, tmp_path, lambda _: None)  # There is nothing left to do.
    assert len(asked) == 1


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_table_with_another_number_is_not_carried(tmp_path, monkeypatch, elsewhere):
    """Against what is published where that was measured, else against the old code's."""
    experiment, measured, _ = table_of(tmp_path, monkeypatch)
    if elsewhere:
        monkeypatch.setattr(carry_over, "machine", lambda: {"cpu": "slide rule"})
        measured["old"][0]["metrics"]["epoch_1"] += 1e-16 * 8
    else:
        measured["new"][1]["metrics"]["epoch_1"] += 1e-16 * 8
    with pytest.raises(EvidenceError, match="has other numbers at"):
        carry_over.attest_table(experiment, tmp_path, lambda _: None)
    assert lineage.links(tmp_path) == []
