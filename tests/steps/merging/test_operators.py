"""Where an operator has to fall back on dropping, and why; what operators do is in `test_merge.py`."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from torch import nn

from optimize.graph.trace import trace
from optimize.steps.merge import Merge
from optimize.steps.merging.operators import Operator, fallback
from tests.nets import TOPOLOGIES, candidate, cases, reference

OPERATORS: tuple[Operator, ...] = get_args(Operator)

REASONS = {
    "residual": ("stem", "other layers make or scale them too: conv2, norm2"),
    "concat": ("left", "other layers make or scale them too: norm"),
    "transposed": ("up", "up, which makes them, is not a plain convolution or linear layer"),
    "depthwise": ("0", "other layers make or scale them too: 2, 3"),
    "PReLU, a slope per channel": ("0", "other layers make or scale them too: 1"),
}


@pytest.mark.parametrize("name", REASONS)
def test_groups_that_only_drop_say_why(name: str) -> None:
    start = candidate(TOPOLOGIES[name]())
    graph = trace(start)
    group = next(each for each in graph.groups if each.name == REASONS[name][0])
    for operator in OPERATORS:
        why = fallback(group, start.module, graph.norms, operator)
        assert why == (None if operator == "drop" else REASONS[name][1])


def test_a_norm_without_a_slope_cannot_be_folded_into() -> None:
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    graph = trace(start)
    reasons = {operator: fallback(graph.groups[0], start.module, graph.norms, operator) for operator in OPERATORS}
    assert {operator for operator, why in reasons.items() if why} == {"fold"}
    assert fallback(graph.groups[0], start.module, graph.norms, "crossover", "post-activation") == reasons["fold"]
    assert reasons["fold"] == "1 has no slope and shift of its own to set"
    for operator in OPERATORS:
        assert np.isfinite(Merge(0.5, operator, rows=500)(start, reference(start)).predict(cases(2))).all()
