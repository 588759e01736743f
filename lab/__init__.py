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

import importlib
from typing import TYPE_CHECKING, Any

import pipelines  # noqa: F401  Its import hook keeps TensorFlow's start-up messages out of the terminal.

if TYPE_CHECKING:
    from lab.claims import Claim as Claim
    from lab.cli.commands import main as main
    from lab.core.run import Run as Run
    from lab.core.timing import clock as clock
    from lab.core.timing import share_of_others as share_of_others
    from lab.execute.cluster import follow as follow
    from lab.execute.cluster import join as join
    from lab.execute.cluster import limit_threads as limit_threads
    from lab.execute.cluster import workers_here as workers_here
    from lab.execute.subprocesses import memory_of as memory_of
    from lab.execute.subprocesses import together as together
    from lab.experiment import Experiment as Experiment
    from lab.experiment import Unit as Unit
    from lab.measurement import Measured as Measured
    from lab.measurement import advice as advice
    from lab.measurement import measure as measure
    from lab.panels import Bars as Bars
    from lab.panels import Lines as Lines
    from lab.panels import Points as Points
    from lab.table import Table as Table
    from lab.tensorboard.profile import read_profile as read_profile
    from lab.tuning import Objective as Objective
    from lab.tuning import Range as Range
    from lab.tuning import Tuning as Tuning
    from lab.tuning import half_decades as half_decades
    from lab.variants import grid as grid

# Name -> the module that has it, imported when it is asked for: a list of recipes needs no TensorFlow.
_WHERE = {
    "Bars": "lab.panels",
    "Claim": "lab.claims",
    "Experiment": "lab.experiment",
    "Lines": "lab.panels",
    "Measured": "lab.measurement",
    "Objective": "lab.tuning",
    "Points": "lab.panels",
    "Range": "lab.tuning",
    "Run": "lab.core.run",
    "Table": "lab.table",
    "Tuning": "lab.tuning",
    "Unit": "lab.experiment",
    "advice": "lab.measurement",
    "clock": "lab.core.timing",
    "follow": "lab.execute.cluster",
    "grid": "lab.variants",
    "half_decades": "lab.tuning",
    "join": "lab.execute.cluster",
    "limit_threads": "lab.execute.cluster",
    "main": "lab.cli.commands",
    "measure": "lab.measurement",
    "memory_of": "lab.execute.subprocesses",
    "read_profile": "lab.tensorboard.profile",
    "share_of_others": "lab.core.timing",
    "together": "lab.execute.subprocesses",
    "workers_here": "lab.execute.cluster",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
