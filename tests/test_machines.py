"""Verdicts of several kinds of machine stand side by side, and a graph is drawn as the model is."""

import json
from types import SimpleNamespace

import keras
from matplotlib.figure import Figure

from lab import Graph
from lab.evidence import provenance
from lab.experiments import functional_multi_input as functional_multi_input_experiment
from lab.report import card, publish
from lab.report.figure import draw_graph

REST = {"cores": 2, "gpus": [], "memory_gib": None, "system": "Linux"}
FAST = {"cpu": "Zen", **REST, "abilities": ["AVX-512", "AVX512-BF16"]}
OLD = {"cpu": "Haswell", **REST}


def report_on(machine: dict, verdict: str) -> SimpleNamespace:
    claim = SimpleNamespace(id="S1", asserted=None)
    judgements = [SimpleNamespace(claim=claim, verdict=verdict)]
    found = {"machine": machine, "commit": "0" * 40, "code": "abc", "seeds": [1, 2]}
    return SimpleNamespace(found=found, judgements=lambda: judgements)


def test_a_kind_of_machine_is_named_by_what_it_is_and_can_do():
    assert card.kind_of(FAST) == "Zen (AVX-512, AVX512-BF16)"
    assert card.kind_of(OLD) == "Haswell (abilities unknown)"
    assert card.kind_of({**FAST, "gpus": ["H100"], "abilities": ["tensor cores"]}) == "H100 (tensor cores)"


def test_abilities_are_read_from_the_processors_flags(monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : Zen\nflags : sse avx512f avx512_bf16 avx512_bf16x\n")
    monkeypatch.setattr(provenance, "CPUINFO", cpuinfo)
    assert provenance.abilities() == ["AVX-512", "AVX512-BF16"]
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "none")
    assert provenance.abilities() == []


def test_verdicts_of_other_machines_are_kept_and_shown(monkeypatch, tmp_path):
    def summary(report):
        claim = {"id": "S1", "text": "", "source": "us", "said": "", "verdict": report.judgements()[0].verdict}
        whole = {"question": "", "answer": "", "seeds": 2, "quick_seconds": None, "stale": False}
        return {**whole, "claims": [{**claim, "numbers": [], "effects": [], "drawn": []}]}

    monkeypatch.setattr(publish, "summary_of", summary)
    assert publish.machines(tmp_path, report_on(OLD, "refuted")) == []
    (other,) = publish.machines(tmp_path, report_on(FAST, "holds"))
    assert other["machine"] == OLD
    assert len(publish.machines(tmp_path, report_on(FAST, "open"))) == 1  # Its own file is replaced.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "machine-haswell-abilities-unknown.json",
        "machine-zen-avx-512-avx512-bf16.json",
    ]
    assert json.loads((tmp_path / "machine-zen-avx-512-avx512-bf16.json").read_text())["commit"] == "0" * 40
    earlier = report_on(FAST, "holds")
    earlier.found["code"] = "another"
    assert publish.machines(tmp_path, earlier) == []  # Those of another version of the recipe are not shown.
    shown = card._machines(report_on(FAST, "holds"), [other])
    assert "| Zen (AVX-512, AVX512-BF16) | 2 | holds |" in shown
    assert "| Haswell (abilities unknown) | 2 | refuted |" in shown


def test_a_graph_has_a_box_for_each_layer_and_an_arrow_for_each_connection():
    axes = Figure().subplots()
    model = functional_multi_input_experiment.shown()
    draw_graph(Graph(functional_multi_input_experiment.shown), axes, None)
    words = [text.get_text() for text in axes.texts if text.get_text()]
    assert len(words) == len(model.layers)
    assert {"image (16, 16, 1)", "numbers (6,)", "class (10,)", "kind (2,)", "Concatenate (128,)"} <= set(words)
    arrows = [text for text in axes.texts if not text.get_text()]
    merges = sum(isinstance(layer, keras.layers.Concatenate) for layer in model.layers)
    assert len(arrows) == len(model.layers) - len(model.inputs) + merges  # A merge of two has one more.
    places = {text.get_text(): text.get_position() for text in axes.texts if text.get_text()}
    assert len(set(places.values())) == len(places)  # No box lies upon another.
