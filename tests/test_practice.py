"""The advice's numbers are those of the evidence, and the front page says what the summaries say."""

import dataclasses
import types

import pytest

from lab import Unit
from lab.evidence.records import EvidenceError
from lab.report import advice, front_page, publish
from lab.report.report import Report
from tests.test_published import COMMIT, clean, commits, measured  # noqa: F401  Fixtures.
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
    return advice.complaints(Report(experiment, made_up.evidence([*records, *more]), None))


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
    assert sentence == "'9.0 points' should be 9.5 (test_accuracy: clear - fair)."


def test_advice_whose_numbers_are_right_is_not_complained_of(monkeypatch):
    assert complaints(monkeypatch) == []


@pytest.mark.parametrize(
    ("written", "instead", "says"),
    [
        ("9.5 points", "9.6 points", "'9.6 points' should be 9.5"),
        ("59.5 %", "60 %", ""),
        ("59.5 %", "61 %", "'61 %' should be 59.5"),
        ("1.19 times", "1.2 times", ""),  # 1.19 rounds to it.
        ("1.19 times", "1.18 times", "should be 1.19"),
        ("rate of 0.3", "rate of 0.25", "should be 0.3"),
    ],
)
def test_each_number_is_held_against_the_evidence_to_its_own_digits(monkeypatch, written, instead, says):
    numbers = {instead if key == written else key: value for key, value in NUMBERS.items()}
    found = complaints(monkeypatch, numbers, DOCSTRING.replace(written, instead))
    assert found == [] if not says else says in found[0] and len(found) == 1


def test_a_sign_that_is_another_one_now_is_noticed(monkeypatch):
    (sentence,) = complaints(monkeypatch, {**NUMBERS, "9.5 points": "test_accuracy: fair - clear"})
    assert sentence == "'9.5 points' should be -9.5 (test_accuracy: fair - clear)."


def test_a_number_that_nothing_is_said_of_is_named_and_one_that_is_gone_as_well(monkeypatch):
    without = {key: value for key, value in NUMBERS.items() if key != "5 epochs"}
    (sentence,) = complaints(monkeypatch, without)
    assert "in 5 epochs" in sentence
    assert sentence.startswith("Nothing says what")
    assert complaints(monkeypatch, {**NUMBERS, "8 cores": ""}) == ["'8 cores' does not stand in the advice any more."]


@pytest.mark.parametrize("source", ["no_metric: clear", "test_accuracy: nobody", "test_accuracy: clear - nobody"])
def test_a_source_that_there_is_not_is_said(monkeypatch, source):
    assert complaints(monkeypatch, {**NUMBERS, "59.5 %": source}) == [f"'59.5 %': there is no {source!r}."]


def test_a_ratio_of_logarithms_is_one_of_what_they_are_of(monkeypatch):
    docstring = DOCSTRING.replace("1.19 times", "1.10 times")
    numbers = {key: value for key, value in NUMBERS.items() if key != "1.19 times"}
    assert complaints(monkeypatch, {**numbers, "1.10 times": "log_time: clear / fair"}, docstring) == []


def test_a_level_beside_another_is_over_the_seeds_that_both_have():
    def record(name, seed, value):
        return made_up.record(name, seed, metrics={"test_accuracy": value})

    records = [record("fair", 1, 0.49), record("fair", 2, 0.51), record("fair", 3, 0.2), record("clear", 2, 0.6)]
    report = Report(dice.EXPERIMENT, made_up.evidence(records), None)
    assert advice._value(report, "test_accuracy: fair beside clear") == pytest.approx(51)
    assert advice._value(report, "test_accuracy: fair") == pytest.approx(40)


def test_advice_that_is_not_what_the_evidence_says_is_not_published(clean, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(guess, "__doc__", "Why?\n\nIn practice    Take 3 coins.\n")
    with pytest.raises(EvidenceError, match=r"Nothing says what 'Take 3 coins\.'"):
        publish.publish(guess.EXPERIMENT, [clean], tmp_path / "results")
    assert not (tmp_path / "results" / "guess").exists()


# The front page


def claim(verdict, mean=2.0, **rest):
    effects = [] if mean is None else [{"mean": mean, "low": mean - 1, "high": mean + 1, "word": verdict}]
    plain = {"id": "X1", "text": "Coins land", "source": "us", "said": "", "verdict": verdict, "numbers": ["heads +1"]}
    return {**plain, "effects": effects, "drawn": effects, **rest}


def summary(*claims, stale=False):
    return {"question": "Why?", "answer": "So.", "quick_seconds": 130, "stale": stale, "claims": list(claims)}


def test_totals_are_counted_by_hand():
    found = {
        "optimizers": summary(
            claim("holds"), claim("holds"), claim("refuted"), claim("holds", mean=None, numbers=["arithmetic"])
        ),
        "schedules": summary(claim("open"), claim("no practical difference"), claim("refuted in direction")),
    }
    assert front_page.totals(found) == (
        "2 recipes measure 6 claims: 2 hold, 1 is of no practical difference, 1 is refuted in direction, 1 is refuted, "
        "1 is open; 1 more are arithmetic."
    )


def test_what_surprises_is_what_was_refuted_the_largest_first():
    found = {
        "optimizers": summary(claim("refuted", -1.5), claim("holds", 99.0), claim("refuted", -7.0, said="They fly")),
        "schedules": summary(
            claim("no practical difference", 0.5),
            claim("refuted in direction", -8.0),
            claim("refuted", -99.0, source="our control of O1"),
        ),
        "gradients": summary(claim("refuted", -50.0), stale=True),
    }
    lines = front_page.surprises(found).splitlines()
    assert [line.split("**")[1] for line in lines] == [
        "refuted", "refuted", "refuted in direction", "no practical difference"
    ]  # fmt: skip
    assert lines[0].startswith(
        "- “Coins land” (us, in the source's words “They fly”): **refuted**, heads +1, 7.0 times what would matter "
        "([optimizers]("
    )
    assert "heads +1, 0.5 times what would matter" in lines[3]


def test_a_surprise_of_several_comparisons_tells_the_numbers_of_the_largest():
    several = claim("refuted", -1.5, numbers=["heads -15", "tails -90"])
    several["effects"].append({"mean": -9.0, "low": -10.0, "high": -8.0, "word": "refuted"})
    assert "**refuted**, tails -90, 9.0 times what would matter" in front_page.surprises(
        {"optimizers": summary(several)}
    )


def test_a_surprise_of_one_kind_of_machine_names_it_and_what_is_left_out_is_counted():
    timed = [claim("refuted", -float(size), machine="abacus (beads)") for size in range(1, 9)]
    lines = front_page.surprises({"optimizers": summary(*timed)}).splitlines()
    assert len(lines) == front_page.MOST_SURPRISES + 1
    assert "**refuted** on abacus (beads), heads +1, 8.0 times" in lines[0]
    assert lines[-1] == f"- and {8 - front_page.MOST_SURPRISES} more: [all claims](results/README.md)"


def test_of_verdicts_that_full_turned_those_are_shown_that_turned_the_furthest():
    def both(verdict, at_full):
        return claim(verdict, text=f"{verdict}, then {at_full}", at_full=at_full, at_quick_and_full=["a: +1", "a: +2"])

    found = {
        "optimizers": summary(
            both("holds", "holds"), both("holds", "holds in direction"), both("open", "holds in direction"),
            both("refuted in direction", "holds"), both("holds", "open"), both("mixed", "open"),
        ),
        "schedules": summary(both("holds", "refuted"), claim("holds")),
        "gradients": summary(both("holds", "refuted"), stale=True),
    }  # fmt: skip
    head, _, *lines = front_page.at_full(found).splitlines()
    assert head.startswith("7 of these claims were measured with all of CIFAR-10 as well")
    assert head.endswith("(`--budget full`): 1 verdict is the same, and these turned the most:")
    assert [line.split("”")[0].removeprefix("- “") for line in lines[:-1]] == [
        "holds, then refuted", "refuted in direction, then holds", "holds, then open",
        "holds, then holds in direction", "open, then holds in direction",
    ]  # fmt: skip
    assert lines[-1] == ("- and 1 more, on the cards of [optimizers](results/optimizers/README.md#at-full)")


def test_what_is_of_an_earlier_version_is_counted_apart():
    found = {
        "optimizers": summary(claim("holds")),
        "schedules": summary(claim("unresolved"), claim("open"), stale=True),
    }
    assert front_page.totals(found) == (
        "2 recipes measure 1 claims: 1 holds; 0 more are arithmetic; 2 were measured with an earlier version of their "
        "recipe."
    )
    (row,) = [line for line in front_page.by_chapter(found).splitlines() if "recipes/schedules.py" in line]
    assert "[2 of that version](results/schedules/README.md)" in row


def test_the_picture_has_each_claims_own_verdict(monkeypatch, tmp_path):
    """Of a mixed claim the comparison that speaks least is drawn, and is not the claim's word."""
    drawn = []
    monkeypatch.setattr(front_page.forest, "write", lambda rows, *_, **__: drawn.extend(rows))
    against = [{"mean": -1.3, "low": -2.6, "high": -0.1, "word": "refuted in direction"}]
    found = {
        "optimizers": summary(claim("mixed", drawn=against), claim("holds")),
        "gradients": summary(claim("open"), stale=True),
    }
    front_page.picture(found, tmp_path / "claims.png", "", "")
    assert [(row.mean, row.word) for row in drawn] == [(-1.3, "mixed"), (2.0, "holds")]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_every_row_is_drawn_once_whatever_the_columns(columns):
    words = ["holds", "open", "refuted", "holds", "mixed"]
    rows = [front_page.forest.Row(f"row {i}", 0.5 * i, i - 1.0, i + 1.0, word) for i, word in enumerate(words)]
    drawn = front_page.forest.draw(rows, columns=columns)
    labels = [label.get_text() for axes in drawn.axes for label in axes.get_yticklabels()]
    assert labels == [row.label for row in rows]
    points = [line.get_xdata()[0] for axes in drawn.axes for line in axes.lines if line.get_marker() == "o"]
    assert points == [row.mean for row in rows]
    beside = [text.get_text() for axes in drawn.axes for text in axes.texts]
    legend = [text.get_text() for one in drawn.legends for text in one.get_texts()]
    assert (beside, legend) == ((words, []) if columns == 1 else ([], ["holds", "open", "mixed", "refuted"]))


def test_every_word_has_a_colour():
    assert set(front_page.WORDS) == set(front_page.forest.COLORS)


def test_a_recipe_has_a_row_in_its_chapter():
    text = front_page.by_chapter({"schedules": summary(claim("holds"), claim("holds"), claim("open"))})
    (row,) = [line for line in text.splitlines() if line.startswith("| [schedules](recipes/schedules.py) |")]
    assert row.split(" | ")[1:] == ["Why?", "So.", "[2 holds, 1 open](results/schedules/README.md)", "2 min |"]
    assert text.index("**Optimizing**") < text.index(row) < text.index("**Generalizing**")


def test_the_ledger_has_each_claim_with_its_sources_words():
    text = front_page.ledger({"schedules": summary(claim("refuted", said="Coins | fly", machine="abacus"))})
    expected = "| X1 | Coins land (us). In the source's words: “Coins \\| fly”. | **refuted** on abacus | heads +1 |"
    assert expected in text
