"""The second half of a run: from the candidate that the search kept to the compiled artifact, its verdict and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from optimize.backends import CPU, ON_CPU, backend, self_test
from optimize.backends.artifact import Artifact
from optimize.backends.export import Parity, export_onnx
from optimize.backends.weighted_nodes import with_weights
from optimize.candidate import Candidate, Floats
from optimize.data.dataset import Split
from optimize.guard.evaluate import score_split
from optimize.guard.flips import FILE, flips, to_csv
from optimize.guard.memorization import known_by_heart
from optimize.guard.rail import Outcome
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict, judge
from optimize.hardware.cpu_level import in_words, running
from optimize.hardware.cpu_level import level as machine_level
from optimize.hardware.machine import foreign_load as foreign_load
from optimize.measure.roofline_report import reached
from optimize.measure.warmup import block_medians
from optimize.progress import stage
from optimize.quantization.int8_retry import SLOWER, milder, wanting
from optimize.quantization.precision_check import listed
from optimize.quantization.precision_choice import PrecisionContext, choose
from optimize.quantization.variant import Variant
from optimize.report.render import signed, write
from optimize.run import report_data
from optimize.run.baselines import ARTIFACT, RUNTIMES, profile
from optimize.run.history import Look
from optimize.run.prepare import Job
from optimize.run.recipe import Recipe
from optimize.run.report_data import Compiled, Result
from optimize.run.usage import usage
from optimize.run.workspace import UNVERIFIED
from optimize.search.goal import Goal

INT8_CASES = 512


def finish_run(
    job: Job,
    best: Candidate,
    trials: Sequence[Mapping[str, Any]],
    before: Score,
    confidence: float,
    notes: Sequence[str],
    goal: Goal | None = None,
    made: Path | None = None,
    earlier: Sequence[Candidate] = (),
) -> dict[str, Any]:
    """Compile, measure, judge on the test split, which is read here and nowhere else, and write the report.

    Args:
        job: of the run.
        best: the candidate that the search kept.
        trials: every proposal.
        before: the original's score on the guard split.
        confidence: of the bounds that must lie within the limits on the guard split.
        notes: what a reader should know.
        goal: a latency that was asked for.
        made: folder of artifacts that were compiled before.
        earlier: candidates that the search kept before the last, for int8 (`quantization/int8_retry.py`).
    """
    compiled = compile_and_profile(job, best, before, confidence, made, earlier)
    assert compiled.chosen.artifact is not None
    look = begun(job, compiled.chosen.artifact, again=job.space.look)
    job.space.remember(look.key)
    original, artifact = on_test(job, compiled.chosen.artifact)
    verdict = in_time(look.settled(judge(look.limits(job.recipe.limits), original, artifact)), goal, compiled)
    changed = flips(original, artifact, job.data.test.names.tolist(), job.data.test.patients)
    heart = known_by_heart(before, original)
    repeated = look.sentence(job.recipe.limits)
    notes = (*notes, *_about(compiled, job.recipe), *(each for each in (heart, repeated) if each is not None))
    result = Result(verdict, compiled.candidate, trials, before, compiled, original, artifact, notes, changed)
    job.history.end(look, verdict.outcome)
    return finish(job, replace(result, looks=look.as_dict(job.recipe.limits)))


def compile_and_profile(
    job: Job, best: Candidate, before: Score, confidence: float, made: Path | None = None, earlier: Sequence[Candidate] = ()
) -> Compiled:
    """Export, compile every precision, choose one by the guard at this confidence, and measure it beside the baselines."""
    recipe, work = job.recipe, job.space.fresh("compile")
    guard = job.data.guard
    with stage("export to ONNX"):
        parity = export_onnx(best, work / "model.onnx", guard.inputs(slice(0, 16)))
        export_onnx(job.original, work / "original.onnx")
    bench = PrecisionContext(
        onnx=work / "model.onnx",
        folder=made or work,
        calibration=drawn(job.data.calibration, INT8_CASES, recipe.seed),
        guard=guard,
        before=before,
        limits=recipe.limits,
        threads=recipe.threads,
        confidence=confidence,
        cpu_level=recipe.cpu_level,
        kept=job.space.scratch / "mixes",
        witness=job.train_check and job.train_check.about(best),
    )
    chosen, measured = choose(job.runtimes, bench)
    instead, more = _milder(job, bench, chosen, measured, earlier)
    if instead is not None:
        measured = [replace(each, why=f"{each.why}; {SLOWER}") if each is chosen else each for each in measured]
        best, chosen = instead, more[-1]
        onnx, parity = _exported(bench, best)
        bench = replace(bench, onnx=onnx)
    measured = [*measured, *more]
    assert chosen.artifact is not None
    with backend(chosen.target).build(chosen.artifact, threads=recipe.threads) as session:
        layer_precisions = backend(chosen.target).inspect(session)
        inputs = self_test.make(bench.calibration, recipe.seed)
        described = chosen.artifact.described(usage(chosen.artifact, session.predict, job.data, recipe.threads))
        proven = replace(chosen, artifact=self_test.attach(described, session.predict, inputs, recipe.cpu_level))
    measured, chosen = [proven if each is chosen else each for each in measured], proven
    assert chosen.artifact is not None
    figures = profile(
        job.original,
        report_data.reload(recipe),
        work / "original.onnx",
        chosen.artifact,
        lambda count: guard.inputs(np.arange(count) % len(guard)),
        scratch=work / "baselines",
        batches=(1, recipe.batch) if recipe.batch > 1 else (1,),
        threads=recipe.threads,
    )
    roof, obstacle = reached(
        best,
        backend(chosen.target),
        chosen.artifact,
        layer_precisions,
        guard.inputs(slice(0, 1)),
        p50_ms=figures.latency[1][ARTIFACT].p50,
        threads=recipe.threads,
    )
    told = in_float(chosen, _with_weights(layer_precisions, bench.onnx))
    return Compiled(best, chosen, measured, parity, layer_precisions, figures, roof, tuple(each for each in (told, obstacle) if each))


def _milder(
    job: Job, bench: PrecisionContext, chosen: Variant, measured: Sequence[Variant], earlier: Sequence[Candidate]
) -> tuple[Candidate | None, list[Variant]]:
    """Int8 of the candidates before the last, where only the last one's fails."""
    runtimes = wanting(job.runtimes, chosen, measured) if earlier else []
    if not runtimes:
        return None, []

    def own(candidate: Candidate) -> PrecisionContext:
        onnx, _ = _exported(bench, candidate)
        return replace(bench, onnx=onnx, folder=onnx.parent, witness=job.train_check and job.train_check.about(candidate))

    assert chosen.artifact is not None
    with backend(chosen.target).build(chosen.artifact, threads=bench.threads) as session:
        return milder(runtimes, chosen, session, earlier, own)


def _exported(bench: PrecisionContext, candidate: Candidate) -> tuple[Path, Parity]:
    """The ONNX file of a milder candidate, and its parity with torch."""
    home = bench.folder / f"milder-{candidate.fingerprint[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    return home / "model.onnx", export_onnx(candidate, home / "model.onnx", bench.guard.inputs(slice(0, 16)))


def in_float(chosen: Variant, ran: Mapping[str, str]) -> str | None:
    """What to say when layers of an int8 artifact ran in float though nobody asked for it; None when none did.

    Args:
        chosen: what ships.
        ran: layer -> precision it really ran in.
    """
    if not chosen.precision.startswith("int8"):
        return None
    astray = [layer for layer, precision in ran.items() if precision != "int8" and layer not in chosen.kept]
    if not astray:
        return None
    return f"{len(astray)} of {len(ran)} layers of the {chosen.precision} artifact ran in float: {listed(astray)}"


def _with_weights(ran: Mapping[str, str], onnx: Path) -> Mapping[str, str]:
    """Those of the layers that have weights: what lies between layers kept in float runs in float with them. All where no name is known."""
    weighted = with_weights(onnx)
    return {layer: precision for layer, precision in ran.items() if layer in weighted} or ran


def drawn(split: Split, count: int, seed: int) -> Floats:
    """At most `count` inputs, drawn from the whole split: files are often sorted by class."""
    return split.inputs(np.sort(np.random.default_rng(seed).permutation(len(split))[:count]))


def begun(job: Job, artifact: Artifact, again: str | None = None) -> Look:
    """The look at the test split that begins now: it counts from here on, whatever becomes of the run.

    Args:
        job: of the run.
        artifact: what is judged.
        again: key of the look during which the run was interrupted.
    """
    model = report_data.sha256(job.recipe.model)
    return job.history.begin(
        job.data.test, model=model, artifact=artifact.sha256, limits=job.recipe.limits, fresh=job.recipe.fresh_test, again=again
    )


def on_test(job: Job, artifact: Artifact) -> tuple[Score, Score]:
    """The original in torch and the artifact in its runtime on the test split."""
    test, classes = job.data.test, job.data.classes
    original = score_split(job.original.predict, test, classes, "test the original")
    with backend(artifact.target).build(artifact, threads=job.recipe.threads) as session:
        return original, score_split(session.predict, test, classes, "test the artifact")


def in_time(verdict: Verdict, aim: Goal | None, compiled: Compiled) -> Verdict:
    """The verdict, which also fails when the compiled artifact is slower than was asked for.

    Where the latency was not measured reliably, its median decides nothing by itself. What disturbs a machine makes calls slower: the
    goal is reached all the same where the median of every tenth of the measurement was within it, and missed where not even the fastest
    call was. In between the verdict is open. An artifact that misses a guard-rail is rejected, however long it takes.
    """
    if aim is None:
        return verdict
    taken, asked = compiled.profile.latency[1][ARTIFACT], f"{aim.latency_ms:.3f} ms were asked for"
    doubts = [*compiled.profile.doubts(1), *([aim.doubt] if aim.doubt else [])]
    if not doubts:
        if taken.p50 <= aim.latency_ms:
            return verdict
        return Verdict("fail", (f"median latency at batch 1 is {taken.p50:.3f} ms; {asked}", *verdict.reasons), verdict.rails)
    unsure = f"latency at batch 1 was not measured reliably ({doubts[-1]})"
    if taken.min > aim.latency_ms:
        late = f"{unsure}, but not even the fastest of {taken.n} calls, {taken.min:.3f} ms, was fast enough; {asked}"
        return Verdict("fail", (late, *verdict.reasons), verdict.rails)
    slowest = max(block_medians(taken.samples_ms))
    if slowest <= aim.latency_ms and not aim.doubt:
        each = f"{unsure}, but even the slowest tenth of the measurement had a median of {slowest:.3f} ms; {asked}"
        return Verdict(verdict.outcome, (*verdict.reasons, each), verdict.rails)
    report_data: Outcome = "fail" if verdict.outcome == "fail" else "inconclusive"
    return Verdict(report_data, (f"{unsure}; {asked}: repeat the run on a quiet machine", *verdict.reasons), verdict.rails)


def _about(compiled: Compiled, recipe: Recipe) -> tuple[str, ...]:
    """What a reader should know of the artifact's runtime and precision."""
    told: list[str | None] = []
    if recipe.target == CPU:
        name = f"{RUNTIMES[compiled.chosen.target]} {compiled.chosen.precision}"
        told.append(f"target cpu was asked for: {name} was measured to be the fastest that holds the guard-rails")
    told.append(_about_isa(compiled.chosen.target, recipe.cpu_level))
    return tuple(each for each in told if each)


def _about_isa(target: str, isa: str | None) -> str | None:
    """What a verdict on this machine says of the instruction set that was asked for."""
    here = running(target)
    if isa is None or target not in ON_CPU or isa == here == machine_level():
        return None
    if isa == here:
        whose = "other runtimes' are this machine's own"
        return f"{RUNTIMES[target]} computed as with {in_words(isa)}: the verdict and its timings are for that; {whose}"
    decides = f"optimize verify, on a machine with {in_words(isa)}, decides there"
    return f"the artifact was made for {in_words(isa)} and verified on this machine, with {in_words(here)}: {decides}"


def finish(job: Job, result: Result) -> dict[str, Any]:
    """Write the report, and hand the artifact over when it was accepted."""
    notes = tuple(dict.fromkeys((*job.baseline.notes, *job.notes, *result.notes)))  # verify takes up a report's own
    found = [finding.as_dict() for finding in job.health]
    result = replace(result, health=found, standing=job.baseline.as_dict(), notes=notes)
    report = report_data.report(job.recipe, job.original, job.data, result, started=job.started, foreign_load=foreign_load())
    if result.flips is not None:
        job.space.put(FILE, to_csv(result.flips))
    accepted = result.compiled.chosen.artifact if result.compiled is not None and result.verdict else None
    # Hashed before they are moved: should signing fail, nothing has been handed over.
    files = job.space.contents(accepted, UNVERIFIED if result.unverified else None)
    report["files"] = [file.as_dict() for file in files]
    if job.recipe.sign_key is not None:
        report = signed(report, job.recipe.sign_key)
    if result.unverified:
        job.space.leave(UNVERIFIED)
    job.space.deliver(accepted)
    write(report, job.recipe.out)
    job.space.clean()
    return report
