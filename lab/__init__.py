"""The laboratory measures the recipes. `lab.experiments` says what is compared; the rest runs, records and shows it.

experiment, claims, statistics, tuning, table, panels   what an experiment declares, and how verdicts are read
measurement, stopping_rule   one experiment from what was asked for to what was found
core/          the run, its scores, its timing: all that makes a number
execute/       invocations, the scheduler, worker processes, clusters
evidence/      records, where they came from, the hash of the code that made them
report/        cards, figures, index pages, publishing
tensorboard/   what goes to TensorBoard, and its server
search/        KerasTuner
cli/           commands, checks of what was asked for, what is printed
"""

# Type checkers see the names that `__getattr__` finds.
# ruff: noqa: F401

import importlib
from typing import TYPE_CHECKING, Any

import pipelines  # Its import hook keeps TensorFlow's start-up messages out of the terminal.

if TYPE_CHECKING:
    from lab.claims import Claim
    from lab.cli.commands import main
    from lab.cli.python import measure
    from lab.core.run import Run
    from lab.core.timing import clock, share_of_others
    from lab.execute.cluster import join, limit_threads, workers_here
    from lab.execute.subprocesses import memory_of, together
    from lab.experiment import Experiment, Unit
    from lab.measurement import Measured, advice
    from lab.panels import Bars, Lines, Points
    from lab.table import Table
    from lab.tensorboard.profile import read_profile
    from lab.tuning import Objective, Range, Tuning, half_decades

# Module -> what it has, imported when it is asked for: a list of recipes needs no TensorFlow.
_MODULES = {
    "lab.claims": "Claim",
    "lab.cli.commands": "main",
    "lab.cli.python": "measure",
    "lab.core.run": "Run",
    "lab.core.timing": "clock share_of_others",
    "lab.execute.cluster": "join limit_threads workers_here",
    "lab.execute.subprocesses": "memory_of together",
    "lab.experiment": "Experiment Unit",
    "lab.measurement": "Measured advice",
    "lab.panels": "Bars Lines Points",
    "lab.table": "Table",
    "lab.tensorboard.profile": "read_profile",
    "lab.tuning": "Objective Range Tuning half_decades",
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
