"""Breaks of the modules at the top of lab/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ROWS = [
    *of(
        "lab/statistics.py",
        (
            "sign = -1.0 if claim.lower",
            "sign = 1.0 if claim.lower",
            "tests/test_claims.py::test_lower_is_the_mirror_image",
        ),
        ("    elif low > by:\n", "    elif high > by:\n", "tests/test_claims.py::test_the_words_of_a_difference"),
        (
            "FAMILY_ERROR / len(looks) / claims",
            "FAMILY_ERROR / claims",
            "tests/test_claims.py::test_interval_and_effect",
        ),
        (
            '<= {"holds", "holds in direction"}:',
            "<= set():",
            "tests/test_claims.py::test_holding_together_costs_no_level",
        ),
        (
            'if found.word != "open":\n            break',
            "pass",
            "tests/test_claims.py::test_a_comparison_keeps_the_word",
        ),
        ("a[seed] - b[seed]", "b[seed] - a[seed]", "tests/test_claims.py::test_interval_and_effect"),
    ),
    *of(
        "lab/tuning.py",
        (
            "return -1 if self.lower else 1",
            "return 1 if self.lower else -1",
            "tests/test_tuning.py::test_a_diverged_trial_never_wins",
        ),
        (
            "if edge == settings[self.swept] != wider",
            "if edge == -settings[self.swept] != wider",
            "tests/test_tuning.py::test_a_winner_at_the_edge_is_widened",
        ),
        ("if low <= value <= high and", "if", "tests/test_tuning.py::test_nothing_is_tried_beyond"),
        ("SEED = 0\n", "SEED = 1\n", "tests/test_tuning.py::test_a_winner_at_the_edge_is_widened"),
        (">= y.max() - GOOD", ">= y.max() - GOOD / 4", "tests/test_tuning.py::test_good_decades_interpolates"),
        (
            "trial.metrics[objective.metric] * objective.sign",
            "trial.metrics[objective.metric]",
            "tests/test_tuning.py::test_each_variant_may_have_an_objective",
        ),
        ("if mean >= best - error", "if mean >= best", "tests/test_tuning.py::test_the_best_three_win_by_their_means"),
        (
            "if len(mine) == 1 + len(self.final_seeds) and all(",
            "if all(",
            "tests/test_tuning.py::test_what_diverged_at_one_seed",
        ),
        (
            "trial.metrics[objective.metric] * objective.sign",
            'trial.metrics["train_accuracy"] * objective.sign',
            "tests/test_wiring.py::test_a_sweeps_winner",
        ),
        (
            "trial.metrics[objective.metric] * objective.sign",
            'trial.metrics["test_accuracy"] * objective.sign',
            "tests/test_wiring.py::test_a_sweeps_winner",
        ),
        (
            "for trial in search if trial.variant == variant] for variant in variants}",
            "for trial in search] for variant in variants}",
            "tests/test_wiring.py::test_a_sweeps_winner",
        ),
    ),
    *of(
        "lab/measurement.py",
        (
            "feed(name, data, config)",
            'feed("none", data, config)',
            "tests/test_regularization.py::test_the_sample_that_is_shown",
        ),
    ),
    *of(
        "lab/table.py",
        (" or len({tuple(trial.metrics) for trial in trials}) != 1", "", "tests/test_tuning.py::test_a_table_lacks"),
        (" or set(found) != wanted", "", "tests/test_tuning.py::test_a_table_lacks"),
    ),
    *of(
        "lab/stopping_rule.py",
        (
            "else set(comparison.between)",
            "else set(experiment.names)",
            "tests/test_stopping_rule.py::test_seeds_are_added",
        ),
        (
            "            put_away(str(invocation.folder), record)",
            "            pass",
            "tests/test_stopping_rule.py::test_it_stops",
        ),
    ),
]
