"""Records on disk, the validator of what is read back, and hashes of code."""

import copy
import json

import numpy as np
import pytest

from lab.evidence import code_hash, records, schemas
from lab.evidence.records import EvidenceError


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


def test_times_are_shown_over_the_seeds_that_all_variants_have():
    def found(**seconds):
        return [
            {"variant": variant, "seed": seed, "status": "finished", "metrics": {"m": second}}
            for variant, of_seeds in seconds.items()
            for seed, second in of_seeds.items()
        ]

    more = found(a={1: 2.0, 2: 2.2, 3: 9.0}, b={1: 1.0, 2: 1.2})  # A slow day added a third to one of them.
    assert records.levels_of(more, "m", timed=True) == {"a": {1: 2.0, 2: 2.2}, "b": {1: 1.0, 2: 1.2}}
    assert records.levels_of(more, "m", timed=False) == records.values_of(more, "m")
    apart = found(a={1: 2.0}, b={2: 1.0})
    assert records.levels_of(apart, "m", timed=True) == records.values_of(apart, "m")
    assert records.levels_of([], "m", timed=True) == {}


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
    "settings": {},
    "weights": None,
    "blocks": [],
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
    "machine": {"cpu": "a", "cores": 2, "gpus": [], "memory_gib": None, "system": "Linux"},
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
    return schemas.complaint_of_evidence(found, "toy", ("a", "b"))


def test_whole_evidence_is_not_complained_of():
    assert complaint(lambda found: None) == ""


def set_record(**fields):
    return lambda found: found["records"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.update(experiment="other"), "of recipe 'other'"),
        (lambda found: found.update(schema=99), "not of schema"),
        (lambda found: found.update(variants=["a", "z"]), "no variant 'z'"),
        (lambda found: found.update(records=[]), "one record for each"),
        (lambda found: found["records"].append(found["records"][0]), "one record for each"),
        (lambda found: found.update(seeds=[1, 1]), "each once"),
        (lambda found: found.update(seeds=[1, 2]), "one record for each"),
        (lambda found: found.update(machine=None), "its 'machine' should be"),
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
        (lambda found: found.pop("elapsed_seconds"), "lacks 'elapsed_seconds'"),
        (lambda found: found.update(variants=["a", "a"]), "stands in it twice"),
    ],
)
def test_what_is_wrong_with_evidence_is_said(change, words):
    assert words in complaint(change)


@pytest.mark.parametrize("content", [None, [], {}, 3, "text"])
def test_what_is_no_evidence_at_all(content):
    assert schemas.complaint_of_evidence(content, "toy", ("a",))
    assert schemas.complaint_of(content)


def test_a_record_of_another_run_is_told_from_that_of_the_job():
    assert schemas.complaint_of_job(RECORD, "a", 1, {"epochs": 2}) == ""
    assert "it is of a seed 1" in schemas.complaint_of_job(RECORD, "a", 2, {"epochs": 2})
    assert "other settings" in schemas.complaint_of_job(RECORD, "a", 1, {"epochs": 3})
    depths = {**RECORD, "config": {"depths": [1, 2]}}
    assert schemas.complaint_of_job(depths, "a", 1, {"depths": (1, 2)}) == ""  # JSON knows no tuples.


ONE = """\"\"\"Why?\"\"\"
import numpy as np
from pipelines import batches, sources
RATES = {"a": 1}
BASE: int = 2
OTHER = 3
TABLE = {}
TABLE["a"] = 4
class Net:
    \"\"\"A net.\"\"\"
    size = 5
    def __init__(self): self.depth = 6
    def used(self): return 7
    def unused(self): return 8
class Layer(np.ndarray):
    def call(self): return 9
def helper(x: int = 10) -> int:
    \"\"\"Say how.\"\"\"
    if x > 11: raise ValueError(f"{x} is too much")
    return x + BASE  # remark
def train(variant, config, run):
    return helper(RATES[variant]) + Net().used() + Layer() + sources.SIZE + TABLE["a"]
def compare(config, runs): return OTHER + len(batches.__name__)
CLAIMS = ["one"]
"""


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """A function: the hash of `train` in a module of this text."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code_hash, "OURS", (*code_hash.OURS, "reached_module."))

    def of(text, settings=("RATES",)):
        (tmp_path / "reached_module.py").write_text(text)
        code_hash.forget()
        return code_hash.code_hash("reached_module", "train", settings)

    yield of
    code_hash.forget()


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("Why?", "Why not?", False),
        ("Say how.", "Say it.", False),
        ("A net.", "A network.", False),
        ("  # remark", "", False),
        ("x + BASE", "(x + BASE)", False),
        (": int = 2", " = 2", False),
        ("x: int = 10) -> int", "x=10)", False),
        ("is too much", "is more than 11", False),
        ('["one"]', '["two"]', False),
        ('{"a": 1}', '{"a": 2}', False),
        ("OTHER = 3", "OTHER = 4", False),
        ("return OTHER", "return 0", False),
        ("return 8", "return 0", False),
        ("import batches, sources", "import sources", False),
        ("= 2", "= 1", True),
        ("= 4", "= 5", True),
        ("size = 5", "size = 6", True),
        ("depth = 6", "depth = 7", True),
        ("return 7", "return 0", True),
        ("return 9", "return 0", True),
        ("int = 10", "int = 9", True),
        ("x > 11", "x > 12", True),
        ("raise ValueError", "raise TypeError", True),
        ("x + BASE", "x - BASE", True),
        ("+ sources.SIZE", "", True),
        ("helper(RATES", "abs(RATES", True),
    ],
)
def test_what_train_reaches_counts_and_nothing_else(hashed, old, new, changes):
    assert old in ONE
    assert (hashed(ONE) != hashed(ONE.replace(old, new, 1))) == changes


def test_a_call_at_import_counts(hashed):
    assert hashed(ONE) != hashed(ONE + "np.seterr(all='raise')\n") != hashed(ONE + "np.seterr(all='warn')\n")


def test_what_was_tuned_is_no_code(hashed):
    assert hashed(ONE, ()) != hashed(ONE.replace('{"a": 1}', '{"a": 2}'), ())


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("batches.py", "1 + 2 * shift", "1 + 3 * shift", True),
        ("splits.py", 'f"{seed}/{name}"', 'f"{name}/{seed}"', True),
        ("task.py", "train_accuracy - test_accuracy", "test_accuracy - train_accuracy", True),
        ("callbacks.py", ">= self.target", "> self.target", True),
        ("job.py", "set_random_seed(job.seed)", "set_random_seed(0)", True),
        ("job.py", "set_intra_op_parallelism_threads(1)", "set_intra_op_parallelism_threads(2)", True),
        ("job.py", "split_seed(run.data, job.seed)", "split_seed(run.data, 0)", True),
        ("run.py", "epochs * self.watch.epoch_seconds()", "epochs", True),
        ("timing.py", "steps - left_out", "steps", False),  # Nothing is timed in blocks there.
        ("folders.py", "import", "import os\nimport", False),
        ("board.py", "import", "import os\nimport", False),
        ("invocation.py", "import", "import os\nimport", False),
    ],
)
def test_the_feed_and_what_is_done_around_a_run_count(monkeypatch, file, old, new, changes):
    module, settings = "recipes.optimizers", ("RATES", "WEIGHT_DECAYS")
    before, real = code_hash.code_hash(module, "train", settings), code_hash.Path.read_text
    code_hash.forget()
    seen = []

    def changed(self, **how):
        text = real(self, **how)
        if self.name != file or "tests" in self.parts:
            return text
        seen.append(self)
        assert old in text
        return text.replace(old, new)

    monkeypatch.setattr(code_hash.Path, "read_text", changed)
    after = code_hash.code_hash(module, "train", settings)
    monkeypatch.undo()
    code_hash.forget()
    assert (after != before) == changes
    assert seen or not changes


def test_what_is_timed_depends_on_how():
    names = set(code_hash.parts("recipes.input_pipeline", "compare"))
    assert {f"lab.core.timing.{name}" for name in ("interleaved", "_block", "_busy_seconds")} <= names
    assert "lab.core.run.Run.interleaved" in names
    assert not any("reporting" in name or ".declaring." in name for name in names)
