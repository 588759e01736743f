"""`python -m lab attest`: carry evidence over a change of code that changes no number.

Some of the published runs are done again, by the code at hand and by the code that they were measured with. All that
they record must be the same to the bit. On the machine and with the versions of the published runs, these themselves
stand for the old code's, which audits them as well.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.evidence import lineage
from lab.evidence.provenance import ROOT, commit, environment, is_commit, machine, versions
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Evidence, Link, Record, check_recipe
from lab.evidence.staleness import tuned_otherwise
from lab.experiment import Experiment
from lab.report.published import RESULTS, Published

Run = tuple[str, int]  # A variant at a seed.
Say = Callable[[str], None]
COMPARED = ("status", "curves", "correct", "weights", "settings")


def carry_over(experiment: Experiment, say: Say, results: Path | None = None) -> str:
    """Link the published evidence's code to the code at hand, and say what was done.

    Raises:
        EvidenceError: a number is another one, or it can't be told.
    """
    folder, published = (results or RESULTS) / experiment.name, Published.read(experiment, results)
    found = published.evidence
    if found is None:
        raise EvidenceError(f"Nothing of {experiment.name} is published: there is nothing to attest.")
    if experiment.table and published.stale_tuning:
        again = f"`python -m {experiment.command} tune` measures it again"
        raise EvidenceError(f"The table of {experiment.name} is of other code, and no table is carried over: {again}.")
    if found.code == experiment.code:
        return "is of the code at hand"
    dropped = check_can_carry(experiment, found)
    now, before = _clean(commit()), _clean(found.carried or found.commit)
    chosen = drawn(found, now, together=experiment.compare is not None)
    here = found.machine == machine() and found.versions == versions() and found.environment == environment()
    here = here and not found.elsewhere
    with checked_out(before) as old:
        _check_code(old, experiment, found)
        new_runs = _run(ROOT, experiment, found.budget, chosen, say)
        its_runs = [record for record in found.records if (record.variant, record.seed) in chosen]
        old_runs = its_runs if here else _run(old, experiment, found.budget, chosen, say)
    if wrong := differences(old_runs, new_runs, experiment.timed):
        raise EvidenceError(f"{experiment.name} is not carried over. " + " ".join(wrong))
    link = Link(
        before=found.code,
        after=experiment.code,
        config=new_runs[0].config,
        commit=now,
        from_commit=before,
        dropped=dropped,
        seeds=sorted({run.seed for run in new_runs}),
        runs=len(new_runs),
        audited=here,
        machine=machine(),
        versions=versions(),
    )
    write_json(folder / lineage.NAME, [*lineage.links(folder), link])
    return f"is carried over: {len(new_runs)} runs are the same to the bit{' as those published' if here else ''}"


def check_can_carry(experiment: Experiment, found: Evidence) -> list[str]:
    """The metrics that stay behind, since no two runs have the same.

    Raises:
        EvidenceError: claims are about nothing else, or the experiment was changed in what no run can show.
    """
    claimed = {claim.metric for claim in experiment.claims if claim.metric and not claim.from_tuning}
    problem = check_recipe(found, experiment.name)
    if gone := set(found.variants) ^ set(experiment.names):
        problem = f"it has other variants now ({', '.join(sorted(gone))})"
    elif others := tuned_otherwise(experiment, found.records):
        problem = f"what was tuned for {', '.join(others)} has changed since"
    elif claimed and claimed <= experiment.timed:
        problem = "it is about times, which never repeat"
    if problem:
        again = f"`{experiment.measure_again}` measures it again"
        raise EvidenceError(f"{experiment.name} can't be carried over: {problem}. {again}.")
    return sorted(experiment.timed & {name for record in found.records for name in record.metrics})


def drawn(found: Evidence, now: str, together: bool) -> list[Run]:
    """All variants at the first seed and at one that the new commit decides, and every run that diverged.

    Where the variants of a seed are run `together`, a diverged run brings all variants of its seed with it.
    """
    if any(record.status == "failed" for record in found.records):
        raise EvidenceError("A failed run can't be attested: measure again.")
    whole = {record.variant for record in found.records}
    of_all = [s for s in sorted(found.seeds) if {r.variant for r in found.records if r.seed == s} == whole]
    chosen = {of_all[0], of_all[1:][int(now, 16) % (len(of_all) - 1)]} if len(of_all) > 1 else set(of_all)
    if together:
        chosen |= {record.seed for record in found.records if record.status == "diverged"}
    return sorted((r.variant, r.seed) for r in found.records if r.seed in chosen or r.status == "diverged")


def differences(old: Iterable[Record], new: Iterable[Record], timed: Collection[str]) -> list[str]:
    """What differs between runs, a sentence for each of them; `timed` metrics are never the same, and don't count."""
    before, after = ({(run.variant, run.seed): run for run in runs} for runs in (old, new))
    wrong = []
    for variant, seed in sorted({*before, *after}):
        a, b = before.get((variant, seed)), after.get((variant, seed))
        if a is None or b is None:
            wrong.append(f"{variant} seed {seed} was run on one side only.")
            continue
        parts = [name for name in COMPARED if getattr(a, name) != getattr(b, name)]
        names = {*a.metrics, *b.metrics} - set(timed)
        parts += sorted(name for name in names if a.metrics.get(name) != b.metrics.get(name))
        parts += sorted(f"--{name}" for name in {*a.config} & {*b.config} if a.config[name] != b.config[name])
        if "failed" in (a.status, b.status):
            parts = ["it failed"]
        if parts:
            wrong.append(f"{variant} seed {seed} differs: {', '.join(parts)}.")
    return wrong


def _clean(name: str | None) -> str:
    if name is None or name.endswith("+changes"):
        raise EvidenceError("Commit all changes first: what is attested is one commit against another.")
    if not is_commit(name):
        raise EvidenceError(f"There is no commit {name[:12]} here: fetch it, or measure again.")
    return name


@contextmanager
def checked_out(name: str) -> Generator[Path, None, None]:
    """A folder with the files of a commit."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "old"
        made = ["git", "worktree", "add", "--quiet", "--detach", str(folder), name]
        subprocess.run(made, cwd=ROOT, check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, capture_output=True)


def _check_code(tree: Path, experiment: Experiment, found: Evidence) -> None:
    """Check that the code in a folder is the code that evidence says it was measured with."""
    asked = f"from {experiment.module} import EXPERIMENT; print(EXPERIMENT.code)"
    done = subprocess.run([sys.executable, "-c", asked], cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise EvidenceError(f"The old code of {experiment.name} can't be run, measure again: {done.stderr[-300:]}")
    if (hashed := done.stdout.split()[-1]) != found.code:
        raise EvidenceError(f"{experiment.name}: its commit has the code {hashed}, not {found.code}.")


def _run(tree: Path, experiment: Experiment, budget: str, chosen: Sequence[Run], say: Say) -> list[Record]:
    """Some runs, by the code in a folder."""
    runs: list[Record] = []
    for seed in sorted({seed for _, seed in chosen}):
        names = [variant for variant, its_seed in chosen if its_seed == seed]
        flags = ["--budget", budget, "--seeds", "1", "--first-seed", str(seed), "--variants", *names, "--no-log"]
        say(f"{experiment.name} is measured with the code in {tree}: {' '.join(flags)}")
        with tempfile.TemporaryDirectory() as logs:
            command = [sys.executable, "-m", experiment.command, *flags, "--logdir", logs]
            done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
            written = list(Path(logs).rglob("evidence.json"))
            if not written:
                raise EvidenceError(f"{experiment.name} could not be measured in {tree}: {done.stderr[-300:]}")
            runs += read(written[0], Evidence).records
    return runs
