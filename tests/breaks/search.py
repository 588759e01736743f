"""Breaks of lab/search/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ROWS = [
    *of(
        "lab/search/kills.py",
        (
            "for name in oracle.start_order}",
            "for name in oracle.trials}",
            "tests/test_search.py::test_a_search_that_was_killed_while",
        ),
        ('Path(f"{path}.{os.getpid()}")', "Path(path)", "tests/test_search.py::test_a_search_that_was_killed_while"),
        (
            "        oracle._retry_queue.remove(name)\n",
            "        continue\n",
            "tests/test_search.py::test_a_search_that_was_killed_while",
        ),
        (
            '    if "draws" in state:\n',
            "    if False:\n",
            "tests/test_search.py::test_a_search_that_was_stopped_goes_on",
        ),
    ),
    *of(
        "lab/search/search.py",
        (
            "num_initial_points=RANDOM_FIRST",
            "num_initial_points=None",
            "tests/test_searching.py::test_each_tuner_is_the_one",
        ),
        (
            'kt.Objective(OBJECTIVE, "max")',
            'kt.Objective(OBJECTIVE, "min")',
            "tests/test_searching.py::test_each_tuner_is_the_one",
        ),
        (
            "        order_again(oracle)\n",
            "        pass\n",
            "tests/test_searching.py::test_an_interrupted_search_goes_on",
        ),
        (
            "-(trial[OBJECTIVE] or 0.0)",
            "trial[OBJECTIVE] or 0.0",
            "tests/test_searching.py::test_a_search_finds_the_best",
        ),
    ),
]
