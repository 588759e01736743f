"""Breaks of lab/tensorboard/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ROWS = [
    *of(
        "lab/tensorboard/pictures.py",
        (
            "np.add.at(counts, (labels, predicted), 1)",
            "np.add.at(counts, (predicted, labels), 1)",
            "tests/test_board.py::test_the_confusion_matrix_has",
        ),
        (
            "np.flatnonzero(predicted != test.labels)",
            "np.flatnonzero(predicted == test.labels)",
            "tests/test_compare.py::test_misclassified_images_are",
        ),
    ),
    *of(
        "lab/tensorboard/callback.py",
        (
            "[constant] * (until - self._written - len(rates))",
            "[constant]",
            "tests/test_board.py::test_a_constant_rate_is_there",
        ),
        ("(self._written + int(place),", "(int(place),", "tests/test_compare.py::test_a_run_leaves_the_rates"),
    ),
    *of(
        "lab/tensorboard/comparison.py",
        ("else a - b for a, b", "else b - a for a, b", "tests/test_compare.py::test_a_curve_is_the_mean"),
        (
            "lines = {tag: np.nanmean(shown, axis=0)}",
            "lines = {tag: shown[0]}",
            "tests/test_compare.py::test_a_curve_is_the_mean",
        ),
        ("    for old in before:\n        old.unlink()\n", "", "tests/test_compare.py::test_what_is_written_anew"),
        ("when=0.0)\n    write_json", ")\n    write_json", "tests/test_compare.py::test_reference_curves_are"),
    ),
    *of(
        "lab/tensorboard/server.py",
        (
            "    return links\n",
            "    shutil.rmtree(links)\n    return links\n",
            "tests/test_compare.py::test_a_board_shows_the",
        ),
    ),
    *of(
        "lab/tensorboard/following.py",
        ("if any(job.alone for job in jobs) or", "if", "tests/test_compare.py::test_the_log_is_written_anew_while"),
        ("    thread.start()\n", "    return\n", "tests/test_compare.py::test_the_log_is_written_anew_while"),
    ),
    *of(
        "lab/tensorboard/profile.py",
        (
            "if any(start <= begin < start + of_step for",
            "if any(True for",
            "tests/test_monitoring.py::test_a_profile_by_hand",
        ),
        (', "IteratorGetNextAsOptionalOp::DoCompute")', ",)", "tests/test_monitoring.py::test_a_profiled_run_says"),
    ),
]
