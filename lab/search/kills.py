"""What a kill leaves of a KerasTuner project."""

import json
import os
import shutil
from pathlib import Path


def check_files(project: Path) -> None:
    """Look at a project before KerasTuner loads it again.

    KerasTuner empties a file before it writes it, so a kill in between leaves an empty one. It writes a new trial's
    file before it lists the trial in oracle.json; after a kill in between, the trial would count as tried and never
    end, and Bayesian optimization fails on it. Such a trial has no result, and is removed.

    Raises:
        ValueError: a file is cut off.
    """
    if "chief" not in os.environ.get("KERASTUNER_TUNER_ID", "chief"):
        return  # A worker starts while the chief writes.
    for path in sorted(project.rglob("*.json")):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(
                f"{path} is cut off ({error}), so the search can't go on. What its finished trials scored is in "
                f"their trial.json. To search anew, delete {project}."
            ) from error
    books = project / "oracle.json"
    listed = json.loads(books.read_bytes())["start_order"] if books.exists() else []
    for folder in project.glob("trial_*"):
        if folder.name.removeprefix("trial_") not in listed:
            shutil.rmtree(folder)
