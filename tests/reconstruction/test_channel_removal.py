"""Which groups can be pruned, asked once for each way in which a network's layers are connected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.bypass import bypassed
from optimize.graph.surgery import keep_channels
from optimize.graph.trace import trace
from optimize.reconstruction.channel_removal import unprunable_reason, unprunable_reasons
from tests.nets import candidate, cases


class Chain(nn.Module):
    """Three readers in a row; the third reads maps of a fixed shape."""

    runs = 0

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.keep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.head = nn.Conv2d(8, 6, 3), nn.Linear(216, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        type(self).runs += 1
        x = torch.relu(self.keep(torch.relu(self.enter(x))))
        return self.head(torch.relu(self.last(x)).view(-1, 216))


LAYERS = ["enter", "keep", "last", "head"]


def asked(module: nn.Module, memory: dict[Any, Any] | None, layers: list[str] = LAYERS) -> tuple[list[str | None], int]:
    """The answers for all groups of a network, and how often it was run for them."""
    groups = trace(Candidate(module, torch.from_numpy(cases(1)))).groups
    before = Chain.runs
    return unprunable_reasons(groups, module, layers, cases(2), memory), Chain.runs - before


FIXED = "the network does not run with fewer channels (RuntimeError)"


def test_a_cut_is_tried_once_whatever_the_widths() -> None:
    start, memory = candidate(Chain()), dict[Any, Any]()
    reasons, runs = asked(start.module, memory)
    assert (reasons, runs > 0) == ([None, None, FIXED], True)
    groups = trace(start).groups
    narrow = keep_channels(start.module, groups[0], np.arange(3))
    assert asked(narrow, memory) == (reasons, 0)
    assert [unprunable_reason(group, start.module, LAYERS, cases(2), memory) for group in groups] == reasons
    # without a memory, and by each alone, the same
    assert [unprunable_reason(group, start.module, LAYERS, cases(2)) for group in groups] == reasons
    assert asked(narrow, None)[0] == reasons


def test_a_layer_less_is_another_question() -> None:
    start, memory = candidate(Chain()), dict[Any, Any]()
    asked(start.module, memory)
    shorter = bypassed(start.module, trace(start).groups[1], torch.from_numpy(cases(2)))
    assert shorter is not None
    reasons, runs = asked(shorter, memory)
    assert (reasons, runs > 0) == ([None, FIXED], True)
    assert asked(shorter, memory) == (reasons, 0)


def test_a_single_channel_says_nothing_about_several() -> None:
    start, memory = candidate(Chain()), dict[Any, Any]()
    single = keep_channels(start.module, trace(start).groups[1], np.arange(1))
    assert asked(single, memory)[0] == [None, None, FIXED]
    with pytest.MonkeyPatch.context() as patch:
        tried: list[str] = []
        patch.setattr(
            "optimize.reconstruction.channel_removal.check_cuts",
            lambda _, groups, inputs: tried.extend(group.name for group in groups) or [None] * len(groups),
        )
        asked(start.module, memory)
    assert tried == ["keep"]


def test_a_reader_without_a_repair_is_named_and_nothing_is_run() -> None:
    start = candidate(Chain())
    assert asked(start.module, None, ["enter"]) == ([f"{name}, which reads it, has no closed-form repair" for name in LAYERS[1:]], 0)
