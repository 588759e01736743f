"""Grids, widening, equal numbers of trials, and the width of the good range."""

import itertools
import math

import pytest
from msgspec.structs import replace

from lab.evidence.records import EvidenceError
from lab.evidence.schemas import LOOKS, Trial
from lab.experiments.optimizers import EXPERIMENT, LITERAL, TUNING
from lab.table import Table
from lab.tuning import FINAL_SEEDS, SEED, Objective, Tuning, good_decades, half_decades


def record(variant, seed, config, value, status="finished"):
    metrics = {"score": value, "test_accuracy": min(max(value, 0.0), 1.0)}
    return Trial(variant=variant, seed=seed, config=config, metrics=metrics, status=status, cause=None)


def test_half_decades():
    assert half_decades(1e-3, 1.0) == (0.001, 0.0032, 0.01, 0.032, 0.1, 0.32, 1.0)


def test_a_winner_at_the_edge_is_widened_and_all_variants_get_a_second_look():
    best = {"a": 3.0, "b": 0.03}
    tuning = Tuning(
        "rate",
        dict.fromkeys(best, half_decades(0.01, 1.0)),
        Objective("score"),
        fixed={"decay": 0.1},
        second={"b": ("decay", (0.0, 0.5))},
        curve={"a": 3},
    )

    def trials(wanted):
        return [
            record(v, s, c, 1 - math.log10(c["rate"] / best[v]) ** 2 - (c.get("decay", 0.1) - 0.5) ** 2 / 100)
            for v, s, c in wanted
        ]

    search, curve = tuning.sweep(best, trials)
    winners = tuning.winners(search)
    assert winners["a"]["rate"] == 3.2
    assert winners["b"]["rate"] == 0.032
    assert winners["b"]["decay"] == 0.5
    first = [r for r in search if r.seed == SEED]
    tried = {v: [(r.config["rate"], r.config.get("decay", 0.1)) for r in first if r.variant == v] for v in best}
    grid = [0.01, 0.032, 0.1, 0.32, 1.0]
    # Widened until the winner is no edge, then a second look of two: finer rates for a, other decays for b.
    assert tried["a"] == [(rate, 0.1) for rate in (*grid, 3.2, 10.0, 1.8, 5.7)]
    # The highest decay has won, so a higher one is tried, and loses; then the rates beside the best at that decay.
    decays = [(0.032, 0.0), (0.032, 0.5), (0.032, 5.0), (0.01, 0.5), (0.1, 0.5)]
    assert tried["b"] == [*((rate, 0.1) for rate in grid), *decays]
    finals = {v: [(r.seed, r.config["rate"]) for r in search if r.variant == v and r.seed != SEED] for v in best}
    assert finals["a"] == [(seed, rate) for seed in FINAL_SEEDS for rate in (3.2, 1.8, 5.7)]
    assert not {SEED, *FINAL_SEEDS} & {*range(301, 301 + LOOKS[-1])}
    assert {r.seed for r in curve} == {811, 812, 813}
    assert {r.config["rate"] for r in curve if r.variant == "a"} == {*grid, 3.2, 10.0}
    assert not any(r.variant == "b" for r in curve)


def test_nothing_is_tried_beyond_a_fields_limits():
    grids = {"share": (0.3, 0.5, 0.7), "free": (0.3, 0.5, 0.7)}
    tuning = Tuning("rate", grids, Objective("score"), limits={"share": (0.0, 0.9)})
    search, _ = tuning.sweep(grids, lambda wanted: [record(v, s, c, c["rate"]) for v, s, c in wanted])
    tried = {v: [r.config["rate"] for r in search if r.variant == v and r.seed == SEED] for v in grids}
    # 2.2 is no share, and the limit is tried in its place; 1.6 is none either.
    assert tried["share"] == [0.3, 0.5, 0.7, 0.9, 0.51]
    assert max(tried["free"]) > 2


def test_a_winner_at_an_edge_by_its_mean_alone_is_widened_at_all_seeds():
    tuning = Tuning("rate", {"a": (0.32, 1.0, 1.8)}, Objective("score"), finer=False)

    def trials(wanted):  # By seed 0 a rate of 1 is best, by all others 10.
        return [
            record(v, s, c, 1 - abs(math.log10(c["rate"])) if s == SEED else -abs(math.log10(c["rate"] / 10)))
            for v, s, c in wanted
        ]

    search, _ = tuning.sweep(["a"], trials)
    assert tuning.winners(search)["a"]["rate"] == 5.7
    for rate in (5.7, 18.0):
        assert [r.seed for r in search if r.config["rate"] == rate] == [SEED, *FINAL_SEEDS]


def test_a_decay_that_wins_by_its_mean_alone_gets_a_higher_one_at_all_seeds():
    tuning = Tuning(
        "rate",
        {"a": (0.1, 0.32, 1.0)},
        Objective("score"),
        second={"a": ("decay", (0.0, 0.04))},
        fixed={"decay": 0.004},
        found=(),
    )

    def trials(wanted):  # By the first seed less decay is better, by all others more.
        return [
            record(
                v,
                s,
                c,
                1 - abs(math.log10(c["rate"] / 0.32)) + (-c["decay"] if s == SEED else min(c["decay"], 0.5)) / 9,
            )
            for v, s, c in wanted
        ]

    search, _ = tuning.sweep(["a"], trials)
    for decay in (0.4, 4.0):
        assert [r.seed for r in search if r.config["decay"] == decay] == [SEED, *FINAL_SEEDS]
    assert tuning.winners(search)["a"]["decay"] in (0.4, 4.0)


def test_what_the_grid_has_is_not_tried_again_as_a_finer_neighbor():
    tuning = Tuning("rate", {"a": (0.2, 0.35, 0.5)}, Objective("score"))  # 0.35 / 1.78 is 0.2.
    search, _ = tuning.sweep(["a"], lambda wanted: [record(v, s, c, -abs(c["rate"] - 0.3)) for v, s, c in wanted])
    assert [r.config["rate"] for r in search if r.seed == SEED] == [0.2, 0.35, 0.5, 0.62]
    assert len([r for r in search if r.config["rate"] == 0.2]) == 1 + len(FINAL_SEEDS)


def test_each_variant_may_have_an_objective_of_its_own():
    soonest, furthest = Objective("epochs", lower=True), Objective("score")
    tuning = Tuning("rate", {}, {"race": soonest, "end": furthest})
    records = []
    for variant, seed in itertools.product(("race", "end"), (SEED, *FINAL_SEEDS)):
        for rate, epochs, accuracy in ((0.1, 2.0, 0.5), (1.0, 3.0, 0.6)):
            metrics = {"epochs": epochs, "score": accuracy}
            records.append(replace(record(variant, seed, {"rate": rate}, accuracy), metrics=metrics))
    assert {variant: found["rate"] for variant, found in tuning.winners(records).items()} == {"race": 0.1, "end": 1.0}


def test_a_diverged_trial_never_wins_and_no_winner_is_no_crash():
    objective = Objective("score", lower=True)
    good, bad, worse = record("a", 0, {}, 0.5), record("a", 0, {}, 0.1, "diverged"), record("a", 0, {}, 0.6)
    assert objective.ranked([bad, worse, good]) == [good, worse]  # Lower is better.
    assert objective.ranked([bad]) == []
    tuning = Tuning("rate", {"a": (0.1, 1.0)}, objective)
    trials = lambda wanted: [record(v, s, c, 0.5, "diverged") for v, s, c in wanted]  # noqa: E731
    search, _ = tuning.sweep(["a"], trials)
    assert [trial.config for trial in search] == [{"rate": 0.1}, {"rate": 1.0}]
    assert tuning.winners(search) == {}


def test_good_decades_interpolates_along_the_logarithm():
    tent = [record("a", 1, {"rate": rate}, 0.6 - 0.04 * abs(math.log10(rate) + 2)) for rate in half_decades(1e-4, 1)]
    assert good_decades(tent, "rate")["a"][1] == pytest.approx(1.0, abs=0.01)


def test_the_optimizers_grids_cover_three_decades_in_half_decade_steps():
    for grid in TUNING.grids.values():
        steps = [math.log10(b / a) for a, b in itertools.pairwise(grid)]
        assert steps == pytest.approx([0.5] * len(steps), abs=0.02)
        assert math.log10(grid[-1] / grid[0]) >= 3 - 1e-9
    assert set(TUNING.grids) == set(EXPERIMENT.names) - set(LITERAL)


def test_a_field_that_is_fixed_for_some_variants_is_left_to_the_others_own():
    """Else the sweep would put its decay in the place of one that a variant binds."""
    tuning = Tuning(
        "rate", {"a": (0.1,), "b": (0.1,)}, Objective("score"), {"decay": 0.5, "steps": 0}, {"a": ("decay", (0.0,))}
    )
    assert tuning._config("a", 0.1) == {"rate": 0.1, "decay": 0.5, "steps": 0}
    assert tuning._config("b", 0.1) == {"rate": 0.1, "steps": 0}


def test_without_widenings_and_finalists_every_variant_has_the_same_trials():
    """The winner at the highest rate and second value gets no more trials than any other."""
    tuning = Tuning(
        "rate",
        {"a": (0.1, 0.2, 0.4), "b": (1.0, 2.0, 4.0)},
        Objective("score"),
        second={"a": ("decay", (0.0, 9.0))},
        fixed={"held_out": 1},
        finalists=0,
        final_seeds=(),
        finer=False,
        widenings=0,
        own_fixed={"a": {"decay": 0.5}},
    )
    search, curve = tuning.sweep(
        ["a", "b"], lambda wanted: [record(v, s, c, c["rate"] + c.get("decay", 0.0)) for v, s, c in wanted]
    )
    tried = {v: [(t.config["rate"], t.config.get("decay")) for t in search if t.variant == v] for v in "ab"}
    assert tried["a"] == [(0.1, 0.5), (0.2, 0.5), (0.4, 0.5), (0.4, 0.0), (0.4, 9.0)]
    assert tried["b"] == [(1.0, None), (2.0, None), (4.0, None)]
    assert {trial.seed for trial in search} == {SEED}
    assert all(trial.config["held_out"] == 1 for trial in search)
    assert curve == []
    assert tuning.winners(search)["a"] == {"rate": 0.4, "decay": 9.0, "score": 9.4}
    assert tuning.winners(search)["b"]["rate"] == 4.0


def test_a_table_tries_every_setting_at_every_seed():
    asked = []
    table = Table(lambda setting, run: {}, {"rate": (0.1, 1.0), "width": (1, 2, 3)}, seeds=(1, 2))
    table.sweep(["whatever"], lambda wanted: asked.extend(wanted) or [])
    assert len(asked) == 2 * 3 * 2
    assert {variant for variant, *_ in asked} == {"setting"}
    assert len({(seed, *fields.values()) for _, seed, fields in asked}) == len(asked)


@pytest.mark.parametrize(
    "change",
    [
        lambda trials: trials.pop(),
        lambda trials: trials.append(trials[0]),
        lambda trials: trials.insert(0, replace(trials.pop(), seed=7)),
        lambda trials: trials.insert(0, replace(trials.pop(), config={"rate": 0.5})),
        lambda trials: trials.insert(0, replace(trials.pop(), config={})),
        lambda trials: trials.insert(0, replace(trials.pop(), metrics={"other": 1.0})),
        lambda trials: trials.clear(),
    ],
)
def test_a_table_lacks_nothing_and_has_nothing_else(monkeypatch, change):
    table = Table(lambda setting, run: {}, {"rate": (0.1, 1.0)}, seeds=(1, 2))
    trials = [record("setting", seed, {"rate": rate}, rate / seed) for seed in (2, 1) for rate in (0.1, 1.0)]
    monkeypatch.setattr(Table, "_published", staticmethod(lambda _: trials))
    assert {setting: rows[:, 0].tolist() for setting, rows in table.read("toy").items()} == {
        (0.1,): [0.1, 0.05],
        (1.0,): [1.0, 0.5],
    }
    change(trials)
    with pytest.raises(EvidenceError, match="toy"):
        table.read("toy")


def five(rate, *values, statuses=("finished",) * 5):
    of_seeds = zip((SEED, *FINAL_SEEDS), values, statuses, strict=True)
    return [record("a", seed, {"rate": rate}, value, status) for seed, value, status in of_seeds]


@pytest.mark.parametrize(
    ("values", "winner"),
    [
        # Standard errors are 0.0045: one seed's best, 0.59, is not the best of five.
        ({0.1: (0.59, 0.5, 0.5, 0.5, 0.5), 0.32: (0.54, 0.55, 0.56, 0.55, 0.55)}, 0.32),
        # Level with the best at 1.0: the middle one wins.
        (
            {
                0.1: (0.550, 0.57, 0.55, 0.57, 0.55),
                0.32: (0.55, 0.57, 0.55, 0.56, 0.56),
                1.0: (0.56,) * 3 + (0.55, 0.58),
            },
            0.32,
        ),
        # The others are worse by more than that.
        (
            {
                0.1: (0.50, 0.51, 0.5, 0.51, 0.5),
                0.32: (0.51, 0.52, 0.51, 0.52, 0.51),
                1.0: (0.55, 0.56, 0.55, 0.56, 0.55),
            },
            1.0,
        ),
        # Of two the better one.
        ({0.1: (0.56, 0.55, 0.57, 0.55, 0.56), 0.32: (0.55, 0.56, 0.56, 0.55, 0.56)}, 0.1),
    ],
)
def test_the_best_three_win_by_their_means_and_what_is_level_by_its_place(values, winner):
    search = [one for rate, of_it in values.items() for one in five(rate, *of_it)]
    tuning = Tuning("rate", {}, Objective("score"))
    assert tuning.winners(search)["a"]["rate"] == winner


def test_what_diverged_at_one_seed_or_was_tried_at_one_only_does_not_win():
    search = [*five(0.1, *(0.5, 0.51, 0.5, 0.52, 0.5)), record("a", 0, {"rate": 0.01}, 0.9)]
    search += five(1.0, *(0.9,) * 5, statuses=("finished",) * 4 + ("diverged",))
    assert Tuning("rate", {}, Objective("score")).winners(search)["a"]["rate"] == 0.1
