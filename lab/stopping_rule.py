"""`--until-decided`: more seeds where a comparison is open, from the published ones on."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs

from lab.cli.validate import check_with_images
from lab.evidence.schemas import LOOKS, Evidence, Record, TuningSweep
from lab.execute.invocation import SAME, SAME_PLACE, Invocation, same
from lab.execute.job import Job
from lab.execute.scheduler import Work, put_away, run_jobs
from lab.experiment import Experiment
from lab.report.published import Published
from lab.report.report import Report
from lab.statistics import Judgement, undecided
from pipelines.errors import UsageError


def until_decided(
    invocation: Invocation, say: Callable[[str], None], watch: Callable[[list[Job], int], Any]
) -> list[Record]:
    """Measure look by look, up to as many seeds as were asked for, and return all records: the published ones and those
    that were added.

    All variants have the seeds of the first look. From then on a variant gets more only while a comparison that it is
    in is open. A verdict keeps the look that decided it.

    Raises:
        UsageError: what is published was measured elsewhere: a pair is of one machine.
    """
    experiment, most = invocation.experiment, invocation.settings.to
    first = experiment.first_seed
    check_with_images(experiment, invocation.settings, invocation.config)
    tuning = _begin_with_the_published(invocation, say)
    records: dict[tuple[str, int], Record] = {}
    every = experiment.published_at(invocation.settings.budget)
    names: Sequence[str] = every
    for look in LOOKS[: LOOKS.index(most) + 1]:
        jobs = _jobs(invocation, names, look)
        (work,) = run_jobs([Work.of(invocation, jobs, say)], watch)
        records |= {(record.variant, record.seed): record for record in work.records()}
        found = Evidence(
            **structs.asdict(structs.replace(invocation.header, until_decided=most)),
            variants=list(every),
            seeds=list(range(first, first + look)),
            elapsed_seconds=None,
            records=list(records.values()),
        )
        judgements = Report(experiment, found, tuning).judgements()
        names = open_variants(experiment, judgements)
        still = [judgement.claim.id for judgement in judgements if undecided(judgement)]
        say(f"{look} seeds: {'open are ' + ', '.join(still) if still else 'all is decided'}.")
        if not names:
            break
    seeds = tuple(range(first, first + look))
    invocation.settings = dataclasses.replace(invocation.settings, seeds=seeds, variants=every)
    invocation.header = structs.replace(invocation.header, until_decided=most)
    return sorted(records.values(), key=lambda record: (record.seed, experiment.names.index(record.variant)))


def open_variants(experiment: Experiment, judgements: Sequence[Judgement]) -> list[str]:
    """The variants of comparisons for which seeds are wanted, in the recipe's order."""
    wanted: set[str] = set()
    for judgement in judgements:
        claim = judgement.claim
        for comparison in () if claim.from_tuning else undecided(judgement):
            wanted |= claim.variants if claim.rising or claim.falling else set(comparison.between)
    return [name for name in experiment.names if name in wanted]


def _begin_with_the_published(invocation: Invocation, say: Callable[[str], None]) -> TuningSweep | None:
    """Put the published records where finished runs are kept; return the published sweep."""
    published = Published.read(invocation.experiment)  # Of quick: at full all seeds are one look.
    evidence, header = published.evidence, invocation.header
    if evidence is None or published.stale or not same(evidence, header, SAME):
        say("Begins with the first seed: what is published, if anything, is of other code, images or settings.")
    elif not same(evidence, header, SAME_PLACE):
        raise UsageError(
            f"What is published was measured on another machine or with other versions, and a pair is of one machine: "
            f"measure {invocation.experiment.name} anew, with --seeds 10."
        )
    else:
        for record in evidence.records:
            put_away(str(invocation.folder), record)
        invocation.took_over = True
        say(f"Goes on from the published {len(evidence.seeds)} seeds.")
    return None if published.stale_tuning else published.tuning


def _jobs(invocation: Invocation, names: Sequence[str], look: int) -> list[Job]:
    groups = [(name,) for name in names] if invocation.experiment.train else [tuple(names)]
    first = invocation.experiment.first_seed
    seeds = range(first, first + look)
    return [invocation.job(group, seed, {}, invocation.folder) for seed in seeds for group in groups if group]
