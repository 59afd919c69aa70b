"""Which channel is where: every channel of a network is followed through all operations of one forward pass.

Each channel that a layer makes gets a label. What moves elements about (a concatenation, a slice, a flattening, a pixel shuffle) is done to
the labels as it is done to the tensor; where an element-wise operation brings two labels together, they belong together; a layer that
reads a label ties it to its own input. An operation that mixes channels, or that nothing is known about, fixes what it reads. So nothing
depends on names or on a list of architectures, and what is not understood is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from optimize.graph.channel_labels import Labels, LabelUnion, across, concatenated, full, moved, thinned
from optimize.graph.layer_types import CHANNELWISE, LINEAR_MAPS, Side, affine_norm, depthwise, groups, recognised, unsupported_reason, width

ELEMENTWISE = {"hardswish", "hardswish_", "_prelu_kernel", "log_sigmoid_forward", "rrelu_with_noise", "_to_copy", "detach", "alias"}
ALONG = {"_softmax", "_log_softmax", "cumsum", "cumprod", "logcumsumexp", "sort"}
SPATIAL = re.compile(r"_?(max_pool|avg_pool|adaptive_\w+_pool|fractional_max_pool|upsample_\w+|reflection_pad|replication_pad)(\d)d.*")
FRESH = re.compile(r"(zeros|ones|full|empty|rand|randn)_like|new_(zeros|ones|full|empty)")
MOVES = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "squeeze", "unsqueeze", "stack", "repeat"),
    *("slice", "select", "split", "split_with_sizes", "unbind", "index", "index_select", "unfold", "flip", "roll"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
}
SLICES = {"slice", "select", "split_with_sizes", "unbind"}


class Flow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What one forward pass told about the channels.

    Args:
        module: the network, in eval mode.
        example: one input, (1, C, *spatial).
        tied: whether equal parts that are sliced out of one tensor belong together, channel by channel. Those of a `chunk` always do: the
            channels of each are counted from all.
    """

    def __init__(self, module: nn.Module, example: torch.Tensor, *, tied: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ties = LabelUnion()
        self.blocks: dict[tuple[str, Side], Labels] = {}
        """(layer, side) -> labels of its channels."""
        self.order: dict[str, int] = {}
        """layer -> position of its first call."""
        self.followers: dict[str, set[str | None]] = {}
        """layer -> the norms that read its output as it is; None stands for any other use."""
        self.sources: dict[str, set[str | None]] = {}
        """norm -> the layers whose output it reads as it is; None stands for anything else."""
        self.sliced: set[int] = set()
        """Labels of channels that were sliced into equal parts, of which only a trial can tell whether they belong together."""
        self._tied, self._slices = tied, WeakTensorKeyDictionary()
        self._labels, self._made = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()
        self._running: list[nn.Module] = []
        self._within = 0  # recognised layers: what happens inside them is known
        self._run(module, example.clone())

    def _run(self, module: nn.Module, example: torch.Tensor) -> None:
        self._labels[example] = self.ties.fixed("the network's input takes part", example.shape)
        handles = []
        for name, layer in module.named_modules():
            bare = () if isinstance(layer, LINEAR_MAPS + CHANNELWISE) else (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
            for tensor in bare:
                self._labels[tensor] = self.ties.fixed("a bare parameter takes part", tensor.shape)
            # what a hook of the user's does with an output is no part of the layer: it is followed
            leave = layer.register_forward_hook(self._leave(name), with_kwargs=True, prepend=True)
            handles += [layer.register_forward_pre_hook(self._enter), leave]
        try:
            with torch.no_grad(), self:
                output = module(example)
        finally:
            for handle in handles:
                handle.remove()
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor) and tensor in self._labels:
                self._used(tensor, None)
                self.ties.fix(self._labels[tensor], "they are an output of the network")

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run an operation and label what it made."""
        kwargs = kwargs or {}
        if self._within:
            return func(*args, **kwargs)
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor) and each in self._labels]
        results = self._followed(func, args, kwargs, given) if given else None  # first: an operation in place may change a shape
        out = func(*args, **kwargs)
        made = [each for each in tree_leaves(out) if isinstance(each, torch.Tensor)]
        if results is not None:
            for tensor, result in zip(made, results * len(made) if len(results) == 1 else results, strict=True):
                self._labels[tensor] = result
        elif given:
            reason = self._taking_part(func)
            for tensor in given:
                self.ties.fix(self._labels[tensor], reason)
            for tensor in made:
                self._labels[tensor] = self.ties.fixed(reason, tensor.shape)
        return out

    def _followed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: Sequence[torch.Tensor]) -> list[Labels] | None:
        """Labels of an operation's outputs, one for all or each its own; None where it mixes channels or is not known."""
        for tensor in given:
            self._used(tensor, None)
        name = func.overloadpacket.__name__
        labels: list[Labels] = [full(self._labels[tensor], tensor.dim()) for tensor in given]
        if torch.Tag.pointwise in func.tags or name in ELEMENTWISE:
            return [self.ties.met(labels)]
        if FRESH.fullmatch(name):
            return [torch.tensor(-1)]
        if name == "cat":
            return [concatenated(args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0), self._labels.get)]
        if name in MOVES:
            made = [thinned(each) for each in tree_leaves(moved(func, (args, kwargs), self._labels.get))]
            if name == "split":
                self._together(made)
            elif name in SLICES and len(given) == 1:
                self._parted(given[0], made)
            return made
        if len(labels) > 1:
            return None
        (label,) = labels
        if name == "expand":
            return [label]
        if name == "constant_pad_nd":
            return [thinned(moved(func, ((*args[:2], -1), {}), self._labels.get))]
        if spatial := SPATIAL.fullmatch(name):
            return [label] if set(label.shape[-int(spatial[2]) :]) == {1} else None
        if torch.Tag.reduction in func.tags or name in ALONG:
            return _reduced(func, args, kwargs, label)
        return None

    def _together(self, parts: Sequence[Labels]) -> None:
        """Tie parts of one size, channel by channel."""
        if len({part.shape for part in parts}) == 1:
            for part in parts[1:]:
                self.ties.tie(part, parts[0])

    def _parted(self, whole: torch.Tensor, parts: Sequence[Labels]) -> None:
        """Take note of parts of a tensor, which may come one by one."""
        if whole not in self._slices:
            self._slices[whole] = []
        found = self._slices[whole]
        found += [part for part in parts if not any(torch.equal(part, other) for other in found)]
        if len(found) > 1 and len({part.shape for part in found}) == 1:
            covered = torch.cat([torch.unique(part) for part in found])
            # each channel in one part: not a window that moves along the picture
            if len(covered) == len(set(covered.tolist())) and set(covered.tolist()) == set(self._labels[whole].flatten().tolist()):
                self.sliced |= set(covered.tolist())
                if self._tied:
                    self._together(found)

    def _taking_part(self, func: Any) -> str:
        layer = self._running[-1]
        whole = not list(layer.children()) or list(layer.parameters(recurse=False))
        if whole and len(self._running) > 1:
            return f"{type(layer).__name__} takes part"
        return f"{func.overloadpacket.__name__.removeprefix('_').removeprefix('native_')} takes part"

    def _used(self, tensor: torch.Tensor, by: str | None) -> None:
        if tensor in self._made:
            self.followers.setdefault(self._made[tensor], set()).add(by)

    def _enter(self, layer: nn.Module, _: Any) -> None:
        self._running.append(layer)
        self._within += recognised(layer)

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            self._running.pop()
            if recognised(layer) or not list(layer.children()):
                self.order.setdefault(name, len(self.order))
            if recognised(layer):
                (self._scaled if isinstance(layer, CHANNELWISE) else self._mapped)(name, layer, args[0] if args else named["input"], output)
                self._within -= 1

        return hook

    def _scaled(self, name: str, layer: nn.Module, given: torch.Tensor, output: torch.Tensor) -> None:
        """A layer that works channel by channel."""
        if given not in self._labels:
            return
        if affine_norm(layer):
            self.sources.setdefault(name, set()).add(self._made.get(given, None))  # type: ignore[no-untyped-call]
        self._used(given, name if affine_norm(layer) else None)
        block = self._block(name, layer, "out")
        self.ties.tie(block[:, None], across(self._labels[given], given.dim(), min(1, given.dim() - 1), len(block)))
        self._labels[output] = self._labels[given]
        if reason := unsupported_reason(layer):
            self.ties.fix(block, f"{name} {reason}")

    def _mapped(self, name: str, layer: Any, given: torch.Tensor, output: torch.Tensor) -> None:
        """A linear map: it reads what it is given and makes channels of its own."""
        self._used(given, None)
        axis = -1 if isinstance(layer, nn.Linear) else given.dim() - len(layer.kernel_size) - 1
        made = self._block(name, layer, "out")
        read = None if given not in self._labels else across(self._labels[given], given.dim(), axis, width(layer, "in"))
        # where the input cannot be cut anyway, a depthwise convolution may still make fewer channels of each of its channels
        if depthwise(layer) and read is not None and not set(read[read >= 0].tolist()) <= self.ties.reasons.keys():
            self.ties.tie(made[:, None], read.repeat_interleave(len(made) // len(read), 0))
        else:
            taken = self._block(name, layer, "in")
            self.ties.tie(taken[:, None], torch.tensor([[-1]]) if read is None else read)
            for each in (taken, made):
                self.ties.tie(each.view(groups(layer), -1), each.view(groups(layer), -1)[:1])
        if reason := unsupported_reason(layer):
            for each in (made, *(() if read is None else (read,))):
                self.ties.fix(each, f"{name} {reason}")
        self._labels[output] = made.view([-1 if place == axis % output.dim() else 1 for place in range(output.dim())])
        self._made[output] = name

    def _block(self, name: str, layer: nn.Module, side: Side) -> Labels:
        if (name, side) not in self.blocks:
            self.blocks[name, side] = self.ties.new(width(layer, side))
        return self.blocks[name, side]


def _reduced(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], label: Labels) -> list[Labels] | None:
    """Labels after something was done along some dimensions, which may be gone; None where they tell channels apart."""
    names = [argument.name for argument in func._schema.arguments]
    values = {**dict(zip(names, args, strict=False)), **kwargs}
    over = values.get("dim")
    dims = tuple(range(label.dim())) if over in (None, [], ()) else (over,) if isinstance(over, int) else tuple(over)
    if any(label.shape[axis] > 1 for axis in dims):
        return None
    return [label.squeeze(dims) if torch.Tag.reduction in func.tags and not values.get("keepdim") else label]
