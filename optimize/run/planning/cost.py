"""Estimate the time and the memory of a run, from the sizes of its parts and the rates of this machine.

A run is a sum of passes of the network, of systems of linear equations, of exports and of timings:

    load        as measured while planning
    prepare     guard images once, one export for each runtime
    search      once: choose images, pass them through the original, order and refit all channels at full width
                proposals, each: fit (a pass over these images), solve, judge (guard, training check), compile and time
                scans of the strategy "allocate": a fixed number of passes over the unseen images, and trials without a layer
    compile     each precision of each runtime: compile, judge on guard, time
    measure     the artifact and its baselines at two batch sizes, then the memory of each in a fresh process
    judge       the original and the artifact on the test images

How many proposals a search makes, and how narrow they are, is known only afterwards. So the estimate is a range: the sum divided and
multiplied by `FACTOR`, which is how far estimates were from real runs (docs/plan.md).

Example: 2,000 images at 1 ms take 2 s a pass. A proposal that costs .35 of the original is fitted in .7 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from optimize.candidate import Candidate
from optimize.data.calibration_sampling import LEAST_UNSEEN, POOL, SHARE_UNSEEN, fitted_count
from optimize.graph.layer_types import linear_submodule, width
from optimize.measure.warmup import BRIEF_S
from optimize.quantization.precision_choice import TIMING_SECONDS
from optimize.reconstruction.layer_matrix import needs_dual_form, unknowns
from optimize.reconstruction.layer_repair import ROWS
from optimize.reconstruction.moments import MAX_DUAL_ROWS
from optimize.run.baselines import SECONDS
from optimize.run.planning.cuts import Cuts
from optimize.run.planning.machine_rates import Rates
from optimize.searching.allocate import MAX_SCANS, MAX_TRAININGS
from optimize.searching.layer_removal import MAX_REMOVALS
from optimize.searching.scan import PASSES
from optimize.searching.train_check import MAC_BUDGET as CHECK_MACS
from optimize.searching.train_check import MAX_TRAIN_CHECK_CASES, MIN_TRAIN_CHECK_CASES

FACTOR = 3.0
"""The real time is expected between the estimate divided and multiplied by this."""
MEMORY_FACTOR = 2.0
"""The real peak of memory is expected between the estimate divided and multiplied by this."""
PROPOSALS = {"allocate": 22, "budget": 9}
"""Strategy -> approximate number of its proposals, for estimates of time only; a strategy may be missing here."""
MEAN_WIDTH = 0.35
"""Cost of a proposal's pass, as a share of the original's: proposals are narrower, by an amount that is not known before."""
SCANS = 2
"""Scans of the strategy "allocate" that usually lead on, of at most `MAX_SCANS`."""
ELIMINATION = 4.0
"""Time of a removal order and a repair, in units of p^3 operations of a product, for a layer with p unknowns."""
REPLAYED = 0.5
"""Share of a pass that a trial without a layer computes: it starts at that layer."""
TRAINING = 3.0
"""Cost of a training step in units of a pass: forward, and backward twice."""
FRESH_PROCESS_S = 5.0
"""Seconds of a fresh process that imports a runtime and runs one batch."""
BASELINES = 3
"""The original in torch and in two runtimes, usually."""
INT8_PASSES = 3.0
"""Passes over the calibration images that ranges of int8 take, in units of the runtime's own pass."""
INT8_CASES = 512
RETAINED_BYTES = 900 * 10**6
"""Memory that a run of any size adds: it keeps what it frees (`hardware/malloc.py`), and loads the quantizer and more runtimes."""
MAX_GRAM_BYTES = 1 << 30
RETAKES = 1.5
"""A timing is repeated where the machine was busy, up to four times; on a quiet one, once."""


@dataclass(frozen=True)
class Work:
    """The sizes of a run that decide its cost.

    Args:
        guard: number of guard images.
        test: number of test images.
        pool: number of images that neither decide nor test anything: calibration and train.
        train: number of training images; 0 where there are none.
        macs: multiply-accumulates of one image.
        image_bytes: bytes of one input.
        proposals: about how many proposals the strategy makes; None where that is not known.
        scans: whether the strategy scans the widths of all groups.
        epochs: epochs of a recovery training; 0 where none is allowed.
        groups: number of groups that can be cut.
        systems: (unknowns, outputs) of each layer that is repaired.
        precisions: runtime -> number of precisions that are tried.
        batches: number of batch sizes that are timed.
        load_s: seconds that loading model and data took.
    """

    guard: int
    test: int
    pool: int
    train: int
    macs: int
    image_bytes: int
    proposals: int | None
    scans: bool
    epochs: int
    groups: int
    systems: tuple[tuple[int, int], ...]
    precisions: Mapping[str, int]
    batches: int
    load_s: float

    @property
    def fitted(self) -> int:
        """Number of images that repairs are fitted on, as `data/calibration_sampling.py` takes them."""
        return min(self.pool, fitted_count(self.macs, self.image_bytes))

    @property
    def unseen(self) -> int:
        """Number of images that repairs are checked on."""
        spare = min(self.fitted // SHARE_UNSEEN, max(0, min(self.pool, POOL * self.fitted) - self.fitted))
        return spare if spare >= LEAST_UNSEEN else 0

    @property
    def checked(self) -> int:
        """Number of training images of the second check; 0 where the guard split has as many."""
        most = int(np.clip(CHECK_MACS // max(1, self.macs), MIN_TRAIN_CHECK_CASES, MAX_TRAIN_CHECK_CASES))
        count = min(self.train, most)
        return count if count > self.guard else 0


@dataclass(frozen=True)
class Cost:
    """The estimated time and memory of a run.

    Args:
        parts_s: part of the run -> its seconds; a part whose length is not known is missing.
        memory_bytes: peak memory of the run's process.
        note: what the estimate leaves out; empty where it is whole.
        proposals: about how many proposals the search makes; None where that is not known.
    """

    parts_s: Mapping[str, float]
    memory_bytes: int
    note: str = ""
    proposals: int | None = None

    @property
    def seconds(self) -> float:
        """Sum of the parts."""
        return sum(self.parts_s.values())

    @property
    def range_s(self) -> tuple[float, float]:
        """Smallest and largest time that is expected, in seconds."""
        return self.seconds / FACTOR, self.seconds * FACTOR

    @property
    def memory_range(self) -> tuple[float, float]:
        """Smallest and largest peak of memory that is expected, in bytes."""
        return self.memory_bytes / MEMORY_FACTOR, self.memory_bytes * MEMORY_FACTOR

    @property
    def least_s(self) -> float:
        """Seconds of a run that makes no proposal at all: it loads, compiles the original, measures and judges it."""
        return sum(seconds for part, seconds in self.parts_s.items() if part not in ("search", "training"))

    def proposals_within(self, budget_s: float) -> int | None:
        """Return about how many proposals fit into a time budget in seconds; None where that is not known, all where it is enough."""
        if "search" not in self.parts_s or self.proposals is None:
            return None
        # what the search does besides proposals, such as scans and the choice of images, is taken as spread evenly over them
        share = min(1.0, max(0.0, budget_s - self.least_s) / self.parts_s["search"])
        return int(share * self.proposals)

    def within(self, budget_s: float) -> dict[str, Any]:
        """Return what fits into a time budget in seconds, as plain JSON."""
        return {"seconds": budget_s, "without_search_s": self.least_s, "proposals": self.proposals_within(budget_s)}

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as plain JSON."""
        low, high = self.range_s
        return {
            "seconds": {"low": low, "middle": self.seconds, "high": high, "factor": FACTOR, "parts": dict(self.parts_s)},
            "memory_bytes": {"low": self.memory_range[0], "middle": self.memory_bytes, "high": self.memory_range[1]},
            "note": self.note or None,
        }


def systems(original: Candidate, removable: Cuts) -> tuple[tuple[int, int], ...]:
    """Return the unknowns and outputs of each layer that is repaired; a layer that is fitted from its rows counts these as unknowns."""
    layers = [linear_submodule(original.module, name) for name in removable.layers]
    return tuple((MAX_DUAL_ROWS if needs_dual_form(layer) else unknowns(layer), width(layer, "out")) for layer in layers)


def cost(work: Work, rates: Rates) -> Cost:
    """Return the estimated time and memory of a run.

    Args:
        work: the sizes of the run.
        rates: what this machine needs for the parts.
    """
    image_s = rates.image_s
    compile_s = max(rates.compile_s.values(), default=0.0)
    exports = sum(rates.compile_s.values())
    whole_s, narrow_s = (_solve_s(work.systems, share) / rates.flops for share in (1.0, MEAN_WIDTH))
    parts = {"load": work.load_s, "prepare": work.guard * image_s + 2 * exports}
    if work.proposals is not None:
        fit_s = MEAN_WIDTH * work.fitted * image_s + narrow_s
        judge_s = (work.guard + work.checked) * MEAN_WIDTH * image_s
        begin_s = (min(work.pool, POOL * work.fitted) + work.fitted + work.guard + work.checked) * image_s + whole_s
        parts["search"] = begin_s + work.proposals * (fit_s + judge_s + compile_s) + _scans_s(work, image_s, fit_s)
    if work.epochs:
        parts["training"] = MAX_TRAININGS / 2 * work.epochs * work.train * MEAN_WIDTH * TRAINING * image_s
    parts |= rest(work, rates)
    left_out = []
    if work.proposals is None:
        left_out.append("the search is not in it, since the number of its proposals is not known")
    if not rates.compile_s:
        left_out.append("compilation is not in it, since no runtime of the target runs here")
    return Cost(parts, _memory(work, rates), "; ".join(left_out), work.proposals)


def rest(work: Work, rates: Rates) -> dict[str, float]:
    """Return the seconds of the parts of a run that follow the search; empty where no runtime of the target runs here.

    Args:
        work: the sizes of the run.
        rates: what this machine needs for the parts.
    """
    if not rates.compile_s:
        return {}
    runtime_s, compile_s = _runtime_image_s(rates), max(rates.compile_s.values())
    variants = sum(work.precisions.get(name, 1) for name in rates.compile_s)
    judged = work.guard * MEAN_WIDTH * runtime_s + compile_s
    int8 = len(rates.compile_s) * min(INT8_CASES, work.pool) * INT8_PASSES * runtime_s
    return {
        "compile": 2 * compile_s + variants * judged + int8 + BRIEF_S + variants * TIMING_SECONDS / 2,
        "measure": BASELINES * compile_s + work.batches * RETAKES * (BRIEF_S + SECONDS) + (BASELINES + 1) * FRESH_PROCESS_S,
        "judge": work.test * (rates.image_s + runtime_s),
    }


def _solve_s(systems: Iterable[tuple[int, int]], share: float) -> float:
    """Return the operations of the moments and the repairs of all layers, when each has this share of its unknowns."""
    sized = [(share * unknowns, share * outputs) for unknowns, outputs in systems]
    return sum(2 * ROWS * p * (p + outputs) + ELIMINATION * p**3 for p, outputs in sized)


def _scans_s(work: Work, image_s: float, fit_s: float) -> float:
    """Return the seconds of the scans, each of which fits once, makes passes forward and backward, and tries to do without layers."""
    if not work.scans:
        return 0.0
    passes = PASSES + REPLAYED * min(work.groups, MAX_REMOVALS)
    return min(SCANS, MAX_SCANS) * (fit_s + passes * (work.unseen or work.guard) * MEAN_WIDTH * image_s)


def _runtime_image_s(rates: Rates) -> float:
    """Return the seconds of one image in the slowest runtime; those of torch where none was timed."""
    return max(rates.latency_ms.values(), default=1e3 * rates.image_s) / 1e3


def _memory(work: Work, rates: Rates) -> int:
    """Return the estimated peak of memory: what is loaded, the inputs that are held, the moments, and the buffers of a pass."""
    held = (work.fitted + work.unseen + min(work.pool, INT8_CASES)) * work.image_bytes
    grams = min(MAX_GRAM_BYTES, sum(8 * p**2 for p, _ in work.systems)) + max((8 * 3 * p**2 for p, _ in work.systems), default=0)
    targets = sum(4 * ROWS * outputs for _, outputs in work.systems)
    return int(rates.resident_bytes + RETAINED_BYTES + held + grams + targets + 2 * rates.pass_bytes)


def image_bytes(original: Candidate) -> int:
    """Return the bytes of one input in float32."""
    return 4 * prod(original.example.shape)
