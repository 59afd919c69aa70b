"""The strategy that a recipe asks for."""

from __future__ import annotations

from collections.abc import Mapping

from optimize.backends import Backend
from optimize.importance import signal_named
from optimize.importance.ilr import InsideLayerRanking
from optimize.measure.table import LatencyTable
from optimize.run.recipe import Recipe
from optimize.searching.allocate import Allocate
from optimize.searching.budgets import BUDGETS, ENERGIES, Budgets
from optimize.searching.goal import Goal
from optimize.searching.prices import Pricing
from optimize.searching.published.local import Local
from optimize.searching.published.stepwise import Stepwise
from optimize.searching.published.stopping import STOPPING
from optimize.searching.walk import Strategy

WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "balanced": {},
    "latency": {"latency": 1.0, "macs": 0.1, "parameters": 0.1},
    "size": {"latency": 0.1, "macs": 0.1, "parameters": 1.0},
}
"""By what the recipe prefers; nothing counts for nothing, so that of two widths that are as fast the smaller one is taken."""


def strategy(recipe: Recipe, runtime: Backend | None, goal: Goal | None = None) -> Strategy:
    """The strategy of a recipe, with the settings that are its business.

    Args:
        recipe: of the run.
        runtime: the target, on which "allocate" times layers; None where it cannot run here: sizes alone are the price then.
        goal: the latency to be met, for "allocate".
    """
    signal = None if recipe.importance is None else signal_named(recipe.importance)
    if recipe.strategy == "stepwise":
        return Stepwise(signal or InsideLayerRanking(), floors=recipe.floors, stopping=STOPPING[recipe.stopping])
    if recipe.strategy == "local":
        return Local(floors=recipe.floors, stopping=STOPPING[recipe.stopping], importance=signal)
    # what `Prune` does by itself is output error with exact costs at every stage; asked as a signal, it would be asked only once
    signal = None if recipe.importance == "output_error" else signal
    energies = ENERGIES if recipe.energy is None else tuple(energy for energy in ENERGIES if energy >= recipe.energy)
    if recipe.strategy == "allocate":
        table = None if runtime is None else LatencyTable(runtime, runtime.precisions()[-1], threads=recipe.threads)
        pricing = Pricing(table, **WEIGHTS[recipe.prefer])
        return Allocate(pricing, energies=energies, finetune=recipe.finetune, goal=goal, importance=signal)
    return Budgets(recipe.budgets or BUDGETS, energies, importance=signal)
