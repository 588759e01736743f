"""So that a search that is killed can go on: KerasTuner's files are whole, and tell the same story.

KerasTuner empties a file before it writes it anew, and a kill in between leaves nothing to go on from. And it writes a
trial's file before the one that says which trials there are: a kill between these two leaves a trial that was begun,
that nobody goes on with, and that counts as tried; or one that has ended, and would be trained again.
"""

import json
import os
from pathlib import Path
from typing import Any

import keras_tuner as kt
from keras_tuner.src import utils

ENDED = ("COMPLETED", "FAILED")
_reload = kt.Oracle.reload


def survive_kills() -> None:
    """Have KerasTuner, in this process, write files as a whole and go on as the trials' own files say."""
    utils.save_json = save_whole
    kt.Oracle.reload = reload_what_was_begun


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
    for name in set(oracle.trials) - set(oracle.start_order):
        del oracle.trials[name]
    for name in [name for name in oracle._retry_queue if oracle.trials[name].status in ENDED]:
        oracle._retry_queue.remove(name)
        oracle.end_order.append(name)
