"""The limits of a run in words: what each is about, and what it asks for.

Format 2 names ten limits; their words stand in `schema.json`, beside what each key means. A guard-rail that came later brings its words in
the report, in `limits.further`. Both are the words of the table of guard-rails, and a test compares them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from optimize.report.page import FOLDER
from optimize.report.wording import Report

_FIGURES = {"macro_f1": "macro F1", "auc": "AUC", "dice": "Dice", "f1": "F1", "balanced_accuracy": "balanced accuracy", "r2": "R²"}
_OVERALL = {"accuracy": "overall accuracy", "dice": "overall Dice"}


@dataclass(frozen=True)
class LimitWords:
    """One limit of a run.

    Args:
        name: name of the limit, such as "max_drop".
        value: the limit as a fraction; None for no limit.
        relative: whether it is a share of the original's figure instead of points.
        rule: "drop", "rise", "floor" or "ceiling".
        criterion: what is limited, such as "drop of sensitivity".
        unlimited: the figure in the sentence about what had no limit; "" to leave it out.
    """

    name: str
    value: float | None
    relative: bool
    rule: str
    criterion: str
    unlimited: str

    @property
    def asked(self) -> bool:
        """Whether the limit asks for anything."""
        # A floor of 0 holds for every model, so it counts as no limit, as in `GuardRail.asks`.
        return self.value is not None and (self.rule != "floor" or self.value > 0)

    @property
    def stated(self) -> str:
        """'at most 2 pp'; empty for no limit."""
        if self.value is None:
            return ""
        if self.rule == "floor":
            return f"at least {self.value:.6g}"
        unit = "%" if self.rule == "ceiling" else "% of the original’s" if self.relative else "pp"
        return f"at most {self.value * 100:.6g} {unit}"


def limit_words(report: Report) -> list[LimitWords]:
    """Every limit that the report's task has a figure for, in the order of the table of guard-rails."""
    limits, task = report["limits"], report.get("task") or "classification"
    relative, figures = limits.get("relative") or (), _figures(report, task)
    named = [
        LimitWords(name, limits.get(name), name in relative, words["x-rule"], _filled(words["title"], figures), words["x-unlimited"])
        for name, words in _named().items()
        if task in words["x-tasks"]
    ]
    further = [
        LimitWords(
            limit["name"], limit["limit"], limit["relative"], limit["rule"], _filled(limit["criterion"], figures), limit["unlimited"]
        )
        for limit in limits.get("further") or ()
        if task in limit["tasks"]
    ]
    return [*named, *further]


@cache
def _named() -> dict[str, Any]:
    """Limits that format 2 names, with their words."""
    # From the schema and not from the table of guard-rails: a report of this format must read the same when the table has changed.
    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    return {name: limit for name, limit in schema["properties"]["limits"]["properties"].items() if "x-rule" in limit}


def _figures(report: Report, task: str) -> dict[str, str]:
    """The figures that this run's limits are about."""
    limits, masks = report["limits"], task == "segmentation"
    # Masks have no choice of figure, so their reports name none: it is Dice.
    metric = limits.get("metric") or ("dice" if masks else "accuracy")
    class_metric = limits.get("class_metric") or ("dice" if masks else "recall")
    figure = _FIGURES.get(metric, metric)
    return {
        "overall": _OVERALL.get(metric, figure),
        "metric": figure,
        "class_metric": _FIGURES.get(class_metric, class_metric),
        "f1": "Dice" if masks else "F1",
    }


def _filled(words: str, figures: dict[str, str]) -> str:
    """Words with the run's figures in their places; a report may come from anywhere, so nothing else is put in."""
    for name, figure in figures.items():
        # Not `str.format`: with it "{name.__class__}" in a report's words would read attributes of objects.
        words = words.replace(f"{{{name}}}", figure)
    return words
