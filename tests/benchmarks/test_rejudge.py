"""Recorded counts under the bounds of today."""

from __future__ import annotations

import pytest
from scipy.stats import beta

from benchmarks.rejudge import rejudged


def rail(lost: int, gained: int, seen: int, limit: float, name: str | None = None) -> dict[str, object]:
    before = 0.9
    figure = {"scope": "class" if name else "overall", "name": name, "column": None, "figure": "recall", "title": f"recall of {name}"}
    counts = {"lost": lost, "gained": gained, "seen": seen, "before": before, "after": before - (lost - gained) / seen}
    return {**figure, **counts, "rule": "drop", "limit": limit, "stated": f"{100 * limit:g} pp"}


def report(*rails: dict[str, object]) -> dict[str, object]:
    return {"limits": {"verdict": "statistical", "confidence": 0.95}, "rails": list(rails), "verdict": "recorded", "reasons": ["recorded"]}


def test_the_verdict_follows_from_the_counts() -> None:
    assert rejudged(report(rail(0, 0, 200, 0.02)))["verdict"] == "pass"
    assert rejudged(report(rail(0, 0, 200, 0.02), rail(60, 0, 200, 0.06, "a")))["verdict"] == "fail"
    unsure = rejudged(report(rail(0, 0, 200, 0.02), rail(4, 0, 122, 0.06, "a")))
    assert unsure["verdict"] == "inconclusive"
    bound = 100 * beta.ppf(0.95, 5, 118)  # of a single share, which four lost and none gained nearly are
    said = float(unsure["reasons"][0].split("(a drop of ")[1].split(" pp")[0])
    assert said == pytest.approx(bound, rel=0.01)


def test_what_counts_do_not_tell_stays_as_it_was_recorded() -> None:
    other = {**rail(0, 0, 200, 0.02), "rule": "rise", "lost": None, "gained": None}
    assert rejudged(report(other))["verdict"] == "recorded"
