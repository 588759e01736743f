"""`extend`: add seeds to the published ones where a comparison is undecided."""

import dataclasses
from collections.abc import Sequence

from msgspec import structs

from lab.evidence.schemas import LOOKS, Evidence, Record, TuningSweep
from lab.execute.invocation import SAME, SAME_PLACE, Invocation, same
from lab.execute.scheduler import Say, Watch, put_away, run_jobs
from lab.experiment import Experiment
from lab.report.published import Published
from lab.report.report import Report
from lab.statistics import Judgement, undecided
from pipelines.errors import UsageError


def extend(invocation: Invocation, say: Say, watch: Watch) -> list[Record]:
    """Measure look by look up to `settings.to` seeds; return all records, the published ones included.

    All variants have the seeds of the first look. After that a variant gets more only while a comparison that it takes
    part in is undecided. A verdict keeps the look that decided it.

    Raises:
        UsageError: the published runs come from another machine. All runs of a seed come from one.
    """
    experiment, most = invocation.experiment, invocation.settings.to
    invocation.header = structs.replace(invocation.header, until_decided=most)
    tuning = _begin_with_the_published(invocation, say)
    every = experiment.published_at(invocation.settings.budget)
    names: Sequence[str] = every
    records: dict[tuple[str, int], Record] = {}
    for look in LOOKS[: LOOKS.index(most) + 1]:
        seeds = tuple(range(experiment.first_seed, experiment.first_seed + look))
        found = run_jobs(invocation, invocation.plan(names, seeds), say, watch)
        records |= {(record.variant, record.seed): record for record in found}
        evidence = Evidence(
            **structs.asdict(invocation.header),
            variants=list(every),
            seeds=list(seeds),
            elapsed_seconds=None,
            records=list(records.values()),
        )
        judgements = Report(experiment, evidence, tuning).judgements
        names = open_variants(experiment, judgements)
        still = [judgement.claim.id for judgement in judgements if undecided(judgement)]
        say(f"{look} seeds: {'undecided are ' + ', '.join(still) if still else 'all is decided'}.")
        if not names:
            break
    invocation.settings = dataclasses.replace(invocation.settings, seeds=seeds, variants=every)
    return sorted(records.values(), key=lambda record: (record.seed, experiment.names.index(record.variant)))


def open_variants(experiment: Experiment, judgements: Sequence[Judgement]) -> list[str]:
    """The variants whose comparisons need more seeds, in the recipe's order."""
    wanted: set[str] = set()
    for judgement in judgements:
        claim = judgement.claim
        for comparison in () if claim.from_tuning else undecided(judgement):
            wanted |= claim.variants if claim.rising or claim.falling else set(comparison.between)
    return [name for name in experiment.names if name in wanted]


def _begin_with_the_published(invocation: Invocation, say: Say) -> TuningSweep | None:
    """Put the published records where finished runs are kept; return the published sweep."""
    published = Published.read(invocation.experiment)  # At quick; at full all seeds are one look.
    evidence, header = published.evidence, invocation.header
    if evidence is None:
        say("Nothing is published yet: measuring from the first seed.")
    elif published.stale or not same(evidence, header, SAME):
        say("What is published has other code, images or settings: measuring from the first seed.")
    elif not same(evidence, header, SAME_PLACE):
        raise UsageError(
            "What is published was measured on another machine or with other versions, and all runs of a seed must "
            f"come from one: measure {invocation.experiment.name} again from the start, with --seeds 10."
        )
    else:
        for record in evidence.records:
            put_away(str(invocation.folder), record)
        invocation.took_over = True
        say(f"Going on from the {len(evidence.seeds)} published seeds.")
    return None if published.stale_tuning else published.tuning
