"""Two models' scores on the same cases, and the limits that they are compared by: what a guard-rail is judged from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from optimize.guard.intervals import Estimate
from optimize.guard.limits import Limits
from optimize.guard.rail import Rail, Scope
from optimize.guard.rails import Rule, Task

ScoreT = TypeVar("ScoreT")


@dataclass(frozen=True, eq=False)
class Comparison(Generic[ScoreT]):
    """A baseline and a candidate, with the same cases in the same order.

    Args:
        limits: the limits of the run.
        baseline: score of the original.
        candidate: score of the model that is judged.
    """

    task: ClassVar[Task]

    limits: Limits
    baseline: ScoreT
    candidate: ScoreT

    def rail(
        self,
        rule: Rule,
        limit: float,
        figure: str,
        estimate: Estimate,
        baseline: float | None,
        candidate: float,
        *,
        scope: Scope = "overall",
        name: str | None = None,
        column: str | None = None,
    ) -> Rail:
        """A judged rail; the arguments are those of `Rail.of`."""
        return Rail.of(self.limits, rule, limit, figure, estimate, baseline, candidate, scope=scope, name=name, column=column)
