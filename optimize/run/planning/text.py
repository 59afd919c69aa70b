"""The lines of a plan for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING

from optimize.measure.pipeline import FACTORS
from optimize.progress import COLUMNS, folded
from optimize.report.wording import scaled
from optimize.run.planning.cost import FACTOR, Cost
from optimize.run.planning.decisions import Decision
from optimize.run.planning.end_to_end import NETWORK, EndToEnd

if TYPE_CHECKING:
    from optimize.run.plan import Plan
    from optimize.run.planning.cuts import Cuts

MAX_ROWS = 24
"""Rows of a table of limits; of more, those that cannot be decided come first."""
MAX_LEFT_ALONE = 6


def lines(plan: Plan) -> list[str]:
    """Return the plan as lines of at most `COLUMNS` characters, unless a single word is longer."""
    return [line for text in _texts(plan) for line in folded(text)]


def _texts(plan: Plan) -> Iterator[str]:
    yield f"PLAN for {plan.target}, nothing is written: {plan.model}"
    splits = ", ".join(f"{name} {count}" for name, count in plan.splits.items())
    yield f"  images: {splits}; {len(plan.classes)} classes"
    yield f"  the original reaches {100 * plan.original:.2f} % on the guard split"
    yield from (f"  STOP: {obstacle}" for obstacle in plan.obstacles)
    yield ""
    yield "What would be done"
    yield from _aligned((stage.name, stage.text) for stage in plan.stages)
    yield from _cut(plan.cuts)
    yield ""
    yield from _cost(plan.cost, plan.time_budget)
    yield ""
    yield from _test(plan)
    yield ""
    yield from _guard(plan)
    if plan.end_to_end is not None:
        yield ""
        yield from _end_to_end(plan.end_to_end)
    if plan.notes:
        yield ""
        yield from (f"note: {note}" for note in plan.notes)


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield rows of two cells; the second goes on below itself, so that a terminal of `COLUMNS` characters shows it whole."""
    for name, text in rows:
        first, *more = _wrapped(text, COLUMNS - 14)
        yield f"  {name:<11} {first}"
        yield from (f"  {'':<11} {line}" for line in more)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _cut(cuts: Cuts) -> Iterator[str]:
    share = 100 * cuts.cut_parameters / max(1, cuts.parameters)
    able = f"{cuts.channels} channels in {len(cuts.groups)} groups may be removed"
    yield from _aligned([("cut", f"{able}; the layers that hold them have {share:.0f} % of all parameters")])
    for name, reason in cuts.refused[:MAX_LEFT_ALONE]:
        yield from _aligned([("left alone", f"channels of {name}: {reason}")])
    if (more := len(cuts.refused) - MAX_LEFT_ALONE) > 0:
        yield from _aligned([("", f"and {more} more, see --json")])


def _cost(cost: Cost, budget_s: float | None) -> Iterator[str]:
    low, high = cost.range_s
    yield f"Time: {_time(low)} to {_time(high)} (an estimate, right within a factor of {FACTOR:g})"
    parts = ", ".join(f"{name} {_time(seconds)}" for name, seconds in cost.parts_s.items())
    yield f"  in the middle {_time(cost.seconds)}: {parts}"
    if cost.note:
        yield f"  {cost.note}"
    if budget_s is not None:
        yield f"  {_within(cost, budget_s)}"
    least, most = cost.memory_range
    yield f"Memory: {scaled(least, 'B')} to {scaled(most, 'B')} in the process of the run"


def _within(cost: Cost, budget_s: float) -> str:
    """Return what fits into a time budget."""
    fixed = f"the time budget of {_time(budget_s)}: about {_time(cost.least_s)} of it is needed without any search"
    number = cost.proposals_within(budget_s)
    if budget_s <= cost.least_s:
        return f"{fixed}, so it is too short"
    if number is None:
        return f"{fixed}, and the search has the rest"
    if number == cost.proposals:
        return f"{fixed}, and the whole search fits into the rest"
    return f"{fixed}, and about {number} of {cost.proposals} proposals fit into the rest"


def _test(plan: Plan) -> Iterator[str]:
    confidence = plan.look["confidence"]
    how = "measured values are compared" if confidence is None else f"bounds at {100 * confidence:.4g} % confidence"
    yield f"What the test split can decide ({how}, look {plan.look['number']})"
    yield from _table(plan.test)
    unsure = plan.undecidable
    if not unsure:
        yield f"  every limit can be decided, {len(plan.test)} of {len(plan.test)}"
        return
    yield f"  {len(unsure)} of {len(plan.test)} limits stay open whatever is compressed, so nothing can be accepted:"
    yield from (f"    {decision.title}: {decision.remedy}" for decision in unsure[:MAX_ROWS])


def _guard(plan: Plan) -> Iterator[str]:
    confidence = plan.look["search_confidence"]
    unsure = [decision for decision in plan.guard if not decision.decidable]
    yield f"What the guard split can decide in the search (bounds at {100 * confidence:.4g} % confidence)"
    if not unsure:
        yield f"  every limit, {len(plan.guard)} of {len(plan.guard)}"
        return
    yield f"  {len(unsure)} of {len(plan.guard)} limits have too few cases: the search goes on only with proposals that lose nothing there"
    yield from _table(unsure)


def _table(rows: Sequence[Decision]) -> Iterator[str]:
    """Yield a table of limits, those that cannot be decided first where there are many."""
    shown = rows if len(rows) <= MAX_ROWS else sorted(rows, key=lambda decision: decision.decidable)[:MAX_ROWS]
    cells = [("", "limit", "cases", "needed", "may lose", "")]
    for decision in shown:
        needed = "not known" if decision.required_n is None else str(decision.required_n)
        lose = "-" if decision.may_lose is None else str(decision.may_lose)
        unit = "" if decision.unit == "cases" else f" {decision.unit}"
        cells.append((decision.title[:44], decision.limit, f"{decision.n}{unit}", needed, lose, "" if decision.decidable else "TOO FEW"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        # names to the left, numbers to the right
        sized = enumerate(zip(row, widths, strict=True))
        placed = (cell.rjust(width) if 1 < place < 5 else cell.ljust(width) for place, (cell, width) in sized)
        yield f"  {'  '.join(placed)}".rstrip()
    if len(shown) < len(rows):
        yield f"  and {len(rows) - len(shown)} more, see --json"


def _end_to_end(budget: EndToEnd) -> Iterator[str]:
    times = budget.times
    yield f"From the file to the answer: {times.total_ms:.2f} ms a file ({times.files} files, {times.rounds} rounds, files in the cache)"
    width = max(map(len, times.stages))
    for name, taken in times.stages.items():
        spread = f"({taken.low_ms:.2f} to {taken.high_ms:.2f})"
        yield f"  {name:<{width}}  {taken.ms:8.2f} ms  {spread:<20} {100 * times.share(name):5.1f} %  {budget.how[name]}"
    share, most = times.share(NETWORK), times.speedup(NETWORK, inf)
    gains = [f"{factor:g} times faster: the whole {times.speedup(NETWORK, factor):.2f} times" for factor in FACTORS if factor < inf]
    yield f"  a network that is {'; '.join(gains)}"
    yield f"  it takes {100 * share:.1f} % now, so the whole never becomes more than 1 / (1 - {share:.3f}) = {most:.2f} times faster"
    yield from (f"  {note}" for note in budget.notes)


def _time(seconds: float) -> str:
    """Return a time as a person says it.

    >>> [_time(seconds) for seconds in (0.4, 42, 200, 20000)]
    ['under 1 s', '42 s', '3 min', '5.6 h']
    """
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
