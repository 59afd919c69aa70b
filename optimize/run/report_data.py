"""Build the report of a run as one dict: the content of report.json and report.html (format 2, `report/schema.json`)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from optimize.backends import title, versions
from optimize.backends.artifact import MANIFEST, ArtifactFile
from optimize.candidate import Candidate
from optimize.data.dataset import Dataset, Split
from optimize.data.identities import queries
from optimize.files import sha256, size_bytes
from optimize.graph.macs import macs
from optimize.graph.trace import LINEAR_MAPS
from optimize.graph.unused_parameters import unused_parameters
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.confidence_calibration import DEFAULT_THRESHOLD, operating_point, reliability
from optimize.guard.flips import summary, unevenness
from optimize.guard.limits import Limits
from optimize.guard.verdict import worst_class
from optimize.hardware.machine import BUSY_PERCENT, machine
from optimize.report.speed import speed
from optimize.report.wording import FORMAT
from optimize.run.baselines import ARTIFACT, EAGER
from optimize.run.recipe import Recipe
from optimize.run.result import Compiled, Result


def splits(data: Dataset) -> dict[str, Split]:
    """Return the splits there are, by name."""
    by_name = {"train": data.train, "calibration": data.calibration, "guard": data.guard, "test": data.test}
    return {name: split for name, split in by_name.items() if split is not None}


def report(recipe: Recipe, original: Candidate, data: Dataset, result: Result, *, started: float, foreign_load: float) -> dict[str, Any]:
    """Return the report of a run as plain JSON.

    Args:
        recipe: the resolved settings of the run.
        original: the network as it was loaded.
        data: the four splits.
        result: result of the run.
        started: start of the run, in seconds since 1970.
        foreign_load: percent of the machine that other processes use at the end of the run.
    """
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
        "data": {name: _split_contents(split, data.classes) for name, split in splits(data).items()},
        "limits": _limits(recipe.limits, data.test.task),
        "rails": [rail.as_dict() for rail in result.verdict.rails],
        **_single_cases(recipe.limits, result, *_decisions(data.test)),
        "looks": None if result.looks is None else dict(result.looks),
        "health": [dict(finding) for finding in result.health],
        "change": {"reason": recipe.reason or None},
        "signature": None,
        "original": None if result.original_check is None else dict(result.original_check),
        "baseline": _baseline(recipe, original, result),
        "compressed": _compressed(recipe, result),
        "baselines": None if compiled is None else compiled.profile.baselines,
        "speedup": None if compiled is None else compiled.profile.speedup,
        "latency_reliability": None if compiled is None else compiled.profile.reliability,
        "precisions_tried": None if compiled is None else [variant.as_dict(compiled.chosen) for variant in compiled.variants],
        "steps": [dict(trial) for trial in result.search.trials],
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
    # through JSON and back: what is signed and rendered is then exactly what is in the file, and a NaN is an error here
    plain: dict[str, Any] = json.loads(json.dumps(whole, allow_nan=False))
    return plain | {"speed": speed(plain)}


def layers(original: nn.Module, narrowed: nn.Module) -> list[dict[str, Any]]:
    """Return the weight shapes of every convolution and linear layer: `before` in the original, `after` in the compressed network.

    `after` is None for a layer that was taken out.

    A layer that was factorized into two gives two rows, "name.0" and "name.1".
    """
    # a step keeps the names of modules, so a layer is found again by its name
    now = dict(narrowed.named_modules())
    rows = []
    for name, layer in original.named_modules():
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
    """Return parameters that no output depends on, by layer; None for a network that cannot be followed, which must not end a run."""
    try:
        return unused_parameters(original.module, original.example)
    except Exception:  # whatever an operation raises in a mode that its author did not think of
        return None


def _limits(limits: Limits, task: str) -> dict[str, Any]:
    # What a task has one figure for is no choice, so the report names it.
    figures = {
        "segmentation": ("dice", "dice"),
        "multilabel": ("balanced_accuracy", "sensitivity and specificity"),
        "regression": ("r2", "r2"),
        "embedding": ("recall@1", "recall@1"),
    }.get(task)
    return limits.as_dict() | ({} if figures is None else dict(zip(("metric", "class_metric"), figures, strict=True)))


def _single_cases(limits: Limits, result: Result, cases: int, independent: bool) -> dict[str, Any]:
    """Return changed decisions, calibration and operating points of the report.

    Args:
        limits: limits of the run, for the threshold and the positive classes.
        result: result of the run.
        cases: number of decisions of the test split.
        independent: whether the cases are independent, that is, no patients are known who may have several.
    """
    baseline, candidate = result.original, result.artifact
    whole: dict[str, Any] = dict.fromkeys(("flips", "calibration", "operating_points", "unevenness"))
    if result.flips is not None:
        whole["flips"] = summary(result.flips, cases, independent=independent)
    if isinstance(baseline, ClassificationScore) and isinstance(candidate, ClassificationScore):
        sides = {"before": baseline, "after": candidate}
        whole["calibration"] = {name: reliability(side.probabilities.max(1), side.correct) for name, side in sides.items()}
        threshold = DEFAULT_THRESHOLD if limits.threshold is None else limits.threshold
        points = {
            name: operating_point(baseline.probabilities[:, k], candidate.probabilities[:, k], baseline.labels == k, threshold)
            for k, name in enumerate(baseline.classes)
            if name in (limits.positive or baseline.may_be_positive)
        }
        whole["operating_points"] = [{"class": name, **point.as_dict()} for name, point in points.items()]
        whole["unevenness"] = unevenness(baseline, candidate)
    return whole


def _decisions(split: Split) -> tuple[int, bool]:
    """Return the number of decisions of a split, and whether they are independent: those about several labels of a case are not."""
    if split.task == "multilabel":
        return int((split.labels >= 0).sum()), False
    if split.task == "embedding":
        # queries of one identity depend on each other
        return int(queries(split.labels).sum()), False
    # whether a number moved is no decision that is right or wrong
    return len(split), split.patients is None and split.task != "regression"


def _split_contents(split: Split, classes: tuple[str, ...]) -> dict[str, Any]:
    patients = None if split.patients is None else len(set(split.patients.tolist()))
    return {"sha256": split.sha256, "cases": len(split), "patients": patients, "per_class": split.class_counts(classes)}


def _baseline(recipe: Recipe, original: Candidate, result: Result) -> dict[str, Any]:
    figures: dict[str, Any] = {"latency_ms": None, "peak_memory_bytes": None, "size_bytes": size_bytes(recipe.model)}
    if result.compiled is not None:
        figures = result.compiled.profile.of(EAGER)
    metrics = None if result.original is None else result.original.as_dict()
    return {**figures, "metrics": metrics, "parameters": original.parameters, "macs": macs(original), "runtime": EAGER}


def _compressed(recipe: Recipe, result: Result) -> dict[str, Any] | None:
    if result.compiled is None or result.artifact is None:
        return None
    runtime = f"{title(result.compiled.chosen.target)} {result.compiled.chosen.precision}"
    sizes = {"parameters": result.best.parameters, "macs": macs(result.best)}
    return {**result.compiled.profile.of(ARTIFACT), **sizes, "metrics": result.artifact.as_dict(result.original), "runtime": runtime}


def _unverified(result: Result) -> dict[str, Any] | None:
    """Return what was compiled and could not be run; None where everything was."""
    if not result.unverified:
        return None
    compiled = [
        {
            "target": variant.target,
            "precision": variant.precision,
            "why": variant.why,
            "files": [] if variant.artifact is None else [file.as_dict() for file in variant.artifact.files],
        }
        for variant in result.unverified
    ]
    return {"parameters": result.best.parameters, "macs": macs(result.best), "compiled": compiled}


def _guard(result: Result) -> dict[str, Any] | None:
    if result.compiled is None or result.compiled.chosen.score is None:
        return None
    name, drop = worst_class(result.search.baseline_score, result.compiled.chosen.score)
    return {"overall": result.compiled.chosen.score.overall, "worst_class": {"name": name, "drop": drop}}


def _files(compiled: Compiled | None) -> dict[str, Any] | None:
    if compiled is None or compiled.chosen.artifact is None:
        return None
    artifact = compiled.chosen.artifact
    # the manifest cannot list its own hash, so the report does
    proof = () if artifact.golden is None else (artifact.golden,)
    return {"files": [file.as_dict() for file in (*artifact.files, *proof, ArtifactFile.of(artifact.folder / MANIFEST))]}


def load_note(loads: Mapping[str, float]) -> tuple[str, ...]:
    """Return a note on the largest foreign load under which something was timed; on that at the end of the run where nothing was timed.

    A load at the end of the run says little about timings that were taken long before.
    """
    # the load at the end says little about timings that were taken an hour earlier
    loads = {when: percent for when, percent in loads.items() if when != "end"} or loads
    # one disturbed measurement is enough to doubt the comparison
    worst = max(loads, key=lambda when: loads[when])
    if loads[worst] < BUSY_PERCENT:
        return ()
    when = "at the end of the run" if worst == "end" else f"while {worst} was timed"
    return (f"other processes used {loads[worst]:.0f} % of this machine {when}: its timings are not to be relied on",)


def portable_arch(arch: str) -> str:
    """Return the factory, "file.py:name", without the folder of the file, which means nothing on the machine of a reader."""
    path, _, name = arch.rpartition(":")
    return f"{Path(path).name}:{name}"
