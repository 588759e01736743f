"""Breaks of lab/core/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ROWS = [
    *of(
        "lab/core/scoring.py",
        (
            "train_accuracy - test_accuracy",
            "test_accuracy - train_accuracy",
            "tests/test_measures.py::test_scores_by_hand",
        ),
        ("return float(-log_softmax(", "return float(log_softmax(", "tests/test_measures.py::test_scores_by_hand"),
        (
            "(target - before) / (after - before)",
            "(after - target) / (after - before)",
            "tests/test_measures.py::test_epochs_to",
        ),
        (
            "np.linspace(0, len(data.train) - 1, min(",
            "np.linspace(0, len(test) - 1, min(",
            "tests/test_measures.py::test_the_training_accuracy",
        ),
        (
            "train_accuracy - test_accuracy",
            "test_accuracy - train_accuracy",
            "tests/test_chain.py::test_the_ledger_says",
        ),
    ),
    *of(
        "lab/core/timing.py",
        (
            "np.log(self.seconds[variant]) - np.log(self.seconds[than])",
            "np.log(self.seconds[than]) - np.log(self.seconds[variant])",
            "tests/test_measures.py::test_log_ratios_by_hand",
        ),
        (
            "for name in map(str, order.permutation(list(steps))):",
            "for name in list(steps):",
            "tests/test_measures.py::test_log_ratios_by_hand",
        ),
        (
            "for _ in range(steps - left_out):",
            "for _ in range(steps):",
            "tests/test_measures.py::test_log_ratios_by_hand",
        ),
        ("while calls[-1][1] > MOST_OTHERS and", "while False and", "tests/test_measures.py::test_a_disturbed_block"),
        ("key=lambda call: call[1])", "key=lambda call: -call[1])", "tests/test_measures.py::test_a_disturbed_block"),
        ("(busy - own) /", "busy /", "tests/test_measures.py::test_a_disturbed_block"),
    ),
    *of(
        "lab/core/callbacks.py",
        (
            "itertools.islice(iterator, model.steps_per_execution)",
            "itertools.islice(iterator, 1)",
            "tests/test_measures.py::test_validation_a_batch_a_call",
        ),
        (
            ">= self.target",
            "< self.target",
            "tests/test_optimizers.py::test_a_race_ends_at_the_target_and_counts_its_epochs",
        ),
        (
            "seconds[0] - steps[0] * seconds[1:].sum() / later",
            "seconds[0] - seconds[1:].sum() / later",
            "tests/test_measures.py::test_a_stopwatch_tells",
        ),
    ),
    *of(
        "lab/core/run.py",
        (
            "if self._test_was_read:",
            "if False:",
            "tests/test_optimizers.py::test_nothing_is_trained_after_the_test_set_was_read",
        ),
        (
            'get("loss", []) or not found.finite',
            'get("loss", []) and not found.finite',
            "tests/test_measures.py::test_a_run_has_diverged",
        ),
    ),
    *of(
        "lab/core/perform.py",
        ("    set_seed(seed)\n", "    set_seed(0)\n", "tests/test_measures.py::test_a_seed_fixes_the_initial_weights"),
        (
            "with sources.test_set(closed=True):",
            "if True:",
            "tests/test_optimizers.py::test_a_recipe_that_reads_the_test_set_early",
        ),
        (
            "run.data = splits.with_split_seed(run.data, seed)",
            "pass",
            "tests/test_data.py::test_each_seed_has_a_split_of_its_own",
        ),
    ),
    *of(
        "lab/core/state.py",
        ("    settle_keras()\n", "    pass\n", "tests/test_execute.py::test_a_run_does_not_depend"),
        ("tf.config.run_functions_eagerly(False)", "pass", "tests/test_execute.py::test_a_run_does_not_depend"),
        ("tf_config.disable_op_determinism()", "pass", "tests/test_execute.py::test_a_run_does_not_depend"),
        ("os.environ.clear()", "pass", "tests/test_execute.py::test_a_run_does_not_depend"),
    ),
    *of(
        "lab/core/run.py",
        (
            "            return self.worst(data)\n",
            '            return self.worst(data) | {"test_accuracy": self.curves["val_accuracy"][0]}\n',
            "tests/test_wiring.py::test_a_run_that_diverges_after",
        ),
        (
            "scoring.score(model, data, self.open_test_set(data),",
            "scoring.score(model, data, data.validation,",
            "tests/test_wiring.py::test_a_comparison_says",
        ),
        (
            '"validation_accuracy": validation[-1]',
            '"validation_accuracy": validation[0]',
            "tests/test_wiring.py::test_a_comparison_says",
        ),
    ),
]
