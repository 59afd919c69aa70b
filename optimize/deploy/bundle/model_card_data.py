"""The model card as CycloneDX 1.6 has it, inside the bill of materials: parameters, measured figures, considerations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimize.backends import title
from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.measured_figures import Figure, drops, figures
from optimize.report import change_control, rails
from optimize.report.limitations import limitations
from optimize.report.rows import find

_SPLITS = ("train", "calibration", "guard", "test")


def model_card(run: BundledRun) -> dict[str, Any]:
    """Return the model card of a run's artifact."""
    return {
        "modelParameters": _parameters(run),
        "quantitativeAnalysis": {"performanceMetrics": [_metric(figure) for figure in (*figures(run.report), *drops(run.report))]},
        "considerations": _considerations(run),
    }


def _parameters(run: BundledRun) -> dict[str, Any]:
    given, answered = run.use["input"], run.use["output"]
    kinds = sorted({layer["kind"] for layer in run.report["layers"] or ()})
    convolutional = any(kind.startswith("Conv") for kind in kinds)
    architecture = run.report["model"].get("arch")
    parameters = {
        "task": answered["task"],
        "architectureFamily": "convolutional neural network" if convolutional else "neural network",
        "datasets": [_dataset(name, split) for name in _SPLITS if (split := run.report["data"].get(name))],
        "inputs": [{"format": f"{given['dtype']} {tuple(given['shape'])}, {given['layout']}"}],
        "outputs": [{"format": f"{answered['dtype']} {tuple(answered['shape'])}, {answered['meaning']}; {answered['decision']}"}],
    }
    return parameters | ({"modelArchitecture": architecture} if architecture else {})


def _dataset(name: str, split: Mapping[str, Any]) -> dict[str, Any]:
    counts = {f"cases of {label}": count for label, count in (split.get("per_class") or {}).items()}
    facts = {"sha256": split["sha256"], "cases": split["cases"], "patients": split.get("patients"), **counts}
    return {
        "type": "dataset",
        "name": f"{name} split",
        "description": f"{split['cases']} cases; the hash is over images and labels. The data are not in the bundle.",
        "contents": {"properties": [{"name": key, "value": str(value)} for key, value in facts.items() if value is not None]},
    }


def _metric(figure: Figure) -> dict[str, Any]:
    """Return a figure; one that could not be measured says so, and an end of an interval that is not known is left out."""
    ends = {"lowerBound": figure.low, "upperBound": figure.high}
    interval = {name: f"{end:.6g}" for name, end in ends.items() if end is not None}
    return {
        "type": figure.name,
        "value": "not measured" if figure.value is None else f"{figure.value:.6g}",
        **({"slice": figure.slice} if figure.slice else {}),
        **({"confidenceInterval": interval} if interval else {}),
    }


def _considerations(run: BundledRun) -> dict[str, Any]:
    report, runtime = run.report, title(run.artifact.target)
    use = find(report, "protocol", "content", "modification", "intended_use")
    considerations: dict[str, Any] = {
        "users": ["Engineers who integrate the model, and who accept it at their site before it is used."],
        "useCases": [str(use)] if use else ["Not stated: no protocol was fixed before the run."],
        "technicalLimitations": limitations(report, runtime),
        "performanceTradeoffs": [change_control.intended(report, runtime)],
        "ethicalConsiderations": [
            {
                "name": "Single classes or subgroups may lose more than the overall figure shows.",
                "mitigationStrategy": "Each class, and each subgroup that the data names, was compared with its limit: "
                "see the figures with a slice.",
            }
        ],
    }
    if run.warning:
        considerations["ethicalConsiderations"].append({"name": run.warning})
    if assessments := _fairness(report):
        considerations["fairnessAssessments"] = assessments
    return considerations


def _fairness(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return an assessment of each subgroup that was judged; empty where the data have no subgroups."""
    return [
        {
            "groupAtRisk": f"{rail['column']} {rail['name']}",
            "benefits": "The same as for all cases: see the speed and the size in model_card.md.",
            "harms": f"{rails.name(rail)}: {rails.written(rail, rail['value'])}, bounds {rails.bounds(rail)}, "
            f"over {rail['seen']} {rail['unit']}.",
            "mitigationStrategy": f"Limit fixed before the run: {rails.limit(rail)}; result: {rail['outcome']}.",
        }
        for rail in report["rails"] or ()
        if rail["scope"] == "group"
    ]
