"""Find the channels that must be cut together: dependency groups as plain data.

`graph/channel_flow.py` follows the channels through the network. Here they become frozen values that name modules and do not hold them, so
a plan stays valid for copies of the network and can be tested without tensors. Channels that cannot be cut are listed with the reason.

Example, a residual block: stem -> conv1 -> conv2, and the sum stem + conv2. Channel 0 of stem and channel 0 of conv2 meet in the sum, so
these two layers form one group, named after the first, "stem"; conv1 makes a group of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.errors import require_candidate
from optimize.graph.channel_flow import ChannelFlow
from optimize.graph.channel_groups import ChannelGroup as ChannelGroup
from optimize.graph.channel_groups import Index as Index
from optimize.graph.channel_groups import Slot as Slot
from optimize.graph.channel_groups import without as without
from optimize.graph.cut_check import check_cuts
from optimize.graph.layer_types import CHANNELWISE as CHANNELWISE
from optimize.graph.layer_types import LINEAR_MAPS as LINEAR_MAPS
from optimize.graph.layer_types import Side, unsupported_reason


@dataclass(frozen=True, eq=False)
class Graph:
    """The groups of a network in the order it computes them.

    Args:
        groups: groups that can be cut, in execution order.
        fixed: (layer, reason) of channels that cannot be cut.
        norms: layer -> the batch norm that alone reads its output, and reads nothing else.
        order: layer -> position of its first call.
    """

    groups: tuple[ChannelGroup, ...]
    fixed: tuple[tuple[str, str], ...]
    norms: dict[str, str]
    order: dict[str, int]


def trace(candidate: Candidate) -> Graph:
    """Return the channel groups of a network, found by following its channels through one forward pass.

    Channels that have to go together are one unit: a grouped convolution loses the channel at the same place of every group, so that all
    groups stay equally wide. Units that occur in the same layers, equally often, form a channel group. A network that cannot be followed
    has no groups, and `fixed` says why.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
        >>> graph = trace(Candidate(net.eval(), torch.zeros(1, 1, 8, 8)))
        >>> [(group.name, group.size) for group in graph.groups], [layer for layer, _ in graph.fixed]
        ([('0', 8)], ['3'])
    """
    require_candidate(candidate)
    module = candidate.module
    try:
        flow = ChannelFlow(module, candidate.example)
        # x[:, :8] and x[:, 8:] may be cut apart in one network and only alike in another (a gate); trial cuts tell, and only then are they
        # tied
        if flow.sliced and _slices_need_ties(flow, candidate):
            flow = ChannelFlow(module, candidate.example, tied=True)
    except Exception as problem:  # the user's forward, run under a dispatcher that it does not expect: whatever it raises means "no groups"
        text = " ".join(str(problem).split())[:200]
        return Graph((), (("(network)", f"could not be traced: {type(problem).__name__}: {text}"),), {}, _execution_order(candidate))
    groups, fixed = _groups(flow, module)
    return Graph(groups, fixed, _norms(flow, module), flow.order)


def _groups(flow: ChannelFlow, module: nn.Module) -> tuple[tuple[ChannelGroup, ...], tuple[tuple[str, str], ...]]:
    layers = {name: module.get_submodule(name) for name, _ in flow.blocks}
    groups: list[ChannelGroup] = []
    fixed: list[tuple[str, str]] = []
    for slots, reason in _alike_units(flow, layers):
        group = _in_order(ChannelGroup(len(slots[0].index), slots), flow.order)
        if reason is None:
            groups.append(group)
        elif group.slots[0].side == "out" and isinstance(layers[group.name], LINEAR_MAPS):
            fixed.append((group.name, reason))
    groups.sort(key=lambda group: flow.order[group.name])
    return tuple(groups), tuple(dict.fromkeys(fixed))


def _slices_need_ties(flow: ChannelFlow, candidate: Candidate) -> bool:
    """Return whether a group of channels that were sliced into equal parts cannot be cut as it is: its parts may have to be cut alike."""
    blocks = {place: set(block.tolist()) for place, block in flow.blocks.items()}
    parted = {place for place, labels in blocks.items() if labels & flow.sliced}
    groups = [group for group in _groups(flow, candidate.module)[0] if any((slot.module, slot.side) in parted for slot in group.slots)]
    return any(check_cuts(candidate.module, groups, candidate.example))


def _alike_units(flow: ChannelFlow, layers: dict[str, nn.Module]) -> Iterator[tuple[tuple[Slot, ...], str | None]]:
    """Yield units that occur in the same layers, as slots, with the reason why they cannot be cut, or None."""
    unit_of = flow.ties.unit_numbers()
    reasons = {int(unit_of[label]): reason for label, reason in reversed(flow.ties.reasons.items())}
    members: dict[int, dict[tuple[str, Side], list[int]]] = {}
    for place, block in flow.blocks.items():
        for position, unit in enumerate(unit_of[block.numpy()].tolist()):
            members.setdefault(unit, {}).setdefault(place, []).append(position)
    families: dict[tuple[Any, ...], list[dict[tuple[str, Side], list[int]]]] = {}
    for unit, places in members.items():
        # Example: unit 7 is output 3 of conv1 and input 3 of conv2; unit 8 is output 4 and input 4 of the same layers. Both have the same
        # places, one position in each, so they are two channels of one group.
        alike = tuple((place, len(positions)) for place, positions in places.items())
        families.setdefault((alike, reasons.get(unit)), []).append(places)
    for (alike, reason), family in families.items():
        slots = tuple(Slot(name, side, np.array([unit[name, side] for unit in family])) for (name, side), _ in alike)
        yield slots, reason or _unfit(slots, layers)


def _unfit(slots: Sequence[Slot], layers: dict[str, nn.Module]) -> str | None:
    """Return why units that nothing forbids to cut are still no group; None where they are one."""
    if not any(slot.side == "out" and isinstance(layers[slot.module], LINEAR_MAPS) for slot in slots):
        return "no layer makes the channels"
    if not any(slot.side == "in" for slot in slots):
        return "nothing reads the channels"
    # a single unit that holds several outputs of a layer: all of them are tied together, so there is no choice of channels
    if slots[0].index.shape[0] == 1 < max(slot.index.shape[1] for slot in slots if slot.side == "out"):
        return "its channels can only go together"
    return None


def _in_order(group: ChannelGroup, order: dict[str, int]) -> ChannelGroup:
    """Return the group with the layers that make its channels first, in execution order."""
    return replace(group, slots=tuple(sorted(group.slots, key=lambda slot: (slot.side == "in", order[slot.module]))))


def _norms(flow: ChannelFlow, module: nn.Module) -> dict[str, str]:
    norms = {}
    for layer, (norm, *further) in ((layer, tuple(by)) for layer, by in flow.followers.items()):
        # one reader only, a norm, which reads nothing else: then a shift of the layer's output can move into it
        if not further and norm is not None and flow.sources[norm] == {layer} and unsupported_reason(module.get_submodule(norm)) is None:
            norms[layer] = norm
    return norms


def _execution_order(candidate: Candidate) -> dict[str, int]:
    order: dict[str, int] = {}

    def recorder(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            order.setdefault(name, len(order))

        return hook

    leaves = [(name, layer) for name, layer in candidate.module.named_modules() if not list(layer.children())]
    handles = [layer.register_forward_hook(recorder(name)) for name, layer in leaves]
    with torch.inference_mode():
        candidate.module(candidate.example.clone())
    for handle in handles:
        handle.remove()
    return order
