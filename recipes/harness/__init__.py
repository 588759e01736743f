"""What all recipes share, none of it a technique."""

from recipes.harness.claims import Claim
from recipes.harness.recipe import Recipe
from recipes.harness.run import Run
from recipes.harness.tuning import Objective, Tuning, half_decades

__all__ = ["Claim", "Objective", "Recipe", "Run", "Tuning", "half_decades"]
