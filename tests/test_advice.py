"""The advice's numbers are those of the evidence, and the front page says what the summaries say."""

import dataclasses
import types

import pytest

from lab import Unit
from lab.evidence.records import EvidenceError
from lab.evidence.schemas import ClaimSummary, Effect, Summary
from lab.report import advice, figure, forest, front_page, publish
from lab.report.report import Report
from tests.test_published import clean, commits  # noqa: F401  Fixtures.
from tests.toys import dice, guess, made_up

DOCSTRING = """Why?

Answer         Clear wins by 9.5 points.
In practice    Take clear: 59.5 %, and 1.19 times as much as
               fair, at a rate of 0.3, in 5 epochs.
Use it when    there are 77 dice.
"""
NUMBERS = {
    "9.5 points": "test_accuracy: clear - fair",
    "59.5 %": "test_accuracy: clear",
    "1.19 times": "test_accuracy: clear / fair",
    "rate of 0.3": "RATES: clear",
    "5 epochs": "",
}


def complaints(monkeypatch, numbers=NUMBERS, docstring=DOCSTRING, more=(), **units):
    monkeypatch.setattr(dice, "__doc__", docstring)
    monkeypatch.setattr(dice, "RATES", {"clear": 0.3}, raising=False)
    tuning = types.SimpleNamespace(found=("RATES",))
    experiment = dataclasses.replace(dice.EXPERIMENT, numbers=numbers, tuning=tuning, units=units)
    records = [
        made_up.record(name, seed, metrics={"test_accuracy": value, "log_time": value})
        for name, values in {"clear": (0.59, 0.60), "fair": (0.49, 0.51)}.items()
        for seed, value in enumerate(values, 1)
    ]
    return advice.complaints(Report(experiment, types.SimpleNamespace(records=[*records, *more]), None))


def test_a_docstring_has_entries_and_a_text():
    entries, text = advice.entries(
        "Why?\n\nBecause.\n\nAnswer         It is\n               so.\nSources        A; B\n"
    )
    assert entries == {"Answer": "It is so.", "Sources": "A; B"}
    assert text == "Because."


def test_a_level_of_time_is_over_the_seeds_that_all_variants_have(monkeypatch):
    slow_day = made_up.record("clear", 3, metrics={"log_time": 9.0})
    numbers, docstring = {"0.595 s": "log_time: clear"}, "Why?\n\nAnswer         It takes 0.595 s.\n"
    for timed in (True, False):
        found = complaints(monkeypatch, numbers, docstring, [slow_day], log_time=Unit("time", digits=3, timed=timed))
        assert (found == []) == timed


def test_a_number_may_be_of_some_of_the_seeds(monkeypatch):
    docstring = "Why?\n\nAnswer         By 10.0 points once, by 9.0 points later: 60.0 %.\n"
    numbers = {
        "10.0 points": "test_accuracy: clear - fair, seeds 1 to 1",
        "9.0 points": "test_accuracy: clear - fair, seeds 2 to 2",
        "60.0 %": "test_accuracy: clear, seeds 2 to 9",
    }
    assert complaints(monkeypatch, numbers, docstring) == []
    (sentence,) = complaints(monkeypatch, {**numbers, "9.0 points": "test_accuracy: clear - fair"}, docstring)
    assert "should be 9.5" in sentence


@pytest.mark.parametrize(
    ("written", "instead", "says"),
    [
        ("9.5 points", "9.5 points", ""),
        ("9.5 points", "9.6 points", "should be 9.5"),
        ("59.5 %", "60 %", ""),
        ("59.5 %", "61 %", "should be 59.5"),
        ("1.19 times", "1.2 times", ""),  # 1.19 rounds to it.
        ("1.19 times", "1.18 times", "should be 1.19"),
        ("rate of 0.3", "rate of 0.25", "should be 0.3"),
    ],
)
def test_each_number_is_held_against_the_evidence_to_its_own_digits(monkeypatch, written, instead, says):
    numbers = {instead if key == written else key: value for key, value in NUMBERS.items()}
    found = complaints(monkeypatch, numbers, DOCSTRING.replace(written, instead))
    assert found == [] if not says else says in found[0] and instead in found[0] and len(found) == 1


def test_a_sign_that_is_another_one_now_is_noticed(monkeypatch):
    (sentence,) = complaints(monkeypatch, {**NUMBERS, "9.5 points": "test_accuracy: fair - clear"})
    assert "should be -9.5" in sentence


def test_a_number_without_an_entry_is_named_and_one_that_is_gone_as_well(monkeypatch):
    without = {key: value for key, value in NUMBERS.items() if key != "5 epochs"}
    (sentence,) = complaints(monkeypatch, without)
    assert "in 5 epochs" in sentence
    (sentence,) = complaints(monkeypatch, {**NUMBERS, "8 cores": ""})
    assert "'8 cores'" in sentence


@pytest.mark.parametrize("source", ["no_metric: clear", "test_accuracy: nobody", "test_accuracy: clear - nobody"])
def test_a_source_that_there_is_not_is_said(monkeypatch, source):
    (sentence,) = complaints(monkeypatch, {**NUMBERS, "59.5 %": source})
    assert repr(source) in sentence


def test_a_ratio_of_logarithms_is_one_of_what_they_are_of(monkeypatch):
    docstring = DOCSTRING.replace("1.19 times", "1.10 times")
    numbers = {key: value for key, value in NUMBERS.items() if key != "1.19 times"}
    assert complaints(monkeypatch, {**numbers, "1.10 times": "log_time: clear / fair"}, docstring) == []


def test_a_level_beside_another_is_over_the_seeds_that_both_have(monkeypatch):
    docstring = "Why?\n\nAnswer         50.0 % or 40.0 %.\n"
    numbers = {"50.0 %": "test_accuracy: fair beside clear", "40.0 %": "test_accuracy: fair"}
    more = [made_up.record("fair", 3, metrics={"test_accuracy": 0.2})]
    assert complaints(monkeypatch, numbers, docstring, more) == []


def test_advice_that_is_not_what_the_evidence_says_is_not_published(clean, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(guess, "__doc__", "Why?\n\nIn practice    Take 3 coins.\n")
    with pytest.raises(EvidenceError, match=r"Take 3 coins"):
        publish.publish(guess.EXPERIMENT, [clean], tmp_path / "results")
    assert not (tmp_path / "results" / "guess").exists()


# The front page


def effect(mean, word="supported"):
    return Effect(mean=mean, low=mean - 1, high=mean + 1, word=word)


def claim(verdict, mean=2.0, **rest):
    effects = [] if mean is None else [effect(mean, verdict)]
    usual = {"id": "X1", "text": "Coins land", "source": "us", "said": "", "numbers": ["heads +1"]}
    return ClaimSummary(**{**usual, "verdict": verdict, "effects": effects, "drawn": effects, **rest})


def summary(*claims, stale=False):
    return Summary(question="Why?", answer="So.", seeds=10, quick_seconds=130, stale=stale, claims=list(claims))


def test_totals_are_counted_by_hand():
    arithmetic = claim("supported", mean=None, numbers=["arithmetic"])
    found = {
        "optimizers": summary(claim("supported"), claim("supported"), claim("contradicted"), arithmetic),
        "schedules": summary(claim("undecided"), claim("no real difference"), claim("contradicted")),
        "gradients": summary(claim("unresolved"), claim("holds in direction"), stale=True),
    }
    assert front_page.totals(found) == (
        "3 recipes measure 6 claims: 2 are supported, 1 makes no real difference, 2 are contradicted, 1 is "
        "undecided. 1 more claim is arithmetic. 2 claims were measured with an earlier version of the recipe, and wait "
        "to be measured again."
    )
    assert front_page.totals({"gradients": found["gradients"]}).startswith("1 recipe. 2 claims were measured")


def test_where_nothing_current_surprises_the_claims_that_wait_are_counted():
    waiting = summary(claim("contradicted"), claim("supported"), stale=True)
    assert "2 claims wait" in front_page.surprises({"optimizers": summary(claim("supported")), "schedules": waiting})
    assert "wait" not in front_page.surprises({"optimizers": summary(claim("supported"))})


def test_what_surprises_is_what_was_contradicted_the_largest_first():
    found = {
        "optimizers": summary(
            claim("contradicted", -1.5), claim("supported", 99.0), claim("contradicted", -7.0, said="They fly")
        ),
        "schedules": summary(
            claim("no real difference", 0.5),
            claim("undecided", -8.0),
            claim("contradicted", -99.0, source="our control of O1"),
        ),
        "gradients": summary(claim("contradicted", -50.0), stale=True),
    }
    lines = front_page.surprises(found).splitlines()
    assert [line.split("**")[1] for line in lines] == [
        "contradicted", "contradicted", "no real difference"
    ]  # fmt: skip
    assert "“They fly”" in lines[0]
    assert "heads +1, 7.0× the smallest effect" in lines[0]
    assert "[optimizers](results/optimizers/README.md)" in lines[0]
    assert "heads +1, 0.5× the smallest effect" in lines[2]


def test_a_surprise_of_several_comparisons_tells_the_numbers_of_the_largest():
    effects = [effect(-1.5, "contradicted"), effect(-9.0, "contradicted")]
    several = claim("contradicted", numbers=["heads -15", "tails -90"], effects=effects)
    assert "**contradicted**, tails -90, 9.0× the" in front_page.surprises({"optimizers": summary(several)})


def test_a_surprise_of_one_kind_of_machine_names_it_and_what_is_left_out_is_counted():
    timed = [claim("contradicted", -float(size), machine="abacus (beads)") for size in range(1, 9)]
    lines = front_page.surprises({"optimizers": summary(*timed)}).splitlines()
    assert len(lines) == front_page.MOST_SURPRISES + 1
    assert "**contradicted** on abacus (beads), heads +1, 8.0×" in lines[0]
    assert lines[-1].startswith(f"- and {8 - front_page.MOST_SURPRISES} more: ")


def test_of_verdicts_that_full_turned_those_are_shown_that_turned_the_furthest():
    def both(verdict, at_full):
        return claim(verdict, text=f"{verdict}, then {at_full}", at_full=at_full, at_quick_and_full=("a: +1", "a: +2"))

    found = {
        "optimizers": summary(
            both("supported", "supported"), both("undecided", "no real difference"), both("undecided", "supported"),
            both("contradicted", "supported"), both("supported", "undecided"), both("no real difference", "undecided"),
        ),
        "schedules": summary(both("supported", "contradicted"), claim("supported")),
        "gradients": summary(both("supported", "contradicted"), stale=True),
    }  # fmt: skip
    head, _, *lines = front_page.at_full(found).splitlines()
    assert head.startswith("7 of these claims were measured with all of CIFAR-10")
    assert "1 verdict is the same" in head
    assert [line.split("”")[0].removeprefix("- “") for line in lines[:-1]] == [
        "contradicted, then supported", "supported, then contradicted", "undecided, then supported",
        "supported, then undecided", "undecided, then no real difference",
    ]  # fmt: skip
    assert lines[-1] == "- and 1 more, on the cards of [optimizers](results/optimizers/README.md#at-full)"


def test_a_recipe_has_a_row_in_its_chapter():
    stale = summary(claim("supported"), claim("undecided"), stale=True)
    found = {"schedules": summary(claim("supported"), claim("supported"), claim("undecided")), "gradients": stale}
    text = front_page.by_chapter(found)
    (row,) = [line for line in text.splitlines() if line.startswith("| [schedules](recipes/schedules.py) |")]
    assert row.split(" | ")[1:] == ["Why?", "So.", "[2 supported, 1 undecided](results/schedules/README.md)", "2 min |"]
    assert text.index("**Optimizing**") < text.index(row) < text.index("**Generalizing**")
    assert "[2 claims, earlier version](results/gradients/README.md)" in text


def test_the_ledger_has_each_claim_with_its_sources_words():
    text = front_page.ledger({"schedules": summary(claim("contradicted", said="Coins | fly", machine="abacus"))})
    expected = (
        "| X1 | Coins land (us). In the source's words: “Coins \\| fly”. | **contradicted** on abacus | heads +1 |"
    )
    assert expected in text


# The pictures of verdicts


def test_the_picture_has_each_claims_own_verdict_and_hollow_points_for_earlier_versions(monkeypatch, tmp_path):
    """Of a claim of several comparisons the one that supports it least is drawn, and is not the claim's word."""
    drawn = []
    monkeypatch.setattr(front_page.figure, "write_png", lambda found, *_: drawn.append(found))
    found = {
        "optimizers": summary(claim("undecided", drawn=[effect(-1.3, "contradicted")]), claim("supported")),
        "gradients": summary(claim("unresolved", 3.0), stale=True),
    }
    front_page.write_picture(found, tmp_path / "claims.png")
    points = [line for axes in drawn[0].axes for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == [-1.3, 2.0, 3.0]
    assert [line.get_color() for line in points] == [forest.COLORS["undecided"], forest.COLORS["supported"], forest.OLD]
    assert [line.get_markerfacecolor() == "white" for line in points] == [False, False, True]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_every_row_is_drawn_once_whatever_the_columns(columns):
    words = ["supported", "undecided", "contradicted", "supported", "no real difference"]
    rows = [forest.Row(f"row {i}", 0.9 * i, i - 1.0, i + 1.0, word) for i, word in enumerate(words)]
    drawn = forest.draw_forest(rows, columns=columns)
    labels = [label.get_text() for axes in drawn.axes for label in axes.get_yticklabels()]
    assert labels == [row.label for row in rows]
    points = [line.get_xdata()[0] for axes in drawn.axes for line in axes.lines if line.get_marker() == "o"]
    assert points == [row.mean for row in rows]
    ends = [bar.get_segments()[0][:, 0].tolist() for axes in drawn.axes for bar in axes.collections]
    assert ends == [[row.low, row.high] for row in rows]
    beside = [text.get_text() for axes in drawn.axes for text in axes.texts]
    legend = [text.get_text() for one in drawn.legends for text in one.get_texts()]
    assert (beside, legend) == (
        (words, []) if columns == 1 else ([], ["supported", "no real difference", "undecided", "contradicted"])
    )


def test_a_mean_beyond_the_edge_is_a_number():
    drawn = forest.draw_forest(
        [forest.Row("a", 33.0, 30.0, 36.0, "supported"), forest.Row("b", -29.0, -30.0, -28.0, "contradicted")]
    )
    texts = {text.get_text() for text in drawn.axes[0].texts}
    assert {"+33 ▶", "◀ -29"} <= texts


def test_every_word_has_a_colour():
    assert set(front_page.WORDS) == set(forest.COLORS)


def test_a_picture_names_the_evidence_that_it_was_drawn_from(tmp_path):
    figure.write_png(forest.draw_forest([forest.Row("a", 1.0, 0.0, 2.0, "supported")]), tmp_path / "a.png", "abc")
    assert figure.drawn_from(tmp_path / "a.png") == "abc"
    assert figure.drawn_from(tmp_path / "b.png") == ""
