"""Plan a run before it starts: what it would do, how long it takes, and which limits its data can decide.

Everything that `optimize compress` checks before its work is checked here too, in the same order. Then a few seconds are spent on measuring
this machine. Nothing is written to the run's folder, no test image passes through a network, and no look at the test split is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optimize.candidate import Candidate
from optimize.data.arrays import spread
from optimize.data.dataset import Dataset
from optimize.errors import Inconclusive, InputError
from optimize.graph.macs import macs
from optimize.progress import stage
from optimize.run.acceptance_plan import sentences_on_test
from optimize.run.in_memory import FILES_ONLY, InMemory
from optimize.run.original import Original, judge_original
from optimize.run.planning.cost import PROPOSALS, Cost, Work, cost, image_bytes, systems
from optimize.run.planning.cuts import Cuts, cuts
from optimize.run.planning.decisions import Decision, decisions
from optimize.run.planning.end_to_end import EndToEnd, end_to_end
from optimize.run.planning.machine_rates import Rates, machine_rates, seconds_per_image
from optimize.run.planning.stages import Stage, model_line, stages, tried_precisions
from optimize.run.planning.text import lines
from optimize.run.prepare import Job, loaded
from optimize.run.recipe import Recipe
from optimize.run.setting_checks import check_settings
from optimize.run.workspace import Workspace

FORMAT = 1
MAX_JUDGE_S = 10.0
"""The original is judged on the whole guard split only where that takes no longer; a run judges it in any case."""
MIN_JUDGED = 16


@dataclass(frozen=True, eq=False)
class Plan:
    """The plan of a run. `print(plan)` gives the lines of the command.

    Args:
        target: target of the run.
        out: folder that the run would write to.
        model: the network in a line.
        splits: number of images of each split.
        classes: names of the labels.
        stages: what the run would do, in order.
        precisions: runtime -> precisions that would be tried.
        cuts: channels that can be removed, and those that are left alone.
        test: what the test split can decide.
        guard: what the guard split can decide in the search.
        look: number of the look at the test split, and its confidence.
        cost: estimated time and memory of the run.
        rates: what was measured on this machine.
        original: overall score of the original on the guard split, or a part of it, in 0..1.
        obstacles: what would stop the run from starting, with the remedy.
        notes: further sentences.
        end_to_end: times of the user's own files through the whole pipeline; None where no file was given.
        took_s: seconds that planning took.
        time_budget: seconds that the run may take; None where none was given.
    """

    target: str
    out: Path
    model: str
    splits: dict[str, int]
    classes: tuple[str, ...]
    stages: tuple[Stage, ...]
    precisions: dict[str, tuple[str, ...]]
    cuts: Cuts
    test: tuple[Decision, ...]
    guard: tuple[Decision, ...]
    look: dict[str, Any]
    cost: Cost
    rates: Rates
    original: float
    obstacles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    end_to_end: EndToEnd | None = None
    took_s: float = field(default=0.0, compare=False)
    time_budget: float | None = None

    @property
    def undecidable(self) -> tuple[Decision, ...]:
        """The guard-rails that the test split cannot decide, whatever is compressed."""
        return tuple(decision for decision in self.test if not decision.decidable)

    @property
    def exit_code(self) -> int:
        """0, or 3 where the test split can decide none of the limits that were asked for."""
        return Inconclusive.exit_code if self.look["spent"] or len(self.undecidable) == len(self.test) else 0

    @property
    def text(self) -> str:
        """The plan as lines for a terminal."""
        return "\n".join(lines(self))

    def __str__(self) -> str:
        return self.text

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON."""
        return {
            "format": FORMAT,
            "exit_code": self.exit_code,
            "target": self.target,
            "out": str(self.out),
            "model": self.model,
            "splits": self.splits,
            "classes": list(self.classes),
            "stages": [{"name": stage.name, "text": stage.text} for stage in self.stages],
            "precisions": {name: list(tried) for name, tried in self.precisions.items()},
            "cuts": self.cuts.as_dict(),
            "look": self.look,
            "decidable": {"test": [decision.as_dict() for decision in self.test], "guard": [decision.as_dict() for decision in self.guard]},
            "cost": self.cost.as_dict(),
            "measured": self.rates.as_dict(),
            "original": self.original,
            "obstacles": list(self.obstacles),
            "notes": list(self.notes),
            "end_to_end": None if self.end_to_end is None else self.end_to_end.as_dict(),
            "took_s": self.took_s,
            "time_budget": None if self.time_budget is None else self.cost.within(self.time_budget),
        }


def plan(
    recipe: Recipe,
    objects: InMemory = FILES_ONLY,
    *,
    resume: bool = False,
    overwrite: bool = False,
    files: Sequence[str | Path] = (),
    pipeline: str | None = None,
) -> Plan:
    """Return the plan of a run.

    Args:
        recipe: the resolved settings.
        objects: network and data that replace the recipe's files.
        resume: whether the run would continue the interrupted one in `recipe.out`.
        overwrite: whether the run would replace the one in `recipe.out`.
        files: the user's own image files or folders, whose way through the whole pipeline is timed; empty for none.
        pipeline: "file.py:function" that turns the path of a file into the network's input, or None for reading as the run would.

    Raises:
        TargetUnavailable: when nothing can be compiled for the target here.
        InputError: when the model, the data, a file or a setting is wrong.
    """
    started = time.perf_counter()
    check_settings(recipe)
    obstacles: list[str] = []

    def check(space: Workspace) -> None:
        # a folder that holds a run already is no reason not to plan
        try:
            space.check(resume=resume, overwrite=overwrite)
        except InputError as problem:
            obstacles.append(str(problem))

    if pipeline is not None and not files:
        raise InputError(f"`pipeline` (={pipeline}) needs files to run on: pass --files IMAGE or --files FOLDER.")
    job = loaded(recipe, check, objects, _judged)
    load_s = time.perf_counter() - started
    rates = machine_rates(job.original, job.data.calibration, job.runtimes, recipe.threads)
    if rates.unable and not rates.compile_s:
        raise InputError(f"`model`: {'; '.join(rates.unable)}: take another --target, or write that part of forward with other operators.")
    with stage("trace the network"):
        removable = cuts(job.original, job.original.module, job.data.calibration.inputs(slice(0, 2)))
    work = _work(job, removable, load_s)
    timed = end_to_end(job, files, pipeline) if files else None
    return _made(job, removable, work, rates, obstacles, timed, started)


def _made(job: Job, removable: Cuts, work: Work, rates: Rates, obstacles: Sequence[str], timed: EndToEnd | None, started: float) -> Plan:
    """Return the plan of a run, with what its splits can decide."""
    recipe, data, look = job.recipe, job.data, job.look
    confidence = job.search_confidence
    with stage("count the cases"):
        test = decisions(data.test, data.classes, job.limits)
        guard = decisions(data.guard, data.classes, replace(job.limits, confidence=confidence), in_search=True)
    splits = {name: len(split) for name in ("train", "calibration", "guard", "test") if (split := getattr(data, name)) is not None}
    stopped = [*obstacles, *_undecidable(job, test)]
    further = (rates.doubt, look.sentence(recipe.limits), *sentences_on_test(job))
    warnings = [f"calibration data, {finding.check}: {finding.text}" for finding in job.health if finding.level == "warning"]
    notes = [*job.original.notes, *data.notes, *warnings, *rates.unable, *job.baseline.notes, *(text for text in further if text)]
    return Plan(
        recipe.target,
        recipe.out,
        model_line(recipe.model.name, job.original, work.macs),
        splits,
        tuple(data.classes),
        stages(recipe, job, work, runs_here=bool(rates.compile_s)),
        tried_precisions(job),
        removable,
        test,
        guard,
        {"number": look.number, "spent": look.spent, "confidence": job.limits.bound_confidence, "search_confidence": confidence},
        cost(work, rates),
        rates,
        job.baseline_score.overall,
        tuple(stopped),
        tuple(notes),
        timed,
        time.perf_counter() - started,
        recipe.time_budget,
    )


def _undecidable(job: Job, test: Sequence[Decision]) -> list[str]:
    """Return why the run would not start for what its test split can decide; empty where it would."""
    if job.recipe.force:
        return []
    if job.look.spent:
        return [f"{job.look.why_spent}: bring other test cases, or search all the same with --force"]
    if all(decision.decidable for decision in test):
        return []
    return ["the run would not start (exit code 3), since a limit cannot be decided: see below, or pass --force"]


def _judged(recipe: Recipe, candidate: Candidate, data: Dataset) -> Original:
    """Return the original with its score on the guard split; where that would take long, on a part of it, and without a verdict."""
    affordable = int(MAX_JUDGE_S / seconds_per_image(candidate, data.calibration, seconds=0.2))
    if len(data.guard) <= affordable:
        return judge_original(recipe, candidate, data)
    part = data.guard.take(spread(len(data.guard), max(MIN_JUDGED, affordable)))
    # a part may be too small to tell a good original from a bad one, so here it is only measured
    judged = judge_original(replace(recipe, allow_weak_original=True, expect=None), candidate, replace(data, guard=part))
    note = f"the original was scored on {len(part)} of {len(data.guard)} guard images"
    return replace(judged, data=data.read_as(judged.candidate.outputs, judged.data.test.threshold), notes=(*judged.notes, note))


def _work(job: Job, removable: Cuts, load_s: float) -> Work:
    """Return the sizes of the run that decide its cost."""
    recipe, data, original = job.recipe, job.data, job.original
    training = data.training_split
    return Work(
        guard=len(data.guard),
        test=len(data.test),
        pool=len(data.calibration) + (0 if data.train is None else len(data.train)),
        train=0 if training is None else len(training),
        macs=macs(original),
        image_bytes=image_bytes(original),
        proposals=PROPOSALS.get(recipe.strategy),
        scans=recipe.strategy == "allocate",
        epochs=recipe.epochs if recipe.retrain else 0,
        groups=len(removable.groups),
        systems=systems(original, removable),
        precisions={name: len(tried) for name, tried in tried_precisions(job).items()},
        batches=2 if recipe.batch > 1 else 1,
        load_s=load_s,
    )
