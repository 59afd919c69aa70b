"""The strategy that a recipe asks for."""

from __future__ import annotations

from optimize.recipe import Recipe
from optimize.search.budgets import BUDGETS, ENERGIES, Budgets
from optimize.search.local import Local
from optimize.search.stepwise import Stepwise
from optimize.search.stopping import STOPPING
from optimize.search.walk import Strategy


def strategy(recipe: Recipe) -> Strategy:
    """The strategy of a recipe, with the settings that are its business."""
    if recipe.strategy == "stepwise":
        return Stepwise(floors=recipe.floors, stopping=STOPPING[recipe.stopping])
    if recipe.strategy == "local":
        return Local(floors=recipe.floors, stopping=STOPPING[recipe.stopping])
    energies = ENERGIES if recipe.energy is None else tuple(energy for energy in ENERGIES if energy >= recipe.energy)
    return Budgets(recipe.budgets or BUDGETS, energies)
