"""Measure two models in a pair of fresh processes: in turns (interleaved), or at the same time on two halves of the cores (duet).

Two processes of the same model differ by up to 3 % as long as they live, since memory lies differently. No number of calls averages
that out. So what is independent is the pair of processes, not the call: each pair gives one log ratio, and several pairs are opened.
Within a pair, both models meet the same disturbances:

    interleaved    baseline candidate | candidate baseline | baseline candidate | …       a round is two blocks, one after the other
    duet           core 0   baseline  | candidate | baseline  | …                         a round is two blocks at the same time,
                   core 1   candidate | baseline  | candidate | …                         and the cores are swapped for the next one

The log ratio of a pair is the median over its rounds of log(candidate / baseline), above 0 when the candidate is slower. A round that
another process disturbed is far off, and moves a median no further than any other round. For example

    baseline     100   100   101   190        log ratios   0.049   0.039   0.048   -0.588
    candidate    105   104   106   105.5      median       0.043, that is 1.044 times; the quotient of the means is 0.86

Which process is started first, and which is first in a round, is drawn for each pair. Between two processes of one model the sign of the
log ratio is therefore a fair coin, whatever disturbs them.

With one thread, the time in which a process waits for a core is taken off (`core_waits`): it depends on the other processes and not on the
model. Without that, pairs of a model of 50 ms spread by 15 % while all cores are busy, and with it by less than 1 %.

A duet takes half the time for as many rounds, and meets a machine whose speed itself changes, as in a cloud, with both models at once.
In turns, a model has a core for itself more often. `choose_mode` tries both.

Duet: L. Bulej, V. Horký, P. Tůma, F. Farquet, A. Prokopec, "Duet Benchmarking: Improving Measurement Accuracy in the Cloud", ICPE 2020.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from optimize.backends import runs_on_cpu
from optimize.backends.artifact import Artifact
from optimize.errors import InputError
from optimize.measure.memory import runtime_name, source
from optimize.measure.timing_process import TimingProcess, timing_processes

Mode = Literal["interleaved", "duet"]
BLOCK_NS = 1_000_000
"""Nanoseconds of a block: many calls of a fast model, one call of a slow one. It is less than a process gets before another one has its
turn, so most blocks are not disturbed even where all cores are busy: there, blocks of 5 ms made pairs spread three times as much."""
SETTLE_NS = 100_000
"""Nanoseconds of untimed calls before a block: its process was idle, and the caches hold the other model."""
START_NS = 300_000
"""Nanoseconds from the request of a duet's block to its start, beside the time to settle: both processes must have read it by then."""
SECONDS = 1.5
"""Seconds of rounds of a pair; a pair takes half a second more to open."""
MIN_ROUNDS = 10


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
        first: model whose process was started first: "baseline" or "candidate".
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
        """Median over the rounds of log(candidate / baseline); above 0 when the candidate is slower.

        >>> pair = PairSample("interleaved", "baseline", 1, (100, 100, 101, 190), (105, 104, 106, 105), seconds=1.0)
        >>> round(pair.log_ratio, 3)
        0.044
        """
        return float(np.median(self._log_ratios))

    @property
    def spread(self) -> float:
        """Standard error of `log_ratio` from the spread of the rounds: their median deviation, over the root of their number.

        For normal rounds it is 0.54 of the standard error; it only serves to compare two ways to measure.
        """
        rounds = self._log_ratios
        return float(np.median(np.abs(rounds - np.median(rounds))) / np.sqrt(len(rounds)))

    @property
    def baseline_ms(self) -> float:
        """Median of the baseline, milliseconds for each call."""
        return median(self.baseline_ns) / self.calls / 1e6

    @property
    def candidate_ms(self) -> float:
        """Median of the candidate, milliseconds for each call."""
        return median(self.candidate_ns) / self.calls / 1e6

    @property
    def _log_ratios(self) -> np.ndarray:
        return np.log(np.divide(self.candidate_ns, self.baseline_ns))

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
    seconds: float = SECONDS,
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
        seconds: seconds of rounds, opening not counted; there are `MIN_ROUNDS` at least, however slow they are.
        seed: seed of the inputs, and of which model is first.
        slowdown: share by which the candidate is made slower, to test that it is caught.

    Raises:
        InputError: when a duet is asked for and the cores do not suffice.
        OptimizeError: when a model cannot be opened or run.
    """
    with _pair(baseline, candidate, batch=batch, threads=threads, seed=seed, slowdown=slowdown) as pair:
        return _measure(pair, mode, seconds, threads)


def choose_mode(
    baseline: Timed,
    candidate: Timed,
    *,
    batch: int = 1,
    threads: int | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
    slowdown: float = 0.0,
) -> Mode:
    """Return the mode whose rounds spread less in the same time, measured in one pair of processes; interleaved where no duet is possible.

    Args:
        baseline: model that is compared with.
        candidate: model that is compared.
        batch: number of inputs in one call.
        threads: number of threads, as in `build`.
        seconds: seconds of rounds for each mode.
        seed: seed of the inputs, and of which model is first.
        slowdown: share by which the candidate is made slower, to test that it is caught.

    Raises:
        OptimizeError: when a model cannot be opened or run.
    """
    if not all(runs_on_cpu(runtime_name(source(model.model))) for model in (baseline, candidate)):
        return "interleaved"  # two processes at once on one GPU take turns there, and in whole time slices
    try:
        core_halves(threads)
    except InputError:
        return "interleaved"
    with _pair(baseline, candidate, batch=batch, threads=threads, seed=seed, slowdown=slowdown) as pair:
        # the interleaved rounds first: those of the duet leave each process bound to its half of the cores
        spreads = {mode: _measure(pair, mode, seconds, threads).spread for mode in ("interleaved", "duet")}
    return "duet" if spreads["duet"] < spreads["interleaved"] else "interleaved"


def core_halves(threads: int | None) -> list[list[int]]:
    """Return two halves of the cores that this process may use, for the two processes of a duet.

    Raises:
        InputError: when a half has fewer cores than each process has threads, or the system does not let a process choose its cores.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    half = len(cores) // 2
    if threads is None or half < threads:
        raise InputError(f"`threads` (={threads}) must be a number, at most {half}, for a duet on {len(cores)} cores: measure interleaved.")
    return [cores[:half], cores[half : 2 * half]]


class _Pair(NamedTuple):
    """An open pair of processes: in the order they were started, whether the candidate was the first, and when they were started."""

    processes: Sequence[TimingProcess]
    swapped: bool
    started: float


@contextmanager
def _pair(baseline: Timed, candidate: Timed, *, batch: int, threads: int | None, seed: int, slowdown: float) -> Iterator[_Pair]:
    started = time.perf_counter()
    swapped = bool(np.random.default_rng(seed).integers(2))
    order = slice(None, None, -1 if swapped else 1)
    models, slowdowns = [baseline.model, candidate.model][order], [0.0, slowdown][order]
    with timing_processes(models, batch=batch, threads=threads, seed=seed, slowdowns=slowdowns) as processes:
        yield _Pair(processes, swapped, started)


def _measure(pair: _Pair, mode: Mode, seconds: float, threads: int | None) -> PairSample:
    # the same number of calls in the blocks of both: the quotient of two blocks is then that of two calls
    call_ns = max(process.call_ns for process in pair.processes)
    calls, settle = max(1, round(BLOCK_NS / call_ns)), SETTLE_NS // call_ns
    if mode == "duet":
        blocks = _duet(pair.processes, calls, settle, seconds, core_halves(threads))
    else:
        blocks = _interleaved(pair.processes, calls, settle, seconds)
    first, second = (tuple(side) for side in zip(*blocks, strict=True))
    baseline_ns, candidate_ns = (second, first) if pair.swapped else (first, second)
    return PairSample(
        mode, "candidate" if pair.swapped else "baseline", calls, baseline_ns, candidate_ns, time.perf_counter() - pair.started
    )


def _rounds(seconds: float) -> Iterator[int]:
    """Yield 0, 1, … until the seconds are over, `MIN_ROUNDS` times at least."""
    end, position = time.perf_counter() + seconds, 0
    while position < MIN_ROUNDS or time.perf_counter() < end:
        yield position
        position += 1


def _interleaved(processes: Sequence[TimingProcess], calls: int, settle: int, seconds: float) -> list[tuple[int, int]]:
    """Return the nanoseconds of both processes for each round; the order changes from round to round (A B, B A)."""
    blocks = []
    for position in _rounds(seconds):
        taken = {}
        for side in (0, 1) if position % 2 == 0 else (1, 0):
            processes[side].request(calls=calls, settle=settle)
            taken[side] = int(processes[side].answer()["ns"])
        blocks.append((taken[0], taken[1]))
    return blocks


def _duet(
    processes: Sequence[TimingProcess], calls: int, settle: int, seconds: float, halves: Sequence[list[int]]
) -> list[tuple[int, int]]:
    """Return the nanoseconds of both processes for each round, both timed at the same time; the cores change with every round."""
    settle_ns = settle * max(process.call_ns for process in processes)
    blocks = []
    for position in _rounds(seconds):
        # late enough for both to have settled by then, even where they take twice as long as undisturbed
        start_ns = time.perf_counter_ns() + 2 * settle_ns + START_NS
        for process, cores in zip(processes, halves if position % 2 == 0 else halves[::-1], strict=True):
            process.request(calls=calls, settle=settle, start_ns=start_ns, cores=cores)
        blocks.append((int(processes[0].answer()["ns"]), int(processes[1].answer()["ns"])))
    return blocks
