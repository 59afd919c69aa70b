"""The strategy "budget": one number from mild to bold. Error budgets for pruning, then lower and lower energies for the linear layers.

Every budget starts from the last candidate that was kept. Where one fails, the gap to the last one that passed is halved twice on a
logarithmic scale, and pruning ends. Then linear layers are factorized; every energy starts from the pruned network.

Example: .001 and .002 are kept, .004 is refused. sqrt(.002 * .004) = .0028 is kept, so the last try is sqrt(.0028 * .004) = .0034.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from optimize.importance.signal import Signal
from optimize.searching.walk import Walk
from optimize.steps.factorize import Factorize
from optimize.steps.prune import Prune

BUDGETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
ENERGIES = (0.999, 0.995, 0.99, 0.97, 0.95, 0.9)
GAP_PROPOSALS = 2


@dataclass(frozen=True)
class Budgets:
    """The strategy "budget".

    Args:
        budgets: error budgets, mild to bold.
        energies: shares of energy that factorizations keep, mild to bold.
        gap_proposals: number of proposals in the gap between the last budget that passed and the first that did not.
        importance: signal that says which channels of a layer go first, see `Prune`; None for output error.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> import optimize as opt
        >>> rng = np.random.default_rng(0)
        >>> splits = {name: (rng.random((60, 1, 4, 4), np.float32), np.arange(60) % 2) for name in ("val", "test")}
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
        >>> original, data, limits = opt.load_model(net, input_shape=(1, 4, 4)), opt.load_data(splits), opt.Limits(max_drop=0.9)
        >>> result = opt.search(original, data, limits, strategy=opt.Budgets(budgets=(0.01, 0.1), energies=()))
        >>> result.best.parameters <= original.parameters, len(result.trials) > 0
        (True, True)
    """

    name: ClassVar[str] = "budget"
    settings: ClassVar[tuple[str, ...]] = ("budgets", "energies", "importance")
    few_proposals: ClassVar[bool] = True
    own_importance: ClassVar[str] = "output_error"
    """The signal that `importance=None` stands for."""

    budgets: tuple[float, ...] = BUDGETS
    energies: tuple[float, ...] = ENERGIES
    gap_proposals: int = GAP_PROPOSALS
    importance: Signal | None = None

    def __call__(self, walk: Walk) -> None:
        """Prune under every budget, then factorize."""
        self._prune(walk)
        factorize(walk, self.energies)

    def _prune(self, walk: Walk) -> None:
        passed, refused = 0.0, 0.0
        for budget in self.budgets:
            trial = walk.propose(Prune(budget, importance=self.importance), walk.best)
            if not trial and not trial.changed_nothing:
                # the first that is refused ends the series; a budget that removed nothing is no refusal, since a bolder one may remove
                # something
                refused = budget
                break
            passed = budget
        for _ in range(self.gap_proposals if refused else 0):
            # where nothing has passed there is no lower end to take the geometric mean with
            middle = sqrt(passed * refused) if passed else refused / 4
            if walk.propose(Prune(middle, importance=self.importance), walk.best):
                passed = middle
            else:
                refused = middle


def factorize(walk: Walk, energies: Sequence[float]) -> None:
    """Propose low-rank linear layers with lower and lower energies, until one is refused; every one starts from the best so far."""
    start = walk.best
    for energy in energies:
        trial = walk.propose(Factorize(energy), start)
        if not trial and not trial.changed_nothing:
            return
