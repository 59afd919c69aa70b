"""The frontier, against points that were looked at by hand."""

from __future__ import annotations

from optimize.report.pareto import best, frontier
from tests.report.sample import masks, passing


def test_only_what_nothing_beats_is_best() -> None:
    costs = [1.0, 2.0, 3.0, 3.0, 4.0]
    gains = [0.5, 0.9, 0.8, 0.9, 0.95]
    assert best(costs, gains) == [True, True, False, False, True]


def test_equals_are_all_best_and_the_same_gain_for_less_beats() -> None:
    assert best([1.0, 1.0], [0.5, 0.5]) == [True, True]
    assert best([1.0, 2.0], [0.5, 0.5]) == [True, False]
    assert best([1.0, 1.0], [0.5, 0.6]) == [False, True]
    assert best([], []) == []


def test_latency_counts_where_every_proposal_has_one() -> None:
    found = frontier(passing())
    assert found.timed
    assert (found.measured, found.left_out) == (4, 0)
    assert [trial.cost for trial in found.trials] == [0.91, 0.66, 0.74, 0.78]
    assert [trial.best for trial in found.trials] == [True, True, True, False]


def test_else_macs_do_and_it_is_known_how_many_were_timed() -> None:
    report = passing()
    report["steps"][1]["latency_ms"] = None
    del report["steps"][2]["latency_ms"]
    found = frontier(report)
    assert not found.timed
    assert found.measured == 2
    assert [trial.cost for trial in found.trials] == [3.8e6, 2e6, 2.8e6, 2.7e6]
    assert not frontier(masks()).measured


def test_what_was_not_judged_is_left_out_and_counted() -> None:
    report = passing()
    report["steps"][0] |= {"overall": None, "latency_ms": None}
    found = frontier(report)
    assert found.timed
    assert [trial.number for trial in found.trials] == [2, 3, 4]
    assert found.left_out == 1
    assert frontier(report | {"steps": []}).trials == ()
