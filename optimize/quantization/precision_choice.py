"""Which precision ships: each is compiled, judged and timed on this machine; what is not measurably faster does not ship.

The exact float precision is the one to beat. Another takes its place only when, compiled, it holds the guard-rails on the guard split and
the lower end of its measured speed-up's interval is above 1.

Whether it runs in the precision it claims is read from the compiled model before it is judged (`quantization/precision_check.py`).

Where int8 of the whole network is measurably faster than every float precision that holds the guard-rails, but does not hold them itself,
the layers that cost it most go back to float (`quantization/mixed_precision.py`), and the mixes that hold are timed beside the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from optimize.data.dataset import Split
from optimize.guard.divergence import divergence, log_shares
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.guard.verdict import LIKELY, accept_proposal
from optimize.hardware.machine import watch_foreign_load
from optimize.measure.latency import Latency, interleave, ratio
from optimize.measure.warmup import BRIEF_S, warm_up
from optimize.progress import note, stage
from optimize.quantization.fastest import TimedVariant, fastest
from optimize.quantization.mixed_precision import Kept, Tried, groups, mixes
from optimize.quantization.precision_check import checked
from optimize.quantization.variant import Variant
from optimize.search.train_check import TrainCheck

SECONDS = 2.0
EXACT = "f32"
ROUGH_CASES = 64
"""Calibration inputs that are enough to rank layers by."""


@dataclass(frozen=True, eq=False)
class PrecisionContext:
    """Where variants are made, judged and timed.

    Args:
        onnx: the candidate, exported.
        folder: for what is compiled.
        calibration: (N, C, *spatial), for the ranges of int8.
        guard: the split that decides.
        before: the original's score on it.
        limits: the guard-rails.
        threads: of the runtimes.
        confidence: of the bounds that must lie within the limits.
        cpu_level: instruction set that int8 is made for; this machine's when None.
        kept: folder for what an interrupted search of a mix had found.
        witness: whom else to ask about what the guard lets pass; None where there is nobody.
    """

    onnx: Path
    folder: Path
    calibration: Floats
    guard: Split
    before: Score
    limits: Limits
    threads: int | None = None
    confidence: float = LIKELY
    cpu_level: str | None = None
    kept: Path | None = None
    witness: TrainCheck | None = None

    def judged(self, variant: Variant, session: Session, runtime: Backend, *, rough: bool = False) -> Variant:
        """The variant with its score on the guard split, and what follows from it; without one where it is not the precision it claims."""
        variant = checked(variant, runtime.inspect(session), self.onnx, rough=rough)
        if variant.why:
            return variant
        after = score_split(session.predict, self.guard, self.before.classes, f"judge {variant.precision}")
        verdict = accept_proposal(self.limits, self.before, after, self.confidence)
        if self.witness is not None:
            verdict = self.witness.review(verdict, session.predict)
        return replace(variant, score=after, verdict=verdict, why="" if verdict else "; ".join(verdict.reasons))


def compile_all(runtime: Backend, onnx: Path, folder: Path, calibration: Floats, cpu_level: str | None = None) -> list[Variant]:
    """Make the artifact of every precision the target has here; one that cannot be made says why and is left behind.

    What lies in `folder` from an earlier compilation is taken as it is.

    Raises:
        InputError: when something in `folder` was altered since.
    """
    made = []
    for precision in (*runtime.precisions(), "int8"):
        home = folder / precision
        if (home / MANIFEST).is_file():
            made.append(Variant(precision, artifact=Artifact.read(home), target=runtime.NAME))
            continue
        with stage(f"compile {precision}"):
            try:
                if precision == "int8":
                    artifact = runtime.quantize(onnx, home, calibration, cpu_level=cpu_level)
                else:
                    artifact = runtime.convert(onnx, home, precision)
            except Exception as problem:  # a quantizer that fails on this graph must not cost the user the float artifact
                if precision == EXACT:
                    raise
                made.append(Variant(precision, failed("made", problem), target=runtime.NAME))
            else:
                made.append(Variant(precision, artifact=artifact, target=runtime.NAME))
    return made


def choose(runtimes: Sequence[Backend], bench: PrecisionContext) -> tuple[Variant, list[Variant]]:
    """Compile, judge and time every precision of every runtime.

    Args:
        runtimes: of the target; the exact precision of the first is the one to beat.
        bench: the candidate and what decides.

    Returns:
        The variant that ships, and all of them with what was measured.
    """
    with ExitStack() as opened:
        contest = _Contest(bench, opened)
        for runtime in runtimes:
            contest.enter(runtime, compile_all(runtime, bench.onnx, bench.folder / runtime.NAME, bench.calibration, bench.cpu_level))
        contest.time()
        for runtime in runtimes:
            contest.mix(runtime)
        return contest.decide()


class _Contest:
    """All variants, those that could be opened with their sessions."""

    def __init__(self, bench: PrecisionContext, opened: ExitStack) -> None:
        self._bench, self._opened = bench, opened
        self._variants: list[Variant] = []
        self._sessions: dict[int, Session] = {}

    def enter(self, runtime: Backend, variants: Iterable[Variant]) -> None:
        """Open and judge."""
        for variant in variants:
            place = len(self._variants)
            if variant.artifact is None:
                self._variants.append(variant)
                continue
            try:
                session = self._opened.enter_context(runtime.build(variant.artifact, threads=self._bench.threads))
                judged = self._bench.judged(variant, session, runtime)
                self._variants.append(judged)
                if judged.verdict is not None:
                    self._sessions[place] = session
            except Exception as problem:  # as above: what the runtime cannot run is left behind
                if not place:
                    raise
                self._variants.append(Variant(variant.precision, failed("run", problem), kept=variant.kept, target=variant.target))

    def time(self) -> None:
        """Time what holds the guard-rails, the first in any case, and int8, whose speed says whether a mix is worth looking for."""
        one = self._bench.guard.inputs(slice(0, 1))
        running = [place for place in self._sessions if self._holds(place) or self._variants[place].whole]
        calls = {str(place): partial(self._sessions[place].predict, one) for place in running}
        with stage("time the precisions"):
            warm_up(calls, most_s=BRIEF_S)
            taken = watch_foreign_load()
            latencies = interleave(calls, seconds=SECONDS)
            busy = taken()
        for place in running:
            self._variants[place] = replace(self._variants[place], latency=latencies[str(place)], load_percent=busy)

    def mix(self, runtime: Backend) -> None:
        """Where int8 is faster but loses too much, put layers back to float until it does not."""
        own = [each for each in self._variants if each.target == runtime.NAME and each.latency]
        whole = next((each for each in own if each.whole), None)
        holding = [each for each in own if not each.whole and each.verdict]
        if whole is None or whole.verdict or not holding:
            return
        rest = min(holding, key=lambda each: _latency(each).p50)
        gain = ratio(_latency(rest), _latency(whole))
        if gain.low <= 1:
            note(f"int8 loses too much, and is not measurably faster than {rest.precision}: no mix is looked for")
            return
        search = _Mixing(self._bench, runtime, rest.precision)
        before = len(self._variants)
        self.enter(runtime, search.found())
        if len(self._variants) > before:
            self.time()

    def decide(self) -> tuple[Variant, list[Variant]]:
        """The fastest that holds, by what is measured for sure; the first where none does."""
        best, whys = fastest([self._entrant(place) for place in range(len(self._variants))])
        final = [replace(each, why=each.why or whys.get(place, "")) for place, each in enumerate(self._variants)]
        note(f"{self._name(best)} ships: {final[best].why}")
        return final[best], final

    def _entrant(self, place: int) -> TimedVariant | None:
        variant = self._variants[place]
        if variant.latency is None:
            return None
        return TimedVariant(self._name(place), bool(variant.verdict), variant.precision.startswith("int8"), variant.latency)

    def _holds(self, place: int) -> bool:
        return place == 0 or bool(self._variants[place].verdict)

    def _name(self, place: int) -> str:
        """The precision, with its runtime where there are several."""
        variant = self._variants[place]
        several = len({each.target for each in self._variants}) > 1
        kept = f" with {floats} layers in float" if (floats := len(variant.kept) + len(variant.in_float)) else ""
        return f"{variant.target} {variant.precision}{kept}" if several else f"{variant.precision}{kept}"


class _Mixing:
    """The search of one runtime's mix."""

    def __init__(self, bench: PrecisionContext, runtime: Backend, rest: str) -> None:
        self._bench, self._runtime, self._rest = bench, runtime, rest
        self._folder = bench.folder / f"{runtime.NAME} mixes"

    def found(self) -> list[Variant]:
        """Mixes that hold the guard-rails, compiled; the one with the fewest layers in float last."""
        kept = Kept((self._bench.kept or self._folder) / f"{self._runtime.NAME}.json", self._made_for)
        return [self._variant(keep) for keep in mixes(groups(self._bench.onnx), kept.remembering(self._attempt))]

    def _attempt(self, keep: frozenset[str], rough: bool) -> Tried:
        variant, moved = self._variant(keep, rough=rough), float("inf")
        if (artifact := variant.artifact) is not None:
            try:
                with self._runtime.build(artifact, threads=self._bench.threads) as session:
                    variant = self._bench.judged(variant, session, self._runtime, rough=rough)
                    moved = divergence([(self._exact, log_shares(session.predict(self._watched), self._bench.guard.outputs))])
            except Exception as problem:  # as below: a mix that the runtime cannot run is lost, and the rest go on
                variant = replace(variant, verdict=None, why=failed("run", problem))
            if not variant.verdict:  # only what passes is asked for again
                rmtree(artifact.folder)
        if variant.verdict is None:
            note(f"{variant.precision} with {', '.join(variant.kept)} in float {variant.why}")
            return Tried(False, float("-inf"), moved)
        return Tried(bool(variant.verdict), min(rail.margin for rail in variant.verdict.rails), moved)

    def _variant(self, keep: Collection[str], *, rough: bool = False) -> Variant:
        """The mix, compiled; one that was made before with all of calibration is taken as it is."""
        precision, names, calibration = int8_name(keep, self._rest), tuple(sorted(keep)), self._bench.calibration
        home = self._folder / ("rough" if rough else hashlib.sha256("\n".join((self._made_for, *names)).encode()).hexdigest()[:16])
        try:
            if (home / MANIFEST).exists() and not rough:
                artifact = Artifact.read(home)
            else:
                inputs = calibration[spread(len(calibration), ROUGH_CASES)] if rough else calibration
                artifact = self._runtime.quantize(
                    self._bench.onnx, home, inputs, ignored_layers=names, float_precision=self._rest, cpu_level=self._bench.cpu_level
                )
        except Exception as problem:  # a quantizer that fails on one mix costs that mix
            return Variant(precision, failed("made", problem), kept=names, target=self._runtime.NAME)
        return Variant(precision, artifact=artifact, kept=names, target=self._runtime.NAME)

    @cached_property
    def _watched(self) -> Floats:
        """Inputs of the guard whose answers tell how far a mix moves them."""
        return self._bench.guard.inputs(spread(len(self._bench.guard), ROUGH_CASES))

    @cached_property
    def _exact(self) -> npt.NDArray[np.float32]:
        artifact = self._runtime.convert(self._bench.onnx, self._folder / EXACT, EXACT)
        with self._runtime.build(artifact, threads=self._bench.threads) as session:
            return log_shares(session.predict(self._watched), self._bench.guard.outputs)

    @cached_property
    def _made_for(self) -> str:
        told = hashlib.sha256(self._bench.onnx.read_bytes())
        told.update(np.ascontiguousarray(self._bench.calibration).data)
        told.update(repr((self._runtime.NAME, self._runtime.version(), self._rest, self._bench.cpu_level, self._bench.confidence)).encode())
        told.update(repr(self._bench.limits).encode())
        told.update(b"" if self._bench.witness is None else self._bench.witness.split.sha256.encode())
        return told.hexdigest()


def failed(what: str, problem: Exception) -> str:
    """Why a variant was left behind."""
    return f"could not be {what}: {type(problem).__name__}: {' '.join(str(problem).split())[:200]}"


def _latency(variant: Variant) -> Latency:
    assert variant.latency is not None
    return variant.latency
