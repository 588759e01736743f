"""Breaks of lab/cli/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

FLAGS, CLI = "tests/faults/test_flags.py", "tests/test_cli.py"

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
        ("return experiment.sweep.chosen", "return set()", f"{FLAGS}::test_a_refusal_names"),
        ('flags["logdir"].expanduser()', 'flags["logdir"]', f"{FLAGS}::test_a_home"),
        ("experiment.config(**vars(parsed.config))", "parsed.config", f"{FLAGS}::test_without_a_subcommand"),
    ),
    *of(
        "lab/cli/exits.py",
        ("return USAGE, str(error)", "return FAILURE, str(error)", f"{FLAGS}::test_any_flag_value"),
    ),
    *of(
        "lab/cli/commands.py",
        ("if text not in self.said:", "if text:", f"{CLI}::test_a_sentence_about_several"),
        ("self.code = max(self.code, code)", "self.code = 0", f"{CLI}::test_of_several_recipes"),
        (
            "self.unreported.remove(invocation)\n\n    def _tune",
            "\n    def _tune",
            f"{CLI}::test_after_an_interruption",
        ),
    ),
    *of(
        "lab/cli/python.py",
        ('if all(record.status == "failed"', 'if any(record.status == "failed"', f"{CLI}::test_measure_raises"),
        ("return conclude(invocation, records)", "return conclude(invocation, records[:1])", f"{CLI}::test_measure"),
    ),
    *of(
        "lab/cli/summary.py",
        ('("train_images", "split_seed", "image_size")', '("image_size",)', f"{CLI}::test_a_command_that_goes_on"),
        ("if name not in but:", "if True:", f"{CLI}::test_a_command_that_goes_on"),
    ),
]
