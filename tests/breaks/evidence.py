"""Breaks of lab/evidence/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

HASHED, UNHASHED = (
    "tests/test_evidence.py::test_what_makes_a_number",
    "tests/test_evidence.py::test_what_makes_no_number",
)
PUBLISHED = "tests/test_published.py"
CHECKED, FIELDS = "tests/test_evidence.py::test_what_no_type_can_say", "tests/faults/test_formats.py::test_each_field"

CLAIMS, STOPPING = "tests/test_claims.py", "tests/test_stopping_rule.py"

ROWS = [
    *of(
        "lab/evidence/staleness.py",
        (
            "if record.settings != as_read_back(experiment.settings(record.variant)):",
            "if False:",
            "tests/test_published.py::test_evidence_tuned_otherwise",
        ),
    ),
    *of(
        "lab/evidence/records.py",
        (
            "    except Exception as error:\n",
            "    except OSError as error:\n",
            "tests/test_board.py::test_what_can_not_be_logged",
        ),
        (
            'record.status != "failed"]',
            'record.status == "finished"]',
            "tests/test_evidence.py::test_a_failed_run_has_no_value",
        ),
    ),
    *of(
        "lab/evidence/code_hash.py",
        ("    _tree.cache_clear()\n", "    pass\n", HASHED),
        ('"returns", ', "", UNHASHED),
        ('        del fields["msg"]\n', "        pass\n", UNHASHED),
        ("_canonical(node.exc.func if", "_canonical(node.exc if", UNHASHED),
        ("        return node.value is None\n", "        return False\n", UNHASHED),
        ('return ["Raise", ', 'return ["Raise"] or [', HASHED),
        ('fields["fields"] = [', 'fields["fields"] = [] and [', HASHED),
        ('ROOT / "pipelines/batches.py", ', "", HASHED),
        (', ROOT / "pipelines/splits.py"', "", HASHED),
        ("_with_recipes_imported([own, measuring])", "[own, measuring]", HASHED),
        ("return [_root(node.value)]", "return []", HASHED),
        (
            "if before[name] not in now.values()",
            "if before[name] != now.get(name)",
            "tests/test_evidence.py::test_moving",
        ),
        ('if getattr(part, "value", None) != ""', "if 0", "tests/test_evidence.py::test_code_is_read_alike"),
    ),
    *of(
        "lab/evidence/provenance.py",
        ("folder = folder.parent", "break", "tests/test_evidence.py::test_cores_are_those"),
        ("math.ceil(", "int(", "tests/test_evidence.py::test_cores_are_those"),
        ("return max(1, ", "return max(2, ", "tests/test_evidence.py::test_cores_are"),
        ('in ("1", "true") else', 'in ("1",) else', "tests/test_evidence.py::test_a_switch"),
    ),
    *of(
        "lab/evidence/carry_over.py",
        (
            '"curves", "correct", "weights", "settings")',
            '"curves", "correct", "settings")',
            "tests/test_attesting.py::test_each_part_of_a_record",
        ),
        ("- set(timed)", "- {*a.metrics, *timed}", "tests/test_attesting.py::test_each_part_of_a_record"),
        ("new_runs, experiment.timed)", "new_runs, dropped)", "tests/test_attesting.py::test_what_was_carried_once"),
        ("int(now, 16) % (len(of_all) - 1)", "0", "tests/test_attesting.py::test_the_seeds_are_the_first_one"),
        ("in chosen or r.", "in chosen and r.", "tests/test_attesting.py::test_what_diverged_is_run_again"),
        (
            "old_runs = its_runs if here else _run(",
            "old_runs = its_runs or _run(",
            "tests/test_attesting.py::test_on_another_machine",
        ),
        ("elif claimed and claimed <=", "elif False and claimed <=", "tests/test_attesting.py::test_times_stay_behind"),
        (
            "if experiment.table and published.stale_tuning:",
            "if False:",
            "tests/test_attesting.py::test_a_table_of_other_code",
        ),
    ),
    *of(
        "lab/evidence/lineage.py",
        (" if name not in link.dropped", "", "tests/test_attesting.py::test_links_are_followed"),
        ("if found.code != link.before:", "if False:", "tests/test_attesting.py::test_links_are_followed"),
    ),
    *of(
        "lab/evidence/schemas.py",
        ("abs(counted - accuracy) >= 1e-6", "abs(counted - accuracy) >= 1", CHECKED),
        ("not 0 <= value <= 1:", "not 0 <= value <= 100:", CHECKED),
        ("Meta(gt=-LARGEST, lt=LARGEST)", "Meta(gt=-LARGEST)", CHECKED),
        (" or seeds not in whole", "", CHECKED),
        ('if self.status != "failed" and', "if False and", CHECKED),
        ("    effects: list[Effect] = []\n", "    effects: list[Any] = []\n", FIELDS),
        ("    versions: dict[str, str]\n    keras:", "    versions: Config\n    keras:", FIELDS),
        ("    tuner: str\n", '    tuner: str = ""\n', FIELDS),
    ),
    *of(
        "lab/evidence/occasions.py",
        ("began - until >= GAP", "began - until > GAP", f"{STOPPING}::test_an_occasion_is"),
        ("setdefault(record.host, {})", 'setdefault("", {})', f"{STOPPING}::test_an_occasion_is"),
        ("until is None else max(until, end)", "until is None else began", f"{STOPPING}::test_an_occasion_is"),
        ("enumerate(sorted(stretches))", "enumerate(stretches)", f"{STOPPING}::test_an_occasion_is"),
        (
            "first, last = mine.get(record.seed, (began, end))",
            "first, last = began, end",
            f"{STOPPING}::test_an_occasion_is",
        ),
        ('if "memory" not in metric}', "}", f"{CLAIMS}::test_a_report_judges_times"),
    ),
]
