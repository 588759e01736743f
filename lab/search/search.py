"""`search`: KerasTuner over the space that a recipe declares. Each trial is a run of the recipe, in a worker.

KerasTuner's oracle says what to try next and keeps the books; a search that was killed goes on from them. Where the
variables KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID are set, processes share one search: a
chief that hands trials out, and workers that ask it for them.
"""

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import keras_tuner as kt
from msgspec import structs
from rich.console import Console

from lab.cli import live_table
from lab.evidence.provenance import cores, gpus
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Record, Search, SearchTrial
from lab.execute.invocation import Invocation
from lab.execute.job import read_progress
from lab.execute.scheduler import Work, run_jobs
from lab.report import figure
from lab.search.kills import ENDED
from lab.search.trials import order_again
from lab.search_space import Range, Space
from lab.settings import Tuner
from lab.tuning import SEED, half_decades
from pipelines.errors import UsageError

OBJECTIVE = "validation_accuracy"
RANDOM_FIRST = 3  # KerasTuner's Bayesian optimization would begin with three random trials for each field.
FACTOR = 2  # Hyperband goes on with the better half.


def search(
    invocation: Invocation, tuner: Tuner, trials: int, console: Console, say: Callable[[str], None]
) -> dict[str, list[SearchTrial]]:
    """Search for each variant's settings by validation accuracy, write what was found, and return it.

    Variant -> its trials, the best one first; a trial has `trial`, `settings`, `epochs`, `validation_accuracy` (None
    where it failed or diverged) and `status`.

    Raises:
        UsageError: the tuner or the sharing does not go with the recipe.
    """
    experiment, found = invocation.experiment, _found_before(invocation)
    if tuner == "hyperband" and not hasattr(invocation.config, "epochs"):
        raise UsageError(
            f"Hyperband stops trials early, by --epochs, which {experiment.name} lacks: use another tuner."
        )
    if _sharing() and len(invocation.variants) != 1:
        raise UsageError("A search that processes share is of one variant: name it with --variants.")
    for variant in invocation.variants:
        found[variant] = _search_one(invocation, variant, tuner, trials, console, say)
        finished = [trial for trial in found[variant] if trial.validation_accuracy is not None]
        figure.write_parallel(finished, OBJECTIVE, variant, invocation.folder / f"search-{variant}.png")
    invocation.check_code()
    write_json(invocation.folder / "search.json", Search(**structs.asdict(invocation.header), tuner=tuner, found=found))
    return found


def _found_before(invocation: Invocation) -> dict[str, list[SearchTrial]]:
    """What was found for other variants, where a search goes on."""
    path = invocation.folder / "search.json"
    if not path.exists():
        return {}
    return read(path, Search, "delete it; what the trials found is kept beside it").found


def _search_one(
    invocation: Invocation, variant: str, tuner: Tuner, trials: int, console: Console, say: Callable[[str], None]
) -> list[SearchTrial]:
    whole = getattr(invocation.config, "epochs", 1)
    oracle = make_oracle(tuner, invocation.experiment.space_of(variant), trials, whole)
    oracle.verbose = 0
    oracle._set_project_dir(str(invocation.folder), f"{variant}-trials")
    trusted: Any = contextlib.nullcontext
    if os.path.exists(oracle._get_oracle_fname()):  # noqa: PTH110 Whatever file system KerasTuner is told to use.
        _go_on(oracle)
        trusted = _books
    books, shared = oracle, _sharing()
    if shared == "chief":
        from keras_tuner.src.distribute import oracle_chief

        oracle_chief.start_server(oracle)  # Until the last trial has ended.
        return _trials_of(oracle)
    if shared == "worker":
        from keras_tuner.src.distribute import oracle_client

        books = oracle_client.OracleClient(oracle)
    # A worker of a shared search does one trial at a time: a chief waits for each name that ever asked it.
    at_once = 1 if shared else invocation.settings.jobs or len(gpus()) or cores()
    while True:
        with trusted(oracle):
            batch = _next(books, at_once)
        if batch is None:
            break
        for trial, record in zip(batch, _run(invocation, variant, batch, console, say), strict=True):
            with trusted(oracle):
                _report(books, trial, record)
        if not batch:  # Others' trials must end before there is another.
            time.sleep(0.5)
    return _trials_of(oracle) if shared is None else []


def _go_on(oracle: kt.Oracle) -> None:
    """Read the books of a search that was interrupted; what failed in it is done again.

    Raises:
        EvidenceError: the books are broken.
        UsageError: they are of another space.
    """
    asked = oracle.get_space().get_config()["space"]
    with _books(oracle):
        oracle.reload()
        ended, waiting = oracle.end_order, oracle._retry_queue
        if sorted([*ended, *waiting]) != sorted(oracle.trials) or sorted(oracle.start_order) != sorted(oracle.trials):
            raise ValueError("trials are missing, or there twice")
        if {oracle.trials[name].status for name in ended} - set(ENDED):
            raise ValueError("a trial has ended that is under way")
    if oracle.get_space().get_config()["space"] != asked:
        raise UsageError("The recipe's space has changed since that search began: search anew, without --resume.")
    for name, trial in oracle.trials.items():
        # One that diverged has a record that says so, and ends at once; and so does one whose record is whole.
        if trial.status == "FAILED" or not _is_as_recorded(oracle, trial):
            trial.status, trial.score, trial.metrics = "RUNNING", None, type(trial.metrics)()
            oracle.end_order.remove(name)
            oracle._retry_queue.append(name)
    with _books(oracle):
        order_again(oracle)


@contextlib.contextmanager
def _books(oracle: kt.Oracle) -> Generator[None, None, None]:
    """While KerasTuner works with books that were read from a file, whatever it fails with is their fault."""
    try:
        yield
    except Exception as error:
        raise EvidenceError(
            f"The books of the search, {oracle._get_oracle_fname()}, are broken: search anew, without --resume."
        ) from error


def _is_as_recorded(oracle: kt.Oracle, trial: Any) -> bool:
    """Whether the books say of a trial what its record says; where others have run it, there is no record here."""
    if trial.status != "COMPLETED" or _sharing():
        return True
    paths = list(Path(oracle._project_dir, f"run-{trial.trial_id}").glob(f"*/seed-{SEED}/record.json"))
    if len(paths) != 1:
        return False
    try:
        record = read(paths[0], Record)
    except EvidenceError:
        return False
    if record.metrics.get(OBJECTIVE) != trial.score:
        return False
    return all(record.config.get(name) == value for name, value in _settings_of(trial).items())


def make_oracle(tuner: Tuner, space: Space, trials: int, epochs: int) -> kt.Oracle:
    """KerasTuner's oracle over `space`; the seed is that of all tuning.

    Hyperband tries more settings than `trials`, most of them for fewer than `epochs` epochs: about as many in all, but
    at least one round of its own.

    Raises:
        UsageError: a grid of more settings than `trials`.
    """
    hyperparameters = kt.HyperParameters()
    for name, values in space.items():
        if isinstance(values, Range) and tuner == "grid":
            hyperparameters.Choice(name, list(values.grid or half_decades(values.low, values.high)))
        elif isinstance(values, Range):
            hyperparameters.Float(name, values.low, values.high, sampling="log")
        else:
            hyperparameters.Choice(name, list(values), ordered=not isinstance(values[0], (str, bool)))
    common: dict[str, Any] = {
        "objective": kt.Objective(OBJECTIVE, "max"),
        "hyperparameters": hyperparameters,
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": SEED + 1,  # KerasTuner takes 0 for "any".
        "max_consecutive_failed_trials": 1_000_000,
    }
    if tuner == "grid":
        whole = math.prod(len(field.values) for field in hyperparameters.space)
        if whole > trials:  # It would be cut at one end, and be no grid.
            raise UsageError(f"A grid of all settings has {whole} trials: say --trials {whole}, or use another tuner.")
        return kt.oracles.GridSearchOracle(max_trials=trials, **common)
    if tuner == "random":
        return kt.oracles.RandomSearchOracle(max_trials=trials, **common)
    if tuner == "bayesian":
        return kt.oracles.BayesianOptimizationOracle(max_trials=trials, num_initial_points=RANDOM_FIRST, **common)
    one = kt.oracles.HyperbandOracle(max_epochs=epochs, factor=FACTOR, hyperband_iterations=1, **common)
    rounds = max(1, round(trials * epochs / _epochs_of_a_round(one)))
    return kt.oracles.HyperbandOracle(max_epochs=epochs, factor=FACTOR, hyperband_iterations=rounds, **common)


def _epochs_of_a_round(oracle: kt.oracles.HyperbandOracle) -> int:
    """What all brackets of Hyperband take together, where each trial begins anew."""
    steps = [(bracket, step) for bracket in range(oracle._get_num_brackets()) for step in range(bracket + 1)]
    return sum(oracle._get_size(*step) * oracle._get_epochs(*step) for step in steps)


def _sharing() -> str | None:
    """Whether this process is the chief of a shared search, a worker of one, or neither."""
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        return None
    if missing := {"KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID"} - set(os.environ):
        raise UsageError(f"KERASTUNER_ORACLE_IP is set and {min(missing)} is not: set all three variables, or none.")
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def _next(books: Any, at_once: int) -> list[Any] | None:
    """The trials to be done now, at most so many: none where others' must end first; None where there are no more.

    Each batch ends at a multiple of that number, so that where one was interrupted, the same trials are done together.
    """
    batch: list[Any] = []
    name = os.environ.get("KERASTUNER_TUNER_ID", "tuner")
    for slot in range(at_once):
        again = len(getattr(books, "_retry_queue", ()))
        if batch and not again and len(getattr(books, "trials", ())) % at_once == 0:
            break
        trial = books.create_trial(f"{name}-{slot}")
        if trial.status == "STOPPED":
            return batch or None
        if trial.status != "RUNNING":
            break
        batch.append(trial)
    return batch


def _settings_of(trial: Any) -> dict[str, Any]:
    return {name: value for name, value in trial.hyperparameters.values.items() if not name.startswith("tuner/")}


def _run(
    invocation: Invocation, variant: str, batch: list[Any], console: Console, say: Callable[[str], None]
) -> list[Record]:
    """Do some trials side by side; a promoted one of Hyperband's begins anew, as its schedule does."""
    jobs = []
    for trial in batch:
        fields = _settings_of(trial)
        if "tuner/epochs" in trial.hyperparameters.values:  # Of Hyperband.
            fields["epochs"] = int(trial.hyperparameters.values["tuner/epochs"])
        folder = invocation.folder / f"{variant}-trials" / f"run-{trial.trial_id}"
        job = invocation.job((variant,), SEED, fields, folder)
        jobs.append(dataclasses.replace(job, logging=invocation.settings.log))
    if not jobs:
        return []
    watch = lambda jobs, at_once: live_table.watching(console, jobs, at_once, read_progress)  # noqa: E731
    (work,) = run_jobs([Work.of(invocation, jobs, say)], watch)
    return work.records()


def _report(books: Any, trial: Any, record: Record) -> None:
    """Tell the oracle how a trial went."""
    value = record.metrics.get(OBJECTIVE)
    if record.status == "finished" and value is not None:
        books.update_trial(trial.trial_id, {OBJECTIVE: value})
        trial.status = "COMPLETED"
    else:
        trial.status, trial.message = "FAILED", str(record.cause)
    books.end_trial(trial)


def _trials_of(oracle: kt.Oracle) -> list[SearchTrial]:
    found = [
        SearchTrial(
            trial=trial.trial_id,
            settings=_settings_of(trial),
            epochs=trial.hyperparameters.values.get("tuner/epochs"),
            validation_accuracy=float(trial.score) if trial.status == "COMPLETED" else None,
            status=trial.status.lower(),
        )
        for trial in oracle.trials.values()
    ]
    # Of Hyperband's, those that ran to the end come first.
    return sorted(found, key=lambda trial: (-(trial.epochs or 0), -(trial.validation_accuracy or 0.0)))
