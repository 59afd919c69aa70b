"""Channels behind a group norm: whole groups of the norm are cut, and what stays keeps its values."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import optimize as opt
from optimize.graph.cut_check import check_cut
from optimize.graph.surgery import keep_channels
from optimize.graph.trace import trace


def net(groups: int) -> opt.Candidate:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 12, 3), nn.GroupNorm(groups, 12), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 3)]
    for tensor in (layers[1].weight, layers[1].bias):
        nn.init.normal_(tensor)
    return opt.Candidate(nn.Sequential(*layers).eval().requires_grad_(False), torch.randn(1, 2, 6, 6))


def test_a_unit_is_a_group_of_the_norm() -> None:
    candidate = net(4)
    (group,) = trace(candidate).groups
    assert (group.size, group.slots[0].index.tolist()) == (4, [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]])
    assert check_cut(candidate.module, group, candidate.example) is None


def test_what_stays_is_what_a_norm_of_these_channels_gives() -> None:
    candidate = net(4)
    (group,) = trace(candidate).groups
    cut = keep_channels(candidate.module, group, np.array([0, 2]))
    left = [0, 1, 2, 6, 7, 8]
    conv, norm = candidate.module[0], candidate.module[1]
    expected = nn.functional.group_norm(conv(candidate.example)[:, left], 2, norm.weight[left], norm.bias[left], norm.eps)
    torch.testing.assert_close(cut[:2](candidate.example), expected)
    assert (cut[1].num_groups, cut[1].num_channels) == (2, 6)


def test_one_group_for_all_leaves_no_choice() -> None:
    graph = trace(net(1))
    assert (graph.groups, graph.fixed[0]) == ((), ("0", "its channels can only go together"))


def test_a_group_for_each_channel_leaves_every_choice() -> None:
    assert [group.size for group in trace(net(12)).groups] == [12]
