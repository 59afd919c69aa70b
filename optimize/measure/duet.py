"""Measure two models in a pair of fresh processes: in turns (interleaved), or at the same time on two cores (duet).

Two processes of the same model can differ by 1 to 3 % as long as they live, since memory lies differently. No number of calls
averages that out. So what is independent is the pair of processes, not the call: each pair gives one log ratio, and several pairs are
opened. Within a pair, blocks of both models meet the same disturbances:

    interleaved    baseline candidate | candidate baseline | baseline candidate | …       a round is two blocks, one after the other
    duet           core 0  baseline  baseline  | candidate candidate …                    a round is two blocks at the same time
                   core 1  candidate candidate | baseline  baseline  …                    the cores are swapped half-way

The log ratio of a pair is that of its medians over the rounds: log(median candidate / median baseline), above 0 when the candidate is
slower. Which process is started first and which is timed first is drawn for each pair.

Duet: L. Bulej, V. Horký, P. Tůma, F. Farquet, A. Prokopec, "Duet Benchmarking: Improving Measurement Accuracy in the Cloud", ICPE 2020.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal, Protocol

import numpy as np

from optimize.backends.artifact import Artifact
from optimize.measure.timing_process import TimingProcess, timing_processes

Mode = Literal["interleaved", "duet"]
BLOCK_NS = 5_000_000
"""Nanoseconds of a block: many calls of a fast model, one call of a slow one."""
SETTLE_NS = 500_000
"""Nanoseconds of untimed calls before a block: its process was idle, and the caches hold the other model."""


class Timed(Protocol):
    """What is needed of a model to time it, as `benchmark.Contender` has it."""

    @property
    def name(self) -> str:
        """Name in the result."""

    @property
    def model(self) -> Artifact | Mapping[str, object]:
        """What a fresh process opens: an artifact, or the arguments of `load_model`."""


@dataclass(frozen=True)
class PairSample:
    """What one pair of fresh processes took.

    Args:
        mode: "interleaved" or "duet".
        first: model whose process was started first and whose block came first in the first round: "baseline" or "candidate".
        calls: number of calls in a block.
        baseline_ns: nanoseconds of each block of the baseline, by round.
        candidate_ns: nanoseconds of each block of the candidate, by round.
        seconds: seconds that the pair took, with opening.
    """

    mode: Mode
    first: Literal["baseline", "candidate"]
    calls: int
    baseline_ns: tuple[int, ...]
    candidate_ns: tuple[int, ...]
    seconds: float

    @property
    def log_ratio(self) -> float:
        """Log of candidate over baseline; above 0 when the candidate is slower.

        >>> round(PairSample("interleaved", "baseline", 1, (100, 100, 900), (105, 104, 106), 1.0).log_ratio, 4) == round(math.log(1.05), 4)
        True
        """
        return math.log(median(self.candidate_ns) / median(self.baseline_ns))

    @property
    def baseline_ms(self) -> float:
        """Median of the baseline, milliseconds for each call."""
        return median(self.baseline_ns) / self.calls / 1e6

    @property
    def candidate_ms(self) -> float:
        """Median of the candidate, milliseconds for each call."""
        return median(self.candidate_ns) / self.calls / 1e6

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a result shows."""
        return asdict(self)


def measure_pair(
    baseline: Timed,
    candidate: Timed,
    *,
    batch: int = 1,
    threads: int | None = None,
    mode: Mode = "interleaved",
    seconds: float = 1.0,
    min_rounds: int = 8,
    seed: int = 0,
    slowdown: float = 0.0,
) -> PairSample:
    """Time both models in a pair of fresh processes.

    Args:
        baseline: model that is compared with.
        candidate: model that is compared.
        batch: number of inputs in one call.
        threads: number of threads, as in `build`.
        mode: "interleaved" or "duet".
        seconds: seconds of rounds to aim at, opening not counted.
        min_rounds: fewest rounds, however slow they are.
        seed: seed of the inputs, and of which model is first.
        slowdown: share by which the candidate is made slower, to test that it is caught.

    Raises:
        OptimizeError: when a model cannot be opened or run.
    """
    started = time.perf_counter()
    swapped = bool(np.random.default_rng(seed).integers(2))
    contenders, slowdowns = [baseline.model, candidate.model], [0.0, slowdown]
    order = slice(None, None, -1 if swapped else 1)
    with timing_processes(contenders[order], batch=batch, threads=threads, seed=seed, slowdowns=slowdowns[order]) as processes:
        call_ns = max(process.call_ns for process in processes)
        calls = max(1, round(BLOCK_NS / call_ns))
        rounds = max(min_rounds, round(seconds * 1e9 / (2 * calls * call_ns)))
        blocks = _interleaved(processes, calls, SETTLE_NS // call_ns, rounds)
    first, second = (tuple(side) for side in zip(*blocks, strict=True))
    baseline_ns, candidate_ns = (second, first) if swapped else (first, second)
    spent = time.perf_counter() - started
    return PairSample("interleaved", "candidate" if swapped else "baseline", calls, baseline_ns, candidate_ns, spent)


def _interleaved(processes: Sequence[TimingProcess], calls: int, settle: int, rounds: int) -> list[tuple[int, int]]:
    """Return the nanoseconds of both processes for each round; the order changes from round to round (A B, B A)."""
    blocks = []
    for position in range(rounds):
        order = (0, 1) if position % 2 == 0 else (1, 0)
        taken = {}
        for side in order:
            processes[side].request(calls=calls, settle=settle)
            taken[side] = int(processes[side].answer()["ns"])
        blocks.append((taken[0], taken[1]))
    return blocks
