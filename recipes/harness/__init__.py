"""What all recipes share, none of it a technique. A recipe imports from here; nothing here imports a recipe.

cli              from flags to exit codes
flags            what they are
asking           whether what was asked for can be done
measuring        from what was asked to what was found; `measure`
deciding         more seeds where a verdict is open
closing          what is printed at the end
alone            what a call takes in a process of its own
processes        processes of a recipe's own
cluster          those that are workers of one cluster
kerastuner/      for recipes that search, and for `--search`: imported by them alone
running/         how runs are carried out
reporting/       what is shown and published of them
declaring/       what a recipe's author writes
evidence/        what is recorded, and where it came from

Each of the folders imports only from those below it.
"""

from recipes.harness.alone import memory_of
from recipes.harness.cli import main
from recipes.harness.cluster import follow, join, limit_threads, workers_here
from recipes.harness.declaring.claims import Claim
from recipes.harness.declaring.panels import Against, Bars, Graph, Lines, Points
from recipes.harness.declaring.recipe import Recipe, Unit
from recipes.harness.declaring.space import Range
from recipes.harness.declaring.table import Table
from recipes.harness.declaring.tuning import Objective, Tuning, half_decades
from recipes.harness.declaring.variants import grid
from recipes.harness.measuring import Measured, advice, measure
from recipes.harness.processes import together
from recipes.harness.reporting.figure import draw_models
from recipes.harness.reporting.profile import read_profile
from recipes.harness.running.run import Run
from recipes.harness.running.timing import clock, share_of_others

__all__ = [
    "Against",
    "Bars",
    "Claim",
    "Graph",
    "Lines",
    "Measured",
    "Objective",
    "Points",
    "Range",
    "Recipe",
    "Run",
    "Table",
    "Tuning",
    "Unit",
    "advice",
    "clock",
    "draw_models",
    "follow",
    "grid",
    "half_decades",
    "join",
    "limit_threads",
    "main",
    "measure",
    "memory_of",
    "read_profile",
    "share_of_others",
    "together",
    "workers_here",
]
