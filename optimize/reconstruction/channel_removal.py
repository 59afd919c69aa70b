"""Channels of one group taken out, and the layers that read them refitted at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from optimize.candidate import Floats
from optimize.graph.cut_check import check_cut
from optimize.graph.layer_types import linear_submodule
from optimize.graph.surgery import keep_channels, outputs_left
from optimize.graph.trace import ChannelGroup, Index
from optimize.reconstruction.layer_matrix import columns
from optimize.reconstruction.ridge import Problem, refit

Reader: TypeAlias = tuple[Problem, torch.Tensor]
"""A layer that reads a group: its regression problem, and the columns of each channel in it, (channels, b)."""


def readers(module: nn.Module, group: ChannelGroup, problems: Sequence[Problem]) -> list[Reader]:
    """Return the problems of a group's readers, each with the columns that a channel has in it, (channels, b)."""
    owned = {slot.module: columns(linear_submodule(module, slot.module), slot.index) for slot in group.consumers}
    return [reader for problem in problems for reader in problem.independent_problems(owned[problem.name])]


def cut_and_refit(
    module: nn.Module, group: ChannelGroup, keep: Index, problems: Sequence[Problem], kept: Mapping[str, Index]
) -> tuple[nn.Module, dict[str, Index]]:
    """Return the network with only the channels `keep` of the group and its readers refitted, and what each layer still makes."""
    stay = {problem.name: _columns_left(module, group, problem, keep) for problem in problems}
    # a layer may read the group and make it as well, as a depthwise convolution does: its own outputs shrink with its inputs
    made = outputs_left(module, group, keep)
    left = dict(kept)
    if len(keep) < group.size:
        module = keep_channels(module, group, keep)
        left |= {name: left[name][stays] if name in left else stays for name, stays in made.items()}
    for problem in problems:
        # the problem was set up at full width; columns and outputs that are left are picked out of it
        module = refit(module, problem, stay[problem.name], made.get(problem.name))
    return module, left


def unprunable_reason(group: ChannelGroup, module: nn.Module, layers: Sequence[str], inputs: Floats) -> str | None:
    """Return why a group is left alone; None where it can be pruned.

    Args:
        group: the channels.
        module: the network.
        layers: those that can be repaired.
        inputs: some real ones, to try a cut on.
    """
    for slot in group.consumers:
        if slot.module not in layers:
            return f"{slot.module}, which reads it, has no closed-form repair"
    return check_cut(module, group, torch.from_numpy(inputs[:2].copy()))


def affected_layers(groups: Sequence[ChannelGroup]) -> set[str]:
    """Return the layers that cutting these groups may change."""
    return {slot.module for group in groups for slot in group.slots}


def _columns_left(module: nn.Module, group: ChannelGroup, problem: Problem, keep: Index) -> torch.Tensor:
    index = next(slot.index for slot in group.consumers if slot.module == problem.name)
    gone = np.setdiff1d(np.arange(group.size), keep)
    left = torch.ones(len(problem.old), dtype=torch.bool)
    # by columns and not by channels: a channel read through a 3x3 kernel has nine
    left[columns(linear_submodule(module, problem.name), index[gone]).flatten()] = False
    return left.nonzero().flatten()
