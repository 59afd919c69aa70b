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

from optimize.errors import Inconclusive, InputError
from optimize.graph.macs import macs
from optimize.guard.verdict import search_confidence
from optimize.progress import collect_findings, stage
from optimize.run.compress import PROPOSALS
from optimize.run.in_memory import FILES_ONLY, InMemory
from optimize.run.original import Original, judge_original
from optimize.run.planning.cost import Cost, Work, cost, image_bytes, systems
from optimize.run.planning.cuts import Cuts, cuts
from optimize.run.planning.decisions import Decision, decisions
from optimize.run.planning.end_to_end import EndToEnd, end_to_end
from optimize.run.planning.machine_rates import Rates, machine_rates
from optimize.run.planning.stages import Stage, model_line, stages, tried_precisions
from optimize.run.planning.text import lines
from optimize.run.prepare import check_settings
from optimize.run.recipe import Recipe
from optimize.run.run_inputs import RunInputs, read_inputs
from optimize.run.workspace import Workspace

FORMAT = 1
MAX_JUDGE_S = 20.0
"""The original is judged on the guard split only where that takes no longer; a run judges it in any case."""


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
        original: overall score of the original on the guard split, in 0..1; None where it was not judged.
        obstacles: what would stop the run from starting, with the remedy.
        notes: further sentences.
        end_to_end: times of the user's own files through the whole pipeline; None where no file was given.
        took_s: seconds that planning took.
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
    original: float | None
    obstacles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    end_to_end: EndToEnd | None = None
    took_s: float = field(default=0.0, compare=False)

    @property
    def undecidable(self) -> tuple[Decision, ...]:
        """The guard-rails that the test split cannot decide, whatever is compressed."""
        return tuple(one for one in self.test if not one.decidable)

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
            "stages": [{"name": one.name, "text": one.text} for one in self.stages],
            "precisions": {name: list(tried) for name, tried in self.precisions.items()},
            "cuts": self.cuts.as_dict(),
            "look": self.look,
            "decidable": {"test": [one.as_dict() for one in self.test], "guard": [one.as_dict() for one in self.guard]},
            "cost": self.cost.as_dict(),
            "measured": self.rates.as_dict(),
            "original": self.original,
            "obstacles": list(self.obstacles),
            "notes": list(self.notes),
            "end_to_end": None if self.end_to_end is None else self.end_to_end.as_dict(),
            "took_s": self.took_s,
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
    inputs = read_inputs(recipe, check, objects)
    load_s = time.perf_counter() - started
    rates = machine_rates(inputs.original, inputs.data.calibration, inputs.runtimes, recipe.threads)
    if rates.unable and not rates.compile_s:
        raise InputError(f"`model`: {'; '.join(rates.unable)}: take another --target, or write that part of forward with other operators.")
    baseline = _judged(recipe, inputs, rates)
    original = inputs.original if baseline is None else baseline.candidate
    with stage("trace the network"):
        found = cuts(original, original.module, inputs.data.calibration.inputs(slice(0, 2)))
    work = _work(recipe, inputs, found, load_s)
    timed = end_to_end(original, inputs, recipe, files, pipeline) if files else None
    return _made(recipe, inputs, found, work, rates, baseline, obstacles, timed, time.perf_counter() - started)


def _made(
    recipe: Recipe,
    inputs: RunInputs,
    found: Cuts,
    work: Work,
    rates: Rates,
    baseline: Original | None,
    obstacles: list[str],
    timed: EndToEnd | None,
    took_s: float,
) -> Plan:
    data, look = inputs.data, inputs.look
    limits = look.limits(recipe.limits)
    confidence = search_confidence(limits, data.guard.n_independent, data.test.n_independent)
    with stage("count the cases"):
        test = decisions(data.test, data.classes, limits)
        guard = decisions(data.guard, data.classes, replace(limits, confidence=confidence), in_search=True)
    splits = {name: len(split) for name in ("train", "calibration", "guard", "test") if (split := getattr(data, name)) is not None}
    if look.spent:
        obstacles.append(f"{look.why_spent}: bring other test cases, or search all the same with --force")
    elif any(not one.decidable for one in test) and not recipe.force:
        obstacles.append("the run would not start (exit code 3), since a limit cannot be decided: add cases, or pass --force")
    sentence = look.sentence(recipe.limits)
    warnings = [f"calibration data, {one.check}: {one.text}" for one in inputs.findings if one.level == "warning"]
    judged = () if baseline is None else baseline.notes
    notes = [*inputs.original.notes, *data.notes, *warnings, *rates.unable, *judged, *([sentence] if sentence else [])]
    return Plan(
        recipe.target,
        recipe.out,
        model_line(recipe.model.name, inputs.original, work.macs),
        splits,
        tuple(data.classes),
        stages(recipe, inputs, work, runs_here=bool(rates.compile_s)),
        tried_precisions(inputs),
        found,
        test,
        guard,
        {"number": look.number, "spent": look.spent, "confidence": limits.bound_confidence, "search_confidence": confidence},
        cost(work, rates),
        rates,
        None if baseline is None else baseline.score.overall,
        tuple(obstacles),
        tuple(notes),
        timed,
        took_s,
    )


def _judged(recipe: Recipe, inputs: RunInputs, rates: Rates) -> Original | None:
    """Return the original with its score on the guard split; None where that would take too long for a plan."""
    if len(inputs.data.guard) * rates.image_s > MAX_JUDGE_S:
        return None
    with collect_findings():
        return judge_original(recipe, inputs.original, inputs.data)


def _work(recipe: Recipe, inputs: RunInputs, found: Cuts, load_s: float) -> Work:
    """Return the sizes of the run that decide its cost."""
    data, original = inputs.data, inputs.original
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
        groups=len(found.groups),
        systems=systems(original, found),
        precisions={name: len(tried) for name, tried in tried_precisions(inputs).items()},
        batches=2 if recipe.batch > 1 else 1,
        load_s=load_s,
    )
