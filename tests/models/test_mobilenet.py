from __future__ import annotations

import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.macs import macs
from optimize.graph.trace import trace
from optimize.loading.factory import load_factory
from tests.models.conftest import ROOT

make = load_factory(f"{ROOT}/models/mobilenet.py:mobilenet")
PLAN = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)]


def _by_formula(classes: int, width: float) -> tuple[int, int]:
    """Parameters and multiply-accumulates at 32x32."""
    before, pixels = int(32 * width), 32 * 32
    parameters, products = 27 * before + 2 * before, 27 * before * pixels
    for channels, stride in PLAN:
        after, pixels = int(channels * width), pixels // stride**2
        parameters += 9 * before + 2 * before + before * after + 2 * after
        products += (9 * before + before * after) * pixels
        before = after
    return parameters + (before + 1) * classes, products + before * classes


@pytest.mark.parametrize(("args", "count"), [({}, 3_217_226), ({"num_classes": 8, "width": 0.25}, None), ({"width": 0.5}, None)])
def test_counts(args: dict[str, float], count: int | None) -> None:
    module = make(**args)
    assert isinstance(module, nn.Module)
    start = Candidate(module.eval(), torch.zeros(1, 3, 32, 32))
    assert (start.parameters, macs(start)) == _by_formula(int(args.get("num_classes", 10)), args.get("width", 1.0))
    assert count is None or start.parameters == count


def test_every_layers_channels_can_be_cut_and_pass_the_depthwise_ones() -> None:
    module = make(num_classes=8, width=0.25)
    assert isinstance(module, nn.Module)
    graph = trace(Candidate(module.eval(), torch.zeros(1, 3, 32, 32)))
    assert [group.size for group in graph.groups] == [8, *(channels // 4 for channels, _ in PLAN)]
    assert [layer for layer, _ in graph.fixed] == ["29"]
    assert all(len(group.slots) == (5 if place < len(PLAN) else 3) for place, group in enumerate(graph.groups))
