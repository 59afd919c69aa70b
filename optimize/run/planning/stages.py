"""What a run would do, stage by stage, in words."""

from __future__ import annotations

from dataclasses import dataclass

from optimize.backends import title
from optimize.candidate import Candidate
from optimize.run.planning.cost import Work
from optimize.run.prepare import Job
from optimize.run.recipe import Recipe

UNKNOWN = "an unknown number of"


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Args:
        name: name of the stage, as the progress of a run shows it.
        text: what it does, a sentence.
    """

    name: str
    text: str


def stages(recipe: Recipe, job: Job, work: Work, *, runs_here: bool) -> tuple[Stage, ...]:
    """Return the stages of a run in their order.

    Args:
        recipe: the resolved settings.
        job: model and data, loaded and checked.
        work: the sizes of the run.
        runs_here: whether a runtime of the target runs on this machine.
    """
    names = [title(runtime.NAME) for runtime in job.runtimes]
    data, several = job.data, " and ".join(names)
    begin = f"judge the original on {len(data.guard)} guard images; export it, compile it for {several}, compare with torch"
    first = [Stage("prepare", begin), Stage("search", _search(recipe, work))]
    if recipe.retrain:
        text = f"recovery training of refused proposals, up to {recipe.epochs} epochs each, on {work.train} training images"
        first.append(Stage("training", text))
    tried = "; ".join(f"{title(name)}: {', '.join(precisions)}" for name, precisions in tried_precisions(job).items())
    if not runs_here:
        reason = job.runtimes[0].unavailable_reason()
        return (
            *first,
            Stage("compile", f"compile {tried}"),
            Stage("judge", f"nothing is timed and the test split is not read, since {several} does not run here: {reason}"),
        )
    batches = "batch 1" if work.batches == 1 else f"batch 1 and {recipe.batch}"
    return (
        *first,
        Stage("compile", f"compile, judge and time {tried}; the fastest that holds the limits on the guard split ships"),
        Stage("measure", f"time the artifact beside the original in torch and in the installed runtimes, {batches}; measure memory"),
        Stage("judge", f"judge the original and the artifact on {len(data.test)} test images, once; this is look {job.look.number}"),
    )


def tried_precisions(job: Job) -> dict[str, tuple[str, ...]]:
    """Return runtime -> the precisions that would be compiled for it."""
    return {runtime.NAME: (*runtime.precisions(), "int8") for runtime in job.runtimes}


def model_line(name: str, original: Candidate, macs: int) -> str:
    """Return the network in a line: its name, its size, its input."""
    shape = " x ".join(map(str, original.example.shape[1:]))
    return f"{name}: {original.parameters:,} parameters, {macs:,} multiply-accumulates an image, input {shape}"


def _search(recipe: Recipe, work: Work) -> str:
    number = UNKNOWN if work.proposals is None else f"about {work.proposals}"
    second = f" and on {work.checked} training images" if work.checked else ""
    goal = ""
    if recipe.latency_target_ms is not None:
        goal = f", until {recipe.latency_target_ms:g} ms are met"
    elif recipe.speedup is not None:
        goal = f", until it is {recipe.speedup:g} times faster"
    fitted = f"repairs are fitted on {work.fitted} images without labels"
    return f"strategy {recipe.strategy}: {number} proposals{goal}; {fitted}; each is judged on {work.guard} guard images{second}"
