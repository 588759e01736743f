"""What a report says of evidence: tables, words and figures."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from lab import Claim, Objective, Table, Tuning, Unit, measurement
from lab.evidence.schemas import Origin, Trial
from lab.panels import Bars, Lines, Sweep
from lab.report import card, figure, forest, publish
from lab.report.report import Report
from lab.statistics import judge
from tests.toys import guess, made_up


def reported(claim: Claim, values: dict[str, list[float]]) -> Report:
    experiment = dataclasses.replace(guess.EXPERIMENT, variants=tuple(values), claims=[claim])
    return Report(experiment, made_up.of_values(values, claim.metric), None)


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


def test_seeds_that_one_variant_alone_has_do_not_change_the_times_shown_of_it():
    claim = Claim("C", "…", "…", "m", delta=0.01, lower="a", than="b")
    units = {"m": Unit("a step", 1, "ms", 1, timed=True)}
    changed = {"variants": ("a", "b"), "claims": [claim], "units": units, "panels": (Bars("m"),)}
    experiment = dataclasses.replace(guess.EXPERIMENT, **changed)
    report = Report(experiment, made_up.of_values({"a": [2.0, 2.0, 8.0], "b": [3.0, 3.0, 3.0]}, "m"), None)
    report.records.pop()
    header, rows = report.table()
    assert (header[1], rows[0][1], rows[1][1]) == ("a step (ms)", "2.0", "3.0")
    assert [bar.get_width() for bar in report.figure().axes[0].patches] == [2.0, 3.0]
    assert "of the 2 seeds that all variants have" in card.notes(report)


def test_a_verdict_on_times_names_the_kind_of_machine():
    claims = [Claim(name, "…", "us", name, delta=0.01, lower="a", than="b") for name in ("seconds", "apart")]
    changed = {"variants": ("a", "b"), "claims": claims, "units": {"seconds": Unit("a step", timed=True)}}
    values = made_up.of_values({"a": [2.0, 2.0], "b": [3.0, 3.1]}, "seconds")
    report = Report(dataclasses.replace(guess.EXPERIMENT, **changed), values, None)
    assert [claim.machine for claim in publish.summary_of(report).claims] == ["a (abilities unknown)", None]
    page = card.markdown(report)
    assert "**seconds** … (us): **undecided** on a (abilities unknown)." in page
    assert "**apart** … (us): **undecided**." in page


@pytest.mark.parametrize(("direction", "verdict"), [("higher", "supported"), ("lower", "contradicted")])
def test_words_tell_a_minus_b_whatever_the_claims_direction(direction, verdict):
    claim = Claim("C", "…", "…", "test_accuracy", **{direction: "a"}, than="b")
    report = reported(claim, {"a": [0.61, 0.60, 0.62, 0.61, 0.61] * 2, "b": [0.50, 0.51, 0.50, 0.49, 0.50] * 2})
    (judgement,) = report.judgements
    assert judgement.verdict == verdict
    words = report.words(judgement, judgement.comparisons[0], brief=True)
    # Differences 11, 9, 12, 12, 11, twice: mean 11, deviation √(12/9); the quantile is that of 1 - 0.05/4.
    half = stats.t.ppf(1 - 0.05 / 4 / 2, 9) * (12 / 9) ** 0.5 / 10**0.5
    assert words == f"test accuracy, a minus b: +11.00 [+{11 - half:.2f}, +{11 + half:.2f}] points"


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_words_tell_the_ratio_of_what_logarithms_are_of(direction):
    claim = Claim("C", "…", "…", "log_time", **{direction: "a"}, than="b")
    report = reported(claim, {"a": [np.log(3.0), np.log(3.1)] * 5, "b": [np.log(1.5), np.log(1.55)] * 5})
    (judgement,) = report.judgements
    assert ", 2.00 times" in report.words(judgement, judgement.comparisons[0])
    assert ", 2.00 times" in report.words(judgement, judgement.comparisons[0], brief=True)


def of_curves(curves: dict[str, list[list[float]]], **fields) -> Report:
    records = [
        made_up.record(variant, seed, curves={"y": curve})
        for variant, runs in curves.items()
        for seed, curve in enumerate(runs, 1)
    ]
    tuning = Tuning("rate", {}, Objective("validation_accuracy"))
    experiment = dataclasses.replace(guess.EXPERIMENT, variants=tuple(curves), claims=[], tuning=tuning)
    return Report(experiment, made_up.evidence(records), made_up.sweep(**fields))


def test_curves_of_unequal_length_are_drawn_as_far_as_each_goes():
    drawn = figure.draw([Lines("y")], of_curves({"a": [[1.0, 2.0, 3.0], [3.0]], "b": [[], [5.0]]}))
    lines = drawn.axes[0].lines
    assert lines[0].get_ydata().tolist() == [2.0, 2.0, 3.0]
    assert lines[1].get_ydata().tolist() == [5.0]
    assert drawn.axes[0].get_title() == "Mean and range over 1 to 2 seeds"


def test_a_sweeps_panel_shows_means_and_says_of_how_many_seeds():
    def trial(variant, seed, rate, status="finished"):
        fields = {"config": {"rate": rate}, "status": status, "metrics": {"test_accuracy": 0.5 + rate * seed}}
        return Trial(variant=variant, seed=seed, cause=None, **fields)

    curve = [trial("a", seed, rate) for seed in range(1, 11) for rate in (0.01, 0.02)]
    curve += [trial("b", seed, 0.01, status) for seed, status in enumerate(("finished", "diverged", "failed"), 1)]
    drawn = figure.draw([Sweep()], of_curves({"a": [], "b": []}, variants=["a", "b"], curve=curve))
    assert drawn.axes[0].get_title() == "Sensitivity: mean and range over 3 to 10 seeds"
    first, second = drawn.axes[0].lines
    assert first.get_ydata().tolist() == pytest.approx([55.5, 61.0])
    assert second.get_ydata().tolist() == pytest.approx([51.5])  # A diverged trial counts, a failed one does not.


@pytest.mark.parametrize("kind", ["range", "interval"])
def test_a_band_is_the_range_or_the_means_interval(kind):
    y = np.array([[1.0, 2.0], [2.0, np.nan], [6.0, 4.0]])
    low, high = figure.band_of(y, kind)
    if kind == "range":
        assert (low.tolist(), high.tolist()) == ([1.0, 2.0], [6.0, 4.0])
    for place, column in enumerate([y[:, 0], y[[0, 2], 1]] if kind == "interval" else []):
        expected = stats.t.interval(0.95, len(column) - 1, column.mean(), stats.sem(column))
        assert (low[place], high[place]) == pytest.approx(expected)


def test_a_legend_names_the_lines_in_the_order_in_which_they_end():
    drawn = figure.draw(
        [Lines("y")], of_curves({name: [[0.1, end]] for name, end in {"a": 0.2, "b": 0.9, "c": 0.5}.items()})
    )
    drawn.draw_without_rendering()
    (axes,) = drawn.axes
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["b", "c", "a"]
    assert legend.get_window_extent().x0 >= axes.get_window_extent().x1
    assert legend.get_window_extent().x1 <= drawn.bbox.x1


def test_many_pairs_that_are_equal_take_one_row():
    values = {name: {seed: 0.5 + 0.001 * np.sin(7 * seed + i) for seed in range(10)} for i, name in enumerate("abcd")}
    claim = Claim("X", "All are equal", "us", "test_accuracy", equal=tuple("abcd"))
    judgement = judge(claim, values, 1)
    (row,) = forest.rows([judgement])
    assert (row.label, row.word) == ("X   all 6 pairs", "supported")
    assert row.low == min(comparison.low for comparison in judgement.comparisons) / 0.01
    assert row.high == max(comparison.high for comparison in judgement.comparisons) / 0.01
    apart = judge(claim, values | {"d": {seed: value + 0.1 for seed, value in values["d"].items()}}, 1)
    assert len(forest.rows([apart])) == 6
