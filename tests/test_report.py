"""What a report says of evidence: tables, cards and figures."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.text import Text
from msgspec import structs
from scipy import stats

from lab import Claim, Objective, Table, Tuning, Unit, measurement
from lab.evidence.schemas import ClaimSummary, Effect, Finding, Origin, Trial
from lab.panels import Bars, Lines, Points, Sweep
from lab.report import card, figure
from lab.report.pages import effect_text, effects_text, times
from lab.report.report import Report
from tests.toys import guess, made_up

SEEDS = (0.0, 0.001, -0.001, 0.002, -0.002) * 2  # Noise of ten seeds; its mean is zero.


def reported(claims: Claim | list[Claim], values: dict[str, list[float]], **fields) -> Report:
    claims = claims if isinstance(claims, list) else [claims]
    experiment = dataclasses.replace(guess.EXPERIMENT, variants=tuple(values), claims=claims, **fields)
    return Report(experiment, made_up.of_values(values, claims[0].metric), None)


def test_a_table_gives_mean_and_standard_deviation():
    claim = Claim("C", "…", "…", "test_accuracy", higher="a", than="b")
    header, rows = reported(claim, {"a": [0.5, 0.6, 0.7], "b": [0.1, 0.1, 0.1]}).table()
    assert header[:2] == ["variant", "test accuracy (%)"]
    assert rows[0][:2] == ["a", "60.00 ± 10.00"]
    assert rows[1][:2] == ["b", "10.00"]


def test_a_tables_settings_that_are_words_name_folders_and_stand_on_the_card(monkeypatch, tmp_path):
    table = Table(lambda setting, run: {}, {"tuner": ("random", "grid"), "rate": (0.10, 2)}, seeds=(1,))
    experiment, folders = dataclasses.replace(guess.EXPERIMENT, tuning=None, table=table), []
    kept = {"header": Origin(**made_up.origin(kind="tuning")), "folder": tmp_path, "variants": ("setting",)}
    does = {"check_code": lambda: None, "job": lambda *asked: asked[-1].name}
    monkeypatch.setattr(measurement, "run_jobs", lambda _, jobs, *rest: folders.extend(jobs) or [])
    found, _ = measurement.tune(SimpleNamespace(experiment=experiment, **kept, **does), print, print)
    assert folders == ["tuner=random,rate=0.1", "tuner=random,rate=2", "tuner=grid,rate=0.1", "tuner=grid,rate=2"]
    page = card.markdown(Report(experiment, made_up.evidence([]), found))
    assert "| tuner | random, grid |\n| rate | 0.1, 2 |" in page


def test_tables_figures_and_the_card_are_of_the_seeds_that_all_variants_have():
    claim = Claim("C", "…", "…", "m", delta=0.01, lower="a", than="b")
    more = {"units": {"m": Unit("a step", 1, "ms", 1)}, "panels": (Bars("m"),)}
    report = reported(claim, {"a": [2.0, 2.0, 8.0], "b": [3.0, 3.0, 3.0]}, **more)
    report.records.pop()
    header, rows = report.table()
    assert (header[1], rows[0][1:], rows[1][1:]) == ("a step (ms)", ["2.0", "2"], ["3.0", "2"])
    assert [line.get_xdata()[0] for line in report.figure().axes[0].lines if line.get_marker() == "o"] == [2.0, 3.0]
    assert "over 2 seeds, the same for all variants" in card.markdown(report)


def test_a_card_says_where_undecided_comparisons_had_more_seeds():
    claim = Claim("C", "…", "…", "test_accuracy", higher="a", than="b")
    scores = {"a": [0.5, 0.6, 0.7], "b": [0.4, 0.5, 0.6], "c": [0.1, 0.2]}
    extended = card.markdown(reported(claim, scores))
    assert "over 2 seeds, the same for all variants" in extended
    assert "Undecided comparisons went on to 3 seeds" in extended
    assert "--seeds 3` measures all of it again" in extended
    assert "went on to" not in card.markdown(reported(claim, {name: scores[name] for name in "ab"}))


def test_variants_that_the_experiment_has_no_more_are_left_out():
    claim = Claim("C", "…", "…", "test_accuracy", higher="a", than="b")
    experiment = dataclasses.replace(guess.EXPERIMENT, variants=("a", "b"), claims=[claim])
    report = Report(experiment, made_up.of_values({"old": [0.9], "a": [0.5, 0.6], "b": [0.4, 0.5]}), None)
    assert [row[0] for row in report.table()[1]] == ["a", "b"]
    assert report.shared == {1, 2}


def test_what_is_logarithmic_is_a_ratio_on_every_page():
    claim = Claim("C", "a is quick", "us", "log_time", lower="a", than="b")
    values = {"b": [np.log(1.5) + s for s in SEEDS], "a": [np.log(3.0) - s for s in SEEDS]}
    report = reported(
        claim, values, units={"log_time": Unit("a step (log e)", 1, "e-folds", 3)}, panels=(Bars("log_time"),)
    )
    header, rows = report.table()
    assert header[1] == "a step, relative to b"
    assert [row[1] for row in rows] == ["1×", "2×"]
    (found,) = report.summary().claims
    low, high = stats.t.interval(1 - 0.05 / 4, 9, np.log(2.0), 2 * np.std(SEEDS, ddof=1) / 10**0.5)
    assert effect_text(found, found.strongest.effects[0]) == f"2.00× [{np.exp(low):.2f}, {np.exp(high):.2f}]"
    assert report.figure().axes[0].get_xlabel() == "a step, relative to b"
    page = card.markdown(report)
    assert "Ratios of a step: mean and deciding interval over 10 seeds. A ratio within 5 % of 1 counts as none." in page
    assert "e-fold" not in page
    assert "log e" not in page


@pytest.mark.parametrize(("direction", "verdict"), [("higher", "supported"), ("lower", "contradicted")])
def test_effects_are_a_minus_b_whatever_the_claims_direction(direction, verdict):
    claim = Claim("C", "…", "…", "test_accuracy", **{direction: "a"}, than="b")
    report = reported(claim, {"a": [0.61, 0.60, 0.62, 0.61, 0.61] * 2, "b": [0.50, 0.51, 0.50, 0.49, 0.50] * 2})
    (found,) = report.summary().claims
    assert found.strongest.verdict == verdict
    # Differences 11, 9, 12, 12, 11, twice: mean 11, deviation √(12/9); the quantile is that of 1 - 0.05/4.
    half = stats.t.ppf(1 - 0.05 / 4 / 2, 9) * (12 / 9) ** 0.5 / 10**0.5
    shown = effect_text(found, found.strongest.effects[0], named=True)
    assert shown == f"a minus b: +11.0 points [+{11 - half:.1f}, +{11 + half:.1f}]"


def of_claim(unit="points", **effect) -> ClaimSummary:
    effects = [Effect(a="a", b="b", seeds=10, verdict="supported", **effect)]
    finding = Finding(budget="quick", verdict="supported", effects=effects)
    kept = {"id": "C", "text": "…", "source": "us", "measure": "m", "digits": 1, "findings": [finding]}
    return ClaimSummary(**kept, unit=unit)


@pytest.mark.parametrize(
    ("effect", "text"),
    [
        ({"mean": 2.94, "low": 1.6, "high": 4.2}, "+2.9 points [+1.6, +4.2]"),
        ({"mean": -0.7, "low": -1.4, "high": -0.04}, "−0.7 points [−1.4, 0.0]"),
        ({"mean": 1234.5, "low": 1000.0, "high": 1500.0}, "+1,234.5 points [+1,000.0, +1,500.0]"),
        ({"mean": 2.0}, "+2.0 points"),
        ({"mean": None}, "not measured"),
    ],
)
def test_how_an_effect_is_written(effect, text):
    claim = of_claim(**effect)
    assert effect_text(claim, claim.strongest.effects[0]) == text
    assert effect_text(claim, claim.strongest.effects[0], unit=False) == text.replace(" points", "")


@pytest.mark.parametrize(
    ("over", "count", "shown"), [("seed", 9, False), ("seed", 10, True), ("occasion", 3, False), ("occasion", 4, True)]
)
def test_before_the_first_look_no_interval_is_shown(over, count, shown):
    claim = of_claim(mean=4.0, low=-162.8, high=170.8)
    (effect,) = claim.strongest.effects
    claim = structs.replace(claim, findings=[structs.replace(claim.strongest, over=over)])
    assert ("[" in effect_text(claim, structs.replace(effect, seeds=count))) == shown


def test_a_panel_with_nothing_to_show_is_left_out_and_all_are_kept_where_none_has_anything():
    report = reported(Claim("C", "…", "…", "test_accuracy", higher="a", than="b"), {"a": [0.6] * 3, "b": [0.5] * 3})
    drawn = figure.draw([Bars("test_accuracy"), Bars("nothing"), Lines("val_nothing")], report)
    assert [axes.get_title() for axes in drawn.axes] == ["Mean and 95 % interval, 3 seeds"]
    assert len(figure.draw([Bars("nothing"), Bars("nothing")], report).axes) == 2


def test_of_many_effects_the_first_is_shown_and_the_others_are_counted():
    claim = of_claim(mean=1.0)
    many = structs.replace(
        claim.strongest, effects=[Effect(a="a", b=b, mean=1.0, seeds=9, verdict="") for b in "cdefg"]
    )
    assert effects_text(claim, many) == "a minus c: +1.0 points<br>and 4 more, no less clear"
    few = structs.replace(many, effects=many.effects[:2])
    assert effects_text(claim, few) == "a minus c: +1.0 points<br>a minus d: +1.0 points"


@pytest.mark.parametrize(
    ("ratio", "text"), [(1.94, "1.9×"), (23.4, "23×"), (1234.0, "1,234×"), (0.704, "0.70×"), (1.0, "1×")]
)
def test_how_a_ratio_is_written(ratio, text):
    assert times(ratio) == text


def of_two(claims: list[Claim], quick: dict, strong: dict, there: list[Claim]) -> str:
    """A card of evidence here and on a strong baseline, where other claims are tested."""
    report = reported(claims, quick)
    summary = report.summary("", reported(there, strong), stale_strong=True)
    return card.markdown(report, summary, ["**Take b.** It is best."])


def test_a_card_has_the_answer_the_advice_and_a_table_of_claims():
    claims = [
        Claim("C1", "b beats | a", "TF", "test_accuracy", higher="b", than="a"),
        Claim("C2", "Two and two are four", "DL", asserted=True),
        Claim("C3", "b beats everything", "DL", "test_accuracy", higher="b", than=("a", "c")),
    ]
    values = {"a": [0.5 + s for s in SEEDS], "b": [0.6 - s for s in SEEDS], "c": [0.5 + 2 * s for s in SEEDS]}
    report = reported(claims, values)
    page = card.markdown(report, report.summary("Take b."), advice=["**Take b.** It is best."])
    lines = page.splitlines()
    assert lines[0] == "# Guess: do coins land heads up?"
    assert lines[2] == "**Take b.**"
    assert lines[4].startswith("![")
    assert lines[6] == "- **Take b.** It is best."
    assert lines[8] == "| advice | verdict | effect |"
    assert lines[10].startswith("| b beats \\| a (TF) | supported | +10.0 \\[+9.")
    assert lines[11].startswith("| b beats everything (DL) | supported | b minus a: +10.0 \\[+9.")
    assert "<br>b minus c: +10.0 \\[+9." in lines[11]
    assert lines[13].startswith("Percentage points of test accuracy: mean and deciding interval over 10 seeds.")
    assert lines[13].endswith("A difference below 1 point counts as none.")
    assert lines[14].startswith("Measured on 2 CPU cores (a). `python -m tests.toys.guess` repeats it with three seeds")
    table, _, details = page.partition("<details>")
    assert "Two and two" not in table  # A check is no claim.
    assert "- Two and two are four (DL): passed." in details.partition("## Checks")[2]


def test_with_a_strong_baseline_the_card_gives_both_and_follows_what_has_seeds_enough():
    claim = Claim("C", "b beats a", "TF", "test_accuracy", higher="b", than="a", strong="S")
    there = Claim("S", "b beats a there", "TF", "strong_accuracy", higher="b", than="a")
    quick = {"a": [0.5 + s for s in SEEDS], "b": [0.6 - s for s in SEEDS]}
    full = {"a": [0.8 + s for s in SEEDS], "b": [0.8 - s / 5 for s in SEEDS]}
    page = of_two([claim], quick, full, [there])
    assert "| advice | verdict | strong baseline (earlier version) | 8,000 images |" in page
    assert "[strong baseline](../strong_baseline/README.md)" in page
    (row,) = [line for line in page.splitlines() if line.startswith("| b beats a")]
    assert row.split(" | ")[1] == "no real difference"
    assert row.split(" | ")[2].startswith("0.0 \\[−0.")
    assert row.split(" | ")[3].startswith("supported, +10.0 \\[+9.")
    numbers = [line.split(" | ")[3] for line in page.splitlines() if line.startswith(("| C |", "| C, strong"))]
    assert numbers == ["1 point", "0.5 points"]
    assert "A difference below 1 point counts as none (strong baseline: 0.5 points)." in page
    alone = of_two([dataclasses.replace(claim, strong="")], quick, full, [there])
    assert "strong baseline" not in alone
    few = of_two([claim], quick, {name: values[:5] for name, values in full.items()}, [there])
    (row,) = [line for line in few.splitlines() if line.startswith("| b beats a")]
    assert row.split(" | ")[1] == "supported"  # Five seeds decide nothing.


def test_a_verdict_has_the_notes_of_the_comparisons_that_it_is_of():
    claim = Claim("C", "b beats both", "TF", "test_accuracy", higher="b_2", than=("a", "c"))
    values = {"a": [0.5 + s for s in SEEDS], "b_2": [0.509 - s for s in SEEDS], "c": [0.54 + 2 * s for s in SEEDS]}
    (found,) = reported(claim, values).summary().claims
    assert [effect.verdict for effect in found.strongest.effects] == ["supported", "contradicted"]
    assert (found.strongest.verdict, found.strongest.note) == ("contradicted", "")
    assert effect_text(found, found.strongest.effects[1], named=True).startswith("b 2 minus c: −3.1 points")
    (alone,) = reported(dataclasses.replace(claim, than="a", delta=float("nan")), values).summary().claims
    assert (alone.strongest.verdict, alone.strongest.note) == ("supported", "may be small")
    worse = Claim("W", "a keeps b", "TF", "test_accuracy", equal=("a", "b_2"), side="below")
    (kept,) = reported(worse, values).summary().claims
    assert kept.strongest.note == "worse, perhaps by less than 1 point"


def test_a_claim_that_was_not_measured_says_so():
    claims = [Claim(i, "…", "us", "test_accuracy", higher=i, than="a") for i in ("b", "c")]
    report = reported(claims, {"a": [0.5] * 9, "b": [0.6] * 9, "c": []})
    assert [claim.strongest.verdict for claim in report.summary().claims] == ["undecided", "not measured"]
    nothing = reported(claims, {"a": [], "b": [], "c": []})
    page = card.markdown(nothing)
    assert "deciding interval" not in page
    drawn = figure.draw([Lines("y"), Bars("test_accuracy"), Points("m", "test_accuracy")], nothing)
    assert [axes.get_title() for axes in drawn.axes[:3]] == ["not measured"] * 3


def test_a_verdict_on_times_names_the_kind_of_machine_and_counts_occasions():
    claims = [Claim(name, "…", "us", name, delta=0.01, lower="a", than="b") for name in ("seconds", "apart")]
    report = reported(claims, {"a": [2.0, 2.0], "b": [3.0, 3.1]}, units={"seconds": Unit("a step", timed=True)})
    seconds, apart = (claim.strongest for claim in report.summary().claims)
    assert (seconds.machine, seconds.over) == ("a (abilities unknown)", "occasion")
    assert (apart.machine, apart.over) == (None, "seed")
    assert seconds.few


# Figures


def of_curves(curves: dict[str, list[list[float]]], **fields) -> Report:
    records = [
        made_up.record(variant, seed, curves={"y": curve})
        for variant, runs in curves.items()
        for seed, curve in enumerate(runs, 1)
    ]
    tuning = Tuning("rate", {}, Objective("validation_accuracy"))
    experiment = dataclasses.replace(guess.EXPERIMENT, variants=tuple(curves), claims=[], tuning=tuning)
    return Report(experiment, made_up.evidence(records), made_up.sweep(**fields))


def names_in(axes) -> list[str]:
    """What is written beside the lines, from top to bottom."""
    return [text.get_text() for text in sorted(axes.texts, key=lambda text: -text.get_position()[1])]


def test_curves_of_unequal_length_are_drawn_as_far_as_each_goes():
    drawn = figure.draw([Lines("y")], of_curves({"a": [[1.0, 2.0, 3.0], [3.0]], "b": [[], [5.0]]}))
    lines = {line.get_label(): line.get_ydata().tolist() for line in drawn.axes[0].lines}
    assert lines == {"a": [2.0, 2.0, 3.0], "b": [5.0]}
    assert drawn.axes[0].get_title() == "Mean and 95 % interval, 1 to 2 seeds"


def test_a_sweeps_panel_shows_means_and_says_of_how_many_seeds():
    def trial(variant, seed, rate, status="finished"):
        fields = {"config": {"rate": rate}, "status": status, "metrics": {"test_accuracy": 0.5 + rate * seed}}
        return Trial(variant=variant, seed=seed, cause=None, **fields)

    curve = [trial("a", seed, rate) for seed in range(1, 11) for rate in (0.01, 0.02)]
    curve += [trial("b", seed, 0.01, status) for seed, status in enumerate(("finished", "diverged", "failed"), 1)]
    drawn = figure.draw([Sweep()], of_curves({"a": [], "b": []}, variants=["a", "b"], curve=curve))
    assert drawn.axes[0].get_title() == "Sensitivity: mean and 95 % interval, 2 to 10 seeds"
    first, second = drawn.axes[0].lines
    assert first.get_ydata().tolist() == pytest.approx([55.5, 61.0])
    assert second.get_ydata().tolist() == pytest.approx([51.5])  # A diverged trial counts, a failed one does not.


def test_a_band_is_the_means_interval():
    y = np.array([[1.0, 2.0], [2.0, np.nan], [6.0, 4.0]])
    low, high = figure.band_of(y)
    for place, column in enumerate([y[:, 0], y[[0, 2], 1]]):
        expected = stats.t.interval(0.95, len(column) - 1, column.mean(), stats.sem(column))
        assert (low[place], high[place]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ends", "order"),
    [
        ({"a": 0.2, "b": 0.9, "c": 0.5, "d": 0.89, "e": 0.88}, "bdeca"),
        ({"a": 0.11, "b": 0.9, "c": 0.1, "d": 0.12, "e": 0.09}, "bdace"),
    ],
)
def test_lines_are_named_at_their_ends_in_their_order_and_names_keep_apart(ends, order):
    drawn = figure.draw([Lines("y")], of_curves({name: [[0.1, end]] for name, end in ends.items()}))
    drawn.draw_without_rendering()
    (axes,) = drawn.axes
    assert names_in(axes) == list(order)
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # Without the strokes.
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    beside = axes.get_window_extent()
    assert all(beside.x1 <= box.x0 and box.x1 <= drawn.bbox.x1 for box in boxes)
    assert all(beside.y0 <= box.y0 and box.y1 <= beside.y1 for box in boxes)


def test_of_more_than_six_lines_the_highest_are_drawn():
    drawn = figure.draw([Lines("y")], of_curves({f"v_{i}": [[0.1, i / 10]] for i in range(9)}))
    assert names_in(drawn.axes[0]) == ["v 8", "v 7", "v 6", "v 5", "v 4", "v 3"]
    assert drawn.axes[0].get_title().startswith("The 6 highest of 9: mean")


def test_lines_that_end_at_one_height_are_named_at_their_peaks():
    curves = {"early": [[0.0, 5.0, 0.1, 0.0, 0.0]], "late": [[0.0, 0.0, 0.1, 4.0, 0.0]]}
    drawn = figure.draw([Lines("y")], of_curves(curves))
    drawn.draw_without_rendering()
    (axes,) = drawn.axes
    assert {text.get_text(): tuple(text.xy) for text in axes.texts} == {"early": (2, 5.0), "late": (4, 4.0)}
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not boxes[0].overlaps(boxes[1])
    assert all(axes.get_window_extent().x1 > box.x1 for box in boxes)


def test_values_of_a_line_may_lie_several_units_apart():
    drawn = figure.draw([Lines("y", x_label="step", every=10)], of_curves({"a": [[1.0, 2.0, 3.0]]}))
    (axes,) = drawn.axes
    assert axes.lines[0].get_xdata().tolist() == [10, 20, 30]
    assert axes.get_xlabel() == "step"


def test_bars_are_of_the_variants_that_are_named():
    claim = Claim("C", "…", "…", "test_accuracy", higher="a", than="b")
    scores = {"a": [0.5, 0.7], "b": [0.4, 0.5], "c": [0.1, 0.2]}
    report = reported(claim, scores, panels=(Bars("test_accuracy", variants=("a", "c")),))
    (axes,) = report.figure().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c"]
    assert [line.get_xdata()[0] for line in axes.lines] == pytest.approx([60.0, 15.0])


def test_a_variant_has_one_color_in_every_panel():
    names = [f"v{i}" for i in range(9)]
    records = [
        made_up.record(name, seed, curves={"y": [0.1, i / 10]}, metrics={"test_accuracy": 0.1 * i, "m": seed + 0.1 * i})
        for i, name in enumerate(names)
        for seed in (1, 2)
    ]
    experiment = dataclasses.replace(guess.EXPERIMENT, variants=tuple(names), claims=[])
    report = Report(experiment, made_up.evidence(records), None)
    panels = [Bars("test_accuracy"), Lines("y"), Points("m", "test_accuracy")]
    bars, lines, points = figure.draw(panels, report).axes[:3]
    of_lines = {line.get_label(): line.get_color() for line in lines.lines}
    of_bars = dict(zip(names, [line.get_color() for line in bars.lines if line.get_marker() == "o"], strict=True))
    of_points = {text.get_text(): text.get_color() for text in points.texts}
    assert len(set(of_lines.values())) == 6
    assert of_lines == {name: of_bars[name] for name in of_lines}
    assert of_points == of_bars


def test_bars_over_a_variant_show_the_paired_gain():
    claim = Claim("C", "…", "…", "test_accuracy", higher="a", than="b")
    report = reported(claim, {"a": [0.5, 0.7], "b": [0.4, 0.5]}, panels=(Bars("test_accuracy", over="b"),))
    (axes,) = report.figure().axes
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"] == [pytest.approx(15.0)]
    assert axes.get_xlabel() == "test accuracy, gain over b (points)"
    (segment,) = axes.collections[0].get_segments()
    assert segment[:, 0] == pytest.approx(stats.t.interval(0.95, 1, 15.0, 5.0))


@pytest.mark.parametrize("count", [3, 13])
def test_gains_are_sorted_and_have_one_color_where_there_are_more_than_colors(count):
    scores = {f"v{number}": [0.5 + 0.01 * number, 0.51 + 0.01 * number] for number in range(count)}
    claim = Claim("C", "…", "…", "test_accuracy", higher="v1", than="v0")
    report = reported(claim, scores, panels=(Bars("test_accuracy", over="v0"),))
    (axes,) = report.figure().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"v{number}" for number in range(count - 1, 0, -1)
    ]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    means = [point.get_xdata()[0] for point in points]
    assert means == sorted(means, reverse=True)
    assert len({point.get_color() for point in points}) == (1 if count > len(figure.COLORS) + 1 else count - 1)


@pytest.mark.parametrize(
    ("source", "said"), [("subset", "on 8,000 images of CIFAR-10 for"), ("folder:mine", "train for")]
)
def test_a_card_says_how_many_images_only_where_it_knows(source, said):
    report = reported(Claim("C", "…", "…", "test_accuracy", higher="a", than="b"), {"a": [0.5, 0.7], "b": [0.4, 0.5]})
    records = [structs.replace(record, curves={"val_accuracy": [0.1, 0.2]}) for record in report.records]
    data = structs.replace(report.found.data, source=source, train_images=None)
    found = structs.replace(report.found, data=data, records=records, config={})
    text = card.trained(Report(report.experiment, found))
    assert said in text
    assert "2 epochs" in text
