"""Operators of ONNX without weights, as functions of tensors.

Each builder gets a node with what it was given in a trial run (`onnx_trial.py`), and returns the function that runs later. Shapes that the
file spells out are taken from the trial where they can be, so that the function also fits another batch and fewer channels:

    Reshape (2, 8, 4, 4) -> (2, 128)       keep axis 0, the rest is -1
    Reshape (2, 50, 192) -> (2, 50, 3, 64) keep axes 0 and 1, then 3, then -1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from optimize.loading.onnx_layers import pads_of
from optimize.loading.onnx_trial import Function, Trial

FLOATS = (1, 10, 11, 16)
"""ONNX's numbers for floats of 32, 16, 64 and (brain) 16 bits; everything is computed in 32."""


def reshape(before: Sequence[int], after: Sequence[int]) -> Function:
    """Return the function that reshapes as in the trial, for any batch and any number of channels.

    >>> reshape((2, 8, 4, 4), (2, 128))(torch.zeros(5, 6, 4, 4)).shape
    torch.Size([5, 96])
    """
    if before[:1] == after[:1] and len(after) == 2 and len(before) > 1:
        return lambda x: x.flatten(1)
    first = 0
    while first < min(len(before), len(after)) and before[first] == after[first]:
        first += 1
    last = 0
    while last < min(len(before), len(after)) - first and before[len(before) - 1 - last] == after[len(after) - 1 - last]:
        last += 1
    middle = list(after[first : len(after) - last])
    if middle:
        # where axis 0 is merged or split, as windows are, the batch is in it, and what it is made of is fixed
        middle[-1 if first else 0] = -1

    def run(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:first], *middle, *x.shape[x.dim() - last :]) if last else x.reshape(*x.shape[:first], *middle)

    return run


def _reshape(trial: Trial) -> Function:
    given, asked = trial.given[0], trial.numbers(1, "shape")
    assert given is not None
    if asked is None:
        raise NotImplementedError("a shape that is computed from values")
    # 0 keeps the size of the input at that place
    sizes = [given.shape[place] if size == 0 else size for place, size in enumerate(asked)]
    return _first(reshape(tuple(given.shape), tuple(given.reshape(sizes).shape)))


def _first(function: Function) -> Function:
    return lambda x, *_: function(x)


def _reduced(function: Callable[[torch.Tensor, tuple[int, ...], bool], torch.Tensor]) -> Callable[[Trial], Function]:
    def build(trial: Trial) -> Function:
        keep = bool(trial.attributes.get("keepdims", 1))
        given = trial.given[0]
        assert given is not None
        axes = tuple(trial.numbers(1, "axes") or range(given.dim()))
        return _first(lambda x: function(x, axes, keep))

    return build


def _pool(kind: str) -> Callable[[Trial], Function]:
    def build(trial: Trial) -> Function:
        given, kernel = trial.given[0], list(trial.attributes["kernel_shape"])
        assert given is not None
        rank = len(kernel)
        begin, end = pads_of(trial.attributes, given.shape[2:], kernel)
        strides, ceil = list(trial.attributes.get("strides", [1] * rank)), bool(trial.attributes.get("ceil_mode", 0))
        even = begin == end and all(2 * pad <= width for pad, width in zip(begin, kernel, strict=True))
        outside = [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]
        inner: Any = begin if even else 0
        if kind == "max":
            dilations = list(trial.attributes.get("dilations", [1] * rank))
            pooled: Function = getattr(functional, f"max_pool{rank}d")
            lowest = float("-inf")
            outer: Function = (lambda x: x) if even else (lambda x: functional.pad(x, outside, value=lowest))
            return _first(lambda x: pooled(outer(x), kernel, strides, inner, dilations, ceil))
        mean: Function = getattr(functional, f"avg_pool{rank}d")
        counted = bool(trial.attributes.get("count_include_pad", 0))
        if not even and not counted:
            raise NotImplementedError("an average that leaves out an uneven padding")
        return _first(lambda x: mean(x if even else functional.pad(x, outside), kernel, strides, inner, ceil, counted))

    return build


def _slice(trial: Trial) -> Function:
    given = trial.given[0]
    assert given is not None
    starts, ends = trial.numbers(1, "starts"), trial.numbers(2, "ends")
    if starts is None or ends is None:
        raise NotImplementedError("a slice whose ends are computed")
    axes = trial.numbers(3, "axes") or list(range(len(starts)))
    steps = trial.numbers(4) or [1] * len(starts)
    if min(steps) < 1:
        raise NotImplementedError("a slice that runs backwards")
    whole: list[slice] = [slice(None)] * given.dim()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # up to the end stays up to the end when there are fewer channels
        whole[axis] = slice(start, None if end >= given.shape[axis] else end, step)
    index = tuple(whole)
    return _first(lambda x: x[index])


def _split(trial: Trial) -> Function:
    axis, sizes, count = int(trial.attributes.get("axis", 0)), trial.numbers(1, "split"), trial.outputs
    if sizes is None or len(set(sizes)) == 1:
        # equal parts stay equal when channels are cut
        return _first(lambda x: x.chunk(count, axis))
    return _first(lambda x: x.split(sizes, axis))


def _concat(trial: Trial) -> Function:
    axis = int(trial.attributes["axis"])

    def run(*parts: torch.Tensor) -> torch.Tensor:
        batch = max(part.shape[0] for part in parts)
        # a token that was expanded to one image in the file stands in front of every image
        return torch.cat([part.expand(batch, *part.shape[1:]) if axis and part.shape[0] == 1 else part for part in parts], axis)

    return run


def _expand(trial: Trial) -> Function:
    given = trial.given[0]
    asked = trial.numbers(1)
    if asked is None or given is None:
        raise NotImplementedError("a shape that is computed from values")
    after = torch.broadcast_shapes(tuple(given.shape), tuple(asked))  # type: ignore[no-untyped-call]
    before = (1,) * (len(after) - given.dim()) + tuple(given.shape)
    # axis 0 is the batch: what is expanded along it is a constant, which `Concat` and sums fit to any batch
    sizes = [-1 if place == 0 or old == new else new for place, (old, new) in enumerate(zip(before, after, strict=True))]
    return _first(lambda x: x.reshape((1,) * (len(sizes) - x.dim()) + tuple(x.shape)).expand(*sizes))


def _gather(trial: Trial) -> Function:
    axis, index = int(trial.attributes.get("axis", 0)), trial.constants[1]
    if index is None:
        raise NotImplementedError("a gather whose places are computed")
    if index.dim() == 0:
        return _first(lambda x: x.select(axis, int(index)))
    places, given = index.flatten().long(), trial.given[0]
    assert given is not None
    if axis == 0 and index.dim() == 1 and torch.equal(places, torch.arange(given.shape[0])):
        return _first(lambda x: x)  # every image of the trial, and so every image
    shape = list(index.shape)

    def run(x: torch.Tensor) -> torch.Tensor:
        at = axis % x.dim()
        found = x.index_select(at, torch.where(places < 0, places + x.shape[at], places))
        return found if len(shape) == 1 else found.reshape(*x.shape[:at], *shape, *x.shape[at + 1 :])

    return _first(run)


def _pad(trial: Trial) -> Function:
    given, pads = trial.given[0], trial.numbers(1, "pads")
    if pads is None or given is None:
        raise NotImplementedError("a padding that is computed")
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[trial.attributes.get("mode", "constant")]
    fill = trial.constants[2] if len(trial.constants) > 2 else None
    value = float(trial.attributes.get("value", 0.0) if fill is None else fill)
    axes = trial.numbers(3) or list(range(given.dim()))
    sides = {axis % given.dim(): (pads[place], pads[len(axes) + place]) for place, axis in enumerate(axes)}
    rank = given.dim() if mode == "constant" else given.dim() - 2
    flat = [side for axis in range(given.dim() - 1, given.dim() - 1 - rank, -1) for side in sides.get(axis, (0, 0))]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return _first(lambda x: functional.pad(x, flat, mode, value if mode == "constant" else None))


def _resize(trial: Trial) -> Function:
    given = trial.given[0]
    assert given is not None
    mode = trial.attributes.get("mode", "nearest")
    # until version 10 the first pixels' corners fall together, and there is no word for it
    usual, nearest = ("half_pixel", "round_prefer_floor") if trial.opset > 10 else ("asymmetric", "floor")
    how = trial.attributes.get("coordinate_transformation_mode", usual)
    nearest = trial.attributes.get("nearest_mode", nearest)
    scales, asked = trial.constants[-1 if len(trial.constants) < 4 else 2], trial.numbers(3)
    if asked is not None:
        sizes = tuple(asked[-(given.dim() - 2) :])
    elif scales is not None and scales.numel():
        sizes = tuple(int(size * float(scale)) for size, scale in zip(given.shape[2:], scales.flatten()[-(given.dim() - 2) :], strict=True))
    else:
        raise NotImplementedError("a resize whose sizes are computed from values")
    if mode == "nearest":
        whole = all(new % old == 0 for new, old in zip(sizes, given.shape[2:], strict=True))
        if not whole and (how, nearest) != ("asymmetric", "floor"):
            raise NotImplementedError(f"a resize by {how} and {nearest}")
        return _first(lambda x: functional.interpolate(x, sizes, mode="nearest"))
    if how not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise NotImplementedError(f"a resize by {how}")
    kind = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}[given.dim()], "cubic": "bicubic"}[mode]
    corners = how == "align_corners"
    return _first(lambda x: functional.interpolate(x, sizes, mode=kind, align_corners=corners))


def _clip(trial: Trial) -> Function:
    ends = [trial.attributes.get(name) for name in ("min", "max")]
    for place in (1, 2):
        tensor = trial.constants[place] if place < len(trial.constants) else None
        ends[place - 1] = ends[place - 1] if tensor is None else float(tensor)
    low, high = ends
    return _first(lambda x: functional.relu6(x) if (low, high) == (0.0, 6.0) else x.clamp(low, high))


def _squeeze(trial: Trial) -> Function:
    given, axes = trial.given[0], trial.numbers(1, "axes")
    assert given is not None
    # named, so that a batch of one image keeps its axis
    every = tuple(axis for axis, size in enumerate(given.shape) if size == 1) if axes is None else tuple(axes)
    return _first(lambda x: x.squeeze(every))


def _unsqueeze(trial: Trial) -> Function:
    given, axes = trial.given[0], trial.numbers(1, "axes") or []
    assert given is not None
    dims = given.dim() + len(axes)

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis in sorted(axis % dims for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return _first(run)


def _transpose(trial: Trial) -> Function:
    given = trial.given[0]
    assert given is not None
    order = list(trial.attributes.get("perm", range(given.dim() - 1, -1, -1)))
    return _first(lambda x: x.permute(order))


def _flatten(trial: Trial) -> Function:
    axis = int(trial.attributes.get("axis", 1))
    if axis != 1:
        raise NotImplementedError("a flattening that takes the batch in")
    return _first(lambda x: x.flatten(1))


def _softmax(function: Function) -> Callable[[Trial], Function]:
    def build(trial: Trial) -> Function:
        given = trial.given[0]
        assert given is not None
        axis = int(trial.attributes.get("axis", -1 if trial.opset > 12 else 1))
        if trial.opset < 13 and axis % given.dim() != given.dim() - 1:
            raise NotImplementedError("a softmax over several axes at once, as until version 12")
        return _first(lambda x: function(x, axis))

    return build


def _with(function: Function, **defaults: float) -> Callable[[Trial], Function]:
    """Return a builder for a function of one tensor with numbers that are attributes."""

    def build(trial: Trial) -> Function:
        numbers = [trial.attributes.get(name, default) for name, default in defaults.items()]
        return _first(lambda x: function(x, *numbers))

    return build


def _cast(trial: Trial) -> Function:
    if trial.attributes["to"] not in FLOATS:
        raise NotImplementedError("a conversion to whole numbers")
    return _first(lambda x: x)


def _plain(function: Function) -> Callable[[Trial], Function]:
    return lambda trial: function


def _tile(trial: Trial) -> Function:
    repeats = trial.numbers(1)
    if repeats is None:
        raise NotImplementedError("a repetition that is computed")
    return _first(lambda x: x.repeat(*repeats))


def _depth_to_space(trial: Trial) -> Function:
    if trial.attributes.get("mode", "DCR") != "CRD":
        raise NotImplementedError("DepthToSpace by depth, column, row")
    return _first(lambda x: functional.pixel_shuffle(x, int(trial.attributes["blocksize"])))


def _fold(function: Function) -> Callable[[Trial], Function]:
    def run(*tensors: torch.Tensor) -> torch.Tensor:
        result = tensors[0]
        for tensor in tensors[1:]:
            result = function(result, tensor)
        return result

    return lambda trial: run


OPERATORS: dict[str, Callable[[Trial], Function]] = {
    **{"Add": _plain(torch.add), "Sub": _plain(torch.sub), "Mul": _plain(torch.mul), "Div": _plain(torch.div), "Pow": _plain(torch.pow)},
    **{"MatMul": _plain(torch.matmul), "Einsum": lambda trial: partial(torch.einsum, str(trial.attributes["equation"]))},
    **{"Identity": _with(lambda x: x), "Dropout": _with(lambda x: x), "Cast": _cast},
    **{"Relu": _with(torch.relu), "Sigmoid": _with(torch.sigmoid), "Tanh": _with(torch.tanh), "Erf": _with(torch.erf)},
    **{"Exp": _with(torch.exp), "Log": _with(torch.log), "Sqrt": _with(torch.sqrt), "Reciprocal": _with(torch.reciprocal)},
    **{"Abs": _with(torch.abs), "Neg": _with(torch.neg), "Floor": _with(torch.floor), "Ceil": _with(torch.ceil), "Sin": _with(torch.sin)},
    **{"Cos": _with(torch.cos), "Softplus": _with(functional.softplus), "Softsign": _with(functional.softsign)},
    **{"Mish": _with(functional.mish), "HardSwish": _with(functional.hardswish), "Clip": _clip},
    "Gelu": lambda trial: partial(functional.gelu, approximate=trial.attributes.get("approximate", "none")),
    "LeakyRelu": _with(functional.leaky_relu, alpha=0.01),
    "Elu": _with(functional.elu, alpha=1.0),
    "HardSigmoid": _with(lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1), alpha=0.2, beta=0.5),
    **{"Min": _fold(torch.minimum), "Max": _fold(torch.maximum), "Sum": _fold(torch.add)},
    **{"Softmax": _softmax(torch.softmax), "LogSoftmax": _softmax(torch.log_softmax)},
    **{"Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze},
    **{"Concat": _concat, "Split": _split, "Slice": _slice, "Gather": _gather, "Expand": _expand, "Tile": _tile},
    **{"Pad": _pad, "Resize": _resize, "Upsample": _resize, "MaxPool": _pool("max"), "AveragePool": _pool("mean")},
    "GlobalAveragePool": _with(lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True)),
    "GlobalMaxPool": _with(lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True)),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "ReduceMax": _reduced(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "ReduceMin": _reduced(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
    "ReduceL2": _reduced(lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt()),
    "DepthToSpace": _depth_to_space,
}
"""Operator -> how its function is built."""
