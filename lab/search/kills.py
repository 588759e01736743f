"""So that a search that is killed can go on: KerasTuner's files are whole, and tell the same story.

KerasTuner empties a file before it writes it anew, and a kill in between leaves nothing to go on from. And it writes a
trial's file before the one that says which trials there are: a kill between these two leaves a trial that was begun,
that nobody goes on with, and that counts as tried; or one that has ended, and would be trained again. Of Bayesian
optimization it stores neither where its draws are nor what it took trials under way to score. What stays: a search of
its own tuners that is killed before its first trial is put away altogether begins anew.
"""

import json
import os
from pathlib import Path
from typing import Any

import keras_tuner as kt
import numpy as np
from keras_tuner.src import utils

ENDED = ("COMPLETED", "FAILED")
Bayesian = kt.oracles.BayesianOptimizationOracle
_reload, _get_state, _set_state = kt.Oracle.reload, Bayesian.get_state, Bayesian.set_state
_vectorize = Bayesian._vectorize_trials


def survive_kills() -> None:
    """Have KerasTuner, in this process, write files as a whole and go on as the trials' own files say."""
    utils.save_json = save_whole
    kt.Oracle.reload = reload_what_was_begun
    Bayesian.get_state = state_with_draws
    Bayesian.set_state = set_state_with_draws
    Bayesian._vectorize_trials = vectorize_by_what_has_ended


def save_whole(path: str, content: Any) -> str:
    """Write JSON so that `path` holds either its old content or the whole new one; return what was written."""
    written = json.dumps(content)
    scratch = Path(f"{path}.{os.getpid()}")
    scratch.write_text(written, encoding="utf-8")
    scratch.replace(path)
    return written


def reload_what_was_begun(oracle: kt.Oracle) -> None:
    """Load an oracle's state and its trials. One that was put away just before a kill is begun again; one that had
    ended is not."""
    _reload(oracle)
    # Those that it knows of, and in its order: not those that have a file, and not as files are listed.
    oracle.trials = {name: oracle.trials[name] for name in oracle.start_order}
    for name in [name for name in oracle._retry_queue if oracle.trials[name].status in ENDED]:
        oracle._retry_queue.remove(name)
        oracle.end_order.append(name)


def state_with_draws(oracle: Any) -> dict[str, Any]:
    """What an oracle of Bayesian optimization stores, and where its random numbers are."""
    _, numbers, position, *_ = oracle._random_state.get_state()
    return {**_get_state(oracle), "draws": [numbers.tolist(), position]}


def set_state_with_draws(oracle: Any, state: dict[str, Any]) -> None:
    _set_state(oracle, state)
    if "draws" in state:
        oracle._random_state.set_state(("MT19937", *state["draws"]))


def vectorize_by_what_has_ended(oracle: Any) -> Any:
    """Settings and scores, those of trials under way as they are to be expected from the trials that have ended."""
    under_way = [trial.trial_id for trial in oracle.ongoing_trials.values()]
    if under_way:
        # KerasTuner asks the process that it fitted for an earlier trial, which after a kill is not there.
        all_of_them = oracle.trials
        try:
            oracle.trials = {name: trial for name, trial in all_of_them.items() if name not in under_way}
            settings, scores = _vectorize(oracle)
        finally:
            oracle.trials = all_of_them
        oracle.gpr.fit(np.nan_to_num(settings, posinf=0, neginf=0), np.nan_to_num(scores, posinf=0, neginf=0))
    return _vectorize(oracle)
