"""Breaks of lab/report/: what stands there, what is put in its place, which test must notice."""

from tests.breaks.row import of

ADVICE, CHAIN = "tests/test_advice.py", "tests/test_chain.py"
PUBLISHED, REPORT = "tests/test_published.py", "tests/test_report.py"

ROWS = [
    *of(
        "lab/report/report.py",
        ("if record.seed in self.shared], metric", "], metric", f"{REPORT}::test_tables_figures_and_the_card"),
        ("unit.show(mean)\n", "unit.show(max(spread[name]))\n", f"{REPORT}::test_a_table_gives"),
        ("statistics.stdev(spread[name])", "statistics.pstdev(spread[name])", f"{REPORT}::test_a_table_gives"),
        ("if record.variant in known]", "]", f"{REPORT}::test_variants_that_the_experiment_has_no_more"),
        (
            "return -1 if judgement.claim.lower or",
            "return 1 if judgement.claim.lower or",
            f"{CHAIN}::test_the_ledger_says",
        ),
        (
            "low, high = sorted((sign * comparison.low",
            "low, high = ((comparison.low",
            f"{REPORT}::test_effects_are_a_minus_b",
        ),
        ("== (a, b) else -1)", "== (a, b) else 1)", f"{ADVICE}::test_a_difference_is_that_of"),
        ("return math.exp(min(value, 80.0)) if", "return value if", f"{REPORT}::test_what_is_logarithmic"),
        ("0 < comparison.n < least for", "False for", f"{REPORT}::test_with_a_strong_baseline"),
        (
            "if claim.metric in self.experiment.timed else None",
            "if False else None",
            f"{REPORT}::test_a_verdict_on_times",
        ),
        ("if row.note and row.word == judgement.verdict", "if row.note", f"{REPORT}::test_a_verdict_has_the_notes"),
        ("<= 1.05 * elapsed else None", "<= 99 * elapsed else None", f"{CHAIN}::test_how_long_a_plain_run_takes"),
    ),
    *of(
        "lab/report/advice.py",
        ("found = strong if on_strong else report", "found = report", f"{ADVICE}::test_a_placeholder_becomes"),
        ('if shown.startswith("-"):', "if False:", f"{ADVICE}::test_a_placeholder_that_the_evidence_lacks"),
        ("100 * (1 / ratio - 1 if", "100 * (1 - ratio if", f"{ADVICE}::test_a_placeholder_becomes"),
        ("if round(gain) <= 0:", "if False:", f"{ADVICE}::test_a_placeholder_that_the_evidence_lacks"),
        (
            "ratio = math.exp(report.difference",
            "ratio = 1 + (report.difference",
            f"{ADVICE}::test_the_ratio_of",
        ),
        ("if name in parameters else None", "if name not in parameters else None", f"{ADVICE}::test_an_argument_is"),
        ("*lines[last:]]", "*lines[last + 1 :]]", f"{ADVICE}::test_the_answer_takes_its_place"),
    ),
    *of(
        "lab/report/card.py",
        (
            "claims = [claim for claim in summary.claims if not claim.check]",
            "claims = summary.claims",
            f"{REPORT}::test_a_card_has",
        ),
        (
            "verdict_text(claim.strongest), *numbers",
            "verdict_text(claim.findings[0]), *numbers",
            f"{REPORT}::test_with_a_strong_baseline",
        ),
        ('[*(others or ["–"]), with_verdict]', "[first, with_verdict]", f"{REPORT}::test_with_a_strong_baseline"),
    ),
    *of(
        "lab/report/templates/card.md.j2",
        (
            "{% if found.seeds | length > report.shared | length %}",
            "{% if found.seeds %}",
            f"{REPORT}::test_a_card_says_where_undecided",
        ),
        (
            "experiment.measure_seeds(found.seeds | length) | code",
            "experiment.measure_again | code",
            f"{REPORT}::test_a_card_says_where_undecided",
        ),
    ),
    *of(
        "lab/report/figure.py",
        ("key=lambda name: -ends[name]", "key=lambda name: ends[name]", f"{REPORT}::test_of_more_than_six_lines"),
        ("heights[number - 1] + GAP", "heights[number - 1]", f"{REPORT}::test_lines_are_named"),
        ("np.nanstd(y, axis=0) / np.sqrt(freedom)", "np.nanstd(y, axis=0)", f"{REPORT}::test_a_band_is"),
        ("finished(report.tuning.curve)", "report.tuning.curve", f"{REPORT}::test_a_sweeps_panel"),
        ("levels[name][seed] - than[seed] for", "levels[name][seed] for", f"{REPORT}::test_bars_over_a_variant"),
        (
            "dict.fromkeys([*first, *report.experiment.names])",
            "dict.fromkeys(first)",
            f"{REPORT}::test_a_variant_has_one_color",
        ),
        ("* panel.every", "", f"{REPORT}::test_values_of_a_line"),
        ("if name in (panel.variants or found)}", "}", f"{REPORT}::test_bars_are_of"),
        ("np.ptp(heights_of_ends) < 0.01", "np.ptp(heights_of_ends) < -0.01", f"{REPORT}::test_lines_that_end"),
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
        "lab/report/ledger.py",
        ("return not claim.strongest.stale and", "return", f"{ADVICE}::test_totals"),
        ("if not claim.check and _is_current(claim))", "if _is_current(claim))", f"{ADVICE}::test_totals"),
        ('re.sub(r"[^a-z0-9]+", "-", claim.lower())', "claim.lower()", f"{ADVICE}::test_the_ledger_has"),
        (
            '"low": _short(effect.low),',
            '"low": _short(effect.high),',
            f"{CHAIN}::test_programs",
        ),
        ("or _says(claim.text", "or recipe or _says(claim.text", f"{ADVICE}::test_the_index"),
        ("if name in claim.about or", "if", f"{ADVICE}::test_the_index"),
        ("re.IGNORECASE if loosely else 0", "re.IGNORECASE", f"{ADVICE}::test_the_index"),
    ),
    *of(
        "lab/report/front_page.py",
        ("not ours and claim", "claim", f"{ADVICE}::test_what_surprises"),
        (
            'and parts & {"supported", "undecided"}',
            'and parts & {"supported"}',
            f"{ADVICE}::test_a_sentence_of_several",
        ),
        ("parts |= {effect.verdict", "parts & {effect.verdict", f"{ADVICE}::test_a_claim_of_two_comparisons"),
        ('if verdict == "no real difference" and parts', "if parts", f"{ADVICE}::test_a_sentence_of_several"),
        ("if taken[name] < MOST_OF_ONE else", "if True else", f"{ADVICE}::test_of_six_surprises"),
        ('if found[name].images else ""', 'if not found[name].images else ""', f"{ADVICE}::test_what_surprises"),
        ("-size(claim, effect), name", "size(claim, effect), name", f"{ADVICE}::test_what_surprises"),
        ("and not claim.findings[-1].few]", "]", f"{ADVICE}::test_what_changed_on_the_strong"),
        ("summary and not summary.stale else", "summary else", f"{ADVICE}::test_the_front_page_shows"),
    ),
    *of(
        "lab/report/picture.py",
        ('"white" if stale else color', "color", f"{ADVICE}::test_the_picture_draws"),
        (
            "for end in (effect.low, effect.high, effect.mean)]",
            "for end in (effect.low, effect.mean, effect.mean)]",
            f"{ADVICE}::test_the_picture_draws",
        ),
        ("min(max(end, low), high)", "max(end, low)", f"{ADVICE}::test_the_picture_draws"),
        ("(claim.strongest.stale, claim.id", "(False, claim.id", f"{ADVICE}::test_the_picture_takes"),
        ("(row[0], place, *row[1:])", "(row[0], 0, *row[1:])", f"{ADVICE}::test_the_picture_takes"),
        ('one.strongest.verdict != "contradicted", large', '"", large', f"{ADVICE}::test_the_last_rows"),
        (
            "for *_, claim, effect in refuted[:NOT_SO]",
            "for *_, claim, effect in refuted",
            f"{ADVICE}::test_the_last_rows",
        ),
        ("if not stale and one.strongest", "if one.strongest", f"{ADVICE}::test_the_last_rows"),
    ),
    *of(
        "lab/report/pages.py",
        ("code(part) if place % 2 else _escaped(part)", "_escaped(part)", f"{PUBLISHED}::test_claims_and_answers_keep"),
        (
            "if isinstance(value, (int, float)) and",
            "if True and",
            f"{REPORT}::test_a_tables_settings",
        ),
        (r"([\\`*_\[\]|])", r"([\\`*_\[\]])", f"{ADVICE}::test_the_ledger_has"),
        ("html.escape(plain, quote=False)", "plain", f"{PUBLISHED}::test_text_in"),
        ('else text.lstrip("+-")', "else text", f"{REPORT}::test_how_an_effect"),
        ("effects[:1]\n", "effects[-1:]\n", f"{REPORT}::test_of_many_effects"),
    ),
    *of(
        "lab/report/publish.py",
        ("if experiment.answer and not quick.stale:", "if experiment.answer:", f"{PUBLISHED}::test_where_evidence_is"),
        ("if wrong := unsupported(summary):", "if wrong := '':", f"{PUBLISHED}::test_advice_that_the_evidence"),
        ('claim.strongest.verdict == "undecided"]', "False]", f"{ADVICE}::test_an_answer_whose_claim"),
        (
            'against = ("contradicted", "no real difference") if',
            "against = () if",
            f"{ADVICE}::test_an_answer_whose_claim",
        ),
        ('else ("supported",)', "else ()", f"{ADVICE}::test_an_answer_may_say"),
        ("return sides[0] * sides[1] < 0", "a.mean * b.mean < 0", f"{ADVICE}::test_a_ratio_turns"),
        ("not last.few and first.verdict", "first.verdict", f"{ADVICE}::test_an_answer_must_not"),
        ("command=without_folder(found.command)", "command=found.command", f"{PUBLISHED}::test_evidence_becomes"),
    ),
    *of(
        "lab/report/replication.py",
        ("if elsewhere else set()", "if False else set()", "tests/test_replication.py::test_what_depends_on"),
    ),
    *of(
        "lab/report/publishable.py",
        ("and found.data_digest != DIGESTS[source]", "and False", f"{PUBLISHED}::test_unfit_evidence"),
        ("= found.winners != won", "= False", f"{PUBLISHED}::test_unfit_sweeps"),
        ("if other or own:", "if own:", f"{PUBLISHED}::test_newer_evidence"),
        ("if other or own:", "if other:", f"{PUBLISHED}::test_newer_evidence"),
    ),
    *of(
        "lab/report/summary.py",
        ("    if settings.is_own:\n", "    if False:\n", "tests/test_own_data.py::test_tuning_on_your_own"),
        ("if done == 1 else", "if done else", "tests/test_execute.py::test_a_full_disk"),
        ("found.config.get(sweep.swept) == usual", "True", "tests/test_own_data.py::test_a_rate_that_is_given"),
        ("    if text not in said:\n", "    if text:\n", "tests/test_cli.py::test_a_sentence_that_holds_for_several"),
        ("keeps = name not in OTHERWISE and name", "keeps = name", "tests/test_cli.py::test_a_command_that_goes_on"),
        ("and name not in but", "", "tests/test_cli.py::test_a_command_that_goes_on"),
    ),
]
