"""Breaks of lab/report/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ROWS = [
    *of(
        "lab/report/report.py",
        ("if look >= seeds", "if look > seeds", "tests/test_claims.py::test_what_it_takes_is_named_by_the_look"),
        (
            "(look for look in LOOKS",
            "(seeds for look in LOOKS",
            "tests/test_claims.py::test_what_it_takes_is_named_by_the_look",
        ),
        (
            "levels_of(self.records, name, name in self.recipe.timed)",
            "levels_of(self.records, name, False)",
            "tests/test_measures.py::test_seeds_that_one_variant_alone_has",
        ),
        (
            "unit.show(statistics.mean(values)) + spread",
            "unit.show(max(values)) + spread",
            "tests/test_measures.py::test_a_table_gives",
        ),
        ("statistics.stdev(values)", "statistics.pstdev(values)", "tests/test_measures.py::test_a_table_gives"),
        ("sign = -1 if claim.lower or claim.falling else 1", "sign = 1", "tests/test_chain.py::test_the_ledger_says"),
        (
            "unit.show(sign * comparison.mean, sign=True)",
            "unit.show(comparison.mean, sign=True)",
            "tests/test_chain.py::test_the_ledger_says",
        ),
    ),
    *of(
        "lab/report/figure.py",
        ("metric, unit.timed)", "metric, False)", "tests/test_measures.py::test_seeds_that_one_variant_alone_has"),
        ("groups[-1] += last", "groups.append(last); break", "tests/test_measures.py::test_names_beside_lines"),
    ),
    *of(
        "lab/report/publish.py",
        (
            "mean - FLOOR_DEVIATIONS * deviation",
            "mean + FLOOR_DEVIATIONS * deviation",
            "tests/test_published.py::test_a_floor_is_five",
        ),
    ),
    *of(
        "lab/report/advice.py",
        (
            "abs(Decimal(value) - digits)",
            "abs(abs(Decimal(value)) - digits)",
            "tests/test_practice.py::test_a_sign_that",
        ),
        ("if not known[match.start()]:", "if False:", "tests/test_practice.py::test_a_number_that_nothing"),
        ('if "log" in metric else', 'if metric == "" else', "tests/test_practice.py::test_a_ratio_of_logarithms"),
    ),
    *of(
        "lab/report/forest.py",
        ("comparison.mean / by", "-comparison.mean / by", "tests/test_chain.py::test_the_picture"),
    ),
    *of(
        "lab/report/in_place.py",
        (
            "if not place.exists():\n                old.rename",
            "if False:\n                old.rename",
            "tests/faults/test_machine.py::test_what_a_killed_publish",
        ),
    ),
]
