"""Breaks of lab/tensorboard/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

BOARD, COMPARISON, MONITORING = "tests/test_board.py", "tests/test_comparison.py", "tests/test_monitoring.py"

ROWS = [
    *of(
        "lab/tensorboard/pictures.py",
        (
            "confusion_matrix(labels, predicted,",
            "confusion_matrix(predicted, labels,",
            f"{COMPARISON}::test_the_confusion_",
        ),
    ),
    *of(
        "lab/tensorboard/callback.py",
        ("float(keras.ops.convert_to_numpy(rate))", "float(rate)", f"{BOARD}::test_under_a_strategy"),
        ("self._steps_done(), float(", "self._calls, float(", f"{BOARD}::test_a_constant_rate_is"),
        (
            'getattr(optimizer, "_iterations", optimizer.iterations)',
            "optimizer.iterations",
            f"{BOARD}::test_a_schedule_is",
        ),
        ("range(self._begun, ", "range(", f"{BOARD}::test_the_rates_of_a_schedule"),
        ("float(rate(step))", "float(rate(step + 1))", f"{BOARD}::test_the_rates_of_a_schedule"),
        ("if self._probed < self._epoch:", "if False:", f"{BOARD}::test_norms_and_histograms"),
        ("yield scalar_pb(tag, square**0.5)", "yield scalar_pb(tag, square)", f"{BOARD}::test_the_norm_of"),
        ("tf.convert_to_tensor(gradient)", "gradient.values", f"{BOARD}::test_gradients_that"),
        (
            "sequential = isinstance(model, keras.Sequential)",
            "sequential = False",
            f"{BOARD}::test_norms_and_histograms",
        ),
    ),
    *of(
        "lab/tensorboard/events.py",
        ("of.parts[-6:]", "of.parts[-2:]", f"{COMPARISON}::test_hparams_of_the_same"),
        ("        path.unlink()", "        pass", f"{COMPARISON}::test_what_is_written_again"),
    ),
    *of(
        "lab/tensorboard/comparison.py",
        ("        if variant in found:\n", "        for variant in found:\n", f"{COMPARISON}::test_while_runs_go_on"),
        ("else a - b for a, b", "else b - a for a, b", f"{COMPARISON}::test_a_curve_is_the_mean"),
        (
            "mean = np.nanmean(shown, axis=0)",
            "mean = shown[0]",
            f"{COMPARISON}::test_a_curve_is_the_mean",
        ),
        ("FOLDER / MEANS / variant, folder", "FOLDER / variant, folder", f"{COMPARISON}::test_when_all_is_done"),
        (
            "predictions[0] != test.labels",
            "predictions[0] == test.labels",
            f"{COMPARISON}::test_misclassified_images_are",
        ),
    ),
    *of(
        "lab/tensorboard/server.py",
        ("key=lambda path: path.name", "key=str, reverse=True", f"{COMPARISON}::test_the_newest"),
        ('*logs.glob(f"*/{name}/*/")', "", f"{COMPARISON}::test_a_search_alone_is_served"),
        ('if published.stale else "published"', 'if False else "published"', f"{COMPARISON}::test_published_curves"),
    ),
    *of(
        "lab/tensorboard/profile.py",
        ("if any(start <= begin < start + of_step for", "if any(True for", f"{MONITORING}::test_a_profile_by_hand"),
        (', "IteratorGetNextAsOptionalOp::DoCompute")', ",)", f"{MONITORING}::test_a_profile_by_hand"),
    ),
]
