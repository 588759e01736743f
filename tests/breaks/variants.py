"""Breaks of variants that are partial functions: what stands there, what takes its place, which test must notice."""

from tests.breaks.row import of

TESTS = "tests/test_variants.py::"

ROWS = [
    *of(
        "lab/variants.py",
        (
            "fields.setdefault(name, (kind | None, None))",
            "fields.setdefault(name, (kind | None, parameter.default))",
            f"{TESTS}test_flags_are_the_numeric",
        ),
        ("and name not in GIVEN_BY_THE_LAB", 'and name != "rate"', f"{TESTS}test_flags_are_the_numeric"),
        ("if value is not None})", "if value})", f"{TESTS}test_what_is_given_replaces"),
        (
            'and "build_model" not in variant.keywords',
            "",
            f"{TESTS}test_a_readers_model_takes_the_place",
        ),
        (
            "name: _described(one) for name, one in value.keywords.items()",
            "name: None for name, one in value.keywords.items()",
            f"{TESTS}test_a_record_names_the_function",
        ),
    ),
    *of(
        "lab/core/training.py",
        (
            "seed=run.seed, shift=config.shift",
            "seed=1, shift=config.shift",
            f"{TESTS}test_a_seed_decides",
        ),
        ('flip=config.flip == "yes"', 'flip=config.flip == "no"', f"{TESTS}test_the_labs_augmentation"),
        ("batches.evaluation(data.validation)", "batches.evaluation(data.train)", f"{TESTS}test_a_variant_is_trained"),
        ("default_rng(seed)", "default_rng(1)", f"{TESTS}test_few_images_are_others"),
        ("    config = experiment.config_of(variant, config)\n", "", f"{TESTS}test_a_variants_own_flags"),
        ("metrics |= experiment.extra(model, run, data)", "pass", f"{TESTS}test_a_variant_is_trained"),
    ),
    *of(
        "lab/experiment.py",
        (
            "if getattr(config, name) == getattr(usual, name)}",
            "if True}",
            f"{TESTS}test_a_variants_own_flags",
        ),
        ("found |= self.own_flags.get(variant, {})", "pass", f"{TESTS}test_a_record_names_the_function"),
    ),
    *of(
        "lab/core/perform.py",
        (
            'given = {} if run.build_model is None else {"build_model": run.build_model}',
            "given = {}",
            f"{TESTS}test_a_readers_model_takes_the_place",
        ),
    ),
    *of(
        "lab/evidence/code_hash.py",
        (
            "for part in stored if id(part) not in local}",
            "for part in stored}",
            "tests/test_evidence.py::test_what_makes_no_number_is_not_counted",
        ),
    ),
    *of(
        "lab/evidence/staleness.py",
        ("if name not in usual and value is not None]", "if False]", f"{TESTS}test_a_setting_that_is_gone"),
    ),
]
