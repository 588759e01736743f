"""Records on disk, the validator of what is read back, and hashes of code."""

import copy
import json

import numpy as np
import pytest

from recipes.harness.evidence import reach, records
from recipes.harness.evidence.records import EvidenceError


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "record.json"
    records.write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        records.write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]  # No scratch file is left.


def test_broken_evidence_gets_a_sentence(tmp_path):
    path = tmp_path / "evidence.json"
    with pytest.raises(EvidenceError, match=r"can't be read: No such file"):
        records.read_json(path)
    path.write_text('{"x": ')
    with pytest.raises(EvidenceError, match="not whole"):
        records.read_json(path)


def test_bits_survive_packing():
    bits = np.random.default_rng(0).random(4001) < 0.5
    assert (records.unpack_bits(records.pack_bits(bits), 4001) == bits).all()


def test_a_failed_run_has_no_value_and_a_diverged_one_has():
    found = [
        {"variant": "a", "seed": 1, "status": "finished", "metrics": {"m": 0.6}},
        {"variant": "a", "seed": 2, "status": "diverged", "metrics": {"m": 0.1}},
        {"variant": "a", "seed": 3, "status": "failed", "metrics": {}},
    ]
    assert records.values_of(found, "m") == {"a": {1: 0.6, 2: 0.1}}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("two\nlines\tand\x00nul", "two lines and nul"),
        ("\u202eright to left", "right to left"),
    ],
)
def test_what_is_printed_holds_no_escape_sequences(text, shown):
    assert records.printable(text) == shown


RIGHT = np.arange(10) < 6
RECORD = {
    "variant": "a",
    "seed": 1,
    "config": {"epochs": 2},
    "status": "finished",
    "cause": None,
    "metrics": {"test_accuracy": 0.6},
    "curves": {"loss": [2.0, None]},
    "correct": records.pack_bits(RIGHT),
    "seconds": {"total": 1.0},
    "peak_memory_mib": None,
}
EVIDENCE = {
    "schema": records.SCHEMA,
    "recipe": "toy",
    "kind": "comparison",
    "budget": "quick",
    "config": {"epochs": 2},
    "data": {"source": "subset", "train_images": None, "split_seed": 0},
    "data_digest": "0",
    "test_images": 10,
    "classes": 10,
    "commit": None,
    "keras": {},
    "elapsed_seconds": None,
    "machine": {},
    "versions": {},
    "code": "0",
    "command": "python",
    "variants": ["a"],
    "seeds": [1],
    "records": [RECORD],
}


def complaint(change) -> str:
    found = copy.deepcopy(EVIDENCE)
    change(found)
    return records.complaint_of_evidence(found, "toy", ("a", "b"))


def test_whole_evidence_is_not_complained_of():
    assert complaint(lambda found: None) == ""


def set_record(**fields):
    return lambda found: found["records"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.update(recipe="other"), "of recipe 'other'"),
        (lambda found: found.update(schema=99), "not of schema"),
        (lambda found: found.update(variants=["a", "z"]), "no variant 'z'"),
        (lambda found: found.update(records=[]), "one record for each"),
        (lambda found: found["records"].append(found["records"][0]), "one record for each"),
        (lambda found: found.update(seeds=[1, 1]), "each once"),
        (lambda found: found.update(seeds=[1, 2]), "one record for each"),
        (lambda found: found.update(machine=None), "lacks 'machine'"),
        (lambda found: found.pop("test_images"), "lacks 'test_images'"),
        (lambda found: found["records"].insert(0, None), "no record of a run"),
        (lambda found: found["records"][0].pop("curves"), "lacks 'curves'"),
        (set_record(metrics={"test_accuracy": 50.0}), "is no share"),
        (set_record(metrics={"test_accuracy": 0.7}), "its own bits say 0.6000"),
        (set_record(metrics={"test_accuracy": float("nan")}), "finite numbers"),
        (set_record(metrics={"steps": 1e308}), "finite numbers"),
        (set_record(metrics={"steps": "many"}), "finite numbers"),
        (set_record(curves={"loss": [[1.0]]}), "lists of numbers"),
        (set_record(correct="no base64 *"), "packed bits"),
        (set_record(correct=records.pack_bits(np.ones(100, bool))), "not that of 10 images"),
        (set_record(status="well"), "one of finished"),
        (set_record(seed=-1), "a whole number"),
        (set_record(variant=""), "a name"),
        (set_record(variant="b"), "one record for each"),
        (set_record(seconds={}), "how many seconds"),
        (lambda found: found.pop("commit"), "lacks 'commit'"),
        (lambda found: found.pop("elapsed_seconds"), "how long it took"),
        (lambda found: found.update(variants=["a", "a"]), "stands in it twice"),
    ],
)
def test_what_is_wrong_with_evidence_is_said(change, words):
    assert words in complaint(change)


@pytest.mark.parametrize("content", [None, [], {}, 3, "text"])
def test_what_is_no_evidence_at_all(content):
    assert records.complaint_of_evidence(content, "toy", ("a",))
    assert records.complaint_of(content)


def test_a_record_of_another_run_is_told_from_that_of_the_job():
    assert records.complaint_of_job(RECORD, "a", 1, {"epochs": 2}) == ""
    assert "it is of a seed 1" in records.complaint_of_job(RECORD, "a", 2, {"epochs": 2})
    assert "other settings" in records.complaint_of_job(RECORD, "a", 1, {"epochs": 3})
    depths = {**RECORD, "config": {"depths": [1, 2]}}
    assert records.complaint_of_job(depths, "a", 1, {"depths": (1, 2)}) == ""  # JSON knows no tuples.


RECIPE = '''"""Why?"""
from pipelines import batches
RATE = 0.1
RATES = {"a": 1}
def train():
    """Say how."""
    return RATE  # remark
CLAIMS = ["one"]
'''


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("Why?", "Why not?", False),
        ("Say how.", "Say it.", False),
        ("  # remark", "", False),
        ("RATE = 0.1", "RATE = (0.1)", False),
        ('["one"]', '["two"]', False),
        ("RATE = 0.1", "RATE = 0.2", True),
        ('{"a": 1}', '{"a": 2}', True),
        ("batches", "sources", True),
    ],
)
def test_the_code_hash_sees_code_and_nothing_else(tmp_path, monkeypatch, old, new, changes):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "before_edit.py").write_text(RECIPE)
    (tmp_path / "after_edit.py").write_text(RECIPE.replace(old, new))
    assert old in RECIPE

    def canonical(name):
        tree = reach.ast.parse((tmp_path / f"{name}.py").read_text())
        return reach._canonical(tree, {"CLAIMS"}), reach.code_hash(name)

    same = canonical("before_edit")[0] == canonical("after_edit")[0]
    assert same != changes


def test_the_code_hash_covers_the_pipelines_and_can_leave_the_tuned_rates_out(monkeypatch):
    module = "recipes.optimizers"
    whole, without = reach.code_hash(module), reach.code_hash(module, ("RATES",))
    assert whole != without
    reach.code_hash.cache_clear()
    real = reach.Path.read_text
    monkeypatch.setattr(
        reach.Path,
        "read_text",
        lambda self, **k: real(self, **k) + ("\nMORE = 1\n" if self.name == "batches.py" else ""),
    )
    assert reach.code_hash(module) != whole
    reach.code_hash.cache_clear()


ONLY = "from pipelines import sources, batches\nBASE = 1\nOTHER = 2\ndef used(): return BASE\n"
ONLY += "def train(setting, run): return {'a': used() + sources.SIZE}\ndef replay(): return OTHER\n"


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("BASE = 1", "BASE = 3", True),
        ("return BASE", "return BASE + 1", True),
        ("sources.SIZE", "0", True),
        ("OTHER = 2", "OTHER = 3", False),
        ("return OTHER", "return 0", False),
        ("sources, batches", "sources", False),
        ("def used", "# Why.\ndef used", False),
    ],
)
def test_the_hash_of_a_function_sees_what_it_uses_and_nothing_else(tmp_path, monkeypatch, old, new, changes):
    monkeypatch.syspath_prepend(tmp_path)

    def hashed(text):
        (tmp_path / "only_one.py").write_text(text)
        reach.code_hash.cache_clear()
        return reach.code_hash("only_one", only="train")

    assert old in ONLY
    assert (hashed(ONLY) != hashed(ONLY.replace(old, new))) == changes


def test_the_code_hash_covers_what_carries_runs_out(monkeypatch):
    """A sign flipped in the scores, or a rate halved in a callback, voids what was measured before."""
    module = "recipes.sequential"
    before, alone = reach.code_hash(module), reach.code_hash(module, running=False)
    real = reach.Path.read_text
    for name in ("run.py", "task.py", "callbacks.py", "timing.py"):
        reach.code_hash.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(
                reach.Path,
                "read_text",
                lambda self, name=name, **k: real(self, **k) + ("\nMORE = 1\n" if self.name == name else ""),
            )
            assert reach.code_hash(module) != before, name
            assert reach.code_hash(module, running=False) == alone
    reach.code_hash.cache_clear()
