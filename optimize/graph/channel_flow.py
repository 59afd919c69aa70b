"""Follow every channel of a network through all operations of one forward pass.

Each channel that a layer makes gets a label. An operation that moves elements (a concatenation, a slice, a flattening, a pixel shuffle) is
applied to the labels as well. Where an element-wise operation brings two labels together, they belong together; a layer that reads a label
ties it to its own input. An operation that mixes channels, or that is not known, fixes the channels it reads. So nothing depends on names
or on a list of architectures, and what is not understood is left alone.

Example: a(x) makes channels with labels 1, 2, 3, and b(x) with 4, 5, 6. In a(x) + b(x) label 1 meets 4, 2 meets 5 and 3 meets 6, so channel
0 of a and channel 0 of b can only be cut together. In cat(a(x), b(x)) no labels meet: a reader ties its inputs 0 to 5 to the labels 1 to 6.
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

from optimize.graph.channel_labels import Labels, LabelUnion, along_axis, compact, concatenated, full, moved
from optimize.graph.layer_types import CHANNELWISE, LINEAR_MAPS, Side, affine_norm, depthwise, groups, recognised, unsupported_reason, width

ELEMENTWISE = {"hardswish", "hardswish_", "_prelu_kernel", "log_sigmoid_forward", "rrelu_with_noise", "_to_copy", "detach", "alias"}
ALONG_DIMENSION = {"_softmax", "_log_softmax", "cumsum", "cumprod", "logcumsumexp", "sort"}
SPATIAL = re.compile(r"_?(max_pool|avg_pool|adaptive_\w+_pool|fractional_max_pool|upsample_\w+|reflection_pad|replication_pad)(\d)d.*")
FRESH = re.compile(r"(zeros|ones|full|empty|rand|randn)_like|new_(zeros|ones|full|empty)")
MOVES = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "squeeze", "unsqueeze", "stack", "repeat"),
    *("slice", "select", "split", "split_with_sizes", "unbind", "index", "index_select", "unfold", "flip", "roll"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
}
SLICES = {"slice", "select", "split_with_sizes", "unbind"}


class ChannelFlow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The result of following the channels through one forward pass.

    Args:
        module: the network, in eval mode.
        example: one input, (1, C, *spatial).
        tied: whether equal parts that are sliced out of one tensor belong together, channel by channel. Parts of a `chunk` always do,
            since the border between them is computed from the number of all channels.
    """

    def __init__(self, module: nn.Module, example: torch.Tensor, *, tied: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ties = LabelUnion()
        self.blocks: dict[tuple[str, Side], Labels] = {}
        """(layer, side) -> labels of its channels."""
        self.order: dict[str, int] = {}
        """layer -> position of its first call."""
        self.followers: dict[str, set[str | None]] = {}
        """layer -> the norms that read its output unchanged; None stands for any other use."""
        self.sources: dict[str, set[str | None]] = {}
        """norm -> the layers whose output it reads unchanged; None stands for anything else."""
        self.sliced: set[int] = set()
        """Labels of channels that were sliced into equal parts. Only a trial cut can show whether they belong together."""
        self._tied, self._slices = tied, WeakTensorKeyDictionary()
        self._labels, self._made = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()
        self._running: list[nn.Module] = []
        self._within = 0  # depth of recognised layers: their inner operations are known and not followed
        self._run(module, example.clone())

    def _run(self, module: nn.Module, example: torch.Tensor) -> None:
        self._labels[example] = self.ties.fixed("the network's input takes part", example.shape)
        handles = []
        for name, layer in module.named_modules():
            # A parameter used outside a known layer (a learned position code, a bare scale) would not shrink with the channels.
            bare = () if isinstance(layer, LINEAR_MAPS + CHANNELWISE) else (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
            for tensor in bare:
                if not tensor.is_floating_point():
                    continue  # whole numbers are places in other tensors, as of a table of relative positions, and no channels
                self._labels[tensor] = self.ties.fixed("a bare parameter takes part", tensor.shape)
            # this hook runs before the user's own: what a user's hook does with the output is not part of the layer, and is followed
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
        # inside a recognised layer: its hook ties input and output, so a convolution's own operations need no rule
        if self._within:
            return func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf in self._labels]
        # labels come first: an operation in place may change the shape of its input
        results = self._output_labels(func, args, kwargs, inputs) if inputs else None
        out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        if results is not None:
            for tensor, result in zip(made, results * len(made) if len(results) == 1 else results, strict=True):
                self._labels[tensor] = result
        elif inputs:
            # not understood: nothing that goes in can be cut, nor anything that comes out
            reason = self._taking_part(func)
            for tensor in inputs:
                self.ties.fix(self._labels[tensor], reason)
            for tensor in made:
                self._labels[tensor] = self.ties.fixed(reason, tensor.shape)
        return out

    def _output_labels(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Sequence[torch.Tensor]
    ) -> list[Labels] | None:
        """Return the labels of an operation's outputs, one for all or one for each; None where it mixes channels or is not known."""
        for tensor in inputs:
            self._used(tensor, None)
        name = func.overloadpacket.__name__
        labels: list[Labels] = [full(self._labels[tensor], tensor.dim()) for tensor in inputs]
        if torch.Tag.pointwise in func.tags or name in ELEMENTWISE:
            return [self.ties.elementwise(labels)]
        if FRESH.fullmatch(name):
            # the values do not depend on the input's channels, only the shape does
            return [torch.tensor(-1)]
        if name == "cat":
            return [concatenated(args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0), self._labels.get)]
        if name in MOVES:
            # the operation itself, run on the labels in place of the values: whatever it moves, the labels move alike
            made = [compact(part) for part in tree_leaves(moved(func, (args, kwargs), self._labels.get))]
            if name == "split":
                self._tie_parts(made)
            elif name in SLICES and len(inputs) == 1:
                self._record_slices(inputs[0], made)
            return made
        if len(labels) > 1:
            return None
        (label,) = labels
        if name == "expand":
            return [label]
        if name == "constant_pad_nd":
            # padded with -1 in place of the fill value: what is added is a constant, no channel
            return [compact(moved(func, ((*args[:2], -1), {}), self._labels.get))]
        # Pooling and resizing mix positions. Labels of size 1 along all spatial dimensions say that no channel lies there.
        if spatial := SPATIAL.fullmatch(name):
            return [label] if set(label.shape[-int(spatial[2]) :]) == {1} else None
        if torch.Tag.reduction in func.tags or name in ALONG_DIMENSION:
            return _reduced(func, args, kwargs, label)
        return None

    def _tie_parts(self, parts: Sequence[Labels]) -> None:
        """Tie parts of equal size, channel by channel."""
        if len({part.shape for part in parts}) == 1:
            for part in parts[1:]:
                self.ties.tie(part, parts[0])

    def _record_slices(self, whole: torch.Tensor, parts: Sequence[Labels]) -> None:
        """Record parts of a tensor, which may come one by one: x[:, :8] in one operation and x[:, 8:] in another.

        Only parts that are equal in size, do not overlap and cover the tensor count; a window that moves along the picture does not.
        """
        if whole not in self._slices:
            self._slices[whole] = []
        slices = self._slices[whole]
        slices += [part for part in parts if not any(torch.equal(part, known) for known in slices)]
        if len(slices) > 1 and len({part.shape for part in slices}) == 1:
            covered = torch.cat([torch.unique(part) for part in slices])
            # every channel in exactly one part
            if len(covered) == len(set(covered.tolist())) and set(covered.tolist()) == set(self._labels[whole].flatten().tolist()):
                self.sliced |= set(covered.tolist())
                if self._tied:
                    self._tie_parts(slices)

    def _taking_part(self, func: Any) -> str:
        layer = self._running[-1]
        # name the layer where it is one that a user would know, and the operation where it is a line in some forward
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
                follow = self._follow_channelwise if isinstance(layer, CHANNELWISE) else self._follow_linear_map
                follow(name, layer, args[0] if args else named["input"], output)
                self._within -= 1

        return hook

    def _follow_channelwise(self, name: str, layer: nn.Module, layer_input: torch.Tensor, output: torch.Tensor) -> None:
        """Follow the channels through a layer that works channel by channel."""
        if layer_input not in self._labels:
            return
        if affine_norm(layer):
            self.sources.setdefault(name, set()).add(self._made.get(layer_input, None))  # type: ignore[no-untyped-call]
        self._used(layer_input, name if affine_norm(layer) else None)
        block = self._block(name, layer, "out")
        if isinstance(layer, nn.GroupNorm):
            # mean and spread are those of a whole group of channels: without one of them the others would get other values
            self.ties.tie(block.view(layer.num_groups, -1), block.view(layer.num_groups, -1)[:, :1])
        # a norm's channel belongs to whatever occurs at that place of axis 1, for all cases and positions
        self.ties.tie(block[:, None], along_axis(self._labels[layer_input], layer_input.dim(), min(1, layer_input.dim() - 1), len(block)))
        self._labels[output] = self._labels[layer_input]
        if reason := unsupported_reason(layer):
            self.ties.fix(block, f"{name} {reason}")

    def _follow_linear_map(self, name: str, layer: Any, layer_input: torch.Tensor, output: torch.Tensor) -> None:
        """Follow the channels into a linear map, which reads them and makes channels of its own."""
        self._used(layer_input, None)
        # without a batch dimension a convolution reads (C, *spatial), so the axis is counted from the end
        axis = -1 if isinstance(layer, nn.Linear) else layer_input.dim() - len(layer.kernel_size) - 1
        made = self._block(name, layer, "out")
        known = layer_input in self._labels
        read = along_axis(self._labels[layer_input], layer_input.dim(), axis, width(layer, "in")) if known else None
        # where the input cannot be cut anyway, a depthwise convolution may still make fewer channels of each of its channels
        if depthwise(layer) and read is not None and not set(read[read >= 0].tolist()) <= self.ties.reasons.keys():
            self.ties.tie(made[:, None], read.repeat_interleave(len(made) // len(read), 0))
        else:
            taken = self._block(name, layer, "in")
            self.ties.tie(taken[:, None], torch.tensor([[-1]]) if read is None else read)
            # all groups of a grouped convolution stay equally wide, so the channels at one place of every group go together
            for side in (taken, made):
                self.ties.tie(side.view(groups(layer), -1), side.view(groups(layer), -1)[:1])
        if reason := unsupported_reason(layer):
            for labels in (made, *(() if read is None else (read,))):
                self.ties.fix(labels, f"{name} {reason}")
        # labels of shape (C, 1, 1): the channel is the same one at every position
        self._labels[output] = made.view([-1 if place == axis % output.dim() else 1 for place in range(output.dim())])
        self._made[output] = name

    def _block(self, name: str, layer: nn.Module, side: Side) -> Labels:
        if (name, side) not in self.blocks:
            self.blocks[name, side] = self.ties.new(width(layer, side))
        return self.blocks[name, side]


def _reduced(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], label: Labels) -> list[Labels] | None:
    """Return the labels after an operation along some dimensions, which a reduction drops; None where these hold channels."""
    names = [argument.name for argument in func._schema.arguments]
    values = {**dict(zip(names, args, strict=False)), **kwargs}
    over = values.get("dim")
    dims = tuple(range(label.dim())) if over in (None, [], ()) else (over,) if isinstance(over, int) else tuple(over)
    # a mean over channels mixes them; over positions, along which labels have size 1, it does not
    if any(label.shape[axis] > 1 for axis in dims):
        return None
    return [label.squeeze(dims) if torch.Tag.reduction in func.tags and not values.get("keepdim") else label]
