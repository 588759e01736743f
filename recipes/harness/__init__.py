"""What all recipes share, none of it a technique."""

from recipes.harness.claims import Claim
from recipes.harness.figure import Bars, Lines, Points
from recipes.harness.recipe import Recipe, Unit
from recipes.harness.run import Run
from recipes.harness.trials import ResumableGridSearch, TrialBoard
from recipes.harness.tuning import Factorial, Objective, Tuning, half_decades

__all__ = [
    "Bars",
    "Claim",
    "Factorial",
    "Lines",
    "Objective",
    "Points",
    "Recipe",
    "ResumableGridSearch",
    "Run",
    "TrialBoard",
    "Tuning",
    "Unit",
    "half_decades",
]
