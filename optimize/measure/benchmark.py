"""Measure several models side by side on this machine, as one dict: cold start, latency in turns, latency under load.

For every batch size and number of threads: warm-up until the medians settle, then interleaved rounds, the percentiles with their bounds,
and a comparison of each contender with the first. All samples stay in the result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from optimize.backends import runs_on_cpu, versions
from optimize.backends.artifact import Artifact
from optimize.backends.session import CHUNK
from optimize.errors import InputError, OptimizeError
from optimize.hardware.gpu import gpu
from optimize.hardware.machine import foreign_load, machine, watch_foreign_load
from optimize.measure import energy
from optimize.measure.background_load import contending
from optimize.measure.comparison import compared
from optimize.measure.latency import Latency, interleave
from optimize.measure.memory import Memory, peak_memory
from optimize.measure.quantiles import SHARES, bounded, samples_needed
from optimize.measure.reliability import Reliability, doubtful, reliability
from optimize.measure.retake import steadiest
from optimize.measure.warmup import BLOCKS, Warmup, block_variation, variation, warm_up
from optimize.progress import stage

if TYPE_CHECKING:
    from optimize.backends.session import Session
    from optimize.candidate import Floats

FORMAT = 1
MIN_ROUNDS = 30
COLD_STARTS = 3


@dataclass(frozen=True, eq=False)
class Contender:
    """A model that can be measured.

    Args:
        name: name in the result; no two contenders have the same.
        runtime: name of the target that runs it, or "torch".
        precision: precision of its arithmetic.
        model: what a fresh process opens: an artifact, or the arguments of `load_model`.
        size_bytes: size on disk.
        input_shape: (C, *spatial).
        open: number of threads -> session in this process.
        inputs: batch size -> inputs, (n, C, *spatial).
        parameters: number of weights; None where it is not known.
        macs: multiply-accumulates of one input; None where they are not known.
    """

    name: str
    runtime: str
    precision: str
    model: Artifact | Mapping[str, object]
    size_bytes: int
    input_shape: tuple[int, ...]
    open: Callable[[int | None], Session]
    inputs: Callable[[int], Floats]
    parameters: int | None = None
    macs: int | None = None


@dataclass(frozen=True)
class Plan:
    """The measurements of one benchmark.

    Args:
        batches: batch sizes, each measured by itself; a cold start predicts the first.
        threads: numbers of threads, each measured by itself; None is the runtime's own choice. A cold start has the first.
        seconds: shortest time of the rounds of one measurement, warm-up not counted.
        seed: seed of random inputs and of the bootstrap.
        contend: number of background processes to measure under; 0 for none.
        memory_limit_bytes: address space that a fresh process may use; None for no such test.
        gpu_memory_limit_bytes: largest GPU memory of each background process, as in `contending`; None for no limit.
    """

    batches: tuple[int, ...] = (1,)
    threads: tuple[int | None, ...] = (None,)
    seconds: float = 5.0
    seed: int = 0
    contend: int = 0
    memory_limit_bytes: int | None = None
    gpu_memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, values in (("batches", self.batches), ("threads", self.threads)):
            if not values or len(set(values)) < len(values):
                raise InputError(f"`--{name}` (={','.join(map(str, values))}) must hold at least one number, and none twice.")


def benchmark(contenders: Sequence[Contender], plan: Plan, *, background_model: Contender | None = None) -> dict[str, Any]:
    """Measure the contenders.

    Args:
        contenders: the contenders, at least one; the others are compared with the first.
        plan: the measurements to take.
        background_model: model that the background processes run; None for the model that is being measured.

    Raises:
        OptimizeError: when a fresh process or a background process fails.
    """
    created = datetime.now(UTC).isoformat(timespec="seconds")
    # fresh processes first: later this one holds all contenders, and the machine's memory with them
    facts: dict[str, Any] = {contender.name: _facts(contender) | _cold(contender, plan) for contender in contenders}
    counters = energy.meters()
    measurements = []
    for threads, batch in product(plan.threads, plan.batches):
        # all contenders are open at once, so that they can take turns; they close before the next combination
        with ExitStack() as opened:
            calls = {}
            for contender in contenders:
                session = opened.enter_context(contender.open(threads))
                calls[contender.name] = partial(session.predict, contender.inputs(batch))
            measured = _measured(contenders, calls, plan, batch, threads, background_model)
            # energy after latency, with its own longer blocks: its counters are too coarse for single calls
            measurements.append({"batch": batch, "threads": threads, **measured, **_energy(calls, counters, plan, batch, threads)})
    return {
        "format": FORMAT,
        "kind": "profile",
        "created": created,
        "machine": machine(),
        "versions": versions(),
        "settings": _settings(plan, background_model),
        "contenders": facts,
        "energy": counters.as_dict(),
        "measurements": measurements,
        "notes": list(_notes(plan, measurements, [background_model] if background_model else contenders)),
    }


def _notes(plan: Plan, measurements: Sequence[Mapping[str, Any]], background: Sequence[Contender]) -> Iterator[str]:
    if max(plan.batches) > CHUNK:
        yield f"A batch of more than {CHUNK} runs as several of at most {CHUNK}."
    for measurement in measurements:
        what = label(measurement["batch"], measurement["threads"])
        if (times := measurement["times_taken"]) > 1:
            yield f"{what}: timed {times} times, since the machine was busy or had not settled; the steadiest stands here."
        if not measurement["warm_up"]["settled"]:
            yield f"{what}: the medians had not settled when warm-up was given up."
    on_gpu = any(not runs_on_cpu(contender.runtime) for contender in background)
    if plan.contend and on_gpu and (slices := gpu().mig):
        yield f"A process sees one MIG slice, the first unless CUDA_VISIBLE_DEVICES names another; there are: {'; '.join(slices)}."


def label(batch: int, threads: int | None) -> str:
    """Return what a measurement is of, in words."""
    return f"batch {batch}" if threads is None else f"batch {batch}, threads {threads}"


def _settings(plan: Plan, background_model: Contender | None) -> dict[str, Any]:
    names = ("seconds", "seed", "contend", "memory_limit_bytes", "gpu_memory_limit_bytes")
    said = {name: getattr(plan, name) for name in names}
    name = background_model and background_model.name
    return {**said, "batches": list(plan.batches), "threads": list(plan.threads), "contend_with": name}


def _facts(contender: Contender) -> dict[str, Any]:
    names = ("runtime", "precision", "size_bytes", "parameters", "macs")
    return {**{name: getattr(contender, name) for name in names}, "input_shape": list(contender.input_shape)}


def _cold(contender: Contender, plan: Plan) -> dict[str, Any]:
    """Return what fresh processes show: the time until the first answer, memory after opening and after the first batch."""
    first, largest, threads = plan.batches[0], max(plan.batches), plan.threads[0]
    with stage(f"cold start of {contender.name}"):
        # a cold start is short and varies much: several, of which the median counts
        starts = [peak_memory(contender.model, batch=first, threads=threads) for _ in range(COLD_STARTS)]
        peaks = {str(first): _middle(starts, "peak_bytes")}
        if largest != first:
            peaks[str(largest)] = peak_memory(contender.model, batch=largest, threads=threads).peak_bytes
        limit = {}
        if plan.memory_limit_bytes is not None:
            limit = {"limit": _limited(contender, plan.memory_limit_bytes, largest, threads, peaks[str(largest)])}
    times = ("imports_s", "open_s", "first_s")
    return {
        "cold_start": {
            "batch": first,
            **{name: _middle(starts, name) for name in times},
            "samples": [{name: getattr(start, name) for name in times} for start in starts],
        },
        "memory": {
            **{name: _middle(starts, name) for name in ("imports_bytes", "opened_bytes")},
            "peak_bytes": peaks,
            **{name: getattr(starts[-1], name) for name in ("device_bytes", "device_note")},
            **limit,
        },
    }


def _middle(starts: Sequence[Memory], name: str) -> Any:
    return median(getattr(start, name) for start in starts)


def _limited(contender: Contender, limit_bytes: int, batch: int, threads: int | None, peak_bytes: int) -> dict[str, Any]:
    """Return whether a fresh process manages within so much address space, and whether what one took of memory without a limit is less."""
    figures = {"bytes": limit_bytes, "peak_bytes": peak_bytes, "resident_fits": peak_bytes <= limit_bytes}
    if sys.platform != "linux":
        return {**figures, "fits": None, "reason": f"{sys.platform} enforces no limit of address space"}
    try:
        peak_memory(contender.model, batch=batch, threads=threads, limit_bytes=limit_bytes)
    except OptimizeError as problem:  # without a limit it managed, so what fails is the limit
        return {**figures, "fits": False, "reason": str(problem)}
    return {**figures, "fits": True, "reason": None}


def _measured(
    contenders: Sequence[Contender],
    calls: Mapping[str, Callable[[], object]],
    plan: Plan,
    batch: int,
    threads: int | None,
    background_model: Contender | None,
) -> dict[str, Any]:
    what = label(batch, threads)
    taken = steadiest(partial(_rounds, calls, plan, what), lambda rounds: doubtful(rounds.reliable))
    warm, busy, quiet, reliable = taken.value
    comparison = compared(quiet, reliable, seed=plan.seed)
    under_load = {}
    if plan.contend:
        with stage(f"latency under load, {what}"):
            under_load = {"under_load": dict(_under_load(contenders, calls, quiet, plan, batch, threads, background_model))}
    return {
        "times_taken": taken.times,
        "warm_up": warm.as_dict(),
        "load_percent": busy,
        "latency_ms": {name: summary(latency, batch) for name, latency in quiet.items()},
        "reliability": {name: answer.as_dict() for name, answer in reliable.items()},
        "comparison": {name: answer.as_dict() for name, answer in comparison.items()},
        **under_load,
    }


class _Rounds(NamedTuple):
    """Warm-up and the rounds after it."""

    warm: Warmup
    load_percent: dict[str, float]
    latency: dict[str, Latency]
    reliable: dict[str, Reliability]


def _rounds(calls: Mapping[str, Callable[[], object]], plan: Plan, what: str) -> _Rounds:
    with stage(f"warm-up, {what}"):
        warm = warm_up(calls)
    # before, during and after: a job that starts in the middle of a measurement shows in the last two only
    busy = {"before": foreign_load()}
    with stage(f"latency, {what}"):
        taken = watch_foreign_load()
        quiet = interleave(calls, seconds=plan.seconds, min_rounds=MIN_ROUNDS, warmup=1)
        busy["during"] = taken()
    busy["after"] = foreign_load()
    return _Rounds(warm, busy, quiet, reliability(quiet, load_percent=busy, unsettled=warm.unsettled))


def _energy(
    calls: Mapping[str, Callable[[], object]], counters: energy.Meters, plan: Plan, batch: int, threads: int | None
) -> dict[str, Any]:
    if not counters.meters:
        return {}
    with stage(f"energy, {label(batch, threads)}"):
        return {"energy": energy.measure(calls, counters, batch=batch, seconds=plan.seconds)}


def _under_load(
    contenders: Sequence[Contender],
    calls: Mapping[str, Callable[[], object]],
    quiet: Mapping[str, Latency],
    plan: Plan,
    batch: int,
    threads: int | None,
    background_model: Contender | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and figures of each contender while the background processes run.

    With a background model all contenders take turns under the same load; without one each runs beside copies of itself.
    """
    for group in [contenders] if background_model else [[contender] for contender in contenders]:
        limit_bytes = plan.gpu_memory_limit_bytes
        model = (background_model or group[0]).model
        with contending(model, plan.contend, batch=batch, threads=threads, gpu_limit_bytes=limit_bytes):
            taken = watch_foreign_load()
            own_calls = {contender.name: calls[contender.name] for contender in group}
            run = interleave(own_calls, seconds=plan.seconds, min_rounds=MIN_ROUNDS, warmup=2)
            busy = {"during": taken()}
        reliable = reliability(run, load_percent=busy)
        for name, loaded in run.items():
            circumstances = {"reliability": reliable[name].as_dict(), "load_percent": busy}
            yield name, {**summary(loaded, batch), **circumstances, **slowdown(loaded, quiet[name])}


def slowdown(loaded: Latency, quiet: Latency) -> dict[str, Any]:
    """Return how many times longer calls take under load, p50 and p99; None, and why, where a percentile is not bounded on both sides."""
    ratios, absent = {}, {}
    for name in ("p50", "p99"):
        # a p99 of 50 samples is its largest value but a guess; both sides need the samples that bound it
        required_n, n = samples_needed(SHARES[name]), min(loaded.n, quiet.n)
        ratios[name] = getattr(loaded, name) / getattr(quiet, name) if n >= required_n else None
        if n < required_n:
            absent[name] = f"no ratio of {name}: it takes {required_n} samples on both sides, not {loaded.n} under load and {quiet.n} quiet"
    return {"times_quiet": ratios, "no_ratio": absent}


def summary(latency: Latency, batch: int) -> dict[str, Any]:
    """Return one contender's figures: milliseconds for each call, items per second, and every sample in the order it was taken."""
    return {
        **bounded(latency.samples_ms),
        "n": latency.n,
        "min": latency.min,
        "mean": latency.mean,
        "variation": variation(latency.samples_ms),
        "block_variation": block_variation(latency.samples_ms, BLOCKS),
        "items_per_s": 1e3 * batch / latency.mean,
        "samples": list(latency.samples_ms),
    }
