"""Find the layers that can be refitted, and fit them one after the other to the outputs of the original's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from optimize.graph.layer_types import BATCH_NORMS, depthwise, unsupported_reason
from optimize.graph.trace import ChannelGroup, Graph, Index
from optimize.reconstruction.held_out import confirmed_refit
from optimize.reconstruction.layer_matrix import unrepairable_reason
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.split_moments import split_moments

ROWS = 20_000
"""Sampled positions that a layer is fitted on, where nothing else is asked for."""
RIDGE = 1e-4
"""Strength of the pull to the present weights, as a share of the mean diagonal of the gram matrix."""


def refit_layers(
    module: nn.Module,
    original: nn.Module,
    graph: Graph,
    names: Sequence[str],
    targets: OriginalOutputs,
    kept: Mapping[str, Index],
    ridge: float,
    changing: Collection[str] = (),
) -> nn.Module:
    """Return the network in which layers are fitted, one after the other, to the outputs that the original's layers gave.

    Every fit is checked on held-out rows, and taken back as far as they do not confirm it (`held_out.py`).

    Args:
        module: the network.
        original: the original network.
        graph: graph of the network.
        names: layers to fit, in execution order.
        targets: outputs of the original's layers.
        kept: layer -> which of the original's output channels it still makes.
        ridge: strength of the pull to the present weights, as a share of the mean diagonal of the gram matrix.
        changing: layers that may still change, see `OriginalOutputs.moments`.
    """
    for name in names:
        # measured anew for each layer: it reads what the layers fitted before it give now
        moments = split_moments(targets, module, [name], changing)[name]
        module = confirmed_refit(module, original, graph, name, moments, kept, ridge)
    return module


def unchanged_layers(module: nn.Module, original: nn.Module, example: torch.Tensor) -> set[str]:
    """Return the layers that give what the original's layers give: they and everything that runs before them are as in the original.

    Empty where the networks cannot be compared layer by layer.

    Args:
        module: the network.
        original: the original network.
        example: one input, (1, C, *spatial).
    """
    ours, theirs = dict(module.named_modules()), dict(original.named_modules())
    if ours.keys() != theirs.keys():
        return set()
    changed = {name for name, layer in ours.items() if not _same(layer, theirs[name])}
    called: list[str] = []
    leaves = [(name, layer) for name, layer in ours.items() if next(layer.children(), None) is None]
    handles = [layer.register_forward_pre_hook(lambda _, __, name=name: called.append(name)) for name, layer in leaves]
    try:
        with torch.inference_mode():
            module(example.clone())
    finally:
        for handle in handles:
            handle.remove()
    # what was changed and never called as a layer may be used anywhere, as the tensors of an attention are
    if changed - set(called):
        return set()
    first = next((place for place, name in enumerate(called) if name in changed), len(called))
    # a layer that is called again behind the first change reads something else then
    return set(called[:first]) - set(called[first:])


def _same(layer: nn.Module, original: nn.Module) -> bool:
    """Return whether two layers have the same type, settings and tensors of their own."""
    if type(layer) is not type(original) or layer.extra_repr() != original.extra_repr():
        return False
    ours, theirs = ({**layer._parameters, **layer._buffers} for layer in (layer, original))
    if ours.keys() != theirs.keys():
        return False
    pairs = ((ours[key], theirs[key]) for key in ours)
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def depthwise_on_path(group: ChannelGroup, module: nn.Module, layers: Sequence[str]) -> list[str]:
    """Return the depthwise convolutions on the way from a group's producer to its readers: their inputs have changed, so they are refitted.

    Args:
        group: the channels.
        module: the network.
        layers: layers that can be repaired.
    """
    producers = [slot.module for slot in group.slots if slot.side == "out" and slot.module in layers]
    return [name for name in producers if depthwise(module.get_submodule(name))]


def compensating_norms(group: ChannelGroup, graph: Graph, module: nn.Module, layers: Sequence[str]) -> list[str]:
    """Return the batch norms that can make up for the readers of a group that have no closed form: all that run behind them.

    Empty where every reader has a closed form, since these are refitted; and where no reader has one, since nothing then says what a
    channel is worth. Example: a group is read by a convolution and by a bilinear layer. The convolution is refitted; the bilinear layer
    cannot be, so its output shifts and shrinks with the channels that go, and the norms behind it are measured anew to centre and scale it.

    Args:
        group: the channels.
        graph: graph of the network.
        module: the network.
        layers: layers that can be repaired.
    """
    lacking = [slot.module for slot in group.consumers if slot.module not in layers]
    if not lacking or len(lacking) == len(group.consumers):
        return []
    # a norm in front of the first such layer reads nothing that has changed because of it
    first = min(graph.order[name] for name in lacking)
    norms = [name for name, layer in module.named_modules() if isinstance(layer, BATCH_NORMS) and unsupported_reason(layer) is None]
    return [name for name in norms if graph.order.get(name, -1) > first]


def repairable(module: nn.Module, original: nn.Module, graph: Graph) -> list[str]:
    """Return the layers that have a closed form and a counterpart in the original, in execution order."""
    theirs = dict(original.named_modules())
    names = [name for name, layer in module.named_modules() if unrepairable_reason(layer) is None and type(theirs.get(name)) is type(layer)]
    return sorted((name for name in names if name in graph.order), key=lambda name: graph.order[name])
