"""Who is ranked where, how many go, and what elimination says of a channel."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.candidate import Reference
from optimize.graph.trace import trace
from optimize.importance.output_error import OutputError
from optimize.searching.published.ranking import lowest_scores, most_beneficial, round_budget
from optimize.steps.merging.pairing import plan_removals
from optimize.steps.prune import Prune
from tests import nets
from tests.nets import candidate, cases


@pytest.mark.parametrize(
    ("headroom", "count"), [(0, 1), (1, 1), (20, 1), (21, 2), (40, 2), (100, 5), (639, 32), (640, 32), (641, 32), (10_000, 32)]
)
def test_five_percent_at_least_one_at_most_32(headroom: int, count: int) -> None:
    assert round_budget(headroom, 0.05, 32) == count


def test_the_lowest_quarter_over_all_layers() -> None:
    scores = {"a": np.array([0.5, 0.1, 0.9]), "b": np.array([0.2, np.nan, 0.3, 0.1, 0.8])}
    assert lowest_scores(scores, 0.25) == [("a", 1), ("b", 3)]
    assert lowest_scores(scores, 0.3) == [("a", 1), ("b", 3), ("b", 0)]  # 2.4 of 8, rounded up
    assert lowest_scores(scores, 1.0)[-1] == ("b", 1)


def test_the_most_beneficial_first_none_below_a_floor() -> None:
    ranked = [("a", 4), ("b", 0), ("a", 2), ("c", 7), ("b", 5), ("b", 1)]
    benefits = {"a": 1.0, "b": 3.0, "c": 2.0}
    assert most_beneficial(ranked, benefits, {"a": 9, "b": 9, "c": 9}, 4) == {"b": [0, 5, 1], "c": [7]}
    assert most_beneficial(ranked, benefits, {"a": 1, "b": 2, "c": 0}, 9) == {"b": [0, 5], "a": [4]}
    assert most_beneficial(ranked, benefits, {"a": 1, "b": 2, "c": 0}, 1) == {"b": [0]}


def test_output_error_is_the_cost_at_which_a_channel_goes() -> None:
    of = candidate(nets.chain_bn())
    aim, groups = Reference(of, cases(200)), trace(of).groups
    found = OutputError(rows=5000)(of, aim, groups)
    orders = plan_removals(of, aim, choose="output error", rows=5000, ridge=1e-4)
    for score, group, each in zip(found, groups, orders, strict=True):
        assert each is not None
        assert np.argsort(score, kind="stable")[:-1].tolist() == each.order.tolist()
        assert len(score) == group.size
        assert np.isinf(score).sum() == 1
    # the cheapest channel of the first group is what the smallest budget that removes anything removes
    cheapest = float(found[0].min())
    one, none = (Prune(cheapest * scale, rows=5000)(of, aim) for scale in (1.0001, 0.9999))
    assert one.kept["0"].tolist() == np.delete(np.arange(8), found[0].argmin()).tolist()
    assert len(none.kept.get("0", np.arange(8))) == 8
