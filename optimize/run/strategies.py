"""Make the strategy that a recipe names, with the settings that it takes from the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from optimize.backends import Backend
from optimize.errors import InputError
from optimize.importance import signal_named
from optimize.importance.signal import Signal
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
"""Value of `prefer` -> weights of a `Pricing`. No weight is 0: of two widths that are equally fast, the smaller one must be cheaper."""


def strategy(recipe: Recipe, runtime: Backend | None, goal: Goal | None = None) -> Strategy:
    """Return the strategy that a recipe names, with the values of the settings that it takes.

    Args:
        recipe: the resolved settings of the run.
        runtime: backend on which "allocate" times layers; None where the target cannot run here, and prices have no latency part.
        goal: latency to be met, for a strategy that takes one; None for the boldest candidate that passes.

    Raises:
        InputError: when there is no such strategy or signal.
    """
    # A new setting is one line here. Only what the strategy takes is computed, since a latency table opens files of this machine.
    values: dict[str, Callable[[], object]] = {
        "budgets": lambda: recipe.budgets or BUDGETS,
        "energies": lambda: ENERGIES if recipe.energy is None else tuple(share for share in ENERGIES if share >= recipe.energy),
        "finetune": lambda: recipe.finetune,
        "floors": lambda: recipe.floors,
        "goal": lambda: goal,
        "pricing": lambda: Pricing(_latency_table(recipe, runtime), **WEIGHTS[recipe.prefer]),
        "stopping": lambda: STOPPING[recipe.stopping],
    }
    signal = _signal(recipe)
    if signal is not None:  # left out otherwise: each strategy has a default of its own
        values["importance"] = lambda: signal
    kind = strategies().get(recipe.strategy)
    taken = () if kind is None else kind.settings
    return make_strategy(recipe.strategy, {name: value() for name, value in values.items() if name in taken})


def makes_few_proposals(name: str) -> bool:
    """Return whether the strategy of this name makes so few proposals that each can be timed on the target."""
    return strategies()[name].few_proposals


def require_settings(recipe: Recipe, required: Mapping[str, str]) -> None:
    """Check that the recipe's strategy takes settings that the user gave.

    Args:
        recipe: the resolved settings of the run.
        required: flag that the user gave -> setting that a strategy must take for it, such as "--retrain" -> "finetune".

    Raises:
        InputError: when the strategy does not take one; the text names the strategies that do.
    """
    by_name = strategies()
    for flag, setting in required.items():
        able = sorted(name for name, kind in by_name.items() if setting in kind.settings)
        if recipe.strategy not in able:
            names = " or ".join(map(repr, able))
            raise InputError(f"`{flag}` needs the strategy {names}, not {recipe.strategy!r}: leave --strategy out.")


def _latency_table(recipe: Recipe, runtime: Backend | None) -> LatencyTable | None:
    """Return the latencies of layers in the runtime's lowest float precision; None where there is no runtime to time them."""
    return None if runtime is None else LatencyTable(runtime, runtime.precisions()[-1], threads=recipe.threads)


def _signal(recipe: Recipe) -> Signal | None:
    """Return the signal that the recipe names; None where the strategy is to use its own."""
    own = getattr(strategies().get(recipe.strategy), "own_importance", None)
    # Output error as a signal is computed once, before the first removal. `Prune` without a signal computes it again at every stage with
    # exact costs, which is better, so a strategy that prunes that way by itself is left to do so.
    return None if recipe.importance in (None, own) else signal_named(str(recipe.importance))
