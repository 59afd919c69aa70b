"""Judge the artifact in the target's runtime on the test split, which is read here and nowhere else.

The look is recorded before the first test image is read, and its key is kept in the run's folder. A run that is interrupted in between
continues the same look on `--resume`; it neither forgets the look nor counts it twice.
"""

from __future__ import annotations

from optimize.backends import CPU, backend, runs_on_cpu, title
from optimize.backends.artifact import Artifact
from optimize.backends.cpu_limit import effective_level
from optimize.files import sha256
from optimize.guard.evaluate import score_split
from optimize.guard.flips import flips
from optimize.guard.memorization import memorization_warning
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


def final_verdict(job: Job, search: SearchResult, compiled: Compiled) -> Result:
    """Judge what was compiled on the test split.

    Args:
        job: the prepared run.
        search: result of the search.
        compiled: the artifact that would ship, measured.
    """
    assert compiled.chosen.artifact is not None
    look = begin_look(job, compiled.chosen.artifact, again=job.space.look)
    job.space.remember(look.key)
    begin_part("judge")
    original, artifact = scores_on_test(job, compiled.chosen.artifact)
    # first the guard-rails, then what the look may decide, then the latency: each may only make the verdict worse
    verdict = with_latency_goal(look.settled(judge(look.limits(job.recipe.limits), original, artifact)), search.goal, compiled)
    changed = flips(original, artifact, job.data.test.names.tolist(), job.data.test.patients)
    sentences = (memorization_warning(search.baseline_score, original), look.sentence(job.recipe.limits))
    notes = (*search.notes, *_artifact_notes(compiled, job.recipe), *(text for text in sentences if text is not None))
    job.history.end(look, verdict.outcome)
    return Result(verdict, search, compiled, original, artifact, notes, changed, looks=look.as_dict(job.recipe.limits))


def begin_look(job: Job, artifact: Artifact, again: str | None = None) -> Look:
    """Record that a look at the test split begins, and return it; it counts even where the run is stopped afterwards.

    Args:
        job: the prepared run.
        artifact: the compiled model that is judged.
        again: key of the look during which the run was interrupted; None where it was not.
    """
    model = sha256(job.recipe.model)
    return job.history.begin(
        job.data.test, model=model, artifact=artifact.sha256, limits=job.recipe.limits, fresh=job.recipe.fresh_test, again=again
    )


def scores_on_test(job: Job, artifact: Artifact) -> tuple[Score, Score]:
    """Return the scores on the test split of the original in torch and of the artifact in its runtime."""
    test, classes = job.data.test, job.data.classes
    # the original is scored again here: its score on the guard split says nothing about these cases
    original = score_split(job.original.predict, test, classes, "test the original")
    with backend(artifact.target).build(artifact, threads=job.recipe.threads) as session:
        return original, score_split(session.predict, test, classes, "test the artifact")


def with_latency_goal(verdict: Verdict, goal: Goal | None, compiled: Compiled) -> Verdict:
    """Return the verdict, which also fails when the compiled artifact is slower than the goal.

    Where the latency was not measured reliably, its median alone decides nothing. Other processes can only make calls slower. So the goal
    is still reached where the median of every tenth of the measurement is within it, and missed where not even the fastest call is.
    Otherwise the verdict is open. For a goal of 2 ms and calls of 1, 2 and 6 ms that were disturbed: the slowest tenth took 6 ms and the
    fastest call 1 ms, so neither is shown. An artifact that misses a guard-rail is rejected, however fast it is.
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
    # Other processes only slow calls down. An artifact whose fastest call is too slow is too slow without them as well; one whose slowest
    # tenth is within the goal reaches it even with them.
    if taken.min > goal.latency_ms:
        late = f"{unsure}, but not even the fastest of {taken.n} calls, {taken.min:.3f} ms, was fast enough; {asked}"
        return Verdict("fail", (late, *verdict.reasons), verdict.rails)
    slowest = max(block_medians(taken.samples_ms))
    if slowest <= goal.latency_ms and not goal.unreliable_reason:
        reached = f"{unsure}, but even the slowest tenth of the measurement had a median of {slowest:.3f} ms; {asked}"
        return Verdict(verdict.outcome, (*verdict.reasons, reached), verdict.rails)
    outcome: Outcome = "fail" if verdict.outcome == "fail" else "inconclusive"
    return Verdict(outcome, (f"{unsure}; {asked}: repeat the run on a quiet machine", *verdict.reasons), verdict.rails)


def _artifact_notes(compiled: Compiled, recipe: Recipe) -> tuple[str, ...]:
    """Return sentences for the report on the artifact's runtime and precision."""
    notes: list[str | None] = []
    if recipe.target == CPU:
        name = f"{title(compiled.chosen.target)} {compiled.chosen.precision}"
        notes.append(f"target cpu was asked for: {name} was measured to be the fastest that holds the guard-rails")
    notes.append(_cpu_level_note(compiled.chosen.target, recipe.cpu_level))
    return tuple(text for text in notes if text)


def _cpu_level_note(target: str, cpu_level: str | None) -> str | None:
    """Return which instruction set the verdict is for, where it is not simply this machine's; None otherwise."""
    # what the runtime used here: its own restriction, or all that this machine has
    here = effective_level(target)
    if cpu_level is None or not runs_on_cpu(target) or cpu_level == here == machine_level():
        return None
    if cpu_level == here:
        whose = "other runtimes' are this machine's own"
        return f"{title(target)} computed as with {in_words(cpu_level)}: the verdict and its timings are for that; {whose}"
    decides = f"optimize verify, on a machine with {in_words(cpu_level)}, decides there"
    return f"the artifact was made for {in_words(cpu_level)} and verified on this machine, with {in_words(here)}: {decides}"
