"""Breaks of lab/report/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ADVICE, CHAIN, CLAIMS = "tests/test_advice.py", "tests/test_chain.py", "tests/test_claims.py"
PUBLISHED, REPORT = "tests/test_published.py", "tests/test_report.py"

ROWS = [
    *of(
        "lab/report/report.py",
        ("self.correct if claim.metric ==", "None if claim.metric ==", f"{CLAIMS}::test_a_report_takes_the_bits"),
        (
            "self.correct if claim.metric ==",
            "self.correct if claim.metric !=",
            f"{CLAIMS}::test_a_report_takes_the_bits",
        ),
        ("if claim.metric in timings else None", "if False else None", f"{CLAIMS}::test_a_report_judges_times"),
        (
            "metric, self.experiment.unit(metric).timed)",
            "metric, False)",
            f"{REPORT}::test_seeds_that_one_variant_alone_has",
        ),
        (
            "unit.show(statistics.mean(values)) + spread",
            "unit.show(max(values)) + spread",
            f"{REPORT}::test_a_table_gives",
        ),
        ("statistics.stdev(values)", "statistics.pstdev(values)", f"{REPORT}::test_a_table_gives"),
        ("sign = -1 if claim.lower or claim.falling else 1", "sign = 1", f"{CHAIN}::test_the_ledger_says"),
        (
            "unit.show(sign * comparison.mean, sign=True)",
            "unit.show(comparison.mean, sign=True)",
            f"{CHAIN}::test_the_ledger_says",
        ),
        ("<= 1.05 * elapsed else None", "<= 99 * elapsed else None", f"{CHAIN}::test_how_long_a_plain_run_takes"),
    ),
    *of(
        "lab/report/figure.py",
        ("key=lambda line: -np.asarray", "key=lambda line: np.asarray", f"{REPORT}::test_a_legend_names_the_lines"),
        ("np.nanstd(y, axis=0) / np.sqrt(freedom)", "np.nanstd(y, axis=0)", f"{REPORT}::test_a_band_is"),
        ("in finished(curve)", "in curve", f"{REPORT}::test_a_sweeps_panel"),
    ),
    *of(
        "lab/report/floors.py",
        (
            "mean - FLOOR_DEVIATIONS * deviation",
            "mean + FLOOR_DEVIATIONS * deviation",
            f"{PUBLISHED}::test_a_floor_is_five",
        ),
        ("len(found.seeds) < LEAST_SEEDS", "len(found.seeds) < 1", f"{PUBLISHED}::test_floors_are_stored"),
    ),
    *of(
        "lab/report/advice.py",
        ("abs(Decimal(value) - digits)", "abs(abs(Decimal(value)) - digits)", f"{ADVICE}::test_a_sign_that"),
        ("if match.start() not in known:", "if False:", f"{ADVICE}::test_a_number_without"),
        ('if "log" in metric else', 'if metric == "" else', f"{ADVICE}::test_a_ratio_of_logarithms"),
    ),
    *of(
        "lab/report/forest.py",
        ("value / claim.delta for value", "-value / claim.delta for value", f"{CHAIN}::test_the_picture"),
        ('"white" if row.stale else color', "color", f"{ADVICE}::test_the_picture_has"),
    ),
    *of(
        "lab/report/front_page.py",
        (
            'for summary in found.values() if summary.stale)\n    return render("surprises"',
            'for summary in found.values())\n    return render("surprises"',
            "tests/test_advice.py::test_where_nothing_current",
        ),
        ("if not summary.stale for claim", "for claim", f"{ADVICE}::test_totals"),
        ("sizes.index(max(sizes))", "0", f"{ADVICE}::test_a_surprise_of_several"),
    ),
    *of(
        "lab/report/pages.py",
        (
            "if isinstance(value, (int, float)) and",
            "if True and",
            f"{REPORT}::test_a_tables_settings",
        ),
        (r"([\\`*_\[\]|])", r"([\\`*_\[\]])", f"{ADVICE}::test_the_ledger_has"),
        ("html.escape(printable(str(text)), quote=False)", "printable(str(text))", f"{PUBLISHED}::test_text_in"),
    ),
    *of(
        "lab/report/publish.py",
        (
            "return {CARD: label(experiment) + unlabelled",
            "return {CARD: label(experiment) + card",
            f"{PUBLISHED}::test_evidence_whose_code",
        ),
        ("if claim.metric in report.experiment.timed", "if False", f"{REPORT}::test_a_verdict_on_times"),
        ("command=without_folder(found.command)", "command=found.command", f"{PUBLISHED}::test_evidence_becomes"),
    ),
    *of(
        "lab/report/replication.py",
        ("if elsewhere else set()", "if False else set()", "tests/test_replication.py::test_what_depends_on"),
    ),
    *of(
        "lab/report/publishable.py",
        ("and found.data_digest != digest", "and False", f"{PUBLISHED}::test_unfit_evidence"),
        ("= found.winners != won", "= False", f"{PUBLISHED}::test_unfit_sweeps"),
        ('"quick") != budget:', '"quick") == "":', f"{PUBLISHED}::test_newer_evidence"),
    ),
    *of(
        "lab/report/summary.py",
        ("    if text not in said:\n", "    if text:\n", "tests/test_cli.py::test_a_sentence_that_holds_for_several"),
        ("keeps = name not in OTHERWISE and name", "keeps = name", "tests/test_cli.py::test_a_command_that_goes_on"),
        ("and name not in but", "", "tests/test_cli.py::test_a_command_that_goes_on"),
    ),
]
