"""The strategy "allocate": widths of all layers chosen jointly, by measured harm against measured latency.

1. One mild error budget for every layer removes what no layer needs. It is quartered until the guard lets the result pass.
2. From there, each group alone is narrowed along its elimination curve, and the harm to the outputs is measured (`scan.py`).
3. A knapsack picks all widths together: the lowest price of the layers, by a latency table of the target, for a given sum of harms.
4. The ladder: the sum of harms is doubled until the guard refuses, and then the gap is halved. That takes a few proposals, not hundreds.
   These are repaired at once, from the normal equations that the scan left. A repair from layer to layer takes several times as long.
5. The better repair, from layer to layer, is for the finalists: for the mildest widths that the guard refused and bolder ones as long as
   they are kept, and otherwise for the boldest that it kept.
6. Harms do not quite add up, least of all those of layers that are removed one behind the other. So what was kept is scanned again, and the
   ladder is climbed once more, as long as that leads on.

Example of a ladder that starts at a sum of .001 nats: .001, .002 and .004 are kept, .008 is refused. The gap is halved on a logarithmic
scale: sqrt(.004 * .008) = .0057 is kept, .0067 is refused, .0062 is kept, and that part ends, after `GAP_PROPOSALS` = 3. Repaired from
layer to layer, .0067 is kept, .0095 is refused, and .0080, between them, is kept: that is the result.

Where a latency is asked for, the mildest proposal that meets it is the answer, and nothing bolder is tried. Where recovery training is
allowed, widths bolder than the guard lets pass are proposed again with training: first for four times the sum of harms that passed
without, then in strides of four until one is kept and one refused, then once or twice between them. Where the guard refuses the trained
weights, weights on the way from the repaired to the trained ones are proposed: they may keep what training lost on cases unlike those
trained on. Linear layers are factorized in the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import ClassVar

from optimize.candidate import Candidate, Step
from optimize.importance.signal import Signal
from optimize.importance.start_equations import start_equations
from optimize.progress import note
from optimize.reconstruction.layer_repair import ROWS
from optimize.searching.budgets import ENERGIES, factorize
from optimize.searching.goal import Goal
from optimize.searching.knapsack import Knapsack
from optimize.searching.prices import Pricing, make_knapsack
from optimize.searching.scan import BOLD_LEVELS, LEVELS, scan
from optimize.searching.trial import Trial
from optimize.searching.walk import Walk
from optimize.steps.chain import Chain
from optimize.steps.finetune import Finetune
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths

FIRST_BUDGET = 0.0005
MIN_BUDGET = 0.00005
MIN_HARM = 1e-4
"""Nats. The ladder starts here where the mild pruning did next to no harm."""
MAX_DOUBLINGS = 8
GAP_PROPOSALS = 3
MAX_SCANS = 3
"""Each scan adds a dozen proposals, and the more often the guard split is asked, the more of what it lets pass is chance."""
MAX_BISECTIONS = 2 * GAP_PROPOSALS
"""Steps of halving at most. One that leads to widths already tried costs nothing, and as long as nothing was kept the halving goes on."""
FIRST_TRAINED_FACTOR, TRAINED_STRIDE, MAX_TRAININGS = 4.0, 4.0, 5
"""The first sum of harms with training, in units of the last that passed without; the factor of a stride; and the largest number of
trainings, since each takes long."""
FINALIST_STRIDE = sqrt(2)
"""Factor between the sums of harms of finalists that are kept."""
MAX_FINALISTS = 4
"""Largest number of proposals of a ladder that are repaired from layer to layer."""
INTERPOLATIONS = (1.0, 0.5, 0.25)
"""Shares of the way from the repaired weights to the trained ones, in the order they are proposed until one is kept."""
GOAL_FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Sums of harms with training where a goal is to be met, in the same units, the mildest first."""
NEAR_FACTOR = 1.5
"""A sum that was kept and one that was refused are close enough when they differ by no more than this factor."""


@dataclass(frozen=True)
class Allocate:
    """The strategy "allocate".

    Args:
        pricing: weights and latencies by which a layer of given widths has a price.
        first_budget: error budget of the first pruning.
        energies: shares of energy that factorizations keep, mild to bold.
        finetune: recovery training, or None for none.
        goal: latency to be met, or None for the boldest candidate that the guard lets pass.
        gap_proposals: number of proposals in the gap between the last sum of harms that passed and the first that did not.
        importance: signal that says which channels of a layer go first, see `Prune`; None for output error.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> import optimize as opt
        >>> rng = np.random.default_rng(0)
        >>> splits = {name: (rng.random((60, 1, 4, 4), np.float32), np.arange(60) % 2) for name in ("val", "test")}
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
        >>> original, data, limits = opt.load_model(net, input_shape=(1, 4, 4)), opt.load_data(splits), opt.Limits(max_drop=0.9)
        >>> result = opt.search(original, data, limits, strategy=opt.Allocate(Pricing(), energies=()))
        >>> result.best.parameters <= original.parameters, len(result.trials) > 0
        (True, True)
    """

    name: ClassVar[str] = "allocate"
    settings: ClassVar[tuple[str, ...]] = ("pricing", "energies", "finetune", "goal", "importance")
    few_proposals: ClassVar[bool] = True
    own_importance: ClassVar[str] = "output_error"
    """The signal that `importance=None` stands for."""

    pricing: Pricing
    first_budget: float = FIRST_BUDGET
    energies: tuple[float, ...] = ENERGIES
    finetune: Finetune | None = None
    goal: Goal | None = None
    gap_proposals: int = GAP_PROPOSALS
    importance: Signal | None = None

    def __call__(self, walk: Walk) -> None:
        """Prune mildly, scan and climb, train where that is allowed, and factorize; stop as soon as the goal is met."""
        if self.goal_met(walk):
            return
        self._prune_mildly(walk)
        if self.goal_met(walk):
            return
        ladder = self._scan_and_climb(walk)
        if ladder is not None and self.finetune is not None and not self.goal_met(walk):
            ladder.train(self.finetune)
        if not self.goal_met(walk):
            factorize(walk, self.energies)
        if self.goal is not None and not self.goal_met(walk):
            note(f"no candidate that the guard lets pass meets {self.goal.latency_ms:g} ms")

    def _prune_mildly(self, walk: Walk) -> None:
        budget = self.first_budget
        while budget >= MIN_BUDGET:
            trial = walk.propose(Prune(budget, importance=self.importance), walk.original)
            # where this budget removed nothing, a quarter of it would not either
            if trial or trial.changed_nothing:
                return
            budget /= 4

    def _scan_and_climb(self, walk: Walk) -> _Ladder | None:
        """Scan and climb until that leads no further; return the last ladder, or None where no group can be cut."""
        ladder = None
        for _ in range(MAX_SCANS):
            start = walk.best
            # widths that only training can repair are worth measuring only where training will follow
            levels = LEVELS if self.finetune is None else (*LEVELS, *BOLD_LEVELS)
            curves, done = scan(start, walk.reference, walk.search.guard, self.pricing.width_multiple, levels, self.importance)
            if not any(len(curve.widths) > 1 for curve in curves):
                break
            # The unit of the ladder is the harm that the start has already done: the first rung about doubles it.
            items = make_knapsack(start, curves, self.pricing)
            # the scan leaves its equations where they are not too large to be kept
            at_once = bool(start_equations(start, walk.reference, ROWS).moments)
            ladder = _Ladder(walk, start, items, max(done, MIN_HARM), self, at_once=at_once)
            ladder.climb()
            # nothing was kept: another scan from the same start would propose the same widths
            if walk.best is start or self.goal_met(walk):
                break
        return ladder

    def goal_met(self, walk: Walk) -> bool:
        """Return whether there is a goal and the best candidate meets it."""
        return self.goal is not None and self.goal.is_met(walk.best)


class _Ladder:
    """Proposals by their sum of harms, all of them made from the same start.

    Args:
        walk: the walk that judges proposals.
        start: the candidate that they are made from.
        items: the knapsack that gives widths for a sum of harms.
        unit: the first sum of harms, in nats.
        strategy: the strategy with its settings.
        at_once: whether proposals are repaired at once, and only finalists from layer to layer.

    Attributes:
        passed_harm: the largest sum of harms that was kept without training; 0 for none.
    """

    def __init__(self, walk: Walk, start: Candidate, items: Knapsack, unit: float, strategy: Allocate, *, at_once: bool = False) -> None:
        self._walk, self._start, self._items, self._strategy = walk, start, items, strategy
        self._unit = unit
        self._fast_enough: dict[str, int] = {}
        self._trials: dict[tuple[tuple[tuple[str, int], ...], bool], Trial] = {}
        self._refused_harm = inf
        self._at_once = at_once
        self.passed_harm = 0.0

    def climb(self) -> None:
        """Look for the boldest widths that pass, and propose finalists from there; with a goal, for the mildest that are fast enough."""
        self._scout()
        if not self._at_once:
            return
        self._at_once = False
        if self._strategy.goal is None:
            self._propose_finalists()
        elif self._fast_enough:
            self._propose(self._fast_enough)

    def _propose_finalists(self) -> None:
        """Propose with the better repair the first widths that were refused without it, bolder ones while they are kept, or milder ones."""
        low, high = self.passed_harm, inf
        harm = self._refused_harm if self._refused_harm < inf else low
        if not harm:
            return  # no proposal was made
        for _ in range(MAX_FINALISTS):
            trial = self._propose(self._items.within(harm))
            if trial:
                low = self.passed_harm = max(low, harm)
            else:
                high = harm
            if high <= self._refused_harm:
                # not even with the better repair: then for what passed without it, where anything did
                if self.passed_harm:
                    self._propose(self._items.within(self.passed_harm))
                return
            if high < inf and high / low < FINALIST_STRIDE:
                return
            harm = FINALIST_STRIDE * low if high == inf else sqrt(low * high)

    def _scout(self) -> None:
        """Double the sum of harms until the guard refuses or the goal is met; then halve the gap.

        Without a goal the halving looks for the boldest that passes, with a goal for the mildest that is fast enough.
        """
        harm, previous = self._unit, dict[str, int]()
        for _ in range(MAX_DOUBLINGS):
            widths = self._items.within(harm)
            # between two rungs no group may have a next width that fits in; the same proposal is not judged twice
            if widths == previous:
                harm *= 2
                continue
            trial, previous = self._propose(widths), widths
            if self._meets_goal(trial):
                self._halve_gap(harm)
                if not self._strategy.goal_met(self._walk):
                    # the last try of the halving was too slow: the mildest that was fast enough becomes the best again
                    self._propose(self._fast_enough)
                return
            # "nothing became smaller" is no refusal: a bolder sum may still pass
            if not trial and not trial.changed_nothing:
                self._refused_harm = harm
                self._halve_gap(harm)
                return
            if trial:
                self.passed_harm = harm
            harm *= 2

    def train(self, finetune: Finetune) -> None:
        """Propose the widths that the guard refused, and bolder ones, with training."""
        if self._strategy.goal is None:
            self._train_boldest(finetune)
            return
        tried: list[dict[str, int]] = []
        for factor in GOAL_FACTORS:
            widths = self._items.within(factor * self._passed_untrained)
            if widths in tried:
                continue
            tried.append(widths)
            trial = self._propose_trained(widths, finetune)
            # refused even with training: wider strides would be refused too
            if not trial or self._meets_goal(trial):
                return

    def _train_boldest(self, finetune: Finetune) -> None:
        """Go in strides until one sum of harms is kept and one refused, then between them; no widths are trained twice.

        Example, in units of the sum that passed without training: 4 is kept, 16 is refused, sqrt(4 * 16) = 8 is kept. The next try is
        sqrt(8 * 16) = 11.3; when it is kept, 16 / 11.3 < 1.5 and the search ends.
        """
        low, high, factor = 1.0, inf, FIRST_TRAINED_FACTOR
        tried: list[tuple[dict[str, int], bool]] = []
        while len(tried) < MAX_TRAININGS and high > NEAR_FACTOR * low:
            widths = self._items.within(factor * self._passed_untrained)
            earlier = next((kept for earlier_widths, kept in tried if earlier_widths == widths), None)
            kept = bool(self._propose_trained(widths, finetune)) if earlier is None else earlier
            if earlier is None:
                tried.append((widths, kept))
            elif high == inf:
                return  # nothing is bolder
            low, high = (factor, high) if kept else (low, factor)
            factor = factor * TRAINED_STRIDE if high == inf else sqrt(low * high)

    @property
    def _passed_untrained(self) -> float:
        """The sum of harms that passed without training. Where none did: half of the harm that the start already has."""
        return max(self.passed_harm, self._unit / 2)

    def _halve_gap(self, bound: float) -> None:
        """Propose sums of harms between the last that passed and `bound`, which was refused or is already fast enough."""
        low, high = self.passed_harm, bound
        end = len(self._trials) + self._strategy.gap_proposals
        for _ in range(MAX_BISECTIONS):
            if low and len(self._trials) >= end:
                return
            # Harms span orders of magnitude, so the middle is taken on a logarithmic scale: of .001 and .004 it is .002, not .0025. Where
            # nothing has passed yet there is no lower end, and the sum is simply halved.
            middle = sqrt(low * high) if low else high / 2
            trial = self._propose(self._items.within(middle))
            # with a goal, one that is fast enough bounds the search from above like a refused one: the mildest of them is looked for
            if trial and not self._meets_goal(trial):
                low = self.passed_harm = middle
            else:
                high = middle
                # "nothing became smaller" is no refusal, and one that is fast enough is none either
                if not trial and not trial.changed_nothing:
                    self._refused_harm = middle

    def _meets_goal(self, trial: Trial) -> bool:
        """Return whether the trial was kept and meets the goal."""
        return bool(trial) and self._strategy.goal_met(self._walk)

    def _propose_trained(self, widths: dict[str, int], finetune: Finetune) -> Trial:
        """Propose the weights after training, and where the guard refuses those, weights on the way; the training itself runs once."""
        for interpolation in INTERPOLATIONS:
            trial = self._propose(widths, replace(finetune, interpolation=interpolation))
            if trial:
                break
        return trial

    def _propose(self, widths: dict[str, int], finetune: Finetune | None = None) -> Trial:
        key = tuple(sorted(widths.items()))
        earlier = self._trials.get((key, self._at_once)) if finetune is None else None
        # Different sums of harms often lead to the same widths, which are then not judged again. With a goal they are: the last
        # candidate that was kept is the result, so proposing it once more makes it the result.
        if earlier is not None and (not earlier or self._strategy.goal is None):
            return earlier
        narrow = PruneToWidths(key, importance=self._strategy.importance, at_once=self._at_once)
        step: Step = narrow if finetune is None else Chain((narrow, finetune))
        trial = self._walk.propose(step, self._start)
        if finetune is None:
            self._trials[key, self._at_once] = trial
        if self._meets_goal(trial):
            self._fast_enough = widths
        return trial
