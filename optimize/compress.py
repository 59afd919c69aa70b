"""The main job: a trained model and its data become a verified artifact with a report, or an honest rejection.

Preflight, load, check; search in torch on the guard split; export, compile and choose the precision in the target's runtime, on the guard
split; profile beside the baselines; the verdict in the target's runtime on the test split, which is read once; then the report, and
`model/` only when the verdict is "pass".
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optimize import outcome
from optimize.backends import Backend, backend
from optimize.candidate import Candidate, Floats, Labelled, Reference
from optimize.choose import Variant, choose, compile_all
from optimize.data import Dataset, Preprocessing, Split, load_data
from optimize.errors import InputError
from optimize.export import export_onnx
from optimize.graph import trace
from optimize.guard.flips import FILE, flips, to_csv
from optimize.guard.limits import Limits
from optimize.guard.score import Score, score
from optimize.guard.verdict import Verdict, judge, level
from optimize.health import Finding, health
from optimize.heap import keep_freed
from optimize.load import load_model
from optimize.masks import perfect
from optimize.measure.machine import load as foreign_load
from optimize.measure.reached import reached
from optimize.outcome import Compiled, Result
from optimize.profile import ARTIFACT, profile
from optimize.progress import note, stage
from optimize.recipe import Recipe, to_toml
from optimize.report.render import write
from optimize.search.goal import Goal, clock, goal
from optimize.search.score import score_split
from optimize.search.strategies import strategy
from optimize.search.walk import Search
from optimize.select import unlabelled
from optimize.signature import sign
from optimize.snapshot import rebuilt
from optimize.steps import ddp
from optimize.steps.batches import hold_out
from optimize.steps.prune import refusal
from optimize.steps.repair import repairable
from optimize.workspace import Workspace

INT8_CASES = 512
FEW = ("allocate", "budget")
"""Strategies that make so few proposals that each can be timed on the target."""


@dataclass(frozen=True, eq=False)
class Job:
    """Everything a run needs, checked."""

    recipe: Recipe
    runtime: Backend
    original: Candidate
    data: Dataset
    space: Workspace
    started: float
    health: tuple[Finding, ...] = ()


def compress(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Run the whole job and return its report, which is also written to `recipe.out`.

    From here on the process keeps the memory it frees (`heap.py`).

    Args:
        recipe: the resolved settings.
        resume: continue the interrupted run in `recipe.out`.
        overwrite: replace the run in `recipe.out`.

    Raises:
        TargetUnavailable: when the target cannot run here; nothing was done.
        InputError: when the model, the data or a setting is wrong; nothing was written over.
    """
    keep_freed()
    job = prepare(recipe, resume=resume, overwrite=overwrite)
    if job.space.report is not None:
        return job.space.report
    before = score_split(job.original.predict, job.data.guard, job.data.classes, "judge the original")
    own = judge(recipe.limits, before, before)
    if own.outcome == "fail":
        reasons = tuple(f"the original itself does not hold a limit: {reason}" for reason in own.reasons)
        return _finish(job, Result(Verdict("fail", reasons), job.original, [], before))
    sources = [split for split in (job.data.calibration, job.data.train) if split is not None]
    train = None if job.data.train is None or not recipe.retrain else labelled(job.data.train)
    inputs = unlabelled(job.original, sources, recipe.seed)
    reference = Reference(job.original, inputs.fitted, recipe.seed, train, job.space.scratch, inputs.unseen)
    one = job.data.guard.inputs(slice(0, 1))
    timed = clock(job.runtime, recipe.threads, one)
    aim = goal(timed, job.original, recipe.latency_target_ms, recipe.speedup)
    plan = strategy(recipe, job.runtime, aim)
    confidence = level(recipe.limits, job.data.guard.units, job.data.test.units)
    watch = timed if recipe.strategy in FEW else None
    search = Search(reference, job.data.guard, job.data.classes, recipe.limits, job.space.ledger, plan, confidence, watch)
    best, trials = search.run(job.space.trials)
    compiled = compile_and_profile(job, best, before, confidence)
    original, artifact = _on_test(job, compiled.chosen)
    verdict = _in_time(judge(recipe.limits, original, artifact), aim, compiled)
    changed = flips(original, artifact, job.data.test.names.tolist(), job.data.test.patients)
    notes = left_alone(best, reference)
    return _finish(job, Result(verdict, best, trials, before, compiled, original, artifact, notes, changed))


def _check_strategy(recipe: Recipe) -> None:
    asked = {"latency_target_ms": recipe.latency_target_ms, "speedup": recipe.speedup}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise InputError("`latency_target_ms` and `speedup` exclude each other: give one of them.")
    given += ["retrain"] if recipe.retrain else []
    if given and recipe.strategy != "allocate":
        raise InputError(f"`{given[0]}` needs the strategy 'allocate', not {recipe.strategy!r}: leave --strategy out.")


def _in_time(verdict: Verdict, aim: Goal | None, compiled: Compiled) -> Verdict:
    """The verdict, which also fails when the compiled artifact is slower than was asked for."""
    taken = compiled.profile.latency[1][ARTIFACT].p50
    if aim is None or taken <= aim.latency_ms:
        return verdict
    late = f"median latency at batch 1 is {taken:.3f} ms; {aim.latency_ms:.3f} ms were asked for"
    return Verdict("fail", (late, *verdict.reasons), verdict.rails)


def crew(recipe: Recipe) -> AbstractContextManager[bool]:
    """Join the processes that torchrun started, if it did: true in the one that is to run the job, false in those that only train."""
    return ddp.crew(lambda: load_model(**outcome.reload(recipe)), rebuilt)


def labelled(split: Split) -> Labelled:
    """What recovery training learns from."""
    return Labelled(split.inputs, split.labels, split.patients)


def prepare(recipe: Recipe, *, resume: bool, overwrite: bool) -> Job:
    """Check everything that can be wrong before any work is done, cheapest first."""
    started = time.time()
    _check_strategy(recipe)
    runtime = backend(recipe.target)
    runtime.preflight()
    if recipe.sign_key is not None:
        sign({}, recipe.sign_key)  # for what it refuses
    if not recipe.data:
        raise InputError("`data` is missing: pass --data file.npz, or set [data] path in the optimize.toml beside the model.")
    space = Workspace(recipe.out)
    space.check(resume=resume, overwrite=overwrite)
    with stage("load the model"):
        original = load_model(**outcome.reload(recipe))
    outputs = original.predict(original.example.numpy()).shape
    if not _judgeable(outputs, original.example.ndim):
        raise InputError(
            f"`model` gives outputs of shape {outputs}: it must give classes, (N, K) with K of 2 or more, or masks, (N, K, *spatial)."
        )
    _check_limits(recipe.limits, masks=len(outputs) > 2)
    with stage("load the data"):
        data = load_data(
            recipe.data,
            preprocessing=Preprocessing(recipe.mean, recipe.std, recipe.pad, recipe.standardize),
            input_shape=tuple(original.example.shape[1:]),
            num_classes=outputs[1],
            mask_shape=outputs[2:],
            classes=recipe.classes,
            seed=recipe.seed,
            drop_overlap=recipe.drop_overlap,
        )
    if recipe.retrain:
        if data.train is None:
            raise InputError("`--retrain` needs a train split: add train_images and train_labels to the data, or run without it.")
        hold_out(labelled(data.train), recipe.seed)  # for what it refuses
    if unknown := [name for name in recipe.limits.positive if name not in data.classes]:
        raise InputError(f"`positive` (={unknown[0]}) is no class of the data: name some of {', '.join(data.classes[:12])}.")
    with stage("look at the calibration data"):
        found = health(data)
    for finding in found:
        if finding.level == "warning":
            note(f"calibration data, {finding.check}: {finding.text}")
    _foretell(recipe, data)
    space.open(outcome.identity(recipe, data), resume=resume)
    (recipe.out / "recipe.lock.toml").write_text(to_toml(recipe), encoding="utf-8")
    return Job(recipe, runtime, original, data, space, started, found)


def compile_and_profile(job: Job, best: Candidate, before: Score, confidence: float) -> Compiled:
    """Export, compile every precision, choose one by the guard at this confidence, and measure it beside the baselines."""
    recipe, work = job.recipe, job.space.fresh("compile")
    guard = job.data.guard
    with stage("export to ONNX"):
        parity = export_onnx(best, work / "model.onnx", guard.inputs(slice(0, 16)))
        export_onnx(job.original, work / "original.onnx")
    variants = compile_all(job.runtime, work / "model.onnx", work, _drawn(job.data.calibration, INT8_CASES, recipe.seed))
    chosen, measured = choose(job.runtime, variants, guard, before, recipe.limits, recipe.threads, confidence)
    assert chosen.artifact is not None
    with job.runtime.build(chosen.artifact, threads=recipe.threads) as session:
        layer_precisions = job.runtime.inspect(session)
    figures = profile(
        job.original,
        outcome.reload(recipe),
        work / "original.onnx",
        chosen.artifact,
        lambda count: guard.inputs(np.arange(count) % len(guard)),
        scratch=work / "baselines",
        batches=(1, recipe.batch) if recipe.batch > 1 else (1,),
        threads=recipe.threads,
    )
    p50_ms = figures.latency[1][ARTIFACT].p50
    roof, obstacle = reached(
        best, job.runtime, chosen.artifact, layer_precisions, guard.inputs(slice(0, 1)), p50_ms=p50_ms, threads=recipe.threads
    )
    return Compiled(chosen, measured, parity, layer_precisions, figures, roof, (obstacle,) if obstacle else ())


def _drawn(split: Split, count: int, seed: int) -> Floats:
    """At most `count` inputs, drawn from the whole split: files are often sorted by class."""
    return split.inputs(np.sort(np.random.default_rng(seed).permutation(len(split))[:count]))


def _on_test(job: Job, chosen: Variant) -> tuple[Score, Score]:
    """The original in torch and the artifact in its runtime on the test split, which is read here and nowhere else."""
    assert chosen.artifact is not None
    test, classes = job.data.test, job.data.classes
    original = score_split(job.original.predict, test, classes, "test the original")
    with job.runtime.build(chosen.artifact, threads=job.recipe.threads) as session:
        return original, score_split(session.predict, test, classes, "test the artifact")


def _foretell(recipe: Recipe, data: Dataset) -> None:
    """Say before the work, not after it, when the test split is too small for any verdict but "inconclusive"."""
    test, classes = data.test, data.classes
    answers = ((perfect(test.labels[batch], len(classes)), test.labels[batch]) for batch in test.batches)
    best = score(test.task, answers, classes, test.patients, test.groups)
    for rail in judge(recipe.limits, best, best).rails:
        if rail.outcome == "inconclusive":
            note(f"the test split is too small to accept anything: {rail.doubt}")


def _check_limits(limits: Limits, *, masks: bool) -> None:
    """Refuse what the task has no figure for."""
    usual = Limits()
    strange = (
        ("metric", "class_metric", "min_class_recall", "threshold", "max_ece_rise", "max_regressed", "positive")
        if masks
        else ("min_agreement",)
    )
    for name in strange:
        if (value := getattr(limits, name)) != getattr(usual, name):
            kinds = ("classes", "masks") if masks else ("masks", "classes")
            raise InputError(f"`{name}` (={value}) is for {kinds[0]}, and this model gives {kinds[1]}: leave it out.")


def _judgeable(outputs: tuple[int, ...], axes: int) -> bool:
    """Classes (N, K), or a mask with as many axes as the image."""
    return outputs[1] >= 2 if len(outputs) == 2 else len(outputs) == axes


def left_alone(best: Candidate, reference: Reference) -> tuple[str, ...]:
    """Which channels were not for cutting, and why."""
    graph = trace(best)
    layers = repairable(best.module, reference.original.module, graph)
    refused = [(group.name, refusal(group, best.module, layers, reference.calibration)) for group in graph.groups]
    return tuple(f"channels of {name} were left alone: {reason}" for name, reason in (*graph.fixed, *refused) if reason is not None)


def _finish(job: Job, result: Result) -> dict[str, Any]:
    result = replace(result, health=[finding.as_dict() for finding in job.health])
    report = outcome.report(job.recipe, job.original, job.data, result, started=job.started, foreign_load=foreign_load())
    if job.recipe.sign_key is not None:
        report["signature"] = sign(report, job.recipe.sign_key)
    if result.flips is not None:
        job.space.put(FILE, to_csv(result.flips))
    job.space.deliver(result.compiled.chosen.artifact if result.compiled is not None and result.verdict else None)
    write(report, job.recipe.out)
    job.space.clean()
    return report
