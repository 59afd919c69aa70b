"""A recorded report under the bounds and the words of today: its measurements stay, what follows from them is worked out anew.

The counts of lost and gained cases of each rail stand in the report, and a bound of a share needs nothing else. Rails about other figures
keep what was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optimize.guard.intervals import drop_of_share
from optimize.guard.rail import Rail
from optimize.guard.verdict import summary


def rejudged(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with its verdict and its reasons as today's rails give them."""
    rails = [_rail(entry, report["limits"]["confidence"]) for entry in report["rails"]]
    if any(rail is None for rail in rails) or report["limits"]["verdict"] != "statistical":
        return dict(report)
    known = tuple(rail for rail in rails if rail is not None)
    failed = [str(rail) for rail in known if rail.outcome == "fail"]
    unsure = [rail.doubt for rail in known if rail.outcome == "inconclusive"]
    verdict = "fail" if failed else "inconclusive" if unsure else "pass"
    return {**report, "verdict": verdict, "reasons": [*failed, *unsure] or [summary(known)]}


def _rail(entry: Mapping[str, Any], confidence: float) -> Rail | None:
    lost, gained, seen = entry["lost"], entry["gained"], entry["seen"]
    if entry["rule"] != "drop" or lost is None or gained is None:
        return None
    before = np.arange(seen) < round(entry["before"] * seen)
    after = before.copy()
    after[:lost] = False
    after[seen - gained :] = True
    bounded = drop_of_share(before, after, confidence)
    told = (entry["figure"], entry["title"], entry["rule"], entry["limit"], entry["stated"], entry["before"], entry["after"])
    return Rail(*told, bounded, confidence, entry["scope"], entry["name"], entry["column"])
