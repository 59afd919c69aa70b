"""Choose the precision that ships: each is compiled, judged and timed here; one that is not measurably faster does not ship.

The exact float precision is the one to beat. Another takes its place only when, compiled, it holds the guard-rails on the guard split and
the lower end of the interval of its speed-up is above 1 (`quantization/fastest.py`). What it really runs in is read from the compiled model
before it is judged (`quantization/precision_check.py`).

Where int8 of the whole network is measurably faster than every float precision that holds the guard-rails, but does not hold them itself,
the layers that cost most go back to float (`quantization/mixed_precision.py`), and the mixes that hold are timed beside the rest.

The order of the work, and why: everything is compiled and judged first, since that needs no quiet machine. What can ship is then timed in
one interleaved series, so that a disturbance meets all of it. int8 is timed even where it does not hold, because its speed decides whether
looking for a mix, dozens of compilations, can pay.

Example: f32 2.0 ms, bf16 1.5 ms, int8 1.0 ms but 4 points lost where 2 are allowed. int8 is faster than bf16 by 1.5 (interval 1.4 to 1.6),
so a mix "int8+bf16" is looked for. With two layers in bf16 it loses 1.2 points, takes 1.1 ms, and ships.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from shutil import rmtree

import numpy as np
import numpy.typing as npt

from optimize.backends import Backend, int8_name
from optimize.backends.artifact import MANIFEST, Artifact
from optimize.backends.session import Session
from optimize.candidate import Floats
from optimize.data.arrays import spread
from optimize.errors import OutOfTime
from optimize.guard.divergence import divergence, log_shares
from optimize.hardware.machine import watch_foreign_load
from optimize.measure.latency import Latency, interleave, ratio
from optimize.measure.median_precision import precise
from optimize.measure.warmup import BRIEF_S, warm_up
from optimize.progress import note, stage
from optimize.progress.deadline import Deadline, time_left
from optimize.quantization.fastest import TimedVariant, fastest
from optimize.quantization.mixed_precision import MixResult, ResultCache, groups, mixes
from optimize.quantization.precision_context import PrecisionContext as PrecisionContext
from optimize.quantization.variant import Variant

MAX_SHARE_OF_MIXES = 0.5
"""Share of the time that a run has left which the search for a mix may take; it counts only where a run was given a time budget."""
TIMING_SECONDS = 2.0
"""Longest time for which variants are timed."""
PRECISION = 0.005
"""Timing ends early once every median is known to half a percent: less of a difference would not decide which variant ships."""
EXACT_PRECISION = "f32"
ROUGH_CASES = 64
"""Number of calibration inputs that is enough to rank layers by."""


def compile_all(runtime: Backend, onnx: Path, folder: Path, calibration: Floats, cpu_level: str | None = None) -> list[Variant]:
    """Compile every precision the target has on this machine; one that cannot be made becomes a variant with the reason.

    Artifacts that an earlier compilation left in `folder` are used as they are.

    Args:
        runtime: the target's backend.
        onnx: the exported candidate.
        folder: folder for the artifacts, one subfolder for each precision.
        calibration: (N, C, *spatial), images for the ranges of int8.
        cpu_level: instruction set that int8 is made for; None for this machine's.

    Raises:
        InputError: when an artifact in `folder` was altered since it was made.
    """
    made = []
    for precision in (*runtime.precisions(), "int8"):
        home = folder / precision
        # left by an earlier, interrupted compilation; `read` compares its hashes
        if (home / MANIFEST).is_file():
            made.append(Variant(precision, artifact=Artifact.read(home), target=runtime.NAME))
            continue
        with stage(f"compile {precision}"):
            try:
                if precision == "int8":
                    artifact = runtime.quantize(onnx, home, calibration, cpu_level=cpu_level)
                else:
                    artifact = runtime.convert(onnx, home, precision)
            except Exception as problem:  # a quantizer that fails on this graph must not end the run: the float artifact may still ship
                if precision == EXACT_PRECISION:
                    raise
                made.append(Variant(precision, failure_reason("made", problem), target=runtime.NAME))
            else:
                made.append(Variant(precision, artifact=artifact, target=runtime.NAME))
    return made


def choose(runtimes: Sequence[Backend], context: PrecisionContext) -> tuple[Variant, list[Variant]]:
    """Compile, judge and time every precision of every runtime.

    Args:
        runtimes: runtimes of the target; the exact precision of the first is the one to beat.
        context: the candidate, and everything it is judged and timed with.

    Returns:
        The variant that ships, and all variants with their measurements.
    """
    with ExitStack() as opened:
        contest = _Contest(context, opened)
        for runtime in runtimes:
            contest.enter(
                runtime, compile_all(runtime, context.onnx, context.folder / runtime.NAME, context.calibration, context.cpu_level)
            )
        contest.time()
        for runtime in runtimes:
            contest.mix(runtime)
        return contest.decide()


class _Contest:
    """All variants, with the open sessions of those that run."""

    def __init__(self, context: PrecisionContext, opened: ExitStack) -> None:
        self._context, self._opened = context, opened
        self._variants: list[Variant] = []
        self._sessions: dict[int, Session] = {}

    def enter(self, runtime: Backend, variants: Iterable[Variant]) -> None:
        """Open and judge these variants of one runtime."""
        for variant in variants:
            place = len(self._variants)
            if variant.artifact is None:
                self._variants.append(variant)
                continue
            try:
                session = self._opened.enter_context(runtime.build(variant.artifact, threads=self._context.threads))
                judged = self._context.judged(variant, session, runtime)
                self._variants.append(judged)
                # without a verdict the precision is not what it claims, and is not timed
                if judged.verdict is not None:
                    self._sessions[place] = session
            except Exception as problem:  # what the runtime cannot run does not ship
                if not place:  # the exact precision of the first runtime must run: without it there is nothing to compare with
                    raise
                self._variants.append(Variant(variant.precision, failure_reason("run", problem), kept=variant.kept, target=variant.target))

    def time(self) -> None:
        """Time the variants that hold the guard-rails, the first in any case, and int8, whose speed decides whether a mix is looked for."""
        example = self._context.guard.inputs(slice(0, 1))
        # Place 0, the exact precision, is timed even where it does not hold: it is what every speed-up is compared with.
        timed = [place for place in self._sessions if self._holds(place) or self._variants[place].whole]
        calls = {str(place): partial(self._sessions[place].predict, example) for place in timed}
        with stage("time the precisions"):
            warm_up(calls, most_s=BRIEF_S)
            measured_load = watch_foreign_load()
            latencies = interleave(calls, seconds=TIMING_SECONDS, enough=precise(PRECISION))
            load_percent = measured_load()
        for place in timed:
            self._variants[place] = replace(self._variants[place], latency=latencies[str(place)], load_percent=load_percent)

    def mix(self, runtime: Backend) -> None:
        """Look for layers that have to stay in float, where int8 is faster but loses too much."""
        own = [variant for variant in self._variants if variant.target == runtime.NAME and variant.latency]
        whole = next((variant for variant in own if variant.whole), None)
        holding = [variant for variant in own if not variant.whole and variant.verdict]
        # int8 holds as a whole, or was not made, or there is no float precision to mix it with
        if whole is None or whole.verdict or not holding:
            return
        floats = min(holding, key=lambda variant: _latency(variant).p50)
        # A mix is hardly ever faster than int8 of everything: where that gains nothing over float, a search for mixes cannot pay.
        gain = ratio(_latency(floats), _latency(whole))
        if gain.low <= 1:
            note(f"int8 loses too much, and is not measurably faster than {floats.precision}, so no mix is looked for")
            return
        search = _Mixing(self._context, runtime, floats.precision)
        known = len(self._variants)
        try:
            # what a time budget leaves is also needed for the measurement and the verdict
            with Deadline.after(MAX_SHARE_OF_MIXES * time_left()).enforced():
                self.enter(runtime, search.passing_mixes())
        except OutOfTime:
            note("the time budget ended the search for layers that stay in float beside int8")
        # everything is timed again, in one series: latencies from two series would differ by what the machine did in between
        if len(self._variants) > known:
            self.time()

    def decide(self) -> tuple[Variant, list[Variant]]:
        """Return the fastest variant that holds the guard-rails, by a measured difference, or the first; and all variants."""
        best, reasons = fastest([self._timed(place) for place in range(len(self._variants))])
        final = [replace(variant, why=variant.why or reasons.get(place, "")) for place, variant in enumerate(self._variants)]
        note(f"{self._name(best)} ships: {final[best].why}")
        return final[best], final

    def _timed(self, place: int) -> TimedVariant | None:
        variant = self._variants[place]
        if variant.latency is None:
            return None
        return TimedVariant(self._name(place), bool(variant.verdict), variant.precision.startswith("int8"), variant.latency)

    def _holds(self, place: int) -> bool:
        return place == 0 or bool(self._variants[place].verdict)

    def _name(self, place: int) -> str:
        """Return the precision, with its runtime where there are several."""
        variant = self._variants[place]
        several = len({variant.target for variant in self._variants}) > 1
        kept = f" with {floats} layers in float" if (floats := len(variant.kept) + len(variant.in_float)) else ""
        return f"{variant.target} {variant.precision}{kept}" if several else f"{variant.precision}{kept}"


class _Mixing:
    """The search for mixes of one runtime."""

    def __init__(self, context: PrecisionContext, runtime: Backend, float_precision: str) -> None:
        self._context, self._runtime, self._float_precision = context, runtime, float_precision
        self._folder = context.folder / f"{runtime.NAME} mixes"

    def passing_mixes(self) -> list[Variant]:
        """Return the mixes that hold the guard-rails, compiled; the one with the fewest layers in float last."""
        cache = ResultCache((self._context.cache_folder or self._folder) / f"{self._runtime.NAME}.json", self._made_for)
        # `_attempt` left the artifacts of passing mixes on disk, so `_variant` only opens them here
        return [self._variant(keep) for keep in mixes(groups(self._context.onnx), cache.cached(self._attempt))]

    def _attempt(self, keep: frozenset[str], rough: bool) -> MixResult:
        variant, distance = self._variant(keep, rough=rough), float("inf")
        if (artifact := variant.artifact) is not None:
            try:
                with self._runtime.build(artifact, threads=self._context.threads) as session:
                    variant = self._context.judged(variant, session, self._runtime, rough=rough)
                    distance = divergence([(self._exact, log_shares(session.predict(self._compared_inputs), self._context.guard.outputs))])
            except Exception as problem:  # a mix that the runtime cannot run has failed; the others go on
                variant = replace(variant, verdict=None, why=failure_reason("run", problem))
            if not variant.verdict:  # only a mix that passes is used again, so the others need not fill the disk
                rmtree(artifact.folder)
        if variant.verdict is None:
            note(f"{variant.precision} with {', '.join(variant.kept)} in float {variant.why}")
            # the worst margin there is: such a group goes back to float first
            return MixResult(False, float("-inf"), distance)
        # the tightest limit decides: margins of +2, +.5 and -1 points count as -1
        return MixResult(bool(variant.verdict), min(rail.margin for rail in variant.verdict.rails), distance)

    def _variant(self, keep: Collection[str], *, rough: bool = False) -> Variant:
        """Return the mix, compiled; one that was compiled before from all calibration images is used as it is."""
        precision, names, calibration = int8_name(keep, self._float_precision), tuple(sorted(keep)), self._context.calibration
        # All rough mixes share one folder, since none is used again. The others are named by their layers and by everything else they
        # depend on, so that a result for another model or other limits is never taken for this one's.
        home = self._folder / ("rough" if rough else hashlib.sha256("\n".join((self._made_for, *names)).encode()).hexdigest()[:16])
        try:
            if (home / MANIFEST).exists() and not rough:
                artifact = Artifact.read(home)
            else:
                inputs = calibration[spread(len(calibration), ROUGH_CASES)] if rough else calibration
                artifact = self._runtime.quantize(
                    self._context.onnx,
                    home,
                    inputs,
                    ignored_layers=names,
                    float_precision=self._float_precision,
                    cpu_level=self._context.cpu_level,
                )
        except Exception as problem:  # a quantizer that fails on one mix has failed on that mix only
            return Variant(precision, failure_reason("made", problem), kept=names, target=self._runtime.NAME)
        return Variant(precision, artifact=artifact, kept=names, target=self._runtime.NAME)

    @cached_property
    def _compared_inputs(self) -> Floats:
        """Inputs of the guard split by which the distance of a mix from float is measured."""
        return self._context.guard.inputs(spread(len(self._context.guard), ROUGH_CASES))

    @cached_property
    def _exact(self) -> npt.NDArray[np.float32]:
        artifact = self._runtime.convert(self._context.onnx, self._folder / EXACT_PRECISION, EXACT_PRECISION)
        with self._runtime.build(artifact, threads=self._context.threads) as session:
            return log_shares(session.predict(self._compared_inputs), self._context.guard.outputs)

    @cached_property
    def _made_for(self) -> str:
        identity = hashlib.sha256(self._context.onnx.read_bytes())
        identity.update(np.ascontiguousarray(self._context.calibration).data)
        identity.update(
            repr(
                (self._runtime.NAME, self._runtime.version(), self._float_precision, self._context.cpu_level, self._context.confidence)
            ).encode()
        )
        identity.update(repr(self._context.limits).encode())
        identity.update(b"" if self._context.rule is None else self._context.rule.identity.encode())
        identity.update(b"" if self._context.train_check is None else self._context.train_check.split.sha256.encode())
        return identity.hexdigest()


def failure_reason(what: str, problem: Exception) -> str:
    """Return why a variant does not ship, in one line."""
    return f"could not be {what}: {type(problem).__name__}: {' '.join(str(problem).split())[:200]}"


def _latency(variant: Variant) -> Latency:
    assert variant.latency is not None
    return variant.latency
