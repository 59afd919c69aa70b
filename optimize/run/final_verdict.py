"""The verdict on the artifact: through the target's runtime, on the test split, which is read here and nowhere else."""

from __future__ import annotations

from optimize.backends import CPU, backend, runs_on_cpu, title
from optimize.backends.artifact import Artifact
from optimize.backends.cpu_limit import effective_level
from optimize.files import sha256
from optimize.guard.evaluate import score_split
from optimize.guard.flips import flips
from optimize.guard.memorization import known_by_heart
from optimize.guard.rail import Outcome
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict, judge
from optimize.hardware.cpu_level import in_words
from optimize.hardware.cpu_level import level as machine_level
from optimize.measure.warmup import block_medians
from optimize.progress import begin_part
from optimize.run.baselines import ARTIFACT
from optimize.run.history import Look
from optimize.run.prepare import Job
from optimize.run.recipe import Recipe
from optimize.run.result import Compiled, Result
from optimize.searching.goal import Goal
from optimize.searching.walk import SearchResult


def final_verdict(job: Job, found: SearchResult, compiled: Compiled) -> Result:
    """Judge what was compiled on the test split.

    Args:
        job: of the run.
        found: by the search.
        compiled: what would ship.
    """
    assert compiled.chosen.artifact is not None
    look = begun(job, compiled.chosen.artifact, again=job.space.look)
    job.space.remember(look.key)
    begin_part("judge")
    original, artifact = on_test(job, compiled.chosen.artifact)
    verdict = in_time(look.settled(judge(look.limits(job.recipe.limits), original, artifact)), found.goal, compiled)
    changed = flips(original, artifact, job.data.test.names.tolist(), job.data.test.patients)
    told = (known_by_heart(found.baseline_score, original), look.sentence(job.recipe.limits))
    notes = (*found.notes, *_about(compiled, job.recipe), *(text for text in told if text is not None))
    job.history.end(look, verdict.outcome)
    return Result(verdict, found, compiled, original, artifact, notes, changed, looks=look.as_dict(job.recipe.limits))


def begun(job: Job, artifact: Artifact, again: str | None = None) -> Look:
    """The look at the test split that begins now: it counts from here on, whatever becomes of the run.

    Args:
        job: of the run.
        artifact: what is judged.
        again: key of the look during which the run was interrupted.
    """
    model = sha256(job.recipe.model)
    return job.history.begin(
        job.data.test, model=model, artifact=artifact.sha256, limits=job.recipe.limits, fresh=job.recipe.fresh_test, again=again
    )


def on_test(job: Job, artifact: Artifact) -> tuple[Score, Score]:
    """The original in torch and the artifact in its runtime on the test split."""
    test, classes = job.data.test, job.data.classes
    original = score_split(job.original.predict, test, classes, "test the original")
    with backend(artifact.target).build(artifact, threads=job.recipe.threads) as session:
        return original, score_split(session.predict, test, classes, "test the artifact")


def in_time(verdict: Verdict, goal: Goal | None, compiled: Compiled) -> Verdict:
    """The verdict, which also fails when the compiled artifact is slower than was asked for.

    Where the latency was not measured reliably, its median decides nothing by itself. What disturbs a machine makes calls slower: the
    goal is reached all the same where the median of every tenth of the measurement was within it, and missed where not even the fastest
    call was. In between the verdict is open. An artifact that misses a guard-rail is rejected, however long it takes.
    """
    if goal is None:
        return verdict
    taken, asked = compiled.profile.latency[1][ARTIFACT], f"{goal.latency_ms:.3f} ms were asked for"
    doubts = [*compiled.profile.doubts(1), *([goal.unreliable_reason] if goal.unreliable_reason else [])]
    if not doubts:
        if taken.p50 <= goal.latency_ms:
            return verdict
        return Verdict("fail", (f"median latency at batch 1 is {taken.p50:.3f} ms; {asked}", *verdict.reasons), verdict.rails)
    unsure = f"latency at batch 1 was not measured reliably ({doubts[-1]})"
    if taken.min > goal.latency_ms:
        late = f"{unsure}, but not even the fastest of {taken.n} calls, {taken.min:.3f} ms, was fast enough; {asked}"
        return Verdict("fail", (late, *verdict.reasons), verdict.rails)
    slowest = max(block_medians(taken.samples_ms))
    if slowest <= goal.latency_ms and not goal.unreliable_reason:
        reached = f"{unsure}, but even the slowest tenth of the measurement had a median of {slowest:.3f} ms; {asked}"
        return Verdict(verdict.outcome, (*verdict.reasons, reached), verdict.rails)
    outcome: Outcome = "fail" if verdict.outcome == "fail" else "inconclusive"
    return Verdict(outcome, (f"{unsure}; {asked}: repeat the run on a quiet machine", *verdict.reasons), verdict.rails)


def _about(compiled: Compiled, recipe: Recipe) -> tuple[str, ...]:
    """What a reader should know of the artifact's runtime and precision."""
    told: list[str | None] = []
    if recipe.target == CPU:
        name = f"{title(compiled.chosen.target)} {compiled.chosen.precision}"
        told.append(f"target cpu was asked for: {name} was measured to be the fastest that holds the guard-rails")
    told.append(_about_isa(compiled.chosen.target, recipe.cpu_level))
    return tuple(each for each in told if each)


def _about_isa(target: str, isa: str | None) -> str | None:
    """What a verdict on this machine says of the instruction set that was asked for."""
    here = effective_level(target)
    if isa is None or not runs_on_cpu(target) or isa == here == machine_level():
        return None
    if isa == here:
        whose = "other runtimes' are this machine's own"
        return f"{title(target)} computed as with {in_words(isa)}: the verdict and its timings are for that; {whose}"
    decides = f"optimize verify, on a machine with {in_words(isa)}, decides there"
    return f"the artifact was made for {in_words(isa)} and verified on this machine, with {in_words(here)}: {decides}"
