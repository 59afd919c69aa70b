"""Which channels must be cut together: dependency groups as plain data.

torch-pruning traces the network and knows which layers share a channel; here its groups become frozen values that name modules, not hold
them, so a plan survives copying the network and can be tested without tensors. What cannot be cut is listed with the reason.
"""

from __future__ import annotations

import copy
import logging
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optimize.candidate import Candidate

Side: TypeAlias = Literal["out", "in"]
Index: TypeAlias = npt.NDArray[np.int64]

LINEAR_MAPS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
CHANNELWISE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.PReLU)


@dataclass(frozen=True, eq=False)
class Slot:
    """One side of one layer that carries a group's channels.

    Args:
        module: dotted name in the network.
        side: "out" when the layer makes the channels (or scales them one by one), "in" when it reads them.
        index: (size, k); row c holds the k positions of channel c on that side: k is 1 but where channels were flattened or stacked.
    """

    module: str
    side: Side
    index: Index


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that exist, or not, in several layers at once."""

    size: int
    slots: tuple[Slot, ...]

    @property
    def name(self) -> str:
        """The first layer that makes these channels."""
        return self.slots[0].module

    @property
    def consumers(self) -> tuple[Slot, ...]:
        """The slots that read the channels."""
        return tuple(slot for slot in self.slots if slot.side == "in")


@dataclass(frozen=True, eq=False)
class Graph:
    """The groups of a network in the order it computes them.

    Args:
        groups: what can be cut, in execution order.
        fixed: (layer, reason) of what cannot.
        norms: layer -> the batch norm that alone reads its output, and reads nothing else.
        order: layer -> position of its first call.
    """

    groups: tuple[ChannelGroup, ...]
    fixed: tuple[tuple[str, str], ...]
    norms: dict[str, str]
    order: dict[str, int]


def trace(candidate: Candidate) -> Graph:
    """Find the channel groups of a network.

    The network is copied first: tracing needs gradients switched on. A network that cannot be traced has no groups, and says why.
    """
    from torch_pruning import DependencyGraph

    module = copy.deepcopy(candidate.module).requires_grad_(True)
    for layer in module.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False  # type: ignore[assignment]  # a layer whose output is overwritten is lost to the tracer
    example = candidate.example.clone()
    order = _execution_order(module, example)
    logging.getLogger("torch_pruning").setLevel(logging.ERROR)
    try:
        # called plainly: left to itself, torch-pruning first tries the example without its batch dimension
        dependencies = DependencyGraph().build_dependency(module, example, forward_fn=operator.call, verbose=False)
        raw = list(dependencies.get_all_groups())
    except Exception as problem:  # tracing runs the user's forward under a foreign tracer: whatever it raises means "no groups"
        text = " ".join(str(problem).split())[:200]
        return Graph((), (("(network)", f"could not be traced: {type(problem).__name__}: {text}"),), {}, order)
    names = {layer: name for name, layer in module.named_modules()}
    groups: list[ChannelGroup] = []
    fixed: list[tuple[str, str]] = []
    for items in raw:
        group = _as_group(items, names)
        if isinstance(group, str):
            fixed.append((names.get(items[0].dep.target.module, "?"), group))
        else:
            groups.append(_in_order(group, order))
    groups.sort(key=lambda group: order.get(group.name, len(order)))
    return Graph(tuple(groups), tuple(fixed), _norms(dependencies, names), order)


def without(groups: Iterable[ChannelGroup], cut: ChannelGroup, keep: Index) -> tuple[ChannelGroup, ...]:
    """The other groups, renumbered for a network in which `cut` holds only the channels `keep`.

    Groups that share a concatenation share a layer's input: cutting one shifts the other's positions.
    """
    gone: dict[tuple[str, Side], Index] = {}
    lost = np.setdiff1d(np.arange(cut.size), keep)
    for slot in cut.slots:
        gone[slot.module, slot.side] = np.sort(slot.index[lost].ravel())
    renumbered = []
    for group in groups:
        if group is cut:
            slots = tuple(_shifted(replace(slot, index=slot.index[keep]), gone) for slot in group.slots)
            renumbered.append(ChannelGroup(len(keep), slots))
        else:
            renumbered.append(ChannelGroup(group.size, tuple(_shifted(slot, gone) for slot in group.slots)))
    return tuple(renumbered)


def _shifted(slot: Slot, gone: dict[tuple[str, Side], Index]) -> Slot:
    lost = gone.get((slot.module, slot.side))
    return slot if lost is None else replace(slot, index=slot.index - np.searchsorted(lost, slot.index))


def _as_group(items: Any, names: dict[nn.Module, str]) -> ChannelGroup | str:
    """A group as data, or the reason why it is left alone."""
    slots: list[Slot] = []
    size = len(set(items[0].idxs))
    for item in items:
        layer = item.dep.target.module
        if isinstance(layer, nn.Parameter):
            return "a bare parameter takes part"
        if layer not in names:
            continue  # a functional operation: its effect on the numbering is already in the indices
        if not isinstance(layer, LINEAR_MAPS + CHANNELWISE):
            if not list(layer.parameters(recurse=False)) and not hasattr(layer, "num_features"):
                continue
            return f"{type(layer).__name__} takes part"
        if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
            continue  # one slope for all channels
        if not _plain(layer):
            return f"{names[layer]} computes its weights or statistics as it runs"
        if _partly_grouped(layer):
            return f"grouped convolution {names[layer]} takes part"
        index = _index(item.idxs, item.root_idxs, size)
        if index is None:
            return f"the channels reach {names[layer]} unevenly"
        reads = isinstance(layer, LINEAR_MAPS) and "in_channels" in item.dep.handler.__name__ and getattr(layer, "groups", 1) == 1
        slots.append(Slot(names[layer], "in" if reads else "out", index))
    if not any(slot.side == "in" for slot in slots):
        return "nothing reads the channels: they are an output of the network"
    return ChannelGroup(size, tuple(slots))


def _plain(layer: Any) -> bool:
    """Whether what the layer multiplies by are tensors of its own, not a parametrization's or each batch's."""
    return "weight" in layer._parameters and getattr(layer, "track_running_stats", True)


def _partly_grouped(layer: nn.Module) -> bool:
    groups = getattr(layer, "groups", 1)
    return groups > 1 and not (groups == layer.in_channels == layer.out_channels)


def _index(positions: list[int], roots: list[int], size: int) -> Index | None:
    width, uneven = divmod(len(positions), size)
    if uneven or not width:
        return None
    by_root = np.lexsort((positions, roots))
    ordered = np.asarray(roots)[by_root].reshape(size, width)
    if not (ordered == np.arange(size)[:, None]).all():
        return None
    return np.asarray(positions, dtype=np.int64)[by_root].reshape(size, width)


def _in_order(group: ChannelGroup, order: dict[str, int]) -> ChannelGroup:
    """Makers first, as the network runs them."""
    return replace(group, slots=tuple(sorted(group.slots, key=lambda slot: (slot.side == "in", order.get(slot.module, len(order))))))


def _norms(dependencies: Any, names: dict[nn.Module, str]) -> dict[str, str]:
    found = {}
    for layer, node in dependencies.module2node.items():
        follows = [output.module for output in node.outputs]
        if not isinstance(layer, LINEAR_MAPS) or len(follows) != 1 or not isinstance(follows[0], CHANNELWISE[:3]):
            continue
        if follows[0].track_running_stats and len(dependencies.module2node[follows[0]].inputs) == 1:
            found[names[layer]] = names[follows[0]]
    return found


def _execution_order(module: nn.Module, example: torch.Tensor) -> dict[str, int]:
    order: dict[str, int] = {}

    def seen(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            order.setdefault(name, len(order))

        return hook

    handles = [layer.register_forward_hook(seen(name)) for name, layer in module.named_modules() if not list(layer.children())]
    with torch.inference_mode():
        module(example.clone())
    for handle in handles:
        handle.remove()
    return order
