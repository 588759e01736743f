"""Breaks of lab/cli/ and benchmarks/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

FLAGS, CLI = "tests/faults/test_flags.py", "tests/test_cli.py"
OF_SEVERAL = f"{CLI}::test_of_several_recipes"
OWN_DATA = "tests/test_own_data.py"
BENCHMARK = "tests/test_benchmark.py"

ROWS = [
    *of(
        "lab/cli/validate.py",
        ("if lacking := [", "if False and [", f"{OWN_DATA}::test_what_was_tuned_is_used"),
        ("    if twice:\n", "    if False:\n", f"{OWN_DATA}::test_what_was_tuned_is_used"),
        (
            "!= (settings.data.source, settings.model)",
            "!= (found.data.source, settings.model)",
            f"{OWN_DATA}::test_what_was_tuned_is_used",
        ),
        ("if together := [", "if False and [", f"{OWN_DATA}::test_variants_that_are_compared"),
        ("if found.recipe != experiment.name:", "if False:", f"{OWN_DATA}::test_what_was_tuned_of_another"),
        ("if not least <= value <= most:", "if value < least:", f"{FLAGS}::test_a_refusal_names"),
        ("or max(seeds) > LARGEST_SEED", "", f"{FLAGS}::test_a_refusal_names"),
        ("if not path.isprintable():", "if False:", f"{FLAGS}::test_a_refusal_names"),
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
        ("worst = max(worst, run(", "worst = (run(", OF_SEVERAL),
        ("if len(experiments) > 1 else", "if False else", f"{CLI}::test_of_several_recipes"),
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
        ("left_out + 2", "left_out + 1", f"{BENCHMARK}::test_an_interval"),
        (
            "in random.sample(list(running.items()), len(running))",
            "in running.items()",
            f"{BENCHMARK}::test_each_round",
        ),
        ("if not (answer :=", "if None is (answer :=", f"{BENCHMARK}::test_a_contestant_that_ends"),
        ('if line.startswith("ready ")', "", f"{BENCHMARK}::test_a_race_tells"),
        ('"MKL_NUM_THREADS"), str(cores))', '"MKL_NUM_THREADS"), "1")', f"{BENCHMARK}::test_a_race_tells"),
        ('if name == "ours":\n', "if False:\n", f"{BENCHMARK}::test_without_ours"),
        ("return (errors or lines", "return (lines", f"{BENCHMARK}::test_another_that"),
        (', "CUDA_VISIBLE_DEVICES": ""}', "}", f"{BENCHMARK}::test_a_race_tells"),
        ("zip(seconds[one], times", 'zip(seconds["ours"], times', f"{BENCHMARK}::test_ratios_are"),
        ("if len(set(weights.values())) > 1:", "if False:", f"{BENCHMARK}::test_contestants_with_other_weights"),
        ("names | dict.fromkeys(TORCH, torch_python)", "names", f"{BENCHMARK}::test_pytorch_takes_part"),
        ("cores = cores or (1, most)", "cores = cores or (most,)", f"{BENCHMARK}::test_both_nets"),
        ("for net in nets or NETS", "for net in NETS", f"{BENCHMARK}::test_nets_and_cores"),
        ("if not 1 <= count <= most:", "if count < 1:", f"{BENCHMARK}::test_what_cannot"),
        ("if net not in NETS:", "if False:", f"{BENCHMARK}::test_what_cannot"),
    ),
    *of(
        "benchmarks/contestants.py",
        ("shuffle(len(train))", "shuffle(len(train)).take(4000)", f"{BENCHMARK}::test_a_round_of"),
        (
            'training(train, NETS["small"]',
            'training(train.take(np.arange(1000)), NETS["small"]',
            f"{BENCHMARK}::test_a_round_of",
        ),
        (", steps_per_execution=16", "", f"{BENCHMARK}::test_a_round_of"),
        ("epochs=NETS[net].epochs", "epochs=1", f"{BENCHMARK}::test_a_round_of"),
        ("build_model=build_model, ", "", f"{BENCHMARK}::test_a_round_of"),
        (", optimizer=ConvMuon(", ", optimizer=strong_baseline.GramMuon(", f"{BENCHMARK}::test_a_round_of"),
        ("in model.trainable_weights", "in model.weights", f"{BENCHMARK}::test_a_round_of"),
        (".shuffle(len(train))", "", f"{BENCHMARK}::test_contestants_train_on_other"),
        ("(0))[:cores])", "(0)))", f"{BENCHMARK}::test_a_contestant_warms"),
        (
            "inter_op_parallelism_threads(cores)",
            "inter_op_parallelism_threads(1)",
            f"{BENCHMARK}::test_a_contestant_warms",
        ),
        ("    train()  # Traces", "    # Traces", f"{BENCHMARK}::test_a_contestant_warms"),
    ),
]
