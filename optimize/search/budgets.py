"""From mild to bold by one number: error budgets for pruning, then ever lower energies for the linear layers.

Budgets come first, each starting from the last candidate that was kept; where one fails, the gap to it is halved twice (on a logarithmic
scale), and pruning is over. Then linear layers are factorized, every energy starting from the pruned network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from optimize.importance.signal import Signal
from optimize.search.walk import Walk
from optimize.steps.factorize import Factorize
from optimize.steps.prune import Prune

BUDGETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
ENERGIES = (0.999, 0.995, 0.99, 0.97, 0.95, 0.9)
HALVINGS = 2


@dataclass(frozen=True)
class Budgets:
    """The strategy "budget".

    Args:
        levels: error budgets, mild to bold.
        energies: shares of energy that factorizations keep, mild to bold.
        halvings: of the gap between the last budget that held and the first that did not.
        importance: which channels of a layer go first, see `Prune`; None for output error.
    """

    levels: tuple[float, ...] = BUDGETS
    energies: tuple[float, ...] = ENERGIES
    halvings: int = HALVINGS
    importance: Signal | None = None

    def __call__(self, walk: Walk) -> None:
        """Walk to the end."""
        self._prune(walk)
        factorize(walk, self.energies)

    def _prune(self, walk: Walk) -> None:
        held, refused = 0.0, 0.0
        for budget in self.levels:
            trial = walk.propose(Prune(budget, importance=self.importance), walk.best)
            if not trial and not trial.idle:
                refused = budget
                break
            held = budget
        for _ in range(self.halvings if refused else 0):
            middle = sqrt(held * refused) if held else refused / 4
            if walk.propose(Prune(middle, importance=self.importance), walk.best):
                held = middle
            else:
                refused = middle


def factorize(walk: Walk, energies: Sequence[float]) -> None:
    """Offer low-rank linear layers under ever lower energies, each starting from the best so far, until one is refused."""
    start = walk.best
    for energy in energies:
        trial = walk.propose(Factorize(energy), start)
        if not trial and not trial.idle:
            return
