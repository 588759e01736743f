"""Records on disk, what is checked when they are read back, where they say that they come from, and the code's hash."""

import json
import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs

from lab.evidence import code_hash, provenance, records, schemas
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Evidence, Trial, TuningSweep, pack_bits, unpack_bits
from lab.execute import invocation
from lab.experiments import NAMES
from lab.report.published import RESULTS
from tests.toys import made_up


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "record.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]  # No scratch file is left.


def test_what_was_written_is_read_back(tmp_path):
    correct = pack_bits(np.arange(10) < 6)
    record = made_up.record(metrics={"test_accuracy": 0.6, "steps": 3}, correct=correct, curves={"loss": [2.0, None]})
    trial = Trial(variant="a", seed=1, config={"rate": 0.1}, status="failed", cause="out of memory", metrics={})
    path = tmp_path / "evidence.json"
    for found in (made_up.evidence([record]), made_up.sweep(search=[trial])):
        write_json(path, found)
        kind = type(found)
        assert msgspec.json.encode(read(path, kind)) == msgspec.json.encode(found)


def test_bits_survive_packing():
    bits = np.random.default_rng(0).random(4001) < 0.5
    assert (unpack_bits(pack_bits(bits), 4001) == bits).all()


def test_a_failed_run_has_no_value_and_a_diverged_one_has():
    found = [
        made_up.record(seed=1, metrics={"m": 0.6}),
        made_up.record(seed=2, metrics={"m": 0.1}, status="diverged"),
        made_up.record(seed=3, status="failed"),
    ]
    assert records.values_of(found, "m") == {"a": {1: 0.6, 2: 0.1}}
    assert len(records.finished(found)) == 2


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


# What is checked when evidence is read


def spoilt(tmp_path, change) -> EvidenceError:
    """What reading evidence says after a change of its JSON."""
    right = made_up.record(
        config={"epochs": 2}, metrics={"test_accuracy": 0.6}, correct=pack_bits(np.arange(10) < 6), curves={"l": [1.0]}
    )
    content = msgspec.to_builtins(made_up.evidence([right], variants=["a"]))
    path = tmp_path / "evidence.json"
    write_json(path, content)
    read(path, Evidence)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(EvidenceError) as raised:
        read(path, Evidence)
    return raised.value


def of_record(**fields):
    return lambda found: found["records"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda found: found.update(schema=99), "schema"),
        (lambda found: found.update(records=[]), "records"),
        (lambda found: found["records"].append(found["records"][0]), "records"),
        (lambda found: found.update(seeds=[1, 1]), "seeds"),
        (lambda found: found.update(variants=["a", "a"]), "variants"),
        (lambda found: found.update(until_decided=20), "10, 20, 40 or 80 seeds of a"),
        (of_record(metrics={"train_accuracy": 50.0}), "train_accuracy"),
        (of_record(metrics={"test_accuracy": 0.7}), "`correct` gives 0.6000"),
        (of_record(metrics={"test_accuracy": float("nan")}), "can't be used"),
        (of_record(metrics={"steps": 1e39}), "metrics"),
        (of_record(correct="no base64 *"), "correct"),
        (of_record(correct="AAAA"), "correct"),
        (of_record(seed=-1), "seed"),
        (of_record(variant=""), "variant"),
        (of_record(variant="b"), "records"),
        (of_record(seconds={}), "seconds"),
    ],
)
def test_what_no_type_can_say_is_checked(tmp_path, change, field):
    assert field in str(spoilt(tmp_path, change))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "\x00", '{"schema": 3'])
def test_what_is_no_evidence_at_all(tmp_path, text):
    path = tmp_path / "evidence.json"
    path.write_text(text)
    with pytest.raises(EvidenceError, match=str(path)):
        read(path, Evidence)


def test_a_missing_file_and_a_pipe_are_sentences(tmp_path):
    with pytest.raises(EvidenceError, match="No such file"):
        read(tmp_path / "none.json", Evidence)
    os.mkfifo(tmp_path / "pipe.json")  # Reading it would wait for ever.
    with pytest.raises(EvidenceError, match="is no file"):
        read(tmp_path / "pipe.json", Evidence)


def test_evidence_of_another_recipe_or_of_unknown_variants_is_told():
    found = made_up.evidence([made_up.record()])
    assert schemas.check_recipe(found, "toy", ("a", "b")) == ""
    assert "'toy'" in schemas.check_recipe(found, "other")
    assert "'a'" in schemas.check_recipe(found, "toy", ("b",))


def test_all_that_is_published_is_read():
    kinds = {"evidence": Evidence, "tuning": TuningSweep, "summary": schemas.Summary, "floors": schemas.Floors}
    kinds["attested"] = list[schemas.Link]
    for path in RESULTS.glob("*/**/*.json"):  # But for the list of all claims.
        read(path, kinds[path.stem.rpartition("-")[2]])  # A part of it is called WHICH-tuning.json.


# Where it was measured


def test_a_kind_of_machine_is_named_by_what_it_is_and_can_do():
    zen = structs.replace(made_up.MACHINE, cpu="Zen", abilities=["AVX-512", "AVX512-BF16"])
    assert zen.kind == "Zen (AVX-512, AVX512-BF16)"
    assert structs.replace(zen, gpus=["H100"], abilities=[]).kind == "H100 (abilities unknown)"


def test_abilities_are_read_from_the_processors_flags(monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : Zen\nflags : sse avx512f avx512_bf16 avx512_bf16x\n")
    monkeypatch.setattr(provenance, "CPUINFO", cpuinfo)
    assert provenance.abilities() == ["AVX-512", "AVX512-BF16"]
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "none")
    assert provenance.abilities() == []


def control_groups(monkeypatch, folder: Path, own: str, files: dict[str, str], affinity: int = 8) -> int:
    (folder / "own").write_text(own)
    for name, text in files.items():
        (folder / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "groups" / name).write_text(text)
    monkeypatch.setattr(provenance, "OWN_GROUPS", folder / "own")
    monkeypatch.setattr(provenance, "GROUPS", folder / "groups")
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    return provenance.cores()


V1 = "5:cpuset:/\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
QUOTA = {"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "100000 100000"}, 1),
        ("0::/../other\n", {"cpu.max": "200000 100000"}, 2),
        (V1, {f"cpu,cpuacct/docker/abc/{name}": text for name, text in QUOTA.items()}, 3),
        (V1, {f"cpu,cpuacct/{name}": text for name, text in QUOTA.items()}, 3),  # As a container sees its own group.
        (V1, {f"cpu/{name}": text for name, text in QUOTA.items()}, 3),
        (V1, {f"cpu,cpuacct/{name}": text for name, text in {**QUOTA, "cpu.cfs_quota_us": "-1"}.items()}, 8),
        (V1, {f"cpuset/{name}": text for name, text in QUOTA.items()}, 8),
        ("0::/\n", {"cpu.max": "broken"}, 8),
        ("", {}, 8),
    ],
)
def test_cores_are_those_that_a_container_may_use(monkeypatch, tmp_path, own, files, cores):
    assert control_groups(monkeypatch, tmp_path, own, files) == cores


def test_cores_are_no_more_than_the_affinity_whoever_says_it(monkeypatch, tmp_path):
    assert control_groups(monkeypatch, tmp_path, "0::/\n", {"cpu.max": "400000 100000"}, affinity=1) == 1
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)  # Python 3.13.
    assert provenance.cores() == 3


@pytest.mark.parametrize(("given", "switch"), [("", "1"), ("0", "0"), ("False", "0"), ("true", "1"), ("1", "1")])
def test_a_switch_of_tensorflows_is_recorded_as_it_is_in_force(monkeypatch, given, switch):
    for name in schemas.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    assert provenance.environment() == schemas.SWITCHES
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    assert provenance.environment()["TF_ENABLE_ONEDNN_OPTS"] == switch


@pytest.mark.parametrize("name", schemas.SWITCHES)
def test_runs_with_other_switches_are_not_gone_on_with(name):
    here = made_up.evidence([], command="one")
    there = msgspec.structs.replace(here, command="other")
    assert invocation.same(here, there, invocation.SAME + invocation.SAME_PLACE)
    switched = {**schemas.SWITCHES, name: "01"[schemas.SWITCHES[name] == "0"]}
    there = msgspec.structs.replace(here, environment=switched)
    assert not invocation.same(here, there, invocation.SAME + invocation.SAME_PLACE)


# The hash of the code

RECIPE = '''"""Why?"""
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes import other_toy

if TYPE_CHECKING:
    from collections.abc import Mapping

RATES = {"a": 1}
BASE: int = 2
TABLE = {}
TABLE["a"] = 4


@dataclass
class Config:
    """Settings."""

    depth: int
    width: int
    epochs: int = 5


def helper(x: int = 10, *, scale: float = 1.5) -> "Mapping":
    """Say how."""
    total: float
    if x > 11:
        raise ValueError(f"{x} is too much")
    assert x, "x is nothing"
    total = (x + BASE) * scale  # remark
    return total


def unused():
    return 8


if __name__ == "__main__":
    print(1)
'''
OTHER = "def of_another(x):\n    return x + 1\n"
EXPERIMENT = '''"""What is compared."""
from recipes import counted_toy as recipe

STEPS = {"a": 3}
STEPS.update(b=4)
NOTHING = 6


def compare(config, runs):
    return recipe.helper(STEPS["a"])


CLAIMS = ["one"]
EXPERIMENT = Experiment(recipe, claims=CLAIMS, compare=compare, extra=lambda model, run, data: {"of": 1})
'''
BATCHES = '"""Batches."""\nSIZE = 128\n\n\ndef cut(images, size=SIZE):\n    """Cut."""\n    return images[:size]\n'
SPLITS = "def split(n, share=0.2):\n    return int(n * share)\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small copy of the project's layout; a function that edits a file and gives the hash."""
    files = {
        "recipes/counted_toy.py": RECIPE,
        "recipes/other_toy.py": OTHER,
        "lab/experiments/counted_toy.py": EXPERIMENT,
        "lab/core/run.py": "class Run:\n    def scores(self):\n        return 1\n",
        "lab/core/scoring.py": "",
        "pipelines/batches.py": BATCHES,
        "pipelines/splits.py": SPLITS,
        "lab/report/card.py": "def card():\n    return 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(code_hash, "ROOT", tmp_path)
    monkeypatch.setattr(code_hash, "_path_of", lambda module: tmp_path / f"{module.replace('.', '/')}.py")

    def parts(file="", old="", new=""):
        if file:
            text = (tmp_path / file).read_text()
            assert text.count(old) == 1 or not old, old
            (tmp_path / file).write_text(text.replace(old, new) if old else text + new)
        return code_hash.parts_on_disk("recipes.counted_toy", "lab.experiments.counted_toy", ("RATES",))

    return parts


TOY, MEASURING = "recipes/counted_toy.py", "lab/experiments/counted_toy.py"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (TOY, "Why?", "Why not?"),
        (TOY, "Say how.", "Say it."),
        (TOY, '    """Settings."""\n\n', ""),
        (TOY, "  # remark", ""),
        (TOY, "(x + BASE) * scale", "((x + BASE)) * (scale)"),
        (TOY, ": int = 2", " = 2"),
        (TOY, 'x: int = 10, *, scale: float = 1.5) -> "Mapping"', "x=10, *, scale=1.5)"),
        (TOY, "    total: float\n", ""),
        (TOY, "is too much", "is more than 11"),
        (TOY, '"x is nothing"', '"no x"'),
        (TOY, "import numpy as np\n", "import numpy as np\nimport os\n"),
        (TOY, "    from collections.abc import Mapping", "    from collections.abc import Mapping, Sequence"),
        (TOY, "print(1)", "print(2)"),
        (TOY, '{"a": 1}', '{"a": 2}'),  # What was tuned: it is recorded with each run.
        (MEASURING, "What is compared.", "What."),
        (MEASURING, "NOTHING = 6", "NOTHING = 7"),
        (MEASURING, "NOTHING = 6", "NOTHING = [compare for compare in (6,)]"),
        (MEASURING, '["one"]', '["two"]'),
        (MEASURING, "claims=CLAIMS, compare=compare", "compare=compare, claims=CLAIMS"),
        ("pipelines/batches.py", '"""Cut."""', '"""Cut it."""'),
        ("lab/report/card.py", "return 1", "return 2"),
    ],
)
def test_what_makes_no_number_is_not_counted(project, file, old, new):
    before = project()
    after = project(file, old, new)
    assert code_hash.hash_of(after) == code_hash.hash_of(before)
    assert code_hash.changed(before, after) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "name"),
    [
        (TOY, "x: int = 10", "x: int = 9", "helper"),
        (TOY, "scale: float = 1.5", "scale: float = 1.6", "helper"),
        (TOY, "x > 11", "x > 12", "helper"),
        (TOY, "raise ValueError", "raise TypeError", "helper"),
        (TOY, "x + BASE", "x - BASE", "helper"),
        (TOY, "= 2", "= 3", "BASE"),
        (TOY, "= 4", "= 5", "TABLE"),
        (TOY, "return 8", "return 9", "unused"),
        (TOY, "epochs: int = 5", "epochs: int = 6", "Config"),
        (TOY, "    depth: int\n    width: int\n", "    width: int\n    depth: int\n", "Config"),
        (TOY, "", "np.seterr(all='raise')\n", "np"),
        ("recipes/other_toy.py", "x + 1", "x + 2", "of_another"),
        (MEASURING, '{"a": 3}', '{"a": 2}', "STEPS"),
        (MEASURING, "b=4", "b=5", "STEPS"),
        (MEASURING, 'STEPS["a"]', 'STEPS["b"]', "compare"),
        (MEASURING, "compare=compare", "compare=other", "EXPERIMENT"),
        (MEASURING, "compare=compare", "compare=compare, callbacks=compare", "EXPERIMENT"),
        (MEASURING, '{"of": 1}', '{"of": 2}', "EXPERIMENT"),
        ("lab/core/run.py", "return 1", "return 2", "Run"),
        ("lab/core/scoring.py", "", "def score():\n    return 1\n", "score"),
        ("pipelines/batches.py", "128", "64", "SIZE"),
        ("pipelines/batches.py", "images[:size]", "images[size:]", "cut"),
        ("pipelines/splits.py", "0.2", "0.1", "split"),
    ],
)
def test_what_makes_a_number_is_counted_and_named(project, file, old, new, name):
    before = project()
    after = project(file, old, new)
    assert code_hash.hash_of(after) != code_hash.hash_of(before)
    assert code_hash.changed(before, after) == [f"{file}: {name}"]


def test_moving_code_between_covered_files_changes_nothing(project):
    before = project()
    project("pipelines/splits.py", SPLITS, "")
    project("lab/core/scoring.py", "", "\n" + SPLITS)
    after = project("pipelines/splits.py")
    assert code_hash.hash_of(after) == code_hash.hash_of(before)
    assert code_hash.changed(before, after) == []
    assert "lab/core/scoring.py: split" in after


def test_moving_a_file_changes_nothing(project):
    before = project()
    shutil.move(code_hash.ROOT / "lab/core/run.py", code_hash.ROOT / "lab/core/one_run.py")
    assert code_hash.hash_of(project()) == code_hash.hash_of(before)


def test_moving_code_to_where_nothing_is_covered_counts(project):
    before = project()
    after = project("pipelines/splits.py", SPLITS, "")
    assert code_hash.changed(before, after) == ["pipelines/splits.py: split"]


SYNTAX = '''
async def all_kinds(a, /, b=1e-3, *c, d: int = 0x10, **e) -> None:
    """Not counted."""
    x, *y = [1, 2.5, 3j, b"4", "five", ..., None, True, -6]
    z = f"{x:>{d}} {y!r}" f"{b=}"
    w = {**e, "k": {v for v in c if v} | {i: j for i, j in zip(c, c)}}
    async with a as g, a:
        del w["k"], g.h
    try:
        (lambda q, *r: q if r else not q)(x)
    except (ValueError, OSError) as error:
        raise RuntimeError("text") from error
    finally:
        global Z
    while (n := x) < 1 <= 2 @ 3:
        n //= 2; continue
    match x:
        case {"k": [1, *_]} | str(): pass
        case _: yield a[1:2, ::3]
'''


def test_code_is_read_alike_by_every_version_of_python(tmp_path):
    """The value was computed by Python 3.10, 3.11, 3.12 and 3.13."""
    path = tmp_path / "syntax.py"
    path.write_text(SYNTAX)
    assert dict(code_hash._hashes(path, code_hash._definitions(path))) == {"syntax.py: all_kinds": "15e9c7bf09d24df8"}


def test_each_recipe_counts_its_own_code_and_what_is_shared():
    found = {name: code_hash.parts(f"recipes.{name}", f"lab.experiments.{name}") for name in NAMES}
    assert len({code_hash.hash_of(parts) for parts in found.values()}) == len(NAMES)
    shared = set.intersection(*(set(parts) for parts in found.values()))
    assert {name.partition(": ")[0] for name in shared} > {"lab/core/run.py", "pipelines/batches.py"}
    assert {"pipelines/splits.py: split", "lab/core/scoring.py: score"} <= shared
