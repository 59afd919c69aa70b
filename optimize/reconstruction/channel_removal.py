"""Channels of one group taken out, and the layers that read them refitted at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from optimize.candidate import Floats
from optimize.graph.cut_check import check_cuts
from optimize.graph.layer_types import linear_submodule, width
from optimize.graph.surgery import copy_module, cut_groups_in_place, cut_in_place, lost_positions, outputs_left
from optimize.graph.trace import ChannelGroup, Index
from optimize.reconstruction.held_out import CheckedProblem
from optimize.reconstruction.layer_matrix import columns
from optimize.reconstruction.moments import Memory
from optimize.reconstruction.ridge import Problem, refit_in_place, set_solution

Reader: TypeAlias = tuple[Problem, torch.Tensor]
"""A layer that reads a group: its regression problem, and the columns of each channel in it, (channels, b)."""


def readers(module: nn.Module, group: ChannelGroup, problems: Sequence[Problem]) -> list[Reader]:
    """Return the problems of a group's readers, each with the columns that a channel has in it, (channels, b)."""
    owned = {slot.module: columns(linear_submodule(module, slot.module), slot.index) for slot in group.consumers}
    return [reader for problem in problems for reader in problem.independent_problems(owned[problem.name])]


def cut_and_refit(
    module: nn.Module, group: ChannelGroup, keep: Index, checked: Sequence[CheckedProblem], kept: Mapping[str, Index]
) -> tuple[nn.Module, dict[str, Index]]:
    """Return the network with only the channels `keep` of the group and its readers refitted, and what each layer still makes.

    Args:
        module: the network.
        group: the group, numbered as in the network.
        keep: its channels that stay, (k,), rising.
        checked: the normal equations of its readers.
        kept: `Candidate.kept`.
    """
    stay = {each.every.name: _columns_left(module, group, each.every, keep) for each in checked}
    # a layer may read the group and make it as well, as a depthwise convolution does: its own outputs shrink with its inputs
    made = outputs_left(module, group, keep)
    left = dict(kept)
    changed = copy_module(module)
    if len(keep) < group.size:
        cut_in_place(changed, group, keep)
        left |= {name: left[name][stays] if name in left else stays for name, stays in made.items()}
    for each in checked:
        # the problem was set up at full width; columns and outputs that are left are picked out of it
        problem, solution = each.solution(stay[each.every.name], made.get(each.every.name))
        set_solution(changed, problem, solution)
    return changed, left


def cut_all_and_refit(
    module: nn.Module, cuts: Sequence[tuple[ChannelGroup, Index]], problems: Sequence[Problem], kept: Mapping[str, Index]
) -> tuple[nn.Module, dict[str, Index]]:
    """Return the network with only some channels of several groups and all their readers refitted at once, and what each layer still makes.

    Each reader is fitted to what it reads in the network before any cut, without the columns that go. So what is lost in front of it is not
    made up for, and all readers are fitted from one set of normal equations.

    Args:
        module: the network.
        cuts: groups, all numbered as in the network, each with the channels that stay.
        problems: the normal equations of the groups' readers.
        kept: `Candidate.kept`.
    """
    changed, left = copy_module(module), dict(kept)
    lost = lost_positions(cuts)
    made: dict[str, Index] = {}
    for (name, side), gone in lost.items():
        if side == "out":
            made[name] = np.delete(np.arange(width(module.get_submodule(name), "out")), gone)
            left[name] = left[name][made[name]] if name in left else made[name]
    cut_groups_in_place(changed, cuts)
    for problem in problems:
        stays = torch.ones(len(problem.old), dtype=torch.bool)
        stays[columns(linear_submodule(module, problem.name), lost[problem.name, "in"])] = False
        refit_in_place(changed, problem, stays.nonzero().flatten(), made.get(problem.name))
    return changed, left


def unprunable_reason(
    group: ChannelGroup, module: nn.Module, layers: Sequence[str], inputs: Floats, memory: Memory | None = None
) -> str | None:
    """Return why a group is left alone; None where it can be pruned.

    Args:
        group: the channels.
        module: the network.
        layers: layers that can be repaired.
        inputs: at least two real inputs, to try a cut on.
        memory: answers for networks of the same original on the same inputs, see `unprunable_reasons`; None to try the cut anew.
    """
    return unprunable_reasons([group], module, layers, inputs, memory)[0]


def unprunable_reasons(
    groups: Sequence[ChannelGroup], module: nn.Module, layers: Sequence[str], inputs: Floats, memory: Memory | None = None
) -> list[str | None]:
    """Return for every group why it is left alone; None where it can be pruned.

    A cut is right or wrong by how the network connects its layers, whatever their weights and widths are. So a cut is tried once and
    remembered, until a layer is removed or replaced by one of another kind. All cuts that are not remembered are tried together, which
    takes hardly longer than one: a caller that will need the answers for many groups asks for all of them here first.

    Args:
        groups: groups of the network.
        module: the network.
        layers: layers that can be repaired.
        inputs: at least two real inputs, to try the cuts on.
        memory: answers so far, which are used and added to: `Reference.memory`, since all networks of one run are made of one original.
            None to try every cut anew.
    """
    closed = set(layers)
    reasons = [next((_no_repair(slot.module) for slot in group.consumers if slot.module not in closed), None) for group in groups]
    known: dict[Any, str | None] = {} if memory is None else memory.setdefault(("cuts", _kinds_of_layers(module)), {})
    # a single channel cannot be cut, which says nothing about the group where it has several
    unknown = [
        group for group, reason in zip(groups, reasons, strict=True) if reason is None and group.size > 1 and _place(group) not in known
    ]
    known |= zip(map(_place, unknown), check_cuts(module, unknown, torch.from_numpy(inputs[:2].copy())), strict=True)
    return [reason or known.get(_place(group)) for group, reason in zip(groups, reasons, strict=True)]


def _no_repair(layer: str) -> str:
    return f"{layer}, which reads it, has no closed-form repair"


def _kinds_of_layers(module: nn.Module) -> tuple[tuple[str, type], ...]:
    """Return name and class of every layer: what changes when one is removed or replaced."""
    return tuple((name, type(layer)) for name, layer in module.named_modules())


def _place(group: ChannelGroup) -> tuple[tuple[str, str, int], ...]:
    """Return where a group's channels are made and read, and how often, without how many they are."""
    return tuple((slot.module, slot.side, slot.index.shape[1]) for slot in group.slots)


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
