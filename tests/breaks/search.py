"""Breaks of lab/search/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

SEARCHING = "tests/test_searching.py"
ROWS = [
    *of(
        "lab/search/search.py",
        ("num_initial_points=BATCH", "num_initial_points=None", f"{SEARCHING}::test_each_tuner_is_the_one"),
        ('kt.Objective(OBJECTIVE, "max")', 'kt.Objective(OBJECTIVE, "min")', f"{SEARCHING}::test_hyperband_goes_on"),
        ("-(trial.score or 0.0)", "trial.score or 0.0", f"{SEARCHING}::test_failed_trials_rank_last"),
        ("(trial.score is None, -(trial", "(False, -(trial", f"{SEARCHING}::test_failed_trials_rank_last"),
        (
            "or different <= trials:",
            "or different < trials:",
            f"{SEARCHING}::test_a_space_of_four_settings_is_tried_once",
        ),
        (
            "self._random_populate_space() if again",
            "proposed if again",
            f"{SEARCHING}::test_bayesian_optimization_proposes_nothing",
        ),
        ("    oracle._max_collisions = 100_000", "    pass", f"{SEARCHING}::test_random_search_reaches_the_last"),
        (
            "different / begun))",
            "99))",
            f"{SEARCHING}::test_hyperband_never_runs_out",
        ),
        ("    if begun > different:", "    if False:", f"{SEARCHING}::test_hyperband_never_runs_out"),
        (
            'trial.message = "FAILED", record.cause',
            'trial.message = "FAILED", None',
            f"{SEARCHING}::test_failed_trials_stop_no_search",
        ),
        ('    if "KERASTUNER_ORACLE_IP" in os.environ:', "    if False:", f"{SEARCHING}::test_a_search_is_not_shared"),
        ('fields["epochs"] = int(', 'fields["epochs"] = 1 + int(', f"{SEARCHING}::test_hyperband_from"),
    ),
    *of(
        "lab/search/search.py",
        (
            "value = record.metrics.get(OBJECTIVE)",
            'value = record.metrics.get("train_accuracy")',
            "tests/test_wiring.py::test_a_search_scores",
        ),
    ),
]
