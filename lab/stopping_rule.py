"""`extend`: add seeds to the published ones where a comparison is undecided, and an occasion where times count."""

import dataclasses
from collections.abc import Sequence

from msgspec import structs

from lab.evidence.occasions import GAP, host, in_utc, occasions_of, span_of, timings
from lab.evidence.schemas import LOOKS, Evidence, Record, TuningSweep
from lab.execute.invocation import SAME, SAME_PLACE, Invocation, same
from lab.execute.scheduler import Say, Watch, put_away, run_jobs
from lab.experiment import Experiment
from lab.report.published import Published
from lab.report.report import Report
from lab.statistics import OCCASIONS, Judgement, undecided
from pipelines.errors import UsageError

REPEATS = 10  # Seeds of an occasion.


def extend(invocation: Invocation, say: Say, watch: Watch) -> list[Record]:
    """Add to what is published, and return all records, the published ones included.

    Where claims are about times, it is one more occasion of ten seeds, with every variant that is timed, until there
    are four. Where they are not, seeds are added look by look, up to `settings.to`.

    Raises:
        UsageError: the published runs come from a machine that will not do, or the last occasion is too near.
    """
    evidence, tuning = _begin_with_the_published(invocation, say)
    if times_count(invocation.experiment):
        return _one_more_occasion(invocation, evidence.records if evidence else [], say, watch)
    return _look_by_look(invocation, tuning, say, watch)


def times_count(experiment: Experiment) -> bool:
    """Whether any claim is about times, so that the unit of repetition is an occasion."""
    return not timings(experiment.timed).isdisjoint(claim.metric for claim in experiment.claims)


def _one_more_occasion(invocation: Invocation, before: Sequence[Record], say: Say, watch: Watch) -> list[Record]:
    """Measure the timed variants at ten more seeds, unless there are four occasions.

    Those that only train belong to the first occasion: the hour does not matter to them.
    """
    experiment = invocation.experiment
    before = [record for record in before if record.variant not in experiment.apart]
    many, seeds = len(set(occasions_of(before).values())), sorted({record.seed for record in before})
    if many < OCCASIONS:
        here = [record for record in before if record.began and record.host == host()]
        free = max((span_of(record)[1] for record in here), default=in_utc() - GAP) + GAP
        if in_utc() < free:
            raise UsageError(
                "The published times were measured here less than two hours ago, which is the same occasion: come "
                f"back at {free:%H:%M} UTC, or measure on another machine of this kind."
            )
        first = seeds[-1] + 1 if seeds else experiment.first_seed
        seeds += range(first, first + REPEATS)
        say(f"Occasion {many + 1} of {OCCASIONS}: seeds {first} to {seeds[-1]}.")
    else:
        say(f"Times were measured on {many} occasions, which is all that verdicts look at: nothing is added.")
    every = experiment.names
    timed = [name for name in every if name not in experiment.apart]
    invocation.settings = dataclasses.replace(invocation.settings, seeds=tuple(seeds), variants=every)
    jobs = [*invocation.plan(every, seeds[:REPEATS]), *invocation.plan(timed, seeds[REPEATS:])]
    return run_jobs(invocation, jobs, say, watch)


def _look_by_look(invocation: Invocation, tuning: TuningSweep | None, say: Say, watch: Watch) -> list[Record]:
    """Measure at 10, 20 seeds and so on up to `settings.to`.

    All variants have the seeds of the first look. After that a variant gets more only while a comparison that it takes
    part in is undecided. A verdict keeps the look that decided it.
    """
    experiment, most = invocation.experiment, invocation.settings.to
    invocation.header = structs.replace(invocation.header, until_decided=most)
    every = experiment.names
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
        still = [judgement.claim.id for judgement in judgements if judgement.verdict == "undecided"]
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


def _begin_with_the_published(invocation: Invocation, say: Say) -> tuple[Evidence | None, TuningSweep | None]:
    """Put the published records where finished runs are kept; return what of them is gone on with, and the sweep.

    New seeds may come from another machine than those, unless times count.

    Raises:
        UsageError: they come from one that will not do, or from other versions.
    """
    published = Published.read(invocation.experiment)
    tuning = None if published.stale_tuning else published.tuning
    evidence, header, timed = published.evidence, invocation.header, times_count(invocation.experiment)
    if evidence is None:
        say("Nothing is published yet: measuring from the first seed.")
    elif published.stale or not same(evidence, header, SAME):
        say("What is published has other code, images or settings: measuring from the first seed.")
    elif not same(evidence, header, [name for name in SAME_PLACE if name != "machine" or timed]):
        raise UsageError(
            f"What is published was measured {'on another machine or ' if timed else ''}with other versions: measure "
            f"{invocation.experiment.name} again from the start, with --seeds 10."
        )
    else:
        for record in evidence.records:
            put_away(str(invocation.folder), record)
        invocation.took_over = True
        invocation.elsewhere = {kind: seeds for kind, seeds in evidence.places.items() if kind != header.machine.kind}
        say(f"Going on from the {len(evidence.seeds)} published seeds.")
        return evidence, tuning
    return None, tuning
