"""Widths chosen jointly: measured harm against measured latency, and the boldest trade-off that passes the guard.

1. A mild error budget, the same for every layer, takes away what nobody would miss; it is quartered until the guard lets it pass.
2. From there, each group alone is narrowed along its elimination curve and the harm to the answers is measured (`scan.py`).
3. A knapsack picks all widths together: the lowest price of the layers, by a latency table of the target, for a given sum of harms.
4. The sum of harms is doubled until the guard refuses, and the gap is halved: a few evaluations instead of hundreds.
5. Harms do not quite add up, and least of all those of layers that are taken out one behind the other. So what was kept is scanned
   again, and the ladder climbed once more, as long as that leads on.

Where a latency is asked for, the mildest proposal that meets it is the answer, and nothing bolder is tried. Where recovery training is
allowed, widths bolder than the guard lets pass are offered again, trained: for a sum of harms above the last that passed, then in wide
strides until one is kept and one refused, and once or twice between them. What trained weights lost on cases unlike those trained on,
weights on the way to them may have kept: where the guard refuses the trained ones, it is asked about those. Linear layers are factorized
in the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, sqrt

from optimize.candidate import Candidate, Step
from optimize.importance.signal import Signal
from optimize.progress import note
from optimize.search.budgets import ENERGIES, factorize
from optimize.search.goal import Goal
from optimize.search.knapsack import Knapsack
from optimize.search.prices import Pricing, knapsack
from optimize.search.scan import BOLD, LEVELS, scan
from optimize.search.walk import Trial, Walk
from optimize.steps.chain import Chain
from optimize.steps.finetune import Finetune
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths

MILD = 0.0005
LEAST_MILD = 0.00005
LEAST_HARM = 1e-4
"""Nats: where the mild pruning did next to no harm, the ladder begins here."""
DOUBLINGS = 8
HALVINGS = 3
ROUNDS = 3
"""Scans at most: each brings a dozen more questions to the guard, and the more it is asked the less its answers say."""
BISECTIONS = 2 * HALVINGS
"""At most: those that lead to widths already tried cost nothing, and as long as nothing was kept it goes on."""
TRAINED, STRIDE, TRAININGS = 4.0, 4.0, 5
"""The first sum of harms to be trained for, in units of the last that the guard let pass without training; how far a stride leads from
there; and how often to train at most, since that takes long."""
WAYS = (1.0, 0.5, 0.25)
"""From the weights that were repaired to the trained ones; tried in this order until one is kept."""
AIMED = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Sums to be trained for where a goal is to be met, the mildest first."""
NEAR = 1.5
"""A sum that was kept and one that was refused are near enough when they differ by no more than this factor."""


@dataclass(frozen=True)
class Allocate:
    """The strategy "allocate".

    Args:
        pricing: what a layer of given widths costs.
        mild: error budget of the first pruning.
        energies: shares of energy that factorizations keep, mild to bold.
        finetune: recovery training, or None for none.
        goal: a latency to be met, or None for the boldest that the guard lets pass.
        importance: which channels of a layer go first, see `Prune`; None for output error.
        halvings: proposals in the gap between the last sum of harms that passed and the first that did not.
    """

    pricing: Pricing
    mild: float = MILD
    energies: tuple[float, ...] = ENERGIES
    finetune: Finetune | None = None
    goal: Goal | None = None
    halvings: int = HALVINGS
    importance: Signal | None = None

    def __call__(self, walk: Walk) -> None:
        """Walk to the end."""
        if self.goal_met(walk):
            return
        self._begin(walk)
        if self.goal_met(walk):
            return
        ladder = self._climbed(walk)
        if ladder is not None and self.finetune is not None and not self.goal_met(walk):
            ladder.train(self.finetune)
        if not self.goal_met(walk):
            factorize(walk, self.energies)
        if self.goal is not None and not self.goal_met(walk):
            note(f"nothing that the guard lets pass meets {self.goal.latency_ms:g} ms")

    def _begin(self, walk: Walk) -> None:
        budget = self.mild
        while budget >= LEAST_MILD:
            trial = walk.propose(Prune(budget, importance=self.importance), walk.original)
            if trial or trial.idle:
                return
            budget /= 4

    def _climbed(self, walk: Walk) -> _Ladder | None:
        """Scan and climb until that leads no further; the last ladder, or None where no group can be cut."""
        ladder = None
        for _ in range(ROUNDS):
            start = walk.best
            levels = LEVELS if self.finetune is None else (*LEVELS, *BOLD)
            curves, done = scan(start, walk.reference, walk.search.guard, self.pricing.multiple, levels, self.importance)
            if not any(len(curve.widths) > 1 for curve in curves):
                break
            ladder = _Ladder(walk, start, knapsack(start, curves, self.pricing), max(done, LEAST_HARM), self)
            ladder.climb()
            if walk.best is start or self.goal_met(walk):
                break
        return ladder

    def goal_met(self, walk: Walk) -> bool:
        """Whether there is a goal, and the best candidate meets it."""
        return self.goal is not None and self.goal.met(walk.best)


class _Ladder:
    """Proposals by their sum of harms, all of them cut out of the same start."""

    def __init__(self, walk: Walk, start: Candidate, items: Knapsack, unit: float, strategy: Allocate) -> None:
        self._walk, self._start, self._items, self._strategy = walk, start, items, strategy
        self._unit = unit
        self._quick: dict[str, int] = {}
        self._seen: dict[tuple[tuple[str, int], ...], Trial] = {}
        self.held = 0.0

    def climb(self) -> None:
        """Double until the guard refuses or the goal is met; then halve the gap, towards bold or, with a goal, towards mild."""
        harm, last = self._unit, dict[str, int]()
        for _ in range(DOUBLINGS):
            widths = self._items.within(harm)
            if widths == last:
                harm *= 2
                continue
            trial, last = self._offer(widths), widths
            if self._fast(trial):
                self._approach(harm)
                if not self._strategy.goal_met(self._walk):
                    self._offer(self._quick)
                return
            if not trial and not trial.idle:
                self._approach(harm)
                return
            if trial:
                self.held = harm
            harm *= 2

    def train(self, finetune: Finetune) -> None:
        """Offer what the guard refused, and bolder, with training."""
        if self._strategy.goal is None:
            self._boldest_trained(finetune)
            return
        tried: list[dict[str, int]] = []
        for factor in AIMED:
            widths = self._items.within(factor * self._untrained)
            if widths in tried:
                continue
            tried.append(widths)
            trial = self._offer_trained(widths, finetune)
            if not trial or self._fast(trial):
                return

    def _boldest_trained(self, finetune: Finetune) -> None:
        """In strides until one sum of harms is kept and one refused, then between them; no widths are trained twice."""
        low, high, factor = 1.0, inf, TRAINED
        tried: list[tuple[dict[str, int], bool]] = []
        while len(tried) < TRAININGS and high > NEAR * low:
            widths = self._items.within(factor * self._untrained)
            known = next((kept for each, kept in tried if each == widths), None)
            kept = bool(self._offer_trained(widths, finetune)) if known is None else known
            if known is None:
                tried.append((widths, kept))
            elif high == inf:
                return  # nothing is bolder
            low, high = (factor, high) if kept else (low, factor)
            factor = factor * STRIDE if high == inf else sqrt(low * high)

    @property
    def _untrained(self) -> float:
        """The sum of harms that the guard lets pass without training, or half of what was done before, which it let pass too."""
        return max(self.held, self._unit / 2)

    def _approach(self, bound: float) -> None:
        """Between the last that held and `bound`, which was refused or is already fast enough."""
        low, high = self.held, bound
        end = len(self._seen) + self._strategy.halvings
        for _ in range(BISECTIONS):
            if low and len(self._seen) >= end:
                return
            middle = sqrt(low * high) if low else high / 2
            trial = self._offer(self._items.within(middle))
            if trial and not self._fast(trial):
                low = self.held = middle
            else:
                high = middle

    def _fast(self, trial: Trial) -> bool:
        """Whether the trial was kept and meets the goal."""
        return bool(trial) and self._strategy.goal_met(self._walk)

    def _offer_trained(self, widths: dict[str, int], finetune: Finetune) -> Trial:
        """Trained once; the weights at the end of it, or where the guard refuses those, weights on the way."""
        for way in WAYS:
            trial = self._offer(widths, replace(finetune, interpolation=way))
            if trial:
                break
        return trial

    def _offer(self, widths: dict[str, int], finetune: Finetune | None = None) -> Trial:
        named = tuple(sorted(widths.items()))
        known = self._seen.get(named) if finetune is None else None
        # few widths are best at any trade-off: different sums of harm may lead to the same; with a goal it matters what was kept last
        if known is not None and (not known or self._strategy.goal is None):
            return known
        narrow = PruneToWidths(named, importance=self._strategy.importance)
        step: Step = narrow if finetune is None else Chain((narrow, finetune))
        trial = self._walk.propose(step, self._start)
        if finetune is None:
            self._seen[named] = trial
        if self._fast(trial):
            self._quick = widths
        return trial
