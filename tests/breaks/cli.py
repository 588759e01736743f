"""Breaks of lab/cli/ and benchmarks/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

FLAGS, CLI = "tests/faults/test_flags.py", "tests/test_cli.py"
OF_SEVERAL = f"{CLI}::test_of_several_recipes"
BENCHMARK = "tests/test_benchmark.py"

ROWS = [
    *of(
        "lab/cli/validate.py",
        ("if not least <= value <= most:", "if value < least:", f"{FLAGS}::test_a_refusal_names"),
        ("or max(seeds) > LARGEST_SEED", "", f"{FLAGS}::test_a_refusal_names"),
        ("if not path.isprintable():", "if False:", f"{FLAGS}::test_a_refusal_names"),
        ("fits = 2 ** (images.bit_length() - 1)", "fits = 2 ** images.bit_length()", f"{CLI}::test_a_batch_that_is"),
    ),
    *of(
        "lab/cli/flags.py",
        ('values["seeds"] = ()', "pass", f"{FLAGS}::test_without_a_subcommand"),
        ("if now := OLD.get(", "if now := {}.get(", f"{FLAGS}::test_a_refusal_names"),
        ("return experiment.sweep.chosen", "return set()", f"{FLAGS}::test_a_refusal_names"),
        ('flags["logdir"].expanduser()', 'flags["logdir"]', f"{FLAGS}::test_a_home"),
    ),
    *of(
        "lab/cli/exits.py",
        ("return USAGE, str(error)", "return FAILURE, str(error)", f"{FLAGS}::test_any_flag_value"),
    ),
    *of(
        "lab/cli/commands.py",
        ("worst = max(worst, run(experiment, arguments, said))", "worst = run(experiment, arguments)", OF_SEVERAL),
        ("if worst in (INTERRUPTED, ENDED):", "if False:", f"{CLI}::test_an_interruption_says"),
    ),
    *of(
        "lab/cli/live_table.py",
        ('f"{len(mine)} of {names', 'f"{len(names)} of {names', "tests/test_measures.py::test_a_live_table"),
        ('if self.part == "validation" else', "if True else", "tests/test_measures.py::test_what_is_chosen_by"),
    ),
    *of(
        "lab/cli/python.py",
        ('if all(record.status == "failed"', 'if any(record.status == "failed"', f"{CLI}::test_measure_raises"),
        ("return conclude(invocation, records)", "return conclude(invocation, records[:1])", f"{CLI}::test_measure"),
    ),
    *of(
        "benchmarks/throughput.py",
        ("[theirs / mine for mine", "[mine / theirs for mine", f"{BENCHMARK}::test_ratios_are"),
        ("shuffle(len(train))", "shuffle(len(train)).take(4000)", f"{BENCHMARK}::test_an_epoch_of"),
        ("batches.training(data.train,", "batches.training(data.validation,", f"{BENCHMARK}::test_an_epoch_of"),
        ("if not (answer :=", "if None is (answer :=", f"{BENCHMARK}::test_a_contestant_that_ends"),
        ("process.stdout.readline() == ", "process.stdout.readline() != ", f"{BENCHMARK}::test_a_contestant_that_does"),
    ),
]
