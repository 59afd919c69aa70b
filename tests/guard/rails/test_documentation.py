"""The page about a new guard-rail: its figure is right, and its file, put into the folder, is a guard-rail."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from optimize.guard.class_comparison import ClassComparison
from optimize.guard.limits import Limits, Relative
from tests.guard.made import table
from tests.guard.rails.made_up import ROOT, run

PAGE = ROOT / "docs" / "extending" / "guard_rail.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
FILE = next(block for block in BLOCKS if "max_balanced_accuracy_drop" in block)


def names() -> dict[str, Any]:
    """What the page's file defines."""
    found: dict[str, Any] = {}
    exec(FILE, found)
    return found


@pytest.mark.parametrize("limit", [0.03, Relative(0.03)])
def test_the_figure_is_that_of_scikit_learn(limit: float) -> None:
    baseline, candidate = table([[90, 10, 0], [5, 45, 0], [1, 0, 19]], "abc"), table([[85, 15, 0], [5, 44, 1], [4, 0, 16]], "abc")
    (rail,) = names()["RAIL"].classification(ClassComparison(Limits(), baseline, candidate), limit)
    figures = [balanced_accuracy_score(score.labels, score.predicted) for score in (baseline, candidate)]
    assert (rail.baseline, rail.candidate) == pytest.approx(figures)
    assert rail.estimate.low < rail.value < rail.estimate.high
    assert rail.value == pytest.approx(figures[0] - figures[1])
    assert rail.limit == pytest.approx(0.03 * (figures[0] if isinstance(limit, Relative) else 1))
    assert not np.isnan(rail.estimate.high)


def test_its_file_is_a_guard_rail(tmp_path: Path) -> None:
    script = "import json\nfrom optimize.guard.limits import Limits\nprint(json.dumps(Limits(max_balanced_accuracy_drop=0.03).as_dict()))"
    named = {limit["name"]: limit for limit in json.loads(run(tmp_path, script, FILE))["further"]}
    further = named["max_balanced_accuracy_drop"]
    assert (further["name"], further["limit"], further["tasks"]) == ("max_balanced_accuracy_drop", 0.03, ["classification", "ordinal"])
