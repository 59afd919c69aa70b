"""Where another library follows channels too, it must come to the same groups: torch-pruning's dependency graph is the oracle."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable

import pytest
import torch_pruning
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.layer_types import recognised
from optimize.graph.trace import trace
from tests.nets import TOPOLOGIES, candidate

Channel = frozenset[tuple[str, str, int]]
"""Every place that one channel has: (layer, side, position)."""


def ours(start: Candidate) -> set[Channel]:
    return {
        frozenset((slot.module, slot.side, int(place)) for slot in group.slots for place in slot.index[channel])
        for group in trace(start).groups
        for channel in range(group.size)
    }


def theirs(start: Candidate) -> set[Channel]:
    module = copy.deepcopy(start.module).requires_grad_(True)
    for layer in module.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False
    graph = torch_pruning.DependencyGraph().build_dependency(module, start.example, forward_fn=operator.call, verbose=False)
    names = {layer: name for name, layer in module.named_modules()}
    found: dict[tuple[int, int], set[tuple[str, str, int]]] = {}
    for number, items in enumerate(graph.get_all_groups()):
        for item in items:
            layer = item.dep.target.module
            if layer not in names or not recognised(layer):
                continue
            reads = "in_channels" in item.dep.handler.__name__ and getattr(layer, "groups", 1) == 1 and not hasattr(layer, "num_features")
            for place, root in zip(item.idxs, item.root_idxs, strict=True):
                found.setdefault((number, root), set()).add((names[layer], "in" if reads else "out", place))
    return {frozenset(places) for places in found.values() if any(side == "in" for _, side, _ in places)}


@pytest.mark.parametrize("build", [pytest.param(build, id=name) for name, build in TOPOLOGIES.items() if "PReLU" not in name])
def test_the_same_channels_hang_together(build: Callable[[], nn.Module]) -> None:
    start = candidate(build())
    found = ours(start)
    assert found
    assert found == theirs(start)
