"""What a search asks of a proposal: that the final verdict will be "pass" with the power that the run asks for.

The chance is taken from the guard split and the size of the test split (`optimize.guard.acceptance_chance`). It is asked of every proposal,
and again of every compiled artifact. So what ships is the boldest candidate that will probably be accepted, and not the boldest one that
happened to pass on the guard split.

*The boldest of many.* Dozens of proposals are judged on the same cases, and the boldest that passes is luckier than the others. So a little
more than the power is asked for: the risk is to be `CAUTION` times the permitted one, 6 % where 10 % are permitted. With 8 %, simulated
searches were accepted often enough (`benchmarks/studies/acceptance_counts.py`), but 25 of 28 real ones were
(`benchmarks/studies/acceptance.py`): these judge more proposals, and of more kinds.

A measured loss beyond its limit refuses a proposal, whatever its chance is.

*A guard split that is too small.* Even a candidate that changes nothing on 60 guard images may lose cases elsewhere. Where its chance is
below the power that is asked for, no proposal could ever be kept. Then nearly its chance is asked for (`NEARLY` times as much), and `note`
says how many guard cases would show more.

*A test split that can accept nothing* (a run with `force`) leaves no chance to ask for. Then `accept_proposal` decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any, Self

from optimize.guard.acceptance_chance import RailKey, acceptance_chances, enlarged_guard, rail_key
from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import POWER, Limits
from optimize.guard.rail import Rail
from optimize.guard.score import Score
from optimize.guard.verdict import SEARCH_CONFIDENCE, Verdict, accept_proposal, reason_of_refusal, summary

CAUTION, NEARLY = 0.6, 0.95
MIN_BEST = 0.05
"""Chance of a candidate that changes nothing, below which chances are not asked for: the test split can accept nothing."""
MAX_NAMED = 2
"""Largest number of rails that a refusal names."""


@dataclass(frozen=True, eq=False)
class AcceptanceRule:
    """Decides whether a proposal, or a compiled artifact, is kept.

    Args:
        limits: the limits at the confidence of the final verdict.
        test_sizes: number of cases or patients behind each rail on the test split, by `rail_key`.
        unchanged: rails of a candidate that changes nothing on the guard split: the original against itself.
        n_guard: number of cases or patients of the guard split.
        power: the chance of acceptance that is asked for.
        confidence: confidence of the bounds where no chance can be asked for, see `accept_proposal`.
    """

    limits: Limits
    test_sizes: Mapping[RailKey, int]
    unchanged: tuple[Rail, ...]
    n_guard: int
    power: float = POWER
    confidence: float = SEARCH_CONFIDENCE

    @classmethod
    def planned(
        cls,
        limits: Limits,
        baseline: Score,
        test_rails: Sequence[Rail],
        n_guard: int,
        power: float = POWER,
        confidence: float = SEARCH_CONFIDENCE,
    ) -> Self:
        """The rule of a run.

        Args:
            limits: the limits at the confidence of the final verdict.
            baseline: the original's score on the guard split.
            test_rails: rails of the test split from its labels alone (`run/decisive.py: best_possible_rails`); only their sizes are read.
            n_guard: number of cases or patients of the guard split.
            power: the chance of acceptance that is asked for.
            confidence: confidence of the bounds where no chance can be asked for.
        """
        sizes = {rail_key(rail): rail.estimate.n for rail in test_rails}
        return cls(limits, sizes, tuple(judged_rails(limits, baseline, baseline)), n_guard, power, confidence)

    def __call__(self, baseline: Score, candidate: Score) -> Verdict:
        """Whether the candidate is kept.

        Args:
            baseline: the original's score on the guard split.
            candidate: the candidate's score on the same cases.
        """
        if self.best_chance < MIN_BEST:
            return accept_proposal(self.limits, baseline, candidate, self.confidence)
        judged = judged_rails(self.limits, baseline, candidate)
        rails = tuple(replace(rail, estimate=rail.estimate.for_search) for rail in judged)
        chances = acceptance_chances(judged, self.test_sizes, self.limits)
        broken = tuple(reason_of_refusal(rail) for rail in rails if not (rail.held_by_value or rail.lossless))
        if broken:
            return Verdict("fail", broken, rails, chances.joint)
        said = f"chance of acceptance {_percent(chances.joint)}"
        if chances.joint >= self.asked_chance:
            return Verdict("pass", (f"{summary(rails)}; {said}",), rails, chances.joint)
        # The weakest rails explain a small chance best; those that the guard split says nothing about come first.
        weakest = sorted(zip(chances.rails, rails, strict=True), key=lambda pair: -1.0 if pair[0] is None else pair[0])[:MAX_NAMED]
        first, *others = (_weak(chance, rail) for chance, rail in weakest)
        # The first reason begins with a measured figure, which is what the terminal shows of it.
        return Verdict("fail", (f"{first}; {said}, {_percent(self.asked_chance)} is asked for", *others), rails, chances.joint)

    @cached_property
    def best_chance(self) -> float:
        """Chance of acceptance of a candidate that changes nothing on the guard split."""
        return acceptance_chances(self.unchanged, self.test_sizes, self.limits).joint

    @property
    def asked_chance(self) -> float:
        """The chance that a proposal must reach: a little more than the power, or nearly the best chance that the guard split can show."""
        return min(1 - CAUTION * (1 - self.power), NEARLY * self.best_chance)

    @cached_property
    def required_guard(self) -> int | None:
        """Number of guard cases or patients that could show the power; None where they are enough already, or where no number is known."""
        if self.asked_chance >= self.power or self.best_chance < MIN_BEST:
            return None
        # The search asks for a little less than the best, so a little more than the power must be possible.
        factor = enlarged_guard(self.unchanged, self.test_sizes, self.limits, min(1.0, self.power / NEARLY))
        return None if factor is None else ceil(factor * self.n_guard)

    @property
    def note(self) -> str | None:
        """A sentence for the report where no candidate can be shown to have the power; None where one can."""
        if self.asked_chance >= self.power:
            return None
        if self.best_chance < MIN_BEST:
            return "the test split can accept nothing, so the search asked the guard split alone"
        unit = self.unchanged[0].estimate.unit if self.unchanged else "cases"
        need = "" if self.required_guard is None else f"; with about {self.required_guard} guard {unit} it could ask for that"
        return (
            f"even a candidate that changes nothing on the guard split ({self.n_guard} {unit}) has a chance of acceptance of only "
            f"{_percent(self.best_chance)}, so the search asked for {_percent(self.asked_chance)} and not for {_percent(self.power)}{need}"
        )

    @property
    def identity(self) -> str:
        """A text that is equal for two rules that decide alike."""
        return repr((self.power, self.confidence, sorted(self.test_sizes.items(), key=repr)))

    def as_dict(self) -> dict[str, Any]:
        """The form that a report shows."""
        return {
            "power": self.power,
            "asked": self.asked_chance,
            "unchanged": self.best_chance,
            "required_guard": self.required_guard,
        }


def _weak(chance: float | None, rail: Rail) -> str:
    """Why a rail may not pass."""
    plain = str(replace(rail, confidence=None))
    return f"{plain}, and the guard split cannot tell" if chance is None else f"{plain}, and passes with {_percent(chance)}"


def _percent(share: float) -> str:
    # Rounded down, so that 89.96 % is never shown as the 90 % that was asked for.
    return f"{int(1000 * share + 1e-6) / 10:.4g} %"
