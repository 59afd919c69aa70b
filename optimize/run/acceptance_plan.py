"""What the test split can accept and what the guard split can show of it: told before the search, and written into the report.

Both follow from numbers of cases alone. So a run that could hardly end with "pass" says so before it begins, and not after 20 minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from optimize.guard.largest_loss import GAINED, LargestLoss, largest_losses, loss_of_all
from optimize.guard.limits import points
from optimize.progress import note
from optimize.run.prepare import Job
from optimize.run.result import Result

MAX_NAMED = 3
"""Largest number of rails that a sentence names."""


def announce(job: Job) -> None:
    """Tell before the search what can be accepted, and what stands in the way."""
    for sentence in sentences(job):
        note(sentence)


def sentences(job: Job) -> tuple[str, ...]:
    """Return what a reader should know before the search: what the test split accepts, and a guard split that is too small to show it."""
    sentence = job.acceptance_rule.note
    return (*sentences_on_test(job), *(() if sentence is None else (sentence,)))


def sentences_on_test(job: Job) -> tuple[str, ...]:
    """Return what the test split accepts: the largest loss, and rails that pass only where nearly nothing changes."""
    losses, power = _losses(job), f"{100 * job.recipe.power:.4g} %"
    known = [found for found in losses if found.loss is not None]
    said = []
    if known:
        tightest = min(known, key=lambda found: found.loss or 0.0)
        alike = loss_of_all(losses, job.limits, job.recipe.power)
        together = "" if alike is None else f"; all limits together, where every class loses alike, {points(_rounded(alike))}"
        size = f"{tightest.rail.estimate.n} {tightest.rail.estimate.unit}"
        said.append(
            f"the test split accepts, with a chance of {power}, a true loss of {points(_rounded(tightest.loss or 0.0))} in "
            f"{tightest.rail.title} ({size}, limit {tightest.rail.wording}){together}"
        )
    if tight := [found for found in losses if found.nearly_no_change]:
        said.append(_tight(tight, power))
    return tuple(said)


def as_dict(job: Job, result: Result) -> dict[str, Any]:
    """Return the plan and what came of it, as the report shows it.

    Args:
        job: the prepared run.
        result: result of the run.
    """
    chosen = None if result.compiled is None else result.compiled.chosen.verdict
    return {
        **job.acceptance_rule.as_dict(),
        "shipped": None if chosen is None else chosen.chance,
        "gained": GAINED,
        "loss_of_all": loss_of_all(_losses(job), job.limits, job.recipe.power),
        "rails": [found.as_dict() for found in _losses(job)],
    }


@lru_cache(maxsize=1)
def _losses(job: Job) -> tuple[LargestLoss, ...]:
    return largest_losses(job.test_rails, job.limits, job.recipe.power)


def _tight(tight: Sequence[LargestLoss], power: str) -> str:
    """Return which rails pass only where nearly nothing changes, and how many cases would relax them."""
    named = ", ".join(found.rail.title for found in tight[:MAX_NAMED]) + (", …" if len(tight) > MAX_NAMED else "")
    sizes = sorted({found.rail.estimate.n for found in tight})
    has = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])
    need = max((found.required_n or 0 for found in tight), default=0)
    cure = f": about {need} would pass with a chance of {power} where {100 * GAINED:g} % of the cases change both ways" if need else ""
    verb = "passes" if len(tight) == 1 else "pass"
    return f"{named} {verb} only where nearly nothing changes ({has} test {tight[0].rail.estimate.unit}){cure}"


def _rounded(share: float) -> float:
    # downwards, since it is the largest loss that is accepted
    return int(share * 1e4) / 1e4
