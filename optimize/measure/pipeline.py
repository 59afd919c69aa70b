"""Time every stage of a pipeline, and say how much faster the whole becomes when one stage does.

A program that uses a network also reads files, resamples them and makes something of the outputs. When a stage takes the share p of the
whole and becomes k times faster, the whole becomes

    1 / (1 - p + p / k)        times faster, and never more than 1 / (1 - p)

(Amdahl, AFIPS Conference Proceedings 30, 1967). Example: reading takes 6 ms, resampling 2 ms, the network 5 ms, the rest 2 ms. The network
is a third of the 15 ms. Four times faster it takes 1.25 ms, and the whole 11.25 ms: 1.33 times faster. Even a network that takes no time
leaves 10 ms: 1.5 times faster.

Files are timed in turns, A B C A B C …, so that a disturbance meets all of them alike. The first round is not counted: it allocates memory,
and brings the files into the cache of the operating system. A file that comes from a cold disk or a network takes longer to read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean, median
from typing import Any

import numpy as np

from optimize.backends.session import gc_paused
from optimize.errors import InputError

FACTORS = (2.0, 4.0, 10.0, inf)
"""How many times faster a stage is assumed to become."""
ROUNDS = 5
Stage = Callable[[Any], Any]
"""From the result of the stage before it to its own result; the first stage takes a file."""


@dataclass(frozen=True)
class StageTime:
    """The time of one stage.

    Args:
        ms: mean over the files of each file's median, in milliseconds; so the times of all stages add up to the time of the whole.
        low_ms: tenth percentile of all samples, in milliseconds.
        high_ms: ninetieth percentile of all samples, in milliseconds.
    """

    ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class PipelineTimes:
    """The times of all stages of a pipeline.

    Args:
        stages: name of each stage, in order -> its time.
        files: number of files that were timed.
        rounds: number of rounds that were counted.
    """

    stages: Mapping[str, StageTime]
    files: int
    rounds: int

    @property
    def total_ms(self) -> float:
        """Time of the whole pipeline for one file, in milliseconds."""
        return sum(stage.ms for stage in self.stages.values())

    def share(self, name: str) -> float:
        """Return the share of the whole that a stage takes, in 0..1."""
        return self.stages[name].ms / self.total_ms if self.total_ms else 0.0

    def speedup(self, name: str, factor: float) -> float:
        """Return how many times faster the whole becomes when a stage becomes `factor` times faster."""
        return amdahl(self.share(name), factor)

    def as_dict(self) -> dict[str, Any]:
        """Return the times as plain JSON."""
        stages = [
            {"name": name, "ms": stage.ms, "p10_ms": stage.low_ms, "p90_ms": stage.high_ms, "share": self.share(name)}
            for name, stage in self.stages.items()
        ]
        return {"stages": stages, "total_ms": self.total_ms, "files": self.files, "rounds": self.rounds}


def amdahl(share: float, factor: float) -> float:
    """Return how many times faster a whole becomes when a part of it becomes faster.

    Args:
        share: share of the whole that the part takes now, in 0..1.
        factor: how many times faster the part becomes, above 0; infinity for a part that takes no time at all.

    Raises:
        InputError: when `share` or `factor` is outside its range.

    Example:
        >>> [round(amdahl(1 / 3, factor), 3) for factor in (2, 4, 10, inf)]
        [1.2, 1.333, 1.429, 1.5]
    """
    if not 0 <= share <= 1:
        raise InputError(f"`share` (={share}) must lie between 0 and 1: divide the part's time by the time of the whole.")
    if not factor > 0:
        raise InputError(f"`factor` (={factor}) must be above 0: 2 stands for twice as fast.")
    rest = 1 - share + (share / factor if factor < inf else 0.0)
    return 1 / rest if rest else inf


def time_pipeline(
    files: Sequence[object],
    stages: Mapping[str, Stage],
    *,
    rounds: int = ROUNDS,
    timer: Callable[[], float] = time.perf_counter,
) -> PipelineTimes:
    """Time every stage on every file, in rounds over the files.

    Args:
        files: what the first stage is called with, one after the other.
        stages: name -> function of the result of the stage before it.
        rounds: number of rounds that are counted; one more is run before them.
        timer: function that returns seconds, rising; only a test gives another one.

    Raises:
        InputError: when there is no file, no stage, or `rounds` is less than 1.
    """
    if not files or not stages or rounds < 1:
        counts = f"{len(files)} files, {len(stages)} stages, {rounds} rounds"
        raise InputError(f"`files` ({counts}): a pipeline is timed on at least one file, with one stage and one round.")
    # (stage, file, round), milliseconds
    taken = np.zeros((len(stages), len(files), rounds))
    with gc_paused():
        for turn in range(rounds + 1):
            for place, file in enumerate(files):
                value: Any = file
                for number, call in enumerate(stages.values()):
                    start = timer()
                    value = call(value)
                    if turn:
                        taken[number, place, turn - 1] = (timer() - start) * 1e3
                    else:
                        timer()  # the same number of readings in every round
    return PipelineTimes({name: _stage_time(taken[number]) for number, name in enumerate(stages)}, len(files), rounds)


def _stage_time(samples: np.ndarray) -> StageTime:
    """Return the time of a stage from its samples, (files, rounds), in milliseconds."""
    low, high = np.percentile(samples, [10, 90])
    return StageTime(fmean(median(row) for row in samples.tolist()), float(low), float(high))
