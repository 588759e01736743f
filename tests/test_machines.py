"""Verdicts of several kinds of machine stand side by side, and a graph is drawn as the model is."""

import dataclasses

import keras
from matplotlib.figure import Figure
from msgspec import structs

from lab import Graph
from lab.evidence import provenance
from lab.evidence.records import read
from lab.evidence.schemas import MachineSummary
from lab.experiments import functional_multi_input as functional_multi_input_experiment
from lab.report import publish
from lab.report.figure import draw_graph
from lab.report.report import kind_of
from tests.test_published import clean, commits, evidence_of, write  # noqa: F401  Fixtures.
from tests.toys import guess, made_up

FAST = structs.replace(made_up.MACHINE, cpu="Zen", abilities=["AVX-512", "AVX512-BF16"])
OLD = structs.replace(made_up.MACHINE, cpu="Haswell")


def test_a_kind_of_machine_is_named_by_what_it_is_and_can_do():
    assert kind_of(FAST) == "Zen (AVX-512, AVX512-BF16)"
    assert kind_of(OLD) == "Haswell (abilities unknown)"
    assert kind_of(structs.replace(FAST, gpus=["H100"], abilities=["tensor cores"])) == "H100 (tensor cores)"


def test_abilities_are_read_from_the_processors_flags(monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : Zen\nflags : sse avx512f avx512_bf16 avx512_bf16x\n")
    monkeypatch.setattr(provenance, "CPUINFO", cpuinfo)
    assert provenance.abilities() == ["AVX-512", "AVX512-BF16"]
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "none")
    assert provenance.abilities() == []


def test_verdicts_of_other_machines_are_kept_and_shown(tmp_path):
    experiment = dataclasses.replace(guess.EXPERIMENT, by_machine=True)
    folder = tmp_path / "results" / "guess"

    def published_on(machine, seeds):
        evidence = evidence_of(experiment, seeds=range(1, 1 + seeds), machine=machine)
        publish.publish(experiment, [write(tmp_path, evidence)], folder.parent)
        return (folder / "README.md").read_text()

    assert "Zen" not in published_on(OLD, 20)
    card = published_on(FAST, 10)
    assert "**open** on Zen (AVX-512, AVX512-BF16)" in card
    assert "| Zen (AVX-512, AVX512-BF16) | 10 | open |\n| Haswell (abilities unknown) | 20 | open |" in card
    published_on(FAST, 10)  # Its own file is replaced.
    names = ["machine-haswell-abilities-unknown.json", "machine-zen-avx-512-avx512-bf16.json"]
    assert sorted(path.name for path in folder.glob("machine-*")) == names
    old = read(folder / names[0], MachineSummary)
    assert (old.machine, old.code, old.claims[0].machine) == (OLD, experiment.code, kind_of(OLD))
    publish.write_json(folder / names[0], structs.replace(old, code="another"))
    assert "Haswell" not in published_on(FAST, 10)  # Those of another version of the recipe are not shown.


def test_a_graph_has_a_box_for_each_layer_and_an_arrow_for_each_connection():
    axes = Figure().subplots()
    model = functional_multi_input_experiment.shown()
    draw_graph(Graph(functional_multi_input_experiment.shown), axes)
    words = [text.get_text() for text in axes.texts if text.get_text()]
    assert len(words) == len(model.layers)
    assert {"image (16, 16, 1)", "numbers (6,)", "class (10,)", "kind (2,)", "Concatenate (128,)"} <= set(words)
    arrows = [text for text in axes.texts if not text.get_text()]
    merges = sum(isinstance(layer, keras.layers.Concatenate) for layer in model.layers)
    assert len(arrows) == len(model.layers) - len(model.inputs) + merges  # A merge of two has one more.
    places = {text.get_text(): text.get_position() for text in axes.texts if text.get_text()}
    assert len(set(places.values())) == len(places)  # No box lies upon another.
