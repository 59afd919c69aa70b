"""The roofline of a network on this machine: how fast it could run, and what keeps it from that.

The roofline model: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52(4), 2009. One multiplication with its addition is one MAC, two floating-point operations. For each layer

    bytes       = weights * width + batch * (inputs + outputs of every call) * width       width: f32 4, bf16 and f16 2, int8 1
    intensity   = MACs / bytes
    attainable  = min(peak, intensity * bandwidth)                                          MACs per second
    roof        = MACs / attainable = max(MACs / peak, bytes / bandwidth)                   seconds
    share       = roof / measured time = achieved rate / attainable

Worked example: a 3x3 convolution of 64 to 64 channels on 32 x 32 positions in f32 has 64 * 64 * 9 * 1024 = 37.7 M MACs. It moves
4 * (36,864 weights + 2 * 65,536 activations) = 0.67 MB, so its intensity is 56 MACs per byte. With a peak of 50 GMAC/s and 10 GB/s memory
could feed 560 GMAC/s: compute is the limit, and the roof is 37.7 M / 50 G = 0.75 ms.

A layer is limited by memory where intensity * bandwidth < peak, else by compute. A network runs its layers one after another, so its roof
is the sum of theirs, and MACs outside of layers (the products of attention) join it at the peak of the network's precision. What a
measured median exceeds the roof by is overhead: what each call and each layer costs however small it is, operations that are no matrix
products, and kernels that do not reach the peak.

Bytes are the least that must be moved: every weight once, although it is used by several calls or shared by several layers, and what a
layer reads and writes once. Biases, normalization, pooling and copies are not counted. `bandwidth` is that of memory: a network that fits
into the caches may be faster than a roof that memory sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from optimize.candidate import Candidate
from optimize.errors import InputError, require_choice
from optimize.graph.macs import macs
from optimize.measure.layers import LayerShape, layer_shapes
from optimize.measure.peaks import Peaks

WIDTH_BYTES = {"f32": 4, "bf16": 2, "f16": 2, "int8": 1}


@dataclass(frozen=True)
class LayerRoof:
    """The work of one weight tensor: of one layer, or of all layers that share it.

    Args:
        name: name of the layer, the first where several share the weight.
        calls: number of times that the weight is used for one input.
        macs: multiply-accumulates of the whole batch, all calls.
        weight_bytes: bytes of the weight, counted once.
        activation_bytes: read and written by the whole batch, all calls.
        precision: the layer's.
        peak: MACs per second that the machine reaches in that precision.
        bandwidth: bytes per second.
        ms: measured milliseconds, all calls; None where it was not measured.
    """

    name: str
    calls: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    precision: str
    peak: float
    bandwidth: float
    ms: float | None = None

    @property
    def bytes(self) -> int:
        """Bytes moved."""
        return self.weight_bytes + self.activation_bytes

    @property
    def intensity(self) -> float:
        """MACs per byte."""
        return self.macs / self.bytes

    @property
    def attainable(self) -> float:
        """MACs per second at most."""
        # bytes per second times MACs per byte: what memory can feed; the lesser of this and the peak is the roof
        return min(self.peak, self.intensity * self.bandwidth)

    @property
    def roof_ms(self) -> float:
        """Milliseconds at least."""
        return self.macs / self.attainable * 1e3

    @property
    def bound(self) -> Literal["compute", "memory"]:
        """The lower one of the two roofs."""
        return "memory" if self.intensity * self.bandwidth < self.peak else "compute"

    @property
    def share(self) -> float | None:
        """Achieved share of the attainable rate, 0 to 1, more where the caches beat memory; None where the time is not known."""
        return None if self.ms is None else self.roof_ms / self.ms


@dataclass(frozen=True)
class Roofline:
    """A network under the machine's roofs.

    Args:
        layers: the layers, in the order of their first call.
        other_ms: the least that MACs outside of these layers take, milliseconds.
        p50_ms: measured median of the network; None where it was not measured.
    """

    layers: tuple[LayerRoof, ...]
    other_ms: float = 0.0
    p50_ms: float | None = None

    @property
    def compute_ms(self) -> float:
        """Part of the roof that arithmetic sets."""
        return sum((layer.roof_ms for layer in self.layers if layer.bound == "compute"), self.other_ms)

    @property
    def memory_ms(self) -> float:
        """Part of the roof that memory sets."""
        return sum(layer.roof_ms for layer in self.layers if layer.bound == "memory")

    @property
    def roof_ms(self) -> float:
        """Milliseconds that the network takes at least."""
        return self.compute_ms + self.memory_ms

    @property
    def share(self) -> float | None:
        """Achieved share of the roofline: roof / p50; None without a measured median."""
        return None if self.p50_ms is None else self.roof_ms / self.p50_ms

    @property
    def overhead_ms(self) -> float | None:
        """Milliseconds of the median beyond the roof, at least 0; None without a measured median."""
        return None if self.p50_ms is None else max(self.p50_ms - self.roof_ms, 0.0)

    @property
    def outside_ms(self) -> float | None:
        """Milliseconds of the median that no layer accounts for, at least 0; None unless the median and every layer were measured."""
        taken = [layer.ms for layer in self.layers if layer.ms is not None]
        if self.p50_ms is None or len(taken) < len(self.layers):
            return None
        return max(self.p50_ms - sum(taken), 0.0)

    @property
    def limit(self) -> Literal["compute", "memory", "overhead"]:
        """Where most of the time goes; without a measured median, which roof is the larger part."""
        parts: dict[Literal["compute", "memory", "overhead"], float] = {
            "compute": self.compute_ms,
            "memory": self.memory_ms,
            "overhead": self.overhead_ms or 0.0,
        }
        return max(parts, key=lambda part: parts[part])

    def in_words(self) -> str:
        """Return one sentence: how close the network comes, and what limits it."""
        if self.p50_ms is None or self.share is None or self.overhead_ms is None:
            return f"At least {_ms(self.roof_ms)}, mostly limited by {self.limit}; the network was not timed."
        roof = f"the roofline allows {_ms(self.roof_ms)}"
        reached = f"{_ms(self.p50_ms)} at the median, where {roof}: {100 * self.share:.0f} % of it is reached"
        # memory sets this roof only for data that do not fit into the caches
        if self.share > 1:
            return f"{reached}; faster than the roof, since its data stay in the caches or the peaks were taken on a busy machine."
        if self.limit == "compute":
            return f"{reached}. Compute limits it: fewer MACs or a lower precision make it faster."
        if self.limit == "memory":
            return f"{reached}. Memory limits it: fewer or narrower weights and activations make it faster."
        return f"{reached}. Overhead limits it: {_ms(self.overhead_ms)} beyond the roof, {self._whereabouts(self.overhead_ms)}."

    def _whereabouts(self, overhead_ms: float) -> str:
        calls = sum(layer.calls for layer in self.layers)
        inside_ms = overhead_ms if self.outside_ms is None else max(overhead_ms - self.outside_ms, 0.0)
        if not inside_ms:
            return "all of it outside of these layers"
        # Example: 1.2 ms beyond the roof inside of 60 calls are 20 microseconds for each: what a call costs, however small its layer.
        us = inside_ms * 1e3 / max(calls, 1)
        per_call = f"{f'{us:.0f} microseconds' if us >= 1 else 'less than a microsecond'} for each of {calls} calls of layers"
        if self.outside_ms is None:
            return f"{per_call}; times of every layer would tell the cost of calls from kernels below the peak"
        return f"{_ms(overhead_ms - inside_ms)} outside of these layers, {_ms(inside_ms)} inside: {per_call}"


def roofline(
    candidate: Candidate,
    peaks: Peaks,
    runtime: str,
    precision: str = "f32",
    *,
    precisions: Mapping[str, str] | None = None,
    batch: int = 1,
    p50_ms: float | None = None,
    layer_ms: Mapping[str, float] | None = None,
) -> Roofline:
    """Put every convolution (also transposed) and linear layer of a network under the machine's roofs.

    Args:
        candidate: the network.
        peaks: peaks of the machine.
        runtime: runtime whose peaks count: "torch", or a target.
        precision: precision of the network, and of every layer that `precisions` does not name.
        precisions: layer -> its own precision, as a backend's `inspect` gives it.
        batch: inputs in one call.
        p50_ms: measured median of one call, milliseconds.
        layer_ms: layer -> milliseconds, as a backend's `time_layers` gives them; a further call of a layer is `name#2`, …. A layer that the
            runtime has given another name stays without a time.

    Raises:
        InputError: when a precision is not known, or its peak was not measured for `runtime`; when `batch` or `p50_ms` is not positive.
    """
    if batch < 1:
        raise InputError(f"`batch` (={batch}) must be at least 1.")
    if p50_ms is not None and not (math.isfinite(p50_ms) and p50_ms > 0):
        raise InputError(f"`p50_ms` (={p50_ms}) must be a positive number of milliseconds.")
    named = {_module_name(name): own for name, own in (precisions or {}).items()}
    taken = _by_layer(layer_ms or {})
    layers = []
    for name, shapes in _by_weight(candidate).items():
        own = named.get(name, precision)
        # weights and activations in the layer's own precision: an int8 layer moves a quarter of the bytes of an f32 one
        width = width_bytes(own)
        layers.append(
            LayerRoof(
                name,
                calls=len(shapes),
                macs=batch * sum(shape.macs for shape in shapes),
                weight_bytes=width * shapes[0].weights,
                activation_bytes=width * batch * sum(map(_activations, shapes)),
                precision=own,
                peak=peaks.rate(runtime, own),
                bandwidth=peaks.bandwidth,
                ms=taken.get(name),
            )
        )
    # products that no layer makes, such as those of attention; at least 0, since the two are counted in different ways
    macs_outside = max(batch * macs(candidate) - sum(layer.macs for layer in layers), 0)
    return Roofline(tuple(layers), macs_outside / peaks.rate(runtime, precision) * 1e3, p50_ms)


def width_bytes(precision: str) -> int:
    """Return the bytes of one number.

    Raises:
        InputError: when the precision is not known.
    """
    require_choice("precision", precision, tuple(WIDTH_BYTES))
    return WIDTH_BYTES[precision]


def _by_weight(candidate: Candidate) -> dict[str, list[LayerShape]]:
    """Return the calls of every weight, under the name of the first module that owns it: an exported file names its layers so."""
    owners: dict[torch.Tensor, str] = {}
    weights = {name: weight for name, weight in candidate.module.named_parameters(remove_duplicate=False) if name.endswith("weight")}
    for name, weight in weights.items():
        # tensors hash by identity: a shared weight has one owner, the first module that holds it
        owners.setdefault(weight, _owner(name))
    shapes_by_weight: dict[str, list[LayerShape]] = {}
    for name, shapes in layer_shapes(candidate.module, candidate.example).items():
        # A weight that is computed anew for each call, as by a parametrization, is no parameter and is not shared.
        weight_here = weights.get(f"{name}.weight" if name else "weight")
        # shapes of all layers that share the weight are collected under its owner
        shapes_by_weight.setdefault(name if weight_here is None else owners[weight_here], []).extend(shapes)
    return shapes_by_weight


def _owner(weight: str) -> str:
    return weight.rpartition(".")[0]


def _activations(shape: LayerShape) -> int:
    """Return how many numbers one call reads and writes for one input, without the weight."""
    return shape.in_channels * math.prod(shape.spatial) + shape.out_channels * math.prod(shape.output)


def _by_layer(times: Mapping[str, float]) -> dict[str, float]:
    """Return the milliseconds of all calls of each layer together."""
    layer_ms: dict[str, float] = {}
    for name, ms in times.items():
        layer_ms[_module_name(name)] = layer_ms.get(_module_name(name), 0.0) + ms
    return layer_ms


def _module_name(name: str) -> str:
    return name.partition("#")[0]


def _ms(value: float) -> str:
    return f"{value:.3g} ms"
