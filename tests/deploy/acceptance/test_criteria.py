"""Limits that went through a report are those that were set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from optimize.deploy.acceptance.criteria import limits_of
from optimize.errors import InputError
from optimize.guard.limits import Limits, Relative


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(max_drop=Relative(0.02), max_class_drop=0.05, max_group_drop=0.1, confidence=0.99),
        Limits(verdict="point", min_class_f1=0.85, metric="macro_f1", class_metric="f1", preset="cifar"),
        Limits(max_ece_rise=0.02, min_class_recall=0.8, threshold=0.4, positive=("a", "b"), max_sensitivity_drop=0.03),
    ],
    ids=["usual", "relative", "point", "threshold"],
)
def test_the_limits_come_back(limits: Limits) -> None:
    stated = json.loads(json.dumps(limits.as_dict()))
    found = limits_of(stated, "classification")
    assert found.as_dict() == limits.as_dict()
    assert isinstance(found.max_drop, Relative) == isinstance(limits.max_drop, Relative)


def test_of_masks_the_settings_of_classes_are_not_read() -> None:
    stated: dict[str, Any] = {**Limits(min_agreement=0.9).as_dict(), "metric": "dice", "class_metric": "dice"}
    assert limits_of(stated, "segmentation").min_agreement == 0.9


@pytest.mark.parametrize("change", [{"max_drop": "2pp"}, {"confidence": 3}, {"relative": None}, {"further": [{"name": "max_age"}]}])
def test_damaged_limits_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        limits_of({**Limits().as_dict(), **change}, "classification")
