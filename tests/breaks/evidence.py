"""Breaks of lab/evidence/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ROWS = [
    *of(
        "lab/evidence/records.py",
        (
            'record["status"] != "failed"]',
            'record["status"] == "finished"]',
            "tests/test_evidence.py::test_a_failed_run_has_no_value",
        ),
    ),
    *of(
        "lab/evidence/code_hash.py",
        ("node.returns = None", "pass", "tests/test_evidence.py::test_what_train_reaches_counts"),
        ("return ast.Raise(kind)", "return node", "tests/test_evidence.py::test_what_train_reaches_counts"),
        ("return ast.arg(node.arg)", "return node", "tests/test_evidence.py::test_what_train_reaches_counts"),
        ("todo += _uses(node, place[0])", "pass", "tests/test_evidence.py::test_what_train_reaches_counts"),
        ('method[1].split(".")[1] in named', "False", "tests/test_evidence.py::test_what_train_reaches_counts"),
        ("(module, CALLS), *AROUND]", "(module, CALLS)]", "tests/test_evidence.py::test_the_feed_and_what_is_done"),
    ),
    *of(
        "lab/evidence/carry_over.py",
        (
            '"curves", "correct", "weights", "settings")',
            '"curves", "correct", "settings")',
            "tests/test_attesting.py::test_each_part_of_a_record",
        ),
        ("- set(timed)", "- {*a['metrics'], *timed}", "tests/test_attesting.py::test_each_part_of_a_record"),
        ("new_runs, recipe.timed)", "new_runs, dropped)", "tests/test_attesting.py::test_what_was_carried_once"),
        ("int(now, 16) % (len(of_all) - 1)", "0", "tests/test_attesting.py::test_the_seeds_are_the_first_one"),
        ("in chosen or r[", "in chosen and r[", "tests/test_attesting.py::test_what_diverged_is_run_again"),
        ('name.endswith("+changes")', "False", "tests/test_attesting.py::test_a_cheat_is_refused"),
        ('!= found["code"]:', '== "":', "tests/test_attesting.py::test_a_cheat_is_refused"),
        ("if claimed and claimed <= set(timed):", "if False:", "tests/test_attesting.py::test_times_stay_behind"),
    ),
    *of(
        "lab/evidence/lineage.py",
        ('if name not in link["dropped"]', "if True", "tests/test_attesting.py::test_links_are_followed"),
        ('if found.get("code") != link["from"]:', "if False:", "tests/test_attesting.py::test_links_are_followed"),
    ),
    *of(
        "lab/evidence/schemas.py",
        (
            "abs(counted - accuracy) < 1e-6",
            "abs(counted - accuracy) < 1",
            "tests/test_evidence.py::test_what_is_wrong_with_evidence",
        ),
        ("not 0 <= value <= 1", "not 0 <= value <= 100", "tests/test_evidence.py::test_what_is_wrong_with_evidence"),
        (
            "if found.get(SEAL) == _hash(record)",
            "if True",
            "tests/faults/test_formats.py::test_a_record_is_kept_as_it_was",
        ),
        ("abs(value) < LARGEST", "True", "tests/faults/test_formats.py::test_each_field"),
        ('("curve", _list_of(_anything), "a list of records"),\n', "", "tests/faults/test_formats.py::test_each_field"),
        (
            '    ("drawn", _list_of(_with(_EFFECT)), "a list of effects"),\n',
            "",
            "tests/faults/test_formats.py::test_each_field",
        ),
        ("_by_name(_with(_FLOOR))", "_by_name(_anything)", "tests/faults/test_formats.py::test_each_field"),
        ('("epochs", _whole, "a whole number"),', "", "tests/faults/test_formats.py::test_any_progress"),
        ('    ("to", _text, "a hash"),\n', "", "tests/faults/test_formats.py::test_any_links"),
    ),
]
