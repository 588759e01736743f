"""Records on disk, hashes of code, and what may be published."""

import json

import numpy as np
import pytest

from recipes.harness import evidence


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "record.json"
    evidence.write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        evidence.write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]  # No scratch file is left.


def test_broken_evidence_gets_a_sentence(tmp_path):
    path = tmp_path / "evidence.json"
    with pytest.raises(evidence.EvidenceError, match=r"can't be read: No such file"):
        evidence.read_json(path)
    path.write_text('{"x": ')
    with pytest.raises(evidence.EvidenceError, match="not whole"):
        evidence.read_json(path)


def test_bits_survive_packing():
    bits = np.random.default_rng(0).random(4001) < 0.5
    assert (evidence.unpack_bits(evidence.pack_bits(bits), 4001) == bits).all()


def test_a_failed_run_has_no_value_and_a_diverged_one_has():
    records = [
        {"variant": "a", "seed": 1, "status": "finished", "metrics": {"m": 0.6}},
        {"variant": "a", "seed": 2, "status": "diverged", "metrics": {"m": 0.1}},
        {"variant": "a", "seed": 3, "status": "failed", "metrics": {}},
    ]
    assert evidence.values_of(records, "m") == {"a": {1: 0.6, 2: 0.1}}


RECIPE = '''"""Why?"""
from pipelines import batches
RATE = 0.1
TUNED = {"a": 1}
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
        ("batches", "cifar10", True),
    ],
)
def test_the_code_hash_sees_code_and_nothing_else(tmp_path, monkeypatch, old, new, changes):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "before_edit.py").write_text(RECIPE)
    (tmp_path / "after_edit.py").write_text(RECIPE.replace(old, new))
    assert old in RECIPE

    def canonical(name):
        tree = evidence.ast.parse((tmp_path / f"{name}.py").read_text())
        return evidence._canonical(tree, {"CLAIMS"}), evidence.code_hash(name)

    same = canonical("before_edit")[0] == canonical("after_edit")[0]
    assert same != changes


def test_the_code_hash_covers_the_pipelines_and_can_leave_the_tuned_rates_out(monkeypatch):
    module = "recipes.optimizers"
    whole, without = evidence.code_hash(module), evidence.code_hash(module, ("TUNED",))
    assert whole != without
    evidence.code_hash.cache_clear()
    real = evidence.Path.read_text
    monkeypatch.setattr(
        evidence.Path,
        "read_text",
        lambda self, **k: real(self, **k) + ("\nMORE = 1\n" if self.name == "batches.py" else ""),
    )
    assert evidence.code_hash(module) != whole
    evidence.code_hash.cache_clear()


ONLY = "from pipelines import cifar10, batches\nBASE = 1\nOTHER = 2\ndef used(): return BASE\n"
ONLY += "def train(setting, run): return {'a': used() + cifar10.SIZE}\ndef replay(): return OTHER\n"


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("BASE = 1", "BASE = 3", True),
        ("return BASE", "return BASE + 1", True),
        ("cifar10.SIZE", "0", True),
        ("OTHER = 2", "OTHER = 3", False),
        ("return OTHER", "return 0", False),
        ("cifar10, batches", "cifar10", False),
        ("def used", "# Why.\ndef used", False),
    ],
)
def test_the_hash_of_a_function_sees_what_it_uses_and_nothing_else(tmp_path, monkeypatch, old, new, changes):
    monkeypatch.syspath_prepend(tmp_path)

    def hashed(text):
        (tmp_path / "only_one.py").write_text(text)
        evidence.code_hash.cache_clear()
        return evidence.code_hash("only_one", only="train")

    assert old in ONLY
    assert (hashed(ONLY) != hashed(ONLY.replace(old, new))) == changes
