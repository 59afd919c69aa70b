"""Run the main job: from a trained model and its data to a verified artifact with a report, or to a rejection.

    prepare     load and check everything, before any work           run/prepare.py
    search      in torch, decided on the guard split                 this file, searching/
    compile     export, choose the precision, time the baselines     run/compile_artifact.py
    judge       in the target's runtime, on the test split           run/final_verdict.py
    finish      the report; `model/` only where the verdict is pass  run/finish.py

Some targets compile on machines that they do not run on. Then nothing is timed, the test split is not read, and the verdict is
"inconclusive" (`run/cross_compiled.py`) until `optimize verify` has been called on a machine that runs them
(`run/verification/verify.py`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

from optimize.backends import Backend
from optimize.candidate import Candidate, Floats, Reference
from optimize.data.calibration_sampling import unlabelled
from optimize.errors import OutOfTime
from optimize.guard.verdict import Verdict, judge
from optimize.hardware.malloc import retain_freed_memory
from optimize.loading.load import load_model
from optimize.progress import begin_part, note, whole_run
from optimize.run.acceptance_plan import announce, sentences
from optimize.run.compile_artifact import compile_artifact
from optimize.run.cross_compiled import compile_only
from optimize.run.final_verdict import final_verdict
from optimize.run.finish import finish
from optimize.run.in_memory import FILES_ONLY, InMemory
from optimize.run.planning.cost import PROPOSALS
from optimize.run.planning.cuts import cuts
from optimize.run.prepare import Job, prepare
from optimize.run.recipe import Recipe
from optimize.run.result import Result
from optimize.run.strategies import makes_few_proposals, strategy
from optimize.run.time_budget import within
from optimize.searching.goal import Goal, latency_ms, latency_timer, make_goal
from optimize.searching.search import labelled
from optimize.searching.snapshot import rebuilt
from optimize.searching.walk import Search, SearchResult
from optimize.training import ddp

SHARES = {"load": 2, "export of the original": 3, "search": 55, "compile": 10, "measure": 27, "judge": 3}
"""Part of a run -> its approximate percentage of the run's time, for the estimate of the run's end until more is known."""


class Finished(NamedTuple):
    """A run that has ended.

    Attributes:
        report: content of report.json.
        candidate: the network that was compiled, or the last that was kept; None where an ended run was resumed, which did no work.
    """

    report: dict[str, Any]
    candidate: Candidate | None


def compress(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Run the whole job and return its report, which is also written to `recipe.out`.

    From here on the process keeps the memory it frees (`hardware/malloc.py`).

    Args:
        recipe: the resolved settings.
        resume: continue the interrupted run in `recipe.out`.
        overwrite: replace the run in `recipe.out`.

    Raises:
        TargetUnavailable: when the target cannot run here; nothing was done.
        InputError: when the model, the data or a setting is wrong; nothing was written over.
    """
    return run(recipe, resume=resume, overwrite=overwrite).report


@whole_run(SHARES)
def run(recipe: Recipe, objects: InMemory = FILES_ONLY, *, resume: bool = False, overwrite: bool = False) -> Finished:
    """Run the whole job; like `compress`, also on a network or data of this process.

    Args:
        recipe: the resolved settings.
        objects: network and data that replace the recipe's files.
        resume: continue the interrupted run in `recipe.out`.
        overwrite: replace the run in `recipe.out`.

    Raises:
        TargetUnavailable: when the target cannot run here; nothing was done.
        InputError: when the model, the data or a setting is wrong; nothing was written over.
    """
    # memory that goes back to the system is cleared again when it is taken, which can cost as much as the arithmetic of a repair
    retain_freed_memory()
    job = prepare(recipe, resume=resume, overwrite=overwrite, objects=objects)
    try:
        if job.space.report is not None:  # the run that is resumed had ended
            return Finished(job.space.report, None)
        result = rejected_original(job)
        if result is None:
            with within(job.budget):
                result = _compressed(job)
        return Finished(finish(job, result), result.best)
    finally:
        job.space.release()


def _compressed(job: Job) -> Result:
    """Search, compile what was kept last, and judge it."""
    # the search times its proposals on one runtime; the fastest one on the original is the likeliest to ship
    job = replace(job, runtimes=fastest_first(job, job.data.guard.inputs(slice(0, 1))))
    announce(job)
    search = run_search(job)
    reason = job.runtime.unavailable_reason()
    return compile_only(job, search, reason) if reason else final_verdict(job, search, compile_artifact(job, search))


def rejected_original(job: Job) -> Result | None:
    """Return the result of a run whose original itself breaks a limit; None where it holds all limits."""
    score = job.baseline_score
    # the original against itself: drops are 0, so only absolute limits, such as a smallest sensitivity, can fail
    verdict = judge(job.recipe.limits, score, score)
    if verdict.outcome != "fail":
        return None
    reasons = tuple(f"the original itself does not hold a limit: {reason}" for reason in verdict.reasons)
    return Result(Verdict("fail", reasons), SearchResult(job.original, (), (), score, job.recipe.limits.confidence))


def fastest_first(job: Job, inputs: Floats) -> tuple[Backend, ...]:
    """Return the target's runtimes, the one first that is fastest on one input of the original."""
    if len(job.runtimes) == 1:
        return job.runtimes
    threads, exporter = job.recipe.threads, job.exporter
    taken = {runtime.NAME: latency_ms(runtime, threads, inputs, job.original, exporter) for runtime in job.runtimes}
    note("the original: " + ", ".join(f"{name} {milliseconds:.3f} ms" for name, milliseconds in taken.items()))
    return tuple(sorted(job.runtimes, key=lambda runtime: taken[runtime.NAME]))


def run_search(job: Job) -> SearchResult:
    """Run the search with the recipe's strategy and return its result; an interrupted search is continued.

    Proposals are timed on the target where it runs on this machine. A time budget ends the search with what was kept last.
    """
    begin_part("search")
    try:
        with nullcontext() if job.budget is None else job.budget.search_deadline.enforced():
            search, reference, asked = _prepared_search(job)
    except OutOfTime:
        found = SearchResult(job.original, (), (), job.baseline_score, job.limits.confidence, out_of_time=True)
        begin_part("compile")
        return replace(found, notes=_budget_notes(job, found))
    proposals = PROPOSALS.get(job.recipe.strategy)
    begin_part("search", proposals and max(2, proposals - len(job.space.trials)))
    found = search.run(job.space.trials)
    begin_part("compile")
    # Candidates before the best are asked for int8 where that of the best fails, since they are milder. On the way to a latency the best is
    # the mildest that is fast enough, so those before it are no help. Where a time budget ended the search, there is time for one at most.
    earlier = () if asked else found.earlier[-1:] if found.out_of_time else found.earlier
    check = () if job.train_check is None else (job.train_check.note,)
    notes = (*left_alone(found.best, reference), *check, *sentences(job), *_budget_notes(job, found))
    return replace(found, earlier=earlier, notes=notes, goal=asked)


def _prepared_search(job: Job) -> tuple[Search, Reference, Goal | None]:
    """Return the search of a run, the data that its steps may use, and the latency to be met."""
    recipe, data = job.recipe, job.data
    reference = _reference(job)
    runs_here = job.runtime.unavailable_reason() is None
    # without a latency to be met, what is timed is only told
    brief, example = recipe.latency_target_ms is None and recipe.speedup is None, data.guard.inputs(slice(0, 1))
    timer = latency_timer(job.runtime, recipe.threads, example, job.exporter, brief=brief) if runs_here else None
    asked = None if timer is None else make_goal(timer, job.original, recipe.latency_target_ms, recipe.speedup)
    plan = strategy(recipe, job.runtime if runs_here else None, asked)
    search = Search(
        reference,
        data.guard,
        data.classes,
        recipe.limits,
        job.space.ledger,
        plan,
        job.search_confidence,
        timer if makes_few_proposals(recipe.strategy) else None,
        job.train_check,
        baseline_score=job.baseline_score,
        deadline=None if job.budget is None else job.budget.search_deadline,
        rule=job.acceptance_rule,
    )
    return search, reference, asked


def _budget_notes(job: Job, found: SearchResult) -> tuple[str, ...]:
    """Return a sentence on what a time budget left untried; nothing where the search ended by itself."""
    if job.budget is None or not found.out_of_time:
        return ()
    said = f"the search was {job.budget.as_dict(True, len(found.trials))['sentence']}"
    note(said)
    return (said,)


def _reference(job: Job) -> Reference:
    """Return the data that the steps of a run may use."""
    data, seed = job.data, job.recipe.seed
    train = labelled(data.training_split) if job.recipe.retrain and data.training_split is not None else None
    inputs = unlabelled(job.original, [split for split in (data.calibration, data.train) if split is not None], seed)
    return Reference(job.original, inputs.fitted, seed, train, job.space.scratch, inputs.unseen)


def process_group(recipe: Recipe) -> AbstractContextManager[bool]:
    """Join the processes that torchrun started: true in the one that runs the job, false in those that only help to train.

    Without torchrun there is one process, which runs the job.
    """
    return ddp.process_group(lambda: load_model(**recipe.loader_arguments), rebuilt)


def left_alone(best: Candidate, reference: Reference) -> tuple[str, ...]:
    """Return sentences on channels that could not be removed, and why."""
    return cuts(best, reference.original.module, reference.calibration).left_alone
