"""`search`: KerasTuner over the space that an experiment declares. Each trial is a run of the experiment, in a worker.

KerasTuner's oracle says what to try. A `Tuner.run_trial` would train one trial at a time; `create_trial` and
`end_trial` hand out several, which the workers train side by side.

A search that goes on asks a new oracle, from the first trial on. The same seed and scores lead it along the same
trials, and a trial whose record is there is not trained again. So a kill costs nothing but the runs under way.
"""

import dataclasses
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import keras_tuner as kt
import threadpoolctl
from msgspec import structs

from lab.evidence.records import read, write_json
from lab.evidence.schemas import Record, Search, SearchTrial
from lab.execute.invocation import Invocation
from lab.execute.scheduler import run_jobs
from lab.settings import Tuner
from lab.tuning import SEED, Range, Space, half_decades
from lab.variants import given_or_own
from pipelines.errors import UsageError

OBJECTIVE = "validation_accuracy"  # That of the variants that can be searched.
BATCH = 4  # Bayesian optimization begins with four random trials and then proposes four at a time, whatever --jobs is.
FACTOR = 2  # Hyperband goes on with the better half.


def search(
    invocation: Invocation, watch: Callable[..., Any], say: Callable[[str], None]
) -> dict[str, list[SearchTrial]]:
    """Search for each variant's settings, write `search.json`, and return what it holds.

    Variant -> its trials: the longest first, of equally long ones the best first, and those without a score last.

    Raises:
        UsageError: the tuner does not go with the experiment.
        EvidenceError: `search.json` of the search that goes on is broken, or the code was changed meanwhile.
    """
    experiment, settings = invocation.experiment, invocation.settings
    if settings.tuner == "hyperband" and not hasattr(invocation.config, "epochs"):
        raise UsageError(f"Hyperband trains for fewer --epochs, which {experiment.name} lacks: use another tuner.")
    if "KERASTUNER_ORACLE_IP" in os.environ:
        raise UsageError("This search shares its trials by --jobs or --backend ray: unset KERASTUNER_ORACLE_IP.")
    path, found = invocation.folder / "search.json", {}
    if path.exists():  # Of other variants, where a search goes on.
        found = dict(read(path, Search, "delete it; the trials' records are beside it").found)
    for variant in invocation.variants:
        found[variant] = _search_one(invocation, variant, watch, say)
    invocation.check_code()
    write_json(path, Search(**structs.asdict(invocation.header), tuner=settings.tuner, found=found))
    return found


def _search_one(
    invocation: Invocation, variant: str, watch: Callable[..., Any], say: Callable[[str], None]
) -> list[SearchTrial]:
    settings, partials = invocation.settings, invocation.experiment.partials
    epochs = given_or_own(partials.get(variant), invocation.config, "epochs") or 1
    space = invocation.experiment.space_of(variant)
    oracle = make_oracle(settings.tuner, space, settings.trials, epochs)
    if (oracle.max_trials or settings.trials) < settings.trials:
        say(f"{variant} has {oracle.max_trials} settings to choose from: there are as many trials, each of another.")
    oracles = str(invocation.folder / "oracles")  # KerasTuner's files, which nothing reads.
    kt.engine.base_tuner.BaseTuner(oracle, directory=oracles, project_name=variant, overwrite=True)

    def run(trials: list[Any]) -> Sequence[Record]:
        jobs = []
        for trial in trials:
            fields = _settings_of(trial)
            if "tuner/epochs" in trial.hyperparameters.values:  # A trial that Hyperband promotes begins anew.
                fields["epochs"] = int(trial.hyperparameters.values["tuner/epochs"])
            folder = invocation.folder / f"{variant}-trials" / f"run-{trial.trial_id}"
            job = invocation.job((variant,), SEED, fields, folder)
            jobs.append(dataclasses.replace(job, logging=settings.log))
        return run_jobs(invocation, jobs, say, watch)

    try_all(oracle, run, at_once=BATCH if settings.tuner == "bayesian" else None)
    trials = list(oracle.trials.values())
    for cause, count in Counter(trial.message for trial in trials if trial.status == "FAILED").items():
        say(f"{count} of {len(trials)} trials of {variant} failed: {cause}")
    return ranked(trials)


class DistinctBayesian(kt.oracles.BayesianOptimizationOracle):
    """Random settings take the place of those that KerasTuner's Bayesian optimization proposes again.

    Relies on private methods of KerasTuner 1.4.8.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        proposed: dict[str, Any] = super().populate_space(trial_id)
        again = proposed["status"] == "RUNNING" and self._duplicate(proposed["values"])
        return self._random_populate_space() if again else proposed


def make_oracle(tuner: Tuner, space: Space, trials: int, epochs: int) -> kt.Oracle:
    """KerasTuner's oracle over `space`; the seed is that of all tuning.

    Each trial has other settings than all before, and where `trials` are as many as there are settings, all are tried.
    So a grid is drawn at random, too: KerasTuner's own grid search waits for each trial before it proposes the next.

    Hyperband tries more settings than `trials`, most of them for fewer than `epochs` epochs: about as many in all, but
    at least one round of its own.

    Raises:
        UsageError: a grid of more settings than `trials`, or a space too small for a round of Hyperband.
    """
    hyperparameters, different = kt.HyperParameters(), 1.0
    for name, values in space.items():
        if isinstance(values, Range) and tuner != "grid":
            hyperparameters.Float(name, values.low, values.high, sampling="log")
            different = math.inf
            continue
        chosen = (values.grid or half_decades(values.low, values.high)) if isinstance(values, Range) else values
        hyperparameters.Choice(name, list(chosen), ordered=not isinstance(chosen[0], (str, bool)))
        different *= len(set(chosen))
    if tuner == "grid" and different > trials:  # It would be cut at one end, and be no grid.
        raise UsageError(
            f"A grid of all settings has {different:.0f} trials: say --trials {different:.0f}, or use random."
        )
    common: dict[str, Any] = {
        "objective": kt.Objective(OBJECTIVE, "max"),
        "hyperparameters": hyperparameters,
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": SEED + 1,  # KerasTuner takes 0 for "any".
        "max_consecutive_failed_trials": 1_000_000,
    }
    oracle: kt.Oracle
    if tuner in ("grid", "random") or different <= trials:
        oracle = kt.oracles.RandomSearchOracle(max_trials=int(min(trials, different)), **common)
    elif tuner == "bayesian":
        oracle = DistinctBayesian(max_trials=trials, num_initial_points=BATCH, **common)
    else:
        oracle = kt.oracles.HyperbandOracle(max_epochs=epochs, factor=FACTOR, **common)
        oracle.hyperband_iterations = _rounds_of(oracle, trials * epochs, different)
    oracle.verbose = 0
    oracle._max_collisions = 100_000  # KerasTuner gives up after 20 random draws that it has tried already.
    return oracle


def _rounds_of(oracle: kt.oracles.HyperbandOracle, budget: int, different: float) -> int:
    """How many rounds of Hyperband cost about `budget` epochs if each trial begins anew, at least one.

    Raises:
        UsageError: one round begins with more than the `different` settings that there are.
    """
    steps = [(bracket, step) for bracket in range(oracle._get_num_brackets()) for step in range(bracket + 1)]
    epochs = sum(oracle._get_size(*step) * oracle._get_epochs(*step) for step in steps)
    begun = sum(oracle._get_size(bracket, step) for bracket, step in steps if step == 0)
    if begun > different:
        raise UsageError(
            f"A round of Hyperband begins with {begun} settings, and there are {different:.0f}: say --trials "
            f"{different:.0f}, which tries them all, or use another tuner."
        )
    return int(min(max(1, round(budget / epochs)), different / begun))


def try_all(oracle: kt.Oracle, run: Callable[[list[Any]], Sequence[Record]], at_once: int | None = None) -> None:
    """Run what the oracle proposes until it stops: `at_once` trials at a time, or all that it hands out."""
    while True:
        batch: list[Any] = []
        while at_once is None or len(batch) < at_once:
            # Gaussian processes this small take several times as long on several threads.
            with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
                warnings.filterwarnings("ignore", module="sklearn")  # A length scale at its bound is no failure.
                trial = oracle.create_trial(f"slot-{len(batch)}")
            if trial.status != "RUNNING":  # It waits for the batch, or the search is over.
                break
            batch.append(trial)
        if not batch:
            return
        for trial, record in zip(batch, run(batch), strict=True):
            value = record.metrics.get(OBJECTIVE)
            if record.status == "finished" and value is not None:
                oracle.update_trial(trial.trial_id, {OBJECTIVE: value})
                trial.status = "COMPLETED"
            else:
                trial.status, trial.message = "FAILED", record.cause or f"it has no {OBJECTIVE}"
            oracle.end_trial(trial)


def ranked(trials: Sequence[Any]) -> list[SearchTrial]:
    """KerasTuner's trials as they are recorded, in the order that `search` describes."""
    found = [
        SearchTrial(
            trial=trial.trial_id,
            settings=_settings_of(trial),
            epochs=trial.hyperparameters.values.get("tuner/epochs"),
            score=float(trial.score) if trial.status == "COMPLETED" else None,
            status=trial.status.lower(),
        )
        for trial in trials
    ]
    return sorted(found, key=lambda trial: (trial.score is None, -(trial.epochs or 0), -(trial.score or 0.0)))


def _settings_of(trial: Any) -> dict[str, Any]:
    return {name: value for name, value in trial.hyperparameters.values.items() if not name.startswith("tuner/")}
