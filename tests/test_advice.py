"""Advice has the evidence's numbers, and the pages about all recipes say what the summaries say."""

import csv
import dataclasses
import io
import json
import math
import re
from functools import partial

import pytest
from msgspec import structs

from lab import Claim, Objective, Tuning, Unit
from lab.evidence.records import EvidenceError
from lab.evidence.schemas import ClaimSummary, Effect, Finding, Summary
from lab.experiments import NAMES, load
from lab.report import advice, figure, front_page, ledger, picture, publish
from lab.report.advice import docstring_with, filled
from lab.report.report import Report
from tests.toys import dice, made_up

VALUES = {"clear": (0.59, 0.60), "fair": (0.49, 0.51)}


def report(values=VALUES, **fields) -> Report:
    epochs = Unit("epochs", name="epochs", digits=1)
    units = {"log_time": Unit("time", digits=3), "parameters": Unit("parameters", digits=0), "epochs": epochs}
    experiment = dataclasses.replace(dice.EXPERIMENT, units=units, **fields)
    records = [
        made_up.record(name, seed, metrics={
            "test_accuracy": value, "log_time": value, "parameters": 1000 * value, "epochs": 10 * value,
        })
        for name, of_seeds in values.items()
        for seed, value in enumerate(of_seeds, 1)
    ]  # fmt: skip
    return Report(experiment, made_up.evidence(records), None)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{test_accuracy.clear}", "59.5 %"),
        ("{test_accuracy.clear - test_accuracy.fair}", "9.5 points"),
        ("{change test_accuracy.clear - test_accuracy.fair}", "+9.5 points"),
        ("{change test_accuracy.fair - test_accuracy.clear}", "−9.5 points"),
        ("{epochs.clear}, {epochs.clear - epochs.fair}", "5.9 epochs, 0.9 epochs"),
        ("{parameters.clear / parameters.fair}", "1.2×"),
        ("{parameters.clear}", "595"),
        ("{log_time.clear / log_time.fair}", "1.1×"),  # e to the power of 0.095.
        ("{faster log_time.fair / log_time.clear}", "10 % faster"),  # In a time of 0.909.
        ("{saved log_time.fair / log_time.clear}", "9 %"),
        ("{saved parameters.fair / parameters.clear}", "16 %"),
        ("{strong: test_accuracy.clear}", "69.5 %"),
        ("{strong: test_accuracy.clear - test_accuracy.fair} or {test_accuracy.fair}", "29.5 points or 50.0 %"),
        ("Nothing to fill in.", "Nothing to fill in."),
    ],
)
def test_a_placeholder_becomes_the_evidences_number_with_its_unit(template, text):
    strong = report({"clear": (0.69, 0.70), "fair": (0.40, 0.40)})
    assert filled(template, report(), strong) == text


def test_the_ratio_of_a_logarithmic_metric_is_one_of_what_it_is_the_logarithm_of():
    far = report({"clear": (0.99, 0.99), "fair": (0.01, 0.01)})
    assert filled("{log_time.clear / log_time.fair}", far) == "2.7×"  # e to the power of 0.98.


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{no_metric.clear}", "the evidence has no no_metric of clear"),
        ("{test_accuracy.nobody}", "the evidence has no test_accuracy of nobody"),
        ("{test_accuracy.clear - test_accuracy.nobody}", "of both clear and nobody"),
        ("{test_accuracy.fair - test_accuracy.clear}", "it is -9.5 now"),
        ("{faster log_time.clear / log_time.fair}", "clear takes 1.10 times as much as fair"),
        ("{saved log_time.clear / log_time.fair}", "clear takes 1.10 times as much as fair"),
        ("{test_accuracy.clear - epochs.fair}", "compares two metrics"),
        ("{saved test_accuracy.clear}", "saved needs a ratio"),
        ("{change log_time.clear / log_time.fair}", "change needs a difference"),
        ("{test_accuracy}", "is not of a form"),
        ("{strong: test_accuracy.clear}", "nothing was measured on the strong baseline"),
        ("{argument.rate.clear}", "clear is no variant with arguments"),
    ],
)
def test_a_placeholder_that_the_evidence_lacks_is_an_error_that_names_it(template, why):
    with pytest.raises(EvidenceError) as error:
        filled(f"Take it: {template}.", report())
    assert template in str(error.value)
    assert why in str(error.value)


def test_an_argument_is_what_the_variant_is_trained_with(monkeypatch):
    def train(train_set, validation_set, classes, *, rate=None, epochs=3, build_model=None, callbacks=()):
        raise NotImplementedError

    monkeypatch.setattr(dice, "RATES", {"fair": 0.5}, raising=False)
    variants = {"clear": partial(train, rate=0.018), "fair": partial(train)}
    tuning = Tuning("rate", {}, Objective("validation_accuracy"))
    found = report(config=None, variants=variants, train=None, claims=[], tuning=tuning)
    assert filled("{argument.rate.clear} or {argument.rate.fair}", found) == "0.018 or 0.5"
    assert filled("{argument.rate.fair / argument.rate.clear}", found) == "28×"
    assert filled("{argument.epochs.fair}", found) == "3"
    with pytest.raises(EvidenceError, match="has no number build_model"):
        filled("{argument.build_model.clear}", found)


def test_a_difference_is_that_of_the_claim_which_compares_the_two():
    """The claim was decided at ten seeds; all of them would have another mean."""
    claim = Claim("C", "…", "us", "test_accuracy", lower="fair", than="clear")
    found = report({"fair": [0.5, 0.501] * 5 + [0.9] * 10, "clear": [0.6, 0.603] * 5 + [0.9] * 10}, claims=[claim])
    assert filled("{test_accuracy.clear - test_accuracy.fair}", found) == "10.1 points"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_advises_asks_for_variants_claims_and_arguments_that_there_are(name):
    """Whether the numbers are there is seen when it is published; what is misspelt, before anything is measured."""
    experiment = load(name)
    assert {one.removeprefix("not ") for one in experiment.rests_on} <= {claim.id for claim in experiment.claims}
    found = Report(experiment, made_up.evidence([]))
    for template in (experiment.answer, *experiment.advice):
        for asked in re.findall(r"\{([^{}]*)\}", template):
            match = advice.PLACEHOLDER.fullmatch(asked)
            assert match, asked
            _, _, metric, variant, sign, other_metric, other = match.groups()
            if metric == "argument":
                assert filled(f"{{{asked}}}", found)
            else:
                assert {variant, other or variant} <= set(experiment.names), asked
                assert not sign or metric == other_metric, asked
        assert not re.search(r"\}×|\} ?(%|points|times)", template), f"a unit twice: {template}"


DOCSTRING = '''"""Which die?

An old answer,
on two lines.

Run       python -m recipes.dice
Papers    none
"""

import this  # Run       not here
'''


def test_the_answer_takes_its_place_in_the_docstring_and_nothing_else_changes():
    answer = "Take the clear die: it wins by 9.5 points. " + "It is worth it. " * 6
    text = docstring_with(DOCSTRING, answer)
    question, blank, first, second, after, run = text.splitlines()[:6]
    assert (question, blank, after) == ('"""Which die?', "", "")
    assert f"{first} {second}" == answer.strip()
    assert 90 < len(first) <= 100
    assert run == "Run       python -m recipes.dice"
    assert text.partition("Run ")[2] == DOCSTRING.partition("Run ")[2]
    assert docstring_with(text, answer) == text
    with pytest.raises(EvidenceError, match="no place for its answer"):
        docstring_with('"""Which die?\n\nNone.\n"""\n', answer)


# What the answer rests on


def effect(mean, verdict="supported", spread=1.0, **rest) -> Effect:
    return Effect(a="a", b="b", mean=mean, low=mean - spread, high=mean + spread, seeds=10, verdict=verdict, **rest)


def claim(verdict="supported", mean: float | None = 2.0, *, strong=None, findings=(), **rest) -> ClaimSummary:
    """A claim in points; `strong` is a verdict and a mean on the strong baseline."""
    stale, machine = rest.pop("stale", False), rest.pop("machine", None)
    found = []
    smallest = rest.pop("smallest", 1.0)
    for budget, (word, value) in {"quick": (verdict, mean), **({"strong": strong} if strong else {})}.items():
        effects = [] if value is None else [effect(value, word)]
        how = {"effects": effects, "stale": stale, "machine": machine, "smallest": smallest}
        found.append(Finding(budget=budget, verdict=word, **how))
    usual = {"id": "X1", "text": "Coins land", "source": "TF", "measure": "test accuracy", "unit": "points"}
    return ClaimSummary(**{**usual, "digits": 1, "findings": [*found, *findings], **rest})


def summary(*claims, stale=False, **rest) -> Summary:
    if stale:
        claims = [structs.replace(c, findings=[structs.replace(f, stale=True) for f in c.findings]) for c in claims]
    usual = {"question": "Why?", "answer": "So.", "seeds": 10, "quick_seconds": 130, "expected_false": 0.1}
    return Summary(**{**usual, "stale": stale, "claims": list(claims), **rest})


@pytest.mark.parametrize(
    ("strong", "few", "why"),
    [
        (("supported", 1.0), False, ""),
        (("no real difference", 0.5), False, "reads no real difference"),
        (("undecided", 0.5), True, ""),  # Five seeds decide nothing, and have the same sign,
        (("undecided", -0.5), True, ""),  # or may have it.
        (("undecided", -2.0), True, "opposite sign"),
        (("contradicted", -2.0), False, "reads contradicted"),
    ],
)
def test_an_answer_must_not_rest_on_what_comes_out_otherwise_on_the_strong_baseline(strong, few, why):
    one = claim(strong=strong)
    one = structs.replace(one, findings=[one.findings[0], structs.replace(one.findings[1], few=few)])
    said = publish.unsupported(summary(one, rests_on=["X1"]))
    assert why in said
    assert bool(said) == bool(why)
    assert publish.unsupported(summary(one)) == ""  # An answer that does not rest on it may stand.


def test_a_ratio_turns_its_sign_at_one():
    one = claim(strong=("supported", 1.0), unit="×", smallest=1.05)
    sides = [
        Effect(a="a", b="b", mean=m, low=m - 0.05, high=m + 0.05, seeds=10, verdict="supported") for m in (1.2, 0.9)
    ]
    found = [structs.replace(f, effects=[e]) for f, e in zip(one.findings, sides, strict=True)]
    assert "opposite sign" in publish.unsupported(summary(structs.replace(one, findings=found), rests_on=["X1"]))


def test_an_answer_whose_claim_does_not_hold_is_refused_and_one_that_is_undecided_is_not_given():
    assert "reads contradicted" in publish.unsupported(summary(claim("contradicted", -2.0), rests_on=["X1"]))
    open_one = summary(claim("undecided", 0.2), rests_on=["X1"])
    assert publish.unsupported(open_one) == ""
    assert publish.not_decided(open_one) == "No answer yet. Undecided: Coins land."
    assert publish.not_decided(summary(claim(), rests_on=["X1"])) == ""
    assert publish.not_decided(summary(claim("undecided", 0.2))) == ""


def test_an_answer_may_say_the_contrary_of_a_claim():
    for verdict in ("contradicted", "no real difference"):
        assert publish.unsupported(summary(claim(verdict, -2.0), rests_on=["not X1"])) == ""
    assert "the contrary of X1, and it reads supported" in publish.unsupported(summary(claim(), rests_on=["not X1"]))
    open_one = summary(claim("undecided", 0.2), rests_on=["not X1"])
    assert publish.unsupported(open_one) == ""
    assert publish.not_decided(open_one).startswith("No answer yet")


def test_a_timing_that_only_lacks_occasions_has_an_answer_that_says_how_many_it_has():
    timing = claim("undecided", 0.2)
    few = structs.replace(
        timing.findings[0], few=True, over="occasion", effects=[structs.replace(effect(2.0), seeds=1)]
    )
    lacking = structs.replace(timing, findings=[few])
    said = publish.not_decided(summary(lacking, rests_on=["X1"]))
    assert said == "Provisional (timed on 1 of 4 occasions). So."
    other = claim("undecided", 0.2, id="X2")
    assert publish.not_decided(summary(lacking, other, rests_on=["X1", "X2"])).startswith("No answer yet")
    enough = structs.replace(timing, findings=[structs.replace(few, few=False)])  # It drifted, say.
    assert publish.not_decided(summary(enough, rests_on=["X1"])).startswith("No answer yet")


def test_a_surprise_shows_the_comparison_that_made_it_one():
    two = [effect(-3.0, "supported"), effect(0.8, "contradicted")]
    odd = claim("contradicted", None)
    odd = structs.replace(odd, findings=[structs.replace(odd.findings[0], effects=two)])
    assert "+0.8" in front_page.surprises({"optimizers": summary(odd)})


@pytest.mark.parametrize("verdict", ["contradicted", "no real difference"])
@pytest.mark.parametrize("other", ["supported", "undecided", "contradicted", "no real difference"])
def test_a_sentence_of_several_claims_makes_no_difference_only_if_no_part_is_open(verdict, other):
    parts = [structs.replace(claim(one, -3.0), said="Coins fly") for one in (verdict, other)]
    shown = front_page.surprises({"optimizers": summary(*parts)})
    assert (f"[Coins fly](results/README.md#x1) (TF): **{verdict}**" in shown) == (
        verdict == "contradicted" or other in ("contradicted", "no real difference")
    )


def test_a_claim_of_two_comparisons_makes_no_difference_only_if_neither_holds():
    odd = claim("no real difference", None)
    two = [effect(-3.0, "supported"), effect(0.1, "no real difference")]
    odd = structs.replace(odd, findings=[structs.replace(odd.findings[0], effects=two)])
    assert "Coins land" not in front_page.surprises({"optimizers": summary(odd)})


def test_an_answer_that_rests_on_no_claim_is_refused():
    assert "rests on X9: there is no such claim" in publish.unsupported(summary(claim(), rests_on=["X9"]))


# The front page


def test_totals_are_counted_by_hand_and_the_same_on_every_page():
    check = claim(check=True)
    found = {
        "optimizers": summary(claim(), claim(), claim("contradicted"), check),
        "schedules": summary(claim("no real difference"), claim("not measured", mean=None)),
        "gradients": summary(claim("contradicted"), claim("undecided"), check, stale=True),
    }
    totals = ledger.totals(found)
    assert totals == ledger.Totals(
        recipes=3,
        claims=7,
        checks=2,
        waiting=3,
        verdicts={"supported": 2, "contradicted": 1, "no real difference": 1, "undecided": 0},
        expected_false=pytest.approx(0.3),
    )
    sentence = (
        "3 measured recipes, 7 claims: 2 supported, 1 contradicted, 1 no real difference. 3 claims wait for a "
        "measurement with the current code. Another 2 checks test the code, arithmetic or the measurement itself."
    )
    page = "\n".join(line for part in front_page.PARTS for line in front_page.marks(part))
    assert sentence in front_page.readme(page, found)
    assert sentence in ledger.page(found)
    assert "at most 0.3 in all" in ledger.page(found)
    assert sum(row["kind"] == "claim" for row in ledger.entries(found)) == 7


def test_what_surprises_is_what_was_contradicted_the_largest_first():
    found = {
        "optimizers": summary(claim("contradicted", -1.5), claim(mean=99.0), claim("contradicted", -7.0, id="X2")),
        "schedules": summary(
            claim("no real difference", 0.5, text="Coins | fly"),
            claim("contradicted", -99.0, source="our control of O1"),
        ),
        "gradients": summary(claim("contradicted", -50.0), stale=True),
        "shuffling": summary(claim("contradicted", -60.0, check=True)),
    }
    lines = front_page.surprises(found).splitlines()
    assert [line.split("**")[1] for line in lines] == ["contradicted", "contradicted", "no real difference"]
    assert lines[0].startswith(
        "- [Coins land](results/README.md#x2) (TF): **contradicted**, test accuracy, a minus b: −7.0 points"
    )
    assert "[Coins \\| fly]" in lines[2]
    few = {"regularization": summary(claim("contradicted", -7.0), images=1000)}
    assert "**contradicted** (1,000 images), test" in front_page.surprises(few)


def test_the_seeds_that_a_difference_needs_come_from_the_spread_of_current_comparisons_of_accuracy():
    def of(spread, *words, **rest):
        one = claim(*words, **rest)
        return structs.replace(
            one,
            findings=[structs.replace(f, effects=[structs.replace(f.effects[0], spread=spread)]) for f in one.findings],
        )

    found = {
        "optimizers": summary(of(0.5), of(1.0), of(9.0, check=True), of(9.0, measure="epochs")),
        "schedules": summary(of(8.0, "contradicted"), of(None)),
        "gradients": summary(of(9.0), stale=True),
    }
    text = front_page.luck(found)
    assert "by a median standard deviation of 1.0 points (few images, 3 comparisons)." in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["| true difference", "seeds needed", "single runs pick the worse |"]
    assert rows[2:] == [["| 0.5 points", "34", "31 % |"], ["| 1 point", "10", "16 % |"], ["| 2 points", "5", "2 % |"]]
    text = front_page.luck(found | {"strong_baseline": summary(of(0.5))})
    assert "1.0 points (few images, 3 comparisons) and 0.5 points (the strong baseline, 1 comparison)." in text
    assert "| 1 point | 10 | 5 | 16 % | 2 % |" in text
    assert front_page.luck({}) == ""


def test_of_six_surprises_five_are_shown_and_where_there_is_none_the_claims_that_wait_are_counted():
    odd = [claim("contradicted", -float(size)) for size in range(1, 7)]
    assert len(front_page.surprises({"optimizers": summary(*odd)}).splitlines()) == 5
    lines = front_page.surprises({"optimizers": summary(*odd), "gradients": summary(claim("contradicted", -0.5))})
    effects = [line.partition(": −")[2][:3] for line in lines.splitlines()]
    assert effects == ["6.0", "5.0", "0.5", "4.0", "3.0"]  # Two of one recipe before a third.
    waiting = summary(claim("contradicted"), claim(), stale=True)
    assert "2 claims wait" in front_page.surprises({"optimizers": summary(claim()), "schedules": waiting})
    assert "wait" not in front_page.surprises({"optimizers": summary(claim())})


def test_what_changed_on_the_strong_baseline():
    few = claim(strong=("undecided", 1.0), text="few")
    few = structs.replace(few, findings=[few.findings[0], structs.replace(few.findings[1], few=True)])
    found = {
        "optimizers": summary(
            claim(strong=("supported", 1.0)), claim(strong=("undecided", 0.5), text="then undecided"), claim(), few
        ),
        "schedules": summary(
            claim("undecided", 0.2, strong=("supported", 1.0), text="then supported"),
            claim(strong=("contradicted", -3.0), text="then contradicted"),
        ),
        "gradients": summary(claim(strong=("contradicted", -3.0)), stale=True),
    }
    title, _, _, head, _, first, second = front_page.on_strong(found).splitlines()
    assert title.startswith("## ")
    assert head == "2 changed, 1 is undecided there:"
    assert first.startswith(
        "- [then contradicted](results/README.md#x1) (TF): supported with few images, **contradicted**"
    )
    assert "−3.0 points [−4.0, −2.0]".replace("[", "\\[").replace("]", "\\]") in first
    assert "then supported" in second
    same = {"optimizers": summary(claim(strong=("supported", 1.0)))}
    assert front_page.on_strong(same).splitlines()[-1] == "None changed."


def test_a_recipe_has_a_row_in_its_chapter():
    found = {
        "schedules": summary(claim(), claim(), claim("undecided")),
        "gradients": summary(claim(), claim("undecided"), stale=True),
        "search": summary(claim(check=True), answer=""),
    }
    text = front_page.by_chapter(found)
    (row,) = [line for line in text.splitlines() if line.startswith("| [schedules](recipes/schedules.py) |")]
    assert row.split(" | ")[1:] == ["Why?", "So.", "[2 supported, 1 undecided](results/schedules/README.md)", "2 min |"]
    assert text.index("**Optimizing**") < text.index(row) < text.index("**Generalizing**")
    assert "So. (earlier version) | [2 claims, earlier version](results/gradients/README.md)" in text
    assert "to be measured again | [1 check](results/search/README.md)" in text


def test_the_front_page_shows_a_function_as_the_recipe_has_it():
    recipe, name = front_page.SAMPLE
    text = front_page.sample({recipe: summary(claim(), answer="It wins by 3.0 points.")})
    code = text.removeprefix("```python\n").partition("\n```")[0]
    assert code in (publish.ROOT / "recipes" / f"{recipe}.py").read_text(encoding="utf-8")
    assert code.startswith(f"def {name}(")
    assert 6 <= len(code.splitlines()) <= 14
    assert text.endswith("It wins by 3.0 points.")
    assert "3.0 points" not in front_page.sample({recipe: summary(claim(), answer="3.0 points", stale=True)})


# The ledger


def test_the_ledger_has_each_claim_at_an_address_of_its_own():
    one = claim("contradicted", said="Coins | fly", machine="abacus", id="S1b.2")
    text = ledger.page({"schedules": summary(claim(check=True, id="S9"), one)})
    first, second = [line for line in text.splitlines() if line.startswith('| <a id="')]
    assert first == (
        '| <a id="s1b-2"></a>S1b.2 | Coins land (TF). It tests the advice “Coins \\| fly”. | **contradicted** on '
        "abacus | test accuracy: +2.0 points \\[+1.0, +3.0\\] |"
    )
    assert "*A check.*" in second


def test_programs_can_read_all_claims():
    found = {"schedules": summary(claim(strong=("contradicted", -3.0)), claim(check=True, mean=None, stale=True))}
    first, second = csv.DictReader(io.StringIO(ledger.as_csv(found)))
    expected = {
        "id": "X1", "recipe": "schedules", "sentence": "Coins land", "source": "TF", "kind": "claim",
        "budget": "strong", "verdict": "contradicted", "note": "", "measure": "test accuracy", "effect": "-3.0",
        "low": "-4.0",
        "high": "-2.0", "a": "a", "b": "b", "comparisons": "1",
        "unit": "points", "seeds": "10", "evidence": "current",
    }  # fmt: skip
    assert first == expected
    assert (second["kind"], second["effect"], second["evidence"]) == ("check", "", "earlier version")
    assert [row["id"] for row in json.loads(ledger.as_json(found))] == ["X1", "X1"]


RECIPE = """
import keras
from keras import layers, optimizers
from keras.callbacks import ReduceLROnPlateau
import numpy as np

def build(x):
    x = layers.Dense(10, kernel_initializer="he_normal")(x)
    keras.callbacks.EarlyStopping(patience=3)
    model = keras.Model(x, x)
    model.compile(optimizers.Adam(global_clipnorm=1.0), jit_compile=True)
    np.Array(some_argument=1)
    return optimizers.schedules.CosineDecay(0.1, decay_steps=3)
"""


def test_the_names_of_keras_in_a_recipe():
    assert ledger.keras_names(RECIPE) == {
        "ReduceLROnPlateau", "Dense", "EarlyStopping", "Model", "Adam", "CosineDecay", "kernel_initializer=",
        "global_clipnorm=", "jit_compile=", "decay_steps=",
    }  # fmt: skip


def test_the_index_finds_what_was_measured_of_a_name(tmp_path):
    for number in range(6):
        (tmp_path / f"r{number}.py").write_text("import keras\n\nkeras.Model()\n")
    (tmp_path / "r0.py").write_text(RECIPE)
    found = {f"r{number}": summary(claim(text="A model is a model", id=f"M{number}")) for number in range(6)}
    found["r0"] = summary(claim(text="Early stopping ends sooner", id="G3"), claim(text="A model", id="M0"))
    found["r1"] = summary(claim(text="EarlyStopping, which this recipe does not use", id="G4", about=["use_ema="]))
    index = {name: (recipes, claims) for name, recipes, claims in ledger.keras_index(found, tmp_path)}
    assert index["EarlyStopping"] == ("[r0](r0/README.md)", "[G3](#g3)")
    assert index["CosineDecay"] == ("[r0](r0/README.md)", "")
    assert index["use_ema="] == ("[r1](r1/README.md)", "[G4](#g4)")  # The claim is about it and does not say so.
    assert "Model" not in index  # Six recipes use it, and no claim spells it so.


# The picture


def rows_of(drawn) -> list[tuple[float, float, float, bool]]:
    """(mean, low, high, hollow) of each row of the picture, from top to bottom."""
    found = []
    for axes in drawn.axes:
        points = [line for line in axes.lines if line.get_marker() in ("o", "<", ">")]
        spans = [line.get_xdata() for line in axes.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2][
            :-1
        ]
        for point, (low, high) in zip(points, spans, strict=True):
            found.append((point.get_xdata()[0], low, high, point.get_markerfacecolor() == "white"))
    return found


def test_the_picture_draws_sentences_with_effects_intervals_and_verdicts():
    found = {
        "optimizers": summary(claim(text="Small coins", mean=2.0), claim("undecided"), claim(check=True)),
        "schedules": summary(claim("no real difference", 0.5, text="Old coins"), stale=True),
        "shuffling": summary(
            claim("contradicted", 2.0, unit="×", smallest=1.05, measure="time of a step", text="Quick coins")
        ),
        "gradients": summary(claim(mean=44.0, text="Far"), claim(source="our control of X", text="Control")),
    }
    found["shuffling"].claims[0].findings[0].effects[0] = structs.replace(
        effect(2.0, "contradicted"), low=1.5, high=2.5
    )
    small = found["optimizers"].claims[0].findings
    small[0] = structs.replace(small[0], note="may be small")
    drawn = picture.figure_of(picture.chosen(found))
    assert rows_of(drawn) == [
        (15.0, 15.0, 15.0, False),  # An arrow at the edge.
        (2.0, 1.0, 3.0, False),
        (0.5, -0.5, 1.5, True),
        (2.0, 1.5, 2.5, False),
    ]
    assert [line.get_marker() for line in drawn.axes[0].lines if line.get_marker() != "None"] == [">", "o", "o"]
    texts = [text.get_text() for axes in drawn.axes for text in axes.texts]
    assert texts == [
        "Far", "+44.0 points [+43.0, +45.0]\nsupported",
        "Small coins", "+2.0 points [+1.0, +3.0]\nsupported (may be small)",
        "Old coins", "+0.5 points [−0.5, +1.5]\nno real difference",
        "Quick coins", "2.0× [1.5, 2.5]\ntime of a step: contradicted",
    ]  # fmt: skip
    assert "earlier version" in drawn.texts[0].get_text()
    low, high = drawn.axes[1].get_xlim()
    assert math.isclose(low * high, 1.0)  # As far below one as above.


def test_the_picture_takes_current_claims_first_then_headlines_and_no_recipe_twice_before_all_had_one():
    many = [claim(text=f"large {size}", mean=float(size)) for size in range(3, 9)]
    found = {
        "optimizers": summary(*many, claim(id="H", text="headline"), rests_on=["H"]),
        "schedules": summary(claim(text="small", mean=1.1)),
        "gradients": summary(claim(text="stale", mean=9.0), stale=True),
    }
    assert [one.text for one, _ in picture.chosen(found)][:5] == ["headline", "small", "large 8", "large 7", "large 6"]
    assert picture.chosen(found)[-1][0].text == "stale"
    several = {f"r{number}": summary(*many) for number in range(4)}
    assert len(picture.chosen(several)) == picture.MOST


def test_the_last_rows_of_the_picture_are_kept_for_what_did_not_hold_at_most_one_of_a_recipe():
    many = [claim(text=f"large {size}", mean=float(size)) for size in range(3, 9)]
    level = [claim("no real difference", 0.5, text=f"level {number}") for number in range(2)]
    found = {f"r{number}": summary(*many, *level) for number in range(4)}
    found["r3"].claims.append(claim("contradicted", -0.4, text="not so"))
    found["r4"] = summary(claim("contradicted", -9.0, text="stale"), stale=True)
    texts = [one.text for one, _ in picture.chosen(found)]
    assert texts == [*["large 8"] * 4, *["large 7"] * 3, "not so", "level 0", "level 0"]


def test_the_picture_shows_first_what_the_strong_baseline_says_and_none_of_it_twice():
    """The largest effects, and some that did not hold. What else there is has half of the rows."""
    gains = [claim(text=f"gain {size}", mean=float(size)) for size in range(2, 10)]
    level = [claim("no real difference", 0.1 * size, text=f"level {size}") for size in range(5)]
    both = claim(text="Measured twice", mean=9.0)
    both = structs.replace(both, findings=both.findings * 2)
    found = {
        "optimizers": summary(both, *(claim(text=f"elsewhere {size}", mean=float(size)) for size in range(2, 9))),
        "strong_baseline": summary(*gains, *level, claim("undecided", 8.0)),
    }
    rows = picture.strong_rows(found)
    assert [one.text for one, _ in rows] == [
        *(f"gain {size}" for size in (9, 8, 7, 6, 5)),
        "level 4",
        "level 3",
        "level 2",
    ]
    others = picture.chosen(found)
    assert [one.text for one, _ in others] == [f"elsewhere {size}" for size in (8, 7, 6, 5)]
    drawn = picture.figure_of(others, rows)
    assert [axes.get_xlabel() for axes in drawn.axes] == [picture.AXES["strong"], picture.AXES["points"]]
    means = [mean for mean, *_ in rows_of(drawn)]
    assert means[:5] == [5.0] * 5  # Arrows at the edge, where an axis ends.
    assert means[5:8] == pytest.approx([0.4, 0.3, 0.2])
    found["strong_baseline"] = summary(*gains, stale=True)
    assert picture.strong_rows(found) == []
    assert "Measured twice" in [one.text for one, _ in picture.chosen(found)]


def test_a_picture_names_the_evidence_that_it_was_drawn_from(tmp_path):
    found = {"optimizers": summary(claim("undecided"))}
    picture.write(found, tmp_path / "a.png")  # Of nothing that is decided.
    assert figure.drawn_from(tmp_path / "a.png") == front_page.fingerprint(found)
    assert figure.drawn_from(tmp_path / "b.png") == ""
