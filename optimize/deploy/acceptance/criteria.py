"""Read the limits of a run back from its report, so that a site judges by the limits that were fixed before the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimize.errors import InputError
from optimize.guard.limits import CLASS_SETTINGS, Limits, Relative
from optimize.guard.rails import rows

_SETTINGS = ("verdict", "confidence", *CLASS_SETTINGS)


def limits_of(stated: Mapping[str, Any], task: str) -> Limits:
    """Return the limits that a report states.

    Args:
        stated: part "limits" of the report, as `Limits.as_dict` writes it.
        task: "classification" or "segmentation".

    Raises:
        InputError: when a limit is none of this version's, or its value cannot be one.

    Example:
        >>> limits_of(Limits(max_drop=Relative(0.02)).as_dict(), "classification").max_drop
        0.02
    """
    try:
        relative = {*stated["relative"], *(entry["name"] for entry in stated.get("further", ()) if entry["relative"])}
        values = {row.name: stated[row.name] for row in rows() if row.name in stated}
        values |= {entry["name"]: entry["limit"] for entry in stated.get("further", ())}
        rails = {name: Relative(value) if name in relative and value is not None else value for name, value in values.items()}
        # of masks a report says that the metric is Dice, and the settings of classes say nothing there
        # the same holds of the metrics of several labels and of numbers, which have a threshold at most
        unread = {"classification": (), "ordinal": (), "multilabel": ("metric", "class_metric")}.get(task, CLASS_SETTINGS)
        settings = {name: stated[name] for name in _SETTINGS if name not in unread}
        if "positive" in settings:
            settings["positive"] = tuple(settings["positive"])
        return Limits(rails=rails, preset=stated.get("preset") or "", **settings)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"the limits in report.json are damaged ({type(problem).__name__}: {problem}): copy the bundle again.") from None
