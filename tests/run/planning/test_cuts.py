"""What can be removed from a network, and what is left alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.run.compress import left_alone
from optimize.run.planning.cuts import cuts


def network() -> Candidate:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 2)).eval()
    return Candidate(net, torch.zeros(1, 1, 8, 8))


def test_the_channels_between_the_layers_can_go_and_the_outputs_stay() -> None:
    candidate, inputs = network(), np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    found = cuts(candidate, candidate.module, inputs)
    assert [(group.name, group.size) for group in found.groups] == [("0", 8), ("2", 6)]
    assert found.channels == 14
    assert [name for name, _ in found.refused] == ["5"]
    # every layer holds removable channels on one side at least
    assert found.cut_parameters == found.parameters == candidate.parameters
    assert found.as_dict()["groups"] == [{"name": "0", "channels": 8}, {"name": "2", "channels": 6}]


def test_the_plan_says_what_the_report_of_a_run_says() -> None:
    candidate, inputs = network(), np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    assert cuts(candidate, candidate.module, inputs).left_alone == left_alone(candidate, Reference(candidate, inputs))
