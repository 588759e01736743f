"""What a kill leaves of a KerasTuner project."""

import json
import os
import shutil
from pathlib import Path


def check_files(project: Path) -> None:
    """Look at a project before KerasTuner loads it again.

    KerasTuner writes a new trial's file before it lists the trial in oracle.json. After a kill in between, the trial
    would count as tried and never end, and Bayesian optimization fails on it: it has no result, and is removed.
    KerasTuner empties a file before it writes it, so a kill in between leaves an empty one, and nothing to go on from.

    Raises:
        ValueError: a file is cut off.
    """
    if "chief" not in os.environ.get("KERASTUNER_TUNER_ID", "chief"):
        return  # A worker starts while the chief writes.
    listed = _read(project / "oracle.json")["start_order"] if (project / "oracle.json").exists() else []
    for folder in project.glob("trial_*"):
        if folder.name.removeprefix("trial_") not in listed:
            shutil.rmtree(folder)
    for path in sorted(project.rglob("*.json")):
        _read(path)


def _read(path: Path) -> dict:
    try:
        found: dict = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} is cut off ({error}), so the search can't go on. What its finished trials scored is in trial.json "
            "beside it. To search anew, delete the folder of the search."
        ) from error
    return found
