"""`python -m lab attest`: carry evidence over a change of code that changes no number.

Some of the published runs are done again, by the code at hand and by the code that they were measured with; all that
they record must be the same to the bit. Where machine and versions are the published ones, what is published stands for
the old code's runs, and is so audited as well.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lab.evidence import lineage
from lab.evidence.provenance import ROOT, commit, is_commit, machine, versions
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Evidence, Link, Origin, Record, Trial, TuningSweep, check_recipe
from lab.experiment import Experiment
from lab.report.published import RESULTS, tuned_otherwise

Run = tuple[str, int]  # A variant at a seed.
Say = Callable[[str], None]
Kind = TypeVar("Kind")
COMPARED = ("status", "curves", "correct", "weights", "settings")


def carry_over(experiment: Experiment, say: Say, results: Path | None = None) -> str:
    """Link the published evidence's version to the one at hand, and say what was done.

    Raises:
        EvidenceError: a number is another one, or it can't be told.
    """
    folder = (results or RESULTS) / experiment.name
    if not (folder / "evidence.json").exists():
        raise EvidenceError(f"Nothing of {experiment.name} is published: there is nothing to attest.")
    if experiment.table:
        carry_table_over(experiment, folder, say)
    found = lineage.read_followed(folder / "evidence.json", Evidence)
    if found.code == experiment.code:
        return "is of the code at hand"
    now, before = _clean(commit()), _clean(found.carried or found.commit)
    dropped = check_can_carry(experiment, found)
    chosen = drawn(found, now, together=experiment.compare is not None)
    same_place = found.machine == machine() and found.versions == versions()
    with checked_out(before) as old:
        _check_code(old, experiment, found)
        new_runs = _run(ROOT, experiment, found.budget, chosen, say)
        if same_place:
            published = {(record.variant, record.seed): record for record in found.records}
            old_runs = {run: published[run] for run in chosen}
        else:
            old_runs = _run(old, experiment, found.budget, chosen, say)
    if wrong := differences(old_runs, new_runs, experiment.timed):
        raise EvidenceError(f"{experiment.name} is not carried over. " + " ".join(wrong))
    link = _link(
        experiment,
        found,
        config=next(iter(new_runs.values())).config,
        dropped=dropped,
        runs=len(new_runs),
        seeds=sorted({seed for _, seed in chosen}),
        weights={f"{variant} {seed}": run.weights for (variant, seed), run in new_runs.items()},
    )
    write_json(folder / lineage.NAME, [*lineage.links(folder), link])
    audited = ", which are those that are published" if same_place else ""
    return f"is carried over: {len(new_runs)} runs are the same to the bit{audited}"


def carry_table_over(experiment: Experiment, folder: Path, say: Say) -> None:
    """Link the version that a table was measured with to the one at hand, by one of its settings, measured again.

    Raises:
        EvidenceError: a number is another one, or it can't be told.
    """
    assert experiment.table is not None
    found = lineage.read_followed(folder / "tuning.json", TuningSweep)
    if found.code == experiment.code:
        return
    now, before = _clean(commit()), _clean(found.carried or found.commit)
    setting = {name: values[int(now, 16) % len(values)] for name, values in experiment.table.fields.items()}
    with checked_out(before) as old:
        _check_code(old, experiment, found)
        new = _entries(ROOT, experiment, setting, say)
        if found.machine == machine() and found.versions == versions():
            entries = [entry for entry in found.search if entry.config == setting]
        else:
            entries = _entries(old, experiment, setting, say)
    if new != entries:
        raise EvidenceError(f"The table of {experiment.name} is not carried over: it has other numbers at {setting}.")
    link = _link(experiment, found, config={}, dropped=[], runs=len(new), setting=setting)
    write_json(folder / lineage.NAME, [*lineage.links(folder), link])
    say(f"{experiment.name}: the table is carried over, {len(new)} of its runs are the same to the bit")


def _link(experiment: Experiment, found: Origin, **compared: Any) -> Link:
    return Link(
        before=found.code,
        after=experiment.code,
        commit=_clean(commit()),
        from_commit=_clean(found.carried or found.commit),
        audited=found.machine == machine() and found.versions == versions(),
        machine=machine(),
        versions=versions(),
        **compared,
    )


def check_can_carry(experiment: Experiment, found: Evidence) -> list[str]:
    """The metrics that stay behind, since no two runs have the same.

    Raises:
        EvidenceError: claims are about nothing else, or the recipe was changed in what no run can show.
    """
    if problem := check_recipe(found, experiment.name):
        raise EvidenceError(f"What is published of {experiment.name} can't be carried over: {problem}. Measure again.")
    timed = experiment.timed
    claimed = {claim.metric for claim in experiment.claims if claim.metric and not claim.from_tuning}
    if claimed and claimed <= set(timed):
        raise EvidenceError(
            f"{experiment.name} is about times, which never repeat: `{experiment.measure_again}` measures them."
        )
    if gone := set(found.variants) ^ set(experiment.names):
        raise EvidenceError(f"{experiment.name} has other variants now ({', '.join(sorted(gone))}): measure again.")
    if others := tuned_otherwise(experiment, found.records):
        raise EvidenceError(f"What was tuned for {', '.join(others)} has changed since: measure again.")
    return sorted(timed & {name for record in found.records for name in record.metrics})


def drawn(found: Evidence, now: str, together: bool) -> list[Run]:
    """All variants at the first seed and at one that the new commit decides, and every run that diverged.

    Where the variants of a seed are run `together`, those that diverged are as well.
    """
    if any(record.status == "failed" for record in found.records):
        raise EvidenceError("A failed run can't be attested: measure again.")
    whole = {record.variant for record in found.records}
    of_all = [s for s in sorted(found.seeds) if {r.variant for r in found.records if r.seed == s} == whole]
    chosen = {of_all[0], of_all[1:][int(now, 16) % (len(of_all) - 1)]} if len(of_all) > 1 else set(of_all)
    if together:
        chosen |= {record.seed for record in found.records if record.status == "diverged"}
    return sorted((r.variant, r.seed) for r in found.records if r.seed in chosen or r.status == "diverged")


def differences(old: Mapping[Run, Record], new: Mapping[Run, Record], timed: Collection[str]) -> list[str]:
    """What differs between runs, a sentence for each of them; `timed` metrics are never the same, and don't count."""
    wrong = []
    for variant, seed in sorted({*old, *new}):
        a, b = old.get((variant, seed)), new.get((variant, seed))
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


def _check_code(tree: Path, experiment: Experiment, found: Origin) -> None:
    """Check that the code in a folder is what evidence says that it was measured with."""
    if not (tree / "lab" / "evidence").exists():
        raise EvidenceError(
            f"{experiment.name} was measured before the laboratory moved to lab/, whose code can't be run beside the "
            f"code at hand: `{experiment.measure_again}` measures it again."
        )
    asked = f"from {experiment.module} import EXPERIMENT; print(EXPERIMENT.code)"
    done = subprocess.run([sys.executable, "-c", asked], cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise EvidenceError(
            f"The code of {experiment.name} in {tree} can't be asked for its hash: {done.stderr[-300:]}"
        )
    if (hashed := done.stdout.split()[-1]) != found.code:
        raise EvidenceError(f"{experiment.name}: its commit has the code {hashed}, not {found.code}.")


_ONE_SETTING = """
import dataclasses, json, sys
from {module} import EXPERIMENT
from lab import main
fields = {{name: (value,) for name, value in json.loads(sys.argv[1]).items()}}
table = dataclasses.replace(EXPERIMENT.table, fields=fields)
main(dataclasses.replace(EXPERIMENT, table=table), ["tune", "--logdir", sys.argv[2]])
"""


def _entries(tree: Path, experiment: Experiment, setting: Mapping[str, Any], say: Say) -> list[Trial]:
    """A table's entries for one setting, at all of its seeds, measured by the code in a folder."""
    say(f"{experiment.name}: a setting of its table with the code in {tree}")
    command = ["-c", _ONE_SETTING.format(module=experiment.module), json.dumps(setting)]
    return _measured(tree, experiment, "tuning.json", TuningSweep, command).search


def _run(tree: Path, experiment: Experiment, budget: str, chosen: Sequence[Run], say: Say) -> dict[Run, Record]:
    """Some runs, by the code in a folder."""
    runs: dict[Run, Record] = {}
    for seed in sorted({seed for _, seed in chosen}):
        say(f"{experiment.name} seed {seed} with the code in {tree}")
        names = [variant for variant, its_seed in chosen if its_seed == seed]
        flags = ["--budget", budget, "--seeds", "1", "--first-seed", str(seed), "--variants", *names, "--no-log"]
        command = ["-m", experiment.command, *flags, "--logdir"]
        found = _measured(tree, experiment, "evidence.json", Evidence, command)
        runs |= {(record.variant, record.seed): record for record in found.records}
    return runs


def _measured(tree: Path, experiment: Experiment, name: str, kind: type[Kind], command: Sequence[str]) -> Kind:
    """The file that a command of Python's writes, where it is started in `tree` and given a folder for its logs."""
    with tempfile.TemporaryDirectory() as logs:
        done = subprocess.run([sys.executable, *command, logs], cwd=tree, capture_output=True, text=True)
        written = list(Path(logs).rglob(name))
        if not written:
            raise EvidenceError(f"{experiment.name} could not be measured in {tree}: {done.stderr[-300:]}")
        return read(written[0], kind)
