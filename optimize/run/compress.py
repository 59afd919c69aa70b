"""The main job: a trained model and its data become a verified artifact with a report, or an honest rejection.

Preflight, load, check (`run/prepare.py`); search in torch on the guard split; export, compile and choose the precision in the target's
runtime, on the guard split; profile beside the baselines; the verdict in the target's runtime on the test split, which is read once; then
the report, and `model/` only when the verdict is "pass" (`run/finish.py`).

Some targets compile on machines that they do not run on. Then nothing is timed, the test split is not read, and the verdict is
"inconclusive" until `optimize verify` has been called on a machine that runs them (`run/verification/verify.py`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from optimize.backends import Backend
from optimize.candidate import Candidate, Floats, Reference
from optimize.data.calibration_sampling import unlabelled
from optimize.graph.trace import trace
from optimize.guard.verdict import Verdict, judge, search_confidence
from optimize.hardware.malloc import retain_freed_memory
from optimize.loading.load import load_model
from optimize.progress import begin_part, note, whole_run
from optimize.run.cross_compiled import unverified
from optimize.run.finish import finish, finish_run
from optimize.run.prepare import Job, labelled, prepare
from optimize.run.recipe import Recipe
from optimize.run.report_data import Result
from optimize.run.strategies import strategy
from optimize.search.goal import goal, latency_ms, latency_timer
from optimize.search.snapshot import rebuilt
from optimize.search.walk import Search
from optimize.steps.prune import unprunable_reason
from optimize.steps.repair import repairable
from optimize.training import ddp

FEW = ("allocate", "budget")
"""Strategies that make so few proposals that each can be timed on the target."""
SHARES = {"load": 2, "export of the original": 3, "search": 55, "compile": 10, "measure": 27, "judge": 3}
"""Parts of a run -> percent of its time that they take, about; only the estimate of its end uses them."""
PROPOSALS = {"allocate": 22, "budget": 9}
"""Strategy -> how many proposals it makes, about; only the estimate of the end uses them."""


@whole_run(SHARES)
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
    retain_freed_memory()
    job = prepare(recipe, resume=resume, overwrite=overwrite)
    if job.space.report is not None:
        return job.space.report
    before = job.baseline_score
    own = judge(recipe.limits, before, before)
    if own.outcome == "fail":
        reasons = tuple(f"the original itself does not hold a limit: {reason}" for reason in own.reasons)
        return finish(job, Result(Verdict("fail", reasons), job.original, [], before))
    sources = [split for split in (job.data.calibration, job.data.train) if split is not None]
    train = None if job.data.training_split is None or not recipe.retrain else labelled(job.data.training_split)
    inputs = unlabelled(job.original, sources, recipe.seed)
    reference = Reference(job.original, inputs.fitted, recipe.seed, train, job.space.scratch, inputs.unseen)
    obstacle = job.runtime.unavailable_reason()
    one = job.data.guard.inputs(slice(0, 1))
    job = replace(job, runtimes=_fastest_first(job, one))
    timed = None if obstacle else latency_timer(job.runtime, recipe.threads, one)
    aim = None if timed is None else goal(timed, job.original, recipe.latency_target_ms, recipe.speedup)
    plan = strategy(recipe, None if obstacle else job.runtime, aim)
    confidence = search_confidence(job.limits, job.data.guard.n_independent, job.data.test.n_independent)
    watch = timed if recipe.strategy in FEW else None
    search = Search(reference, job.data.guard, job.data.classes, recipe.limits, job.space.ledger, plan, confidence, watch, job.train_check)
    proposals = PROPOSALS.get(recipe.strategy)
    begin_part("search", proposals and max(2, proposals - len(job.space.trials)))
    walk = search.walk(job.space.trials)
    begin_part("compile")
    best, trials = walk.best, [trial.as_dict() for trial in walk.trials]
    notes = (*left_alone(best, reference), *(() if job.train_check is None else (job.train_check.note,)))
    if obstacle:
        return unverified(job, best, trials, before, notes, obstacle)
    earlier = () if aim else tuple(walk.earlier)  # on the way to a latency the mildest is asked for, and what came before it is not milder
    return finish_run(job, best, trials, before, confidence, notes, aim, earlier=earlier)


def _fastest_first(job: Job, one: Floats) -> tuple[Backend, ...]:
    """The target's runtimes by their time for the original, when there is a choice."""
    if len(job.runtimes) == 1:
        return job.runtimes
    taken = {runtime.NAME: latency_ms(runtime, job.recipe.threads, one, job.original) for runtime in job.runtimes}
    note("the original: " + ", ".join(f"{name} {milliseconds:.3f} ms" for name, milliseconds in taken.items()))
    return tuple(sorted(job.runtimes, key=lambda runtime: taken[runtime.NAME]))


def process_group(recipe: Recipe) -> AbstractContextManager[bool]:
    """Join the processes that torchrun started, if it did: true in the one that is to run the job, false in those that only train."""
    return ddp.process_group(lambda: load_model(**recipe.loader_arguments), rebuilt)


def left_alone(best: Candidate, reference: Reference) -> tuple[str, ...]:
    """Which channels were not for cutting, and why."""
    graph = trace(best)
    layers = repairable(best.module, reference.original.module, graph)
    refused = [(group.name, unprunable_reason(group, best.module, layers, reference.calibration)) for group in graph.groups]
    return tuple(f"channels of {name} were left alone: {reason}" for name, reason in (*graph.fixed, *refused) if reason is not None)
