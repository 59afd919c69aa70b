"""What a run found, as the one dict that report.json holds and report.html shows (format 2, `report/schema.json`)."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from optimize.backends.artifact import MANIFEST, ArtifactFile
from optimize.backends.export import Parity
from optimize.candidate import Candidate
from optimize.data.dataset import Dataset, Split
from optimize.graph.macs import macs
from optimize.graph.trace import LINEAR_MAPS
from optimize.graph.unused_parameters import unused_parameters
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.confidence_calibration import USUAL, operating_point, reliability
from optimize.guard.flips import Flip, summary, unevenness
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict, worst_class
from optimize.hardware.machine import BUSY_PERCENT, machine, versions
from optimize.quantization.precision_choice import Variant
from optimize.report.speed import speed
from optimize.report.wording import FORMAT
from optimize.run.baselines import ARTIFACT, EAGER, RUNTIMES, Profile
from optimize.run.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Compiled:
    """What came out of the target's compiler.

    Args:
        candidate: the network that ships.
        chosen: the precision that ships.
        variants: every precision that was tried.
        parity: of the ONNX file with torch.
        layer_precisions: layer -> precision it really ran in.
        profile: the artifact and its baselines, measured.
        roofline: the artifact under this machine's roofs, of `measure.reached`; None where that was not taken.
        notes: why not, and what a reader should know of the layers.
    """

    candidate: Candidate
    chosen: Variant
    variants: Sequence[Variant]
    parity: Parity
    layer_precisions: Mapping[str, str]
    profile: Profile
    roofline: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()

    @property
    def load_percent(self) -> dict[str, float]:
        """What was timed -> percent of the machine that other processes used meanwhile."""
        variants = [each.load_percent for each in self.variants if each.load_percent is not None]
        batches = {f"batch {batch}": percent for batch, percent in self.profile.load_percent.items()}
        return ({"every precision": max(variants)} if variants else {}) | batches


@dataclass(frozen=True, eq=False)
class Result:
    """Where a run ended.

    Args:
        verdict: the answer.
        best: the candidate that the search kept.
        trials: every proposal.
        before: the original's score on the guard split.
        compiled: None when the run ended before there was an artifact.
        original: score of the original on the test split.
        artifact: score of the artifact on the test split.
        notes: what a reader should know.
        flips: cases of the test split whose decision changed; None where there is no artifact.
        health: what was found about the calibration split.
        unverified: what was compiled and could not be run.
        parity: of the ONNX file with torch, where nothing was run.
        standing: the original beside a constant answer, see `optimize.run.original`.
        looks: at the test split, as `history.Look` says it; None where it was not read.
    """

    verdict: Verdict
    best: Candidate
    trials: Sequence[Mapping[str, Any]]
    before: Score
    compiled: Compiled | None = None
    original: Score | None = None
    artifact: Score | None = None
    notes: Sequence[str] = field(default_factory=tuple)
    flips: Sequence[Flip] | None = None
    health: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    unverified: Sequence[Variant] = ()
    parity: Parity | None = None
    standing: Mapping[str, Any] | None = None
    looks: Mapping[str, Any] | None = None


def reload(recipe: Recipe) -> dict[str, Any]:
    """The arguments of `load_model` for a recipe."""
    return {
        "path": str(recipe.model),
        "arch": recipe.arch,
        "arch_args": dict(recipe.arch_args),
        "input_shape": recipe.input_shape,
        "trust_pickle": recipe.trust_pickle,
        "weights": recipe.weights,
    }


def identity(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """What makes two runs the same run: what goes in, what is asked of it, and what computes it."""
    asked = {
        "arch": recipe.arch and [recipe.arch, sha256(Path(recipe.arch.rpartition(":")[0]))],
        "arch_args": dict(recipe.arch_args),
        "input": list(recipe.input_shape),
        "weights": recipe.weights,
        "preprocessing": [recipe.mean, recipe.std, recipe.pad, recipe.standardize],
        "limits": recipe.limits.as_dict(),
        "strategy": [recipe.strategy, recipe.floors, recipe.stopping, recipe.latency_target_ms, recipe.speedup, recipe.prefer],
        "importance": recipe.importance,
        "budgets": recipe.budgets,
        "energy": recipe.energy,
        "retrain": None if recipe.finetune is None else asdict(recipe.finetune),
        "seed": recipe.seed,
        "isa": recipe.cpu_level,
        "outputs": recipe.outputs,
        "target": recipe.target,
        "compute_capability": recipe.compute_capability,
    }
    hashes = {f"{name} data": split.sha256 for name, split in splits(data).items()}
    hashes |= {f"{name} tags": _tags(split) for name, split in splits(data).items()}
    whole = {**asked, **hashes, "model": sha256(recipe.model), "versions": versions()}
    return dict(json.loads(json.dumps(whole)))


def splits(data: Dataset) -> dict[str, Split]:
    """The splits there are, by name."""
    found = {"train": data.train, "calibration": data.calibration, "guard": data.guard, "test": data.test}
    return {name: split for name, split in found.items() if split is not None}


def _tags(split: Split) -> str:
    """Hash of what else the data say of each item."""
    each = {**split.groups, "patient": split.patients, "name": split.item_names}
    plain = {name: None if values is None else values.tolist() for name, values in each.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def report(recipe: Recipe, original: Candidate, data: Dataset, result: Result, *, started: float, foreign_load: float) -> dict[str, Any]:
    """The report of a run, which ends under this foreign load; everything in it is plain JSON."""
    compiled = result.compiled
    loads = {**({} if compiled is None else compiled.load_percent), "end": foreign_load}
    whole = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": result.verdict.outcome,
        "accepted": bool(result.verdict),
        "reasons": list(result.verdict.reasons),
        "target": recipe.target if compiled is None else compiled.chosen.target,
        "precision": None if compiled is None else compiled.chosen.precision,
        "machine": {**machine(), "load": max(loads.values())},
        "load_percent": loads,
        "versions": versions(),
        "seed": recipe.seed,
        "duration_s": time.time() - started,
        "model": {"name": recipe.model.name, "sha256": sha256(recipe.model), "arch": recipe.arch and portable_arch(recipe.arch)},
        "task": data.test.task,
        "classes": list(data.classes),
        "data": {name: _contents(split, data.classes) for name, split in splits(data).items()},
        "limits": _limits(recipe.limits, data.test.task),
        "rails": [rail.as_dict() for rail in result.verdict.rails],
        **_answers(recipe.limits, result, len(data.test), alone=data.test.patients is None),
        "looks": None if result.looks is None else dict(result.looks),
        "health": [dict(finding) for finding in result.health],
        "change": {"reason": recipe.reason or None},
        "signature": None,
        "original": None if result.standing is None else dict(result.standing),
        "baseline": _baseline(recipe, original, result),
        "compressed": _compressed(recipe, result),
        "baselines": None if compiled is None else compiled.profile.baselines,
        "speedup": None if compiled is None else compiled.profile.speedup,
        "latency_reliability": None if compiled is None else compiled.profile.reliability,
        "precisions_tried": None if compiled is None else [each.as_dict(compiled.chosen) for each in compiled.variants],
        "steps": [dict(trial) for trial in result.trials],
        "layers": layers(original.module, result.best.module),
        "layer_precisions": None if compiled is None else dict(compiled.layer_precisions),
        "parity": None if (parity := result.parity if compiled is None else compiled.parity) is None else asdict(parity),
        "roofline": None if compiled is None else compiled.roofline,
        "unused_parameters": _unused(original),
        "notes": [
            *original.notes,
            *data.notes,
            *result.notes,
            *load_note(loads),
            *(() if compiled is None else (*compiled.profile.notes, *compiled.notes)),
        ],
        "unverified": _unverified(result),
        "artifact": _files(compiled) if result.verdict else None,
        "guard": _guard(result),
    }
    plain: dict[str, Any] = json.loads(json.dumps(whole, allow_nan=False))
    return plain | {"speed": speed(plain)}


def layers(before: nn.Module, after: nn.Module) -> list[dict[str, Any]]:
    """Weight shapes of every convolution and linear layer, before and after (None when it is gone); one split in two gives two rows."""
    now = dict(after.named_modules())
    rows = []
    for name, layer in before.named_modules():
        if isinstance(layer, LINEAR_MAPS):
            replaced = now[name]
            # a user's own kind of convolution may hold others; only what was put in its place is a pair
            split = [] if isinstance(replaced, LINEAR_MAPS) else [(f"{name}.{k}", part) for k, part in replaced.named_children()]
            for part_name, part in split or [(name, replaced)]:
                gone = not isinstance(part, LINEAR_MAPS)
                row = {"name": part_name, "kind": type(layer if gone else part).__name__, "before": list(layer.weight.shape)}
                rows.append({**row, "after": None if gone else list(part.get_parameter("weight").shape)})
    return rows


def _unused(original: Candidate) -> dict[str, int] | None:
    """Parameters that no answer depends on; None for a network that cannot be followed, which is no reason to lose a run."""
    try:
        return unused_parameters(original.module, original.example)
    except Exception:  # whatever an operation raises in a mode that its author did not think of
        return None


def _limits(limits: Limits, task: str) -> dict[str, Any]:
    figures = {"metric": "dice", "class_metric": "dice"} if task == "segmentation" else {}
    return limits.as_dict() | figures


def _answers(limits: Limits, result: Result, cases: int, *, alone: bool) -> dict[str, Any]:
    """What became of single cases, and of how sure the model is; `alone` when no patient is known to have several."""
    before, after = result.original, result.artifact
    whole: dict[str, Any] = dict.fromkeys(("flips", "calibration", "operating_points", "unevenness"))
    if result.flips is not None:
        whole["flips"] = summary(result.flips, cases, alone=alone)
    if isinstance(before, ClassificationScore) and isinstance(after, ClassificationScore):
        sides = {"before": before, "after": after}
        whole["calibration"] = {name: reliability(each.probabilities.max(1), each.correct) for name, each in sides.items()}
        threshold = USUAL if limits.threshold is None else limits.threshold
        points = {
            name: operating_point(before.probabilities[:, k], after.probabilities[:, k], before.labels == k, threshold)
            for k, name in enumerate(before.classes)
            if name in limits.positive or not limits.positive
        }
        whole["operating_points"] = [{"class": name, **point.as_dict()} for name, point in points.items()]
        whole["unevenness"] = unevenness(before, after)
    return whole


def _contents(split: Split, classes: tuple[str, ...]) -> dict[str, Any]:
    patients = None if split.patients is None else len(set(split.patients.tolist()))
    return {"sha256": split.sha256, "cases": len(split), "patients": patients, "per_class": split.class_counts(classes)}


def _baseline(recipe: Recipe, original: Candidate, result: Result) -> dict[str, Any]:
    figures: dict[str, Any] = {"latency_ms": None, "peak_memory_bytes": None, "size_bytes": recipe.model.stat().st_size}
    if result.compiled is not None:
        figures = result.compiled.profile.of(EAGER)
    metrics = None if result.original is None else result.original.as_dict()
    return {**figures, "metrics": metrics, "parameters": original.parameters, "macs": macs(original), "runtime": EAGER}


def _compressed(recipe: Recipe, result: Result) -> dict[str, Any] | None:
    if result.compiled is None or result.artifact is None:
        return None
    runtime = f"{RUNTIMES.get(result.compiled.chosen.target, result.compiled.chosen.target)} {result.compiled.chosen.precision}"
    sizes = {"parameters": result.best.parameters, "macs": macs(result.best)}
    return {**result.compiled.profile.of(ARTIFACT), **sizes, "metrics": result.artifact.as_dict(result.original), "runtime": runtime}


def _unverified(result: Result) -> dict[str, Any] | None:
    """What was compiled and could not be run; None where everything was."""
    if not result.unverified:
        return None
    compiled = [
        {
            "target": each.target,
            "precision": each.precision,
            "why": each.why,
            "files": [] if each.artifact is None else [file.as_dict() for file in each.artifact.files],
        }
        for each in result.unverified
    ]
    return {"parameters": result.best.parameters, "macs": macs(result.best), "compiled": compiled}


def _guard(result: Result) -> dict[str, Any] | None:
    if result.compiled is None or result.compiled.chosen.score is None:
        return None
    name, drop = worst_class(result.before, result.compiled.chosen.score)
    return {"overall": result.compiled.chosen.score.overall, "worst_class": {"name": name, "drop": drop}}


def _files(compiled: Compiled | None) -> dict[str, Any] | None:
    if compiled is None or compiled.chosen.artifact is None:
        return None
    artifact = compiled.chosen.artifact
    proof = () if artifact.golden is None else (artifact.golden,)
    return {"files": [file.as_dict() for file in (*artifact.files, *proof, ArtifactFile.of(artifact.folder / MANIFEST))]}


def load_note(loads: Mapping[str, float]) -> tuple[str, ...]:
    """Of the largest while something was timed, as it may have ended long before the run did; of its end only where nothing was."""
    loads = {when: percent for when, percent in loads.items() if when != "end"} or loads
    worst = max(loads, key=lambda when: loads[when])
    if loads[worst] < BUSY_PERCENT:
        return ()
    when = "at the end of the run" if worst == "end" else f"while {worst} was timed"
    return (f"other processes used {loads[worst]:.0f} % of this machine {when}: its timings are not to be relied on",)


def portable_arch(arch: str) -> str:
    """The factory without the folder it lies in: a report travels, and a path of this machine tells nobody anything."""
    path, _, name = arch.rpartition(":")
    return f"{Path(path).name}:{name}"
