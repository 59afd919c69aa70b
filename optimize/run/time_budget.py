"""The time that a run was given, and how much of it the search may use.

A run must end with a compiled, measured and judged artifact. So the search ends when the time that is left is needed for that:

    budget 180 s     load 8 s, export of the original 4 s                   measured by now
                     compile 20 s, measure 40 s, judge 3 s                  expected, from what was measured and from earlier runs
                     search until 180 - 1.2 * 63 = 104 s

Whatever was kept last goes on to be compiled. The expectation is no promise: a machine that is busy at the end needs longer.

Runs leave their expected and their real seconds of these parts in `~/.cache/optimize/parts`, and nothing else. Where measuring took half of
what was expected in the last runs, the next run expects half.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from optimize.errors import InputError
from optimize.files import cache_folder, write_atomically
from optimize.progress import current_profile, expect_parts, limit_part
from optimize.progress.deadline import Deadline
from optimize.run.planning.cost import PROPOSALS, Work, image_bytes, rest
from optimize.run.planning.machine_rates import Rates
from optimize.searching.goal import TIMING_SECONDS

if TYPE_CHECKING:
    from optimize.run.prepare import Job

MARGIN = 1.2
"""The search leaves this many times what the parts after it are expected to take."""
FINISH_S = 2.0
"""Seconds that are left for writing the report."""
REFUSED_WITHIN_S = 10.0
"""A budget that is too short is refused where that is known within these seconds; a run that has worked longer ends as well as it can."""
MAX_RECORDS = 10
"""Runs that are remembered."""
MIN_RECORDED_S = 1.0
"""A part that is expected to be shorter is not remembered: its real time is that of other things, such as opening files."""
RATIO_BOUNDS = 0.25, 4.0
"""A real time is believed to be between these multiples of the expected one: a run that was suspended for an hour must not count."""
Ratios = dict[str, list[float]]


@dataclass(frozen=True)
class TimeBudget:
    """The time that a run was given.

    Args:
        seconds: the time, from the start of the run.
        started: start of the run, on `time.perf_counter`.
        rest_s: seconds that the parts after the search are expected to take, with a margin.
        proposals: about how many proposals the strategy makes; None where that is not known.
    """

    seconds: float
    started: float
    rest_s: float
    proposals: int | None = None

    @property
    def search_deadline(self) -> Deadline:
        """The moment at which the search ends."""
        return Deadline(self.started + self.seconds - self.rest_s)

    @property
    def deadline(self) -> Deadline:
        """The moment at which the run should have ended."""
        return Deadline(self.started + self.seconds)

    @property
    def spent(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.started

    def as_dict(self, stopped: bool, made: int) -> dict[str, Any]:
        """Return what became of the budget, as the report holds it.

        Args:
            stopped: whether the budget ended the search.
            made: number of proposals that were judged.
        """
        further = None if self.proposals is None else max(1, self.proposals - made) if stopped else 0
        return {
            "seconds": self.seconds,
            "spent_seconds": round(self.spent, 3),
            "stopped": stopped,
            "proposals": made,
            "further_proposals": further,
            "sentence": sentence(self.seconds, stopped, made, further),
        }


@dataclass(frozen=True)
class Expectation:
    """What the parts of a run after its search are expected to take.

    Args:
        plain: part -> seconds, from what this run has measured so far.
        ratios: part -> real seconds divided by expected ones, of earlier runs on this machine, the oldest first.
    """

    plain: Mapping[str, float]
    ratios: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def seconds(self) -> dict[str, float]:
        """Part -> seconds, corrected by how far earlier runs were from what they expected.

        >>> Expectation({"compile": 10.0, "measure": 40.0}, {"measure": [0.5, 0.4, 3.0]}).seconds
        {'compile': 10.0, 'measure': 20.0}
        """
        return {part: expected * median(self.ratios.get(part) or [1.0]) for part, expected in self.plain.items()}


def sentence(budget_s: float, stopped: bool, made: int, further: int | None) -> str:
    """Return what became of a time budget.

    >>> sentence(180, True, 7, 15)
    'stopped by the time budget of 3 min after 7 proposals; without it about 15 more'
    >>> sentence(90, True, 0, None)
    'stopped by the time budget of 90 s before the first proposal was judged: nothing was tried'
    >>> sentence(5400, False, 22, 0)
    'the search ended by itself within the time budget of 1.5 h'
    """
    budget = f"the time budget of {in_words(budget_s)}"
    if not stopped:
        return f"the search ended by itself within {budget}"
    if not made:
        return f"stopped by {budget} before the first proposal was judged: nothing was tried"
    more = "" if further is None else f"; without it about {further} more"
    return f"stopped by {budget} after {made} proposal{'' if made == 1 else 's'}{more}"


def in_words(seconds: float) -> str:
    """Return a time as it is written in a recipe.

    >>> [in_words(seconds) for seconds in (90, 180, 200, 3600, 5400)]
    ['90 s', '3 min', '200 s', '1 h', '1.5 h']
    """
    if seconds >= 3600 and seconds % 360 == 0:
        return f"{seconds / 3600:g} h"
    return f"{seconds / 60:g} min" if seconds >= 120 and seconds % 60 == 0 else f"{seconds:g} s"


def expectation(job: Job) -> Expectation:
    """Return what the parts after the search are expected to take, from what this run has measured so far; empty outside of a run."""
    profile = current_profile()
    if profile is None:
        return Expectation({})
    data, runtimes = job.data, job.runtimes
    image_s = profile.seconds_of("load", "judge the original") / max(1, len(data.guard))
    compiled_s = profile.seconds_of("export of the original", "export and compile the original") / len(runtimes)
    precisions = {runtime.NAME: len(runtime.precisions()) + 1 for runtime in runtimes}
    if job.runtime.unavailable_reason() is not None:  # it only compiles here, and nothing is timed or judged
        return Expectation({"compile": compiled_s * sum(precisions.values())}, recorded())
    # of the sizes of a run only those count that the parts after its search depend on
    work = Work(
        guard=len(data.guard),
        test=len(data.test),
        pool=len(data.calibration),
        train=0,
        macs=0,
        image_bytes=image_bytes(job.original),
        proposals=None,
        scans=False,
        epochs=0,
        groups=0,
        systems=(),
        precisions=precisions,
        batches=2 if job.recipe.batch > 1 else 1,
        load_s=0.0,
    )
    timed_s = compiled_s + 2 * TIMING_SECONDS
    return Expectation(rest(work, Rates(image_s, dict.fromkeys(precisions, timed_s), {}, 1.0, 0, 0)), recorded())


def time_budget(job: Job) -> TimeBudget | None:
    """Return the budget of a run, as far as it is known when the original has been compiled; None where none was given.

    Raises:
        InputError: when the time is too short even without a search, and the run has only just begun.
    """
    profile, expected = current_profile(), expectation(job).seconds
    expect_parts(expected)
    given = job.recipe.time_budget
    if profile is None or given is None:
        return None
    budget = TimeBudget(given, profile.started, MARGIN * sum(expected.values()) + FINISH_S, PROPOSALS.get(job.recipe.strategy))
    least = budget.spent + sum(expected.values())
    if given < least and budget.spent < REFUSED_WITHIN_S:
        # rounded up to 10 s, since an estimate has no more digits
        enough = -(-least // 10) * 10
        raise InputError(
            f"`--time-budget` (={in_words(given)}) is too short: to compile, measure and judge this network takes about {least:.0f} s "
            f"without any search: give more than {in_words(enough)}, or leave it out."
        )
    limit_part("search", budget.search_deadline)
    return budget


@contextmanager
def within(budget: TimeBudget | None) -> Iterator[None]:
    """Announce the end of the budget while the block runs, so that work that may be left out can ask for the time left."""
    if budget is None:
        yield
        return
    with budget.deadline.announced():
        yield


def recorded(folder: Path | None = None) -> Ratios:
    """Return part -> real seconds divided by expected ones in earlier runs on this machine; empty where there were none.

    Args:
        folder: folder of the record; by default the cache.
    """
    try:
        content = json.loads(_file(folder).read_text(encoding="utf-8"))
        low, high = RATIO_BOUNDS
        return {
            str(part): [min(high, max(low, float(ratio))) for ratio in ratios][-MAX_RECORDS:] for part, ratios in content["ratios"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # no record yet, or one that cannot be read: it is only a hint, and is written anew


def record(expected: Expectation, folder: Path | None = None) -> None:
    """Remember how long the parts of this run took against what was expected.

    Args:
        expected: what was expected before the search.
        folder: folder of the record; by default the cache.
    """
    profile = current_profile()
    if profile is None:
        return
    ratios = recorded(folder)
    for part, seconds in expected.plain.items():
        if seconds >= MIN_RECORDED_S and (took := profile.seconds_of(part)):
            ratios[part] = [*ratios.get(part, []), round(took / seconds, 3)][-MAX_RECORDS:]
    # a cache that cannot be written is no reason to end a run
    with suppress(OSError):
        _file(folder).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(folder), json.dumps({"ratios": ratios}) + "\n")


def _file(folder: Path | None) -> Path:
    return (folder or cache_folder("parts")) / "ratios.json"
