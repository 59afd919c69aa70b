"""Compile the candidate that the search kept, choose its precision, and measure the artifact beside its baselines.

1. The candidate and the original are exported to ONNX.
2. Every precision of every runtime of the target is compiled, judged on the guard split and timed; one is chosen.
3. Where no precision of the candidate has the chance of acceptance that the run asks for, the next milder candidate is compiled instead.
4. Where int8 would be faster but breaks a limit, int8 of milder candidates is tried.
5. The chosen artifact gets its self-test, and is timed against the original in each runtime.

Everything here is decided on the guard split. The test split is not read: it judges the one artifact that is left
(`run/final_verdict.py`). Choosing on it, among a dozen variants, would choose the luckiest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from optimize.backends import backend, self_test
from optimize.backends.artifact import Artifact
from optimize.backends.export import Parity, export_onnx
from optimize.backends.weighted_nodes import with_weights
from optimize.candidate import Candidate
from optimize.measure.roofline_report import roofline_of_artifact
from optimize.progress import begin_part, note, stage
from optimize.progress.deadline import time_left
from optimize.quantization.int8_retry import SLOWER, retry_int8, runtimes_with_faster_int8
from optimize.quantization.precision_check import listed
from optimize.quantization.precision_choice import PrecisionContext, choose
from optimize.quantization.variant import Variant
from optimize.run.baselines import ARTIFACT, Profile, profile
from optimize.run.prepare import Job
from optimize.run.result import Compiled
from optimize.run.usage import usage
from optimize.run.workspace import ONNX
from optimize.searching.walk import SearchResult

PARITY_CASES = 16
"""Guard images on which an exported file must compute what torch computes."""


@dataclass(frozen=True, eq=False)
class Selection:
    """All variants that were tried, and which of them ships.

    Args:
        candidate: the network that ships.
        context: files, splits and limits by which its precisions were compiled and judged.
        parity: largest difference between its ONNX file and torch.
        variants: every precision that was tried, of all candidates.
        position: index in `variants` of the one that ships.
        milder: candidates that the search kept before this one, oldest first.
        notes: sentences for the report on candidates that were compiled and do not ship.
    """

    candidate: Candidate
    context: PrecisionContext
    parity: Parity
    variants: tuple[Variant, ...]
    position: int
    milder: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def chosen(self) -> Variant:
        """The precision that ships."""
        return self.variants[self.position]

    @property
    def artifact(self) -> Artifact:
        """The compiled model that ships."""
        assert self.chosen.artifact is not None
        return self.chosen.artifact

    def changed(self, chosen: Variant) -> Selection:
        """Return the selection with `chosen` in place of the variant that ships."""
        variants = (*self.variants[: self.position], chosen, *self.variants[self.position + 1 :])
        return replace(self, variants=variants)


def compile_artifact(job: Job, search: SearchResult, compiled_before: Path | None = None) -> Compiled:
    """Export, compile every precision, choose one by the guard split, and measure it beside the baselines.

    Args:
        job: the prepared run.
        search: result of the search.
        compiled_before: folder with artifacts of a run that could not be judged where it was compiled; None to compile them now.
    """
    recipe, work = job.recipe, job.space.fresh("compile")
    selection, layer_precisions = _with_self_test(job, select(job, search, work, compiled_before))
    # Measured last, and only the artifact that ships: a measurement takes minutes.
    begin_part("measure")
    figures = _measured(job, selection.artifact, work)
    roofline, no_roofline = roofline_of_artifact(
        selection.candidate,
        backend(selection.chosen.target),
        selection.artifact,
        layer_precisions,
        job.data.guard.inputs(slice(0, 1)),
        p50_ms=figures.latency[1][ARTIFACT].p50,
        threads=recipe.threads,
    )
    floats = float_layers_note(selection.chosen, _weighted_layers(layer_precisions, selection.context.onnx))
    notes = (*selection.notes, *(text for text in (floats, no_roofline) if text))
    variants, parity = selection.variants, selection.parity
    onnx = _onnx_files(job, selection.context.onnx, work / "original.onnx")
    return Compiled(selection.candidate, selection.chosen, variants, parity, layer_precisions, figures, onnx, roofline, notes)


def select(job: Job, search: SearchResult, work: Path, compiled_before: Path | None = None) -> Selection:
    """Return what ships, by the guard split and the measured latency.

    Args:
        job: the prepared run.
        search: result of the search.
        work: empty folder for what is compiled.
        compiled_before: folder with artifacts of a run that could not be judged where it was compiled; None to compile them now.
    """
    return retried_int8(job, _accepted_on_guard(job, search, work, compiled_before))


def _accepted_on_guard(job: Job, search: SearchResult, work: Path, compiled_before: Path | None) -> Selection:
    """Return the boldest candidate that the guard split lets ship, in the precision that it and the measured latency choose.

    The best candidate of the search comes first, then those that it kept before, and the original last. Where none may ship, the one with
    the largest chance of acceptance is returned, and the test split decides.
    """
    recipe, guard = job.recipe, job.data.guard
    with stage("export to ONNX"):
        parity = export_onnx(search.best, work / "model.onnx", guard.inputs(slice(0, PARITY_CASES)))
        job.exporter.export(job.original, work / "original.onnx")
    context = PrecisionContext(
        onnx=work / "model.onnx",
        folder=compiled_before or work,
        calibration=job.int8_inputs,
        guard=guard,
        baseline=search.baseline_score,
        limits=recipe.limits,
        threads=recipe.threads,
        confidence=search.confidence,
        cpu_level=recipe.cpu_level,
        cache_folder=job.space.scratch / "mixes",
        train_check=job.train_check and job.train_check.for_candidate(search.best),
        rule=job.acceptance_rule,
    )
    first = _chosen(job, search.best, context, parity, search.earlier)
    # A milder candidate is no answer where a latency is asked for, and where the compilation took place elsewhere there is none.
    if first.chosen.verdict or search.goal is not None or compiled_before is not None or search.best is job.original:
        return first
    return _backed_off(job, first)


def _chosen(job: Job, candidate: Candidate, context: PrecisionContext, parity: Parity, milder: Sequence[Candidate]) -> Selection:
    """Return a candidate in the precision that is chosen for it."""
    chosen, variants = choose(job.runtimes, context)
    # by identity, not by value: two variants may be equal in everything but their files
    position = next(position for position, variant in enumerate(variants) if variant is chosen)
    return Selection(candidate, context, parity, tuple(variants), position, tuple(milder))


def _backed_off(job: Job, first: Selection) -> Selection:
    """Return the boldest milder candidate that may ship; the one with the largest chance of acceptance where none may.

    Example: the best candidate has a chance of 93 % in torch. Compiled it is 84 %, since two more cases are lost, and 92 % is asked for.
    The candidate that was kept before it has 95 % when compiled, and ships.
    """
    tried, notes = [first], [_refusal(job, first)]
    note(notes[-1])
    # The original comes last: as it is compiled it changes hardly anything.
    remaining, lasted = (job.original, *first.milder), 0.0
    # With a time budget no candidate is begun that would take longer than what is left.
    while remaining and not tried[-1].chosen.verdict and lasted < time_left():
        started = time.monotonic()
        *earlier, candidate = remaining
        remaining = tuple(earlier)
        with stage("export a milder candidate"):
            context, parity = _own_context(job, first.context, candidate)
        tried.append(_chosen(job, candidate, context, parity, remaining[1:]))
        lasted = time.monotonic() - started
        notes.append(_refusal(job, tried[-1]))
        note(notes[-1])
    ships = max(tried, key=lambda selection: (bool(selection.chosen.verdict), _chance(selection.chosen)))
    others = [_told(selection) for selection in tried if selection is not ships]
    before = tuple(variant for variants in others for variant in variants)
    return replace(ships, variants=(*before, *ships.variants), position=len(before) + ships.position, notes=tuple(notes))


def _chance(variant: Variant) -> float:
    """Return the chance of acceptance of a variant; -1 where it has none."""
    return -1.0 if variant.verdict is None or variant.verdict.chance is None else variant.verdict.chance


def _refusal(job: Job, selection: Selection) -> str:
    """Return what became of a compiled candidate, in a sentence."""
    chance, size = _chance(selection.chosen), f"the candidate with {selection.candidate.parameters:,} parameters"
    if selection.candidate is job.original:
        size = "the original"
    has = "has no precision that could be judged" if chance < 0 else f"has a chance of acceptance of {100 * chance:.1f} %"
    outcome = "and may ship" if selection.chosen.verdict else "and is not to ship as long as a milder one has more"
    return f"{size}, compiled as {selection.chosen.target} {selection.chosen.precision}, {has} {outcome}"


def _told(selection: Selection) -> tuple[Variant, ...]:
    """Return the variants of a candidate that does not ship, each with the candidate that it is of."""
    of = f"of the candidate with {selection.candidate.parameters:,} parameters"
    return tuple(replace(variant, why=f"{of}: {variant.why}" if variant.why else of) for variant in selection.variants)


def _own_context(job: Job, context: PrecisionContext, candidate: Candidate) -> tuple[PrecisionContext, Parity]:
    """Export a milder candidate; return where its precisions are compiled and judged, and its parity with torch."""
    onnx, parity = _exported(context, candidate)
    check = job.train_check and job.train_check.for_candidate(candidate)
    return replace(context, onnx=onnx, folder=onnx.parent, train_check=check), parity


def retried_int8(job: Job, selection: Selection) -> Selection:
    """Return the selection after int8 of earlier candidates was tried, where int8 of the best is faster but fails.

    An earlier candidate was narrowed less, so int8 may cost it less accuracy. Where its int8 holds the guard-rails and is measurably
    faster than what would ship, it ships instead.

    Example: the best candidate has 30 % of the channels and takes 2.0 ms in float32 and 1.2 ms in int8, but int8 loses 3 pp. An earlier
    candidate with 45 % takes 1.5 ms in int8 and loses nothing: it is larger, and still faster than 2.0 ms.
    """
    runtimes = runtimes_with_faster_int8(job.runtimes, selection.chosen, selection.variants) if selection.milder else []
    if not runtimes:
        return selection
    context = selection.context

    # by identity: a candidate is never changed, and is exported once
    own = cache(partial(_own_context, job, context))

    with backend(selection.chosen.target).build(selection.artifact, threads=context.threads) as session:
        instead, tried = retry_int8(runtimes, selection.chosen, session, selection.milder, lambda candidate: own(candidate)[0])
    if instead is None:
        return replace(selection, variants=(*selection.variants, *tried))
    # The candidate that ships instead is the last that was tried.
    # what would have shipped stays in the report, with the reason why it does not
    slower = selection.changed(replace(selection.chosen, why=f"{selection.chosen.why}; {SLOWER}"))
    variants = (*slower.variants, *tried)
    its_context, parity = own(instead)
    return Selection(instead, its_context, parity, variants, len(variants) - 1, notes=selection.notes)


def _exported(context: PrecisionContext, candidate: Candidate) -> tuple[Path, Parity]:
    """Export an earlier candidate; return its ONNX file and its parity with torch."""
    home = context.folder / f"milder-{candidate.fingerprint[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    return home / "model.onnx", export_onnx(candidate, home / "model.onnx", context.guard.inputs(slice(0, PARITY_CASES)))


def _with_self_test(job: Job, selection: Selection) -> tuple[Selection, dict[str, str]]:
    """Return the selection with a self-test and a description of its use in the artifact, and layer -> precision it really runs in."""
    recipe, artifact, runtime = job.recipe, selection.artifact, backend(selection.chosen.target)
    with runtime.build(artifact, threads=recipe.threads) as session:
        layer_precisions = runtime.inspect(session)
        # the answers are recorded through the runtime itself: the self-test asks for the same numbers, not for torch's
        inputs = self_test.make(selection.context.calibration, recipe.seed)
        described = artifact.described(usage(artifact, session.predict, job.data, recipe.threads))
        tested = self_test.attach(described, session.predict, inputs, recipe.cpu_level)
    return selection.changed(replace(selection.chosen, artifact=tested)), layer_precisions


def _onnx_files(job: Job, model: Path, original: Path) -> Path:
    """Return a working folder with the ONNX files of the network that ships and of the original."""
    folder = job.space.fresh(ONNX)
    # moved, since they may be large; nothing reads them at their old place any more
    os.replace(model, folder / "model.onnx")
    os.replace(original, folder / "original.onnx")
    return folder


def _measured(job: Job, artifact: Artifact, work: Path) -> Profile:
    """Measure the artifact beside its baselines, on images of the guard split."""
    recipe, guard = job.recipe, job.data.guard
    return profile(
        job.original,
        recipe.model,
        job.reload,
        work / "original.onnx",
        artifact,
        # a batch larger than the split repeats its images
        lambda count: guard.inputs(np.arange(count) % len(guard)),
        scratch=work / "baselines",
        batches=(1, recipe.batch) if recipe.batch > 1 else (1,),
        threads=recipe.threads,
    )


def float_layers_note(chosen: Variant, ran: Mapping[str, str]) -> str | None:
    """Return a sentence on layers of an int8 artifact that ran in float although int8 was asked for; None where there are none.

    Args:
        chosen: the precision that ships.
        ran: layer -> precision in which the runtime really ran it.
    """
    if not chosen.precision.startswith("int8"):
        return None
    astray = [layer for layer, precision in ran.items() if precision != "int8" and layer not in chosen.kept]
    if not astray:
        return None
    return f"{len(astray)} of {len(ran)} layers of the {chosen.precision} artifact ran in float: {listed(astray)}"


def _weighted_layers(ran: Mapping[str, str], onnx: Path) -> Mapping[str, str]:
    """Return the precisions of layers with weights; of all layers where the runtime's names are not those of the ONNX file.

    Layers without weights are left out, because they follow their neighbours: a ReLU between two float layers runs in float with them.
    """
    weighted = with_weights(onnx)
    return {layer: precision for layer, precision in ran.items() if layer in weighted} or ran
