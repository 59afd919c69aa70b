"""The strategy that a recipe asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from optimize.backends import Backend
from optimize.importance import signal_named
from optimize.measure.table import LatencyTable
from optimize.run.recipe import Recipe
from optimize.searching.budgets import BUDGETS, ENERGIES
from optimize.searching.goal import Goal
from optimize.searching.prices import Pricing
from optimize.searching.published.stopping import STOPPING
from optimize.searching.strategies import make_strategy, strategies
from optimize.searching.walk import Strategy

WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "balanced": {},
    "latency": {"latency": 1.0, "macs": 0.1, "parameters": 0.1},
    "size": {"latency": 0.1, "macs": 0.1, "parameters": 1.0},
}
"""By what the recipe prefers; nothing counts for nothing, so that of two widths that are as fast the smaller one is taken."""


def strategy(recipe: Recipe, runtime: Backend | None, goal: Goal | None = None) -> Strategy:
    """The strategy of a recipe, with those of the recipe's settings that it names in `settings`.

    Args:
        recipe: of the run.
        runtime: the target, on which "allocate" times layers; None where it cannot run here: sizes alone are the price then.
        goal: the latency to be met, for "allocate".

    Raises:
        InputError: when there is no such strategy or no such signal.
    """
    return make_strategy(recipe.strategy, dict(_values(recipe, runtime, goal)))


def _values(recipe: Recipe, runtime: Backend | None, goal: Goal | None) -> Iterator[tuple[str, object]]:
    """Field of a strategy -> what the recipe says about it."""
    kind = strategies().get(recipe.strategy)
    if kind is not None and "pricing" in kind.settings:  # a table is read from disk, so only for a strategy that asks for it
        table = None if runtime is None else LatencyTable(runtime, runtime.precisions()[-1], threads=recipe.threads)
        yield "pricing", Pricing(table, **WEIGHTS[recipe.prefer])
    yield "energies", ENERGIES if recipe.energy is None else tuple(energy for energy in ENERGIES if energy >= recipe.energy)
    yield "finetune", recipe.finetune
    yield "goal", goal
    yield "budgets", recipe.budgets or BUDGETS
    yield "floors", recipe.floors
    yield "stopping", STOPPING[recipe.stopping]
    # What `Prune` does by itself is output error with exact costs at every stage. As a signal it would be asked only once, so a strategy's
    # own signal is left to the strategy, whether or not the recipe names it.
    if recipe.importance is not None and recipe.importance != getattr(kind, "default_importance", None):
        yield "importance", signal_named(recipe.importance)
