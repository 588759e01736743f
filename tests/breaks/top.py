"""Breaks of the modules at the top of lab/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

CLAIMS, CLI, OWN = "tests/test_claims.py", "tests/test_cli.py", "tests/test_own_data.py"
EDGES = f"{CLAIMS}::test_what_an_interval_says"
STOPPING = "tests/test_stopping_rule.py"
SEVERAL = "test_a_claim_of_several_comparisons"
BY_HAND = "test_the_test_sets_part_of_the_variance"

ROWS = [
    *of(
        "lab/measurement.py",
        ("with_curve=not invocation", "with_curve=bool(invocation) or not invocation", f"{OWN}::test_tuning_on_your"),
        ("not not_applying(report,", "True or (report,", f"{CLI}::test_a_run_at_another_budget"),
    ),
    *of(
        "lab/claims.py",
        ("sign = -1.0 if self.lower or", "sign = -1.0 if", f"{CLAIMS}::test_lower_is_the_mirror_image"),
        (
            "{pair[0]: sign, pair[1]: -sign}",
            "{pair[0]: -sign, pair[1]: sign}",
            f"{CLAIMS}::test_the_interval_is_scipys",
        ),
        ("sign * (x - middle) / squares", "sign * x / squares", f"{CLAIMS}::test_trend_tests_the_paired_slope"),
        ("(claim.check, claim.family), [])", '(claim.check, ""), [])', f"{CLAIMS}::test_checks_and_claims"),
        ("(claim.check, claim.family), [])", "(False, claim.family), [])", f"{CLAIMS}::test_checks_and_claims"),
        (
            "and self.delta != SMALLEST[self.metric][0]",
            "and self.delta < 0",
            f"{CLAIMS}::test_a_claim_must_make_one_comparison",
        ),
        ('object.__setattr__(self, "check", True)', "pass", f"{CLAIMS}::test_what_is_asserted"),
        ("self.asserted() if callable(self.asserted) else", "", f"{CLAIMS}::test_what_is_asserted_may_be"),
    ),
    *of(
        "lab/statistics.py",
        ("within = -delta < low and", "within = -delta <= low and", EDGES),
        ("and high < delta\n", "and high <= delta\n", EDGES),
        ("        if low > 0:\n", "        if low >= 0:\n", EDGES),
        ("SMALL if low < delta", "SMALL if low <= delta", EDGES),
        ('"contradicted" if high < 0 else', '"contradicted" if high <= 0 else', EDGES),
        ("        if low > -delta:\n", "        if low >= -delta:\n", EDGES),
        ("if high < -delta else (", "if high <= -delta else (", EDGES),
        ("note if high < 0 else", "note if low < 0 else", EDGES),
        ('HIGHER if claim.side == "above" else WORSE', "WORSE", EDGES),
        ("apart = low > delta or", "apart = low >= delta or", EDGES),
        ("or high < -delta\n", "or high <= -delta\n", EDGES),
        ('"supported" if low >= least', '"supported" if low > claim.at_least', EDGES),
        ('"contradicted" if high < least', '"contradicted" if high <= claim.at_least', EDGES),
        ("least = claim.at_least - ROUNDING * max", "least = claim.at_least - 0 * max", f"{CLAIMS}::test_a_count_that"),
        ("low, high = -high, -low", "low, high = low, high", EDGES),
        (
            "(len(looks) if occasions is None else 1)",
            "1",
            f"{CLAIMS}::test_the_interval_is_scipys",
        ),
        (
            "(len(looks) if occasions is None else 1)",
            "len(looks)",
            f"{CLAIMS}::test_of_timings_the_interval",
        ),
        (
            'if found.word != "undecided":\n            break',
            "pass",
            f"{CLAIMS}::test_a_comparison_keeps_the_word",
        ),
        ("if LOOKS[0] <= look <= len(seeds)]", "if look <= len(seeds)]", f"{CLAIMS}::test_fewer_than_ten_seeds"),
        ("np.array(arm) < limit) > 0.5", "np.array(arm) < limit) >= 0.5", f"{CLAIMS}::test_where_both_arms"),
        ("return all(np.mean(np.array(arm)", "return any(np.mean(np.array(arm)", f"{CLAIMS}::test_where_both_arms"),
        ("min(1.5 * chance, chance + 0.05)", "1.5 * chance", f"{CLAIMS}::test_where_both_arms"),
        ("if equal and not claim.exact:", "if equal:", f"{CLAIMS}::test_differences_that_are_all_equal"),
        ("if equal and not claim.exact:", "if False:", f"{CLAIMS}::test_differences_that_are_all_equal"),
        ('"contradicted", "undecided", "no real', '"undecided", "contradicted", "no real', f"{CLAIMS}::{SEVERAL}"),
        ('"undecided", "no real difference", "supported")', '"undecided", "supported")', f"{CLAIMS}::{SEVERAL}"),
        (
            "(len(claim.pairs) + 1) / 2",
            "len(claim.pairs)",
            f"{CLAIMS}::test_the_expected_number_of_false_verdicts",
        ),
        ("        if not is_check\n", "", f"{CLAIMS}::test_the_expected_number_of_false_verdicts"),
        # The test images' part: left out, the rest counted twice, the wrong denominators, the wrong degrees of freedom.
        ("_Part(more - less,", "_Part(more,", f"{CLAIMS}::{BY_HAND}"),
        ("if more > less else None", "if False else None", f"{CLAIMS}::test_intervals_cover"),
        ("w / (n * images)\n", "w / images\n", f"{CLAIMS}::{BY_HAND}"),
        ("/ ((n - 1) * (images - 1))\n", "/ (n * images - 1)\n", f"{CLAIMS}::{BY_HAND}"),
        ("((more, images - 1),", "((more, n - 1),", f"{CLAIMS}::{BY_HAND}"),
        ("sum(term**2 / of", "sum(term**2 / freedom", f"{CLAIMS}::{BY_HAND}"),
        (
            "if n < 2:\n        return None",
            "if n < len(seeds):\n        return None",
            f"{CLAIMS}::test_a_run_without_bits",
        ),
        # Timings.
        ("[:OCCASIONS]]", "]", f"{CLAIMS}::test_a_fifth_occasion"),
        ("len(first) == OCCASIONS else", "len(first) > 1 else", f"{CLAIMS}::test_fewer_than_four_occasions"),
        ("abs(np.mean([_drift", "(np.mean([_drift", f"{CLAIMS}::test_a_drift_within_occasions"),
        ("> claim.delta:\n", "> 2 * claim.delta:\n", f"{CLAIMS}::test_a_drift_within_occasions"),
        ("np.mean(repeats[-half:])", "np.mean(repeats[half:])", f"{CLAIMS}::test_a_drift_within_occasions"),
        (
            "np.array([np.mean(repeats) for repeats in first])",
            "np.concatenate([*first, []])",
            f"{CLAIMS}::test_of_timings_the_interval",
        ),
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
        ("times=min(1, more)", "times=1", "tests/test_tuning.py::test_without_widenings"),
        ("more = self.widenings", "more = WIDENINGS", "tests/test_tuning.py::test_without_widenings"),
        ("**self.own_fixed.get(variant, {})", "**{}", "tests/test_tuning.py::test_without_widenings"),
        (
            "extend(lambda variant, trials: self._beyond_second(variant, trials, won(variant, trials)), all_seeds",
            "extend(lambda variant, trials: self._wider(variant, trials, won(variant, trials)), all_seeds",
            "tests/test_tuning.py::test_a_decay_that_wins",
        ),
        ("SEED = 801\n", "SEED = 301\n", "tests/test_tuning.py::test_a_winner_at_the_edge_is_widened"),
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
            "shift=config.shift, flip=config.flip",
            "shift=0, flip=config.flip",
            "tests/test_variants.py::test_the_sample_that_is_shown",
        ),
    ),
    *of(
        "lab/table.py",
        (" or len({tuple(trial.metrics) for trial in trials}) != 1", "", "tests/test_tuning.py::test_a_table_lacks"),
        (" or set(found) != wanted", "", "tests/test_tuning.py::test_a_table_lacks"),
    ),
    *of(
        "lab/experiment.py",
        (
            'if name == "quick" else BUDGETS[name]',
            "if False else BUDGETS[name]",
            "tests/test_strong_baseline.py::test_it_trains",
        ),
        (
            'if name == "quick" else BUDGETS[name]',
            'if name != "full" else BUDGETS[name]',
            "tests/test_strong_baseline.py::test_it_trains",
        ),
    ),
    *of(
        "lab/parallelism.py",
        ("(2 * half, 2 * half + 2)", "(0, 2)", "tests/test_parallelism.py::test_a_layer_that_is_split"),
        ("tf.device(devices[half % len(devices)])", "tf.device(None)", "tests/test_parallelism.py::test_a_layer_that"),
        ("ends[stage, microbatch - 1]) + 1", "0) + 1", "tests/test_parallelism.py::test_a_pipeline_waits"),
        ("stages - 1) / (microbatches", "stages) / (microbatches", "tests/test_parallelism.py::test_a_pipeline_waits"),
    ),
    *of(
        "lab/stopping_rule.py",
        (
            "else set(comparison.between)",
            "else set(experiment.names)",
            f"{STOPPING}::test_seeds_are_added",
        ),
        (
            "            put_away(str(invocation.folder), record)",
            "            pass",
            f"{STOPPING}::test_it_stops",
        ),
        ("if many < OCCASIONS:", "if True:", f"{STOPPING}::test_each_extension"),
        (
            "first = seeds[-1] + 1 if seeds else",
            "first = seeds[0] + 1 if seeds else",
            f"{STOPPING}::test_each_extension",
        ),
        (
            "*invocation.plan(timed, seeds[REPEATS:])",
            "*invocation.plan(every, seeds[REPEATS:])",
            f"{STOPPING}::test_variants_that_only_train",
        ),
        ("if record.began and record.host == host()]", "if record.began]", f"{STOPPING}::test_within_two_hours"),
        ("default=in_utc() - GAP) + GAP", "default=in_utc() - GAP)", f"{STOPPING}::test_within_two_hours"),
        ("if times_count(invocation.experiment):", "if False:", f"{STOPPING}::test_each_extension"),
    ),
]
