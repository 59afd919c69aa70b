"""How many channels the runtime's kernels compute at once, measured: up to the next multiple of it, a wider layer costs the same.

Vector units work on blocks of channels, so the cost of a layer is a staircase in its widths: on a processor with AVX-512, a convolution
with 17 output channels takes as long as one with 32. A block of B channels shows when the cost rises from B to 2 B channels, and has done
so at 5/4 B and at 3/2 B already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from optimize.measure.layers import LayerShape
from optimize.measure.table import LatencyTable

BLOCKS = (32, 16, 8, 4)
"""Looked for, the largest first."""
RISE = 1.25
"""By what factor 2 B channels must cost more than B at least, to be a step."""
DONE = 0.75
"""Share of the rise that must be over between two multiples; a cost in proportion has a quarter and a half of it."""
OTHER = 24
"""Channels on the side that does not vary."""
PROBES = {
    "conv": LayerShape("conv", OTHER, OTHER, (48, 48), (3, 3), (1, 1), (1, 1), (1, 1)),
    "transposed": LayerShape("transposed", OTHER, OTHER, (48, 48), (2, 2), (2, 2), (0, 0), (1, 1), (0, 0)),
}


class Step(NamedTuple):
    """Channels computed at once, on either side of a layer; 1 where the cost rises with every channel."""

    ins: int = 1
    outs: int = 1


EVERY = Step()
"""No steps: every channel costs."""


def kernel_steps(table: LatencyTable) -> Mapping[str, Step]:
    """The steps of each kind of layer that has them; those of linear, grouped and depthwise layers are not looked for."""
    widths = sorted({width for block in BLOCKS for width in _looked_at(block)})
    table.fill(shape for probe in PROBES.values() for width in widths for shape in _varied(probe, width))
    return {kind: Step(*(_block(table, probe, side) for side in (0, 1))) for kind, probe in PROBES.items()}


def step_of(shape: LayerShape, steps: Mapping[str, Step]) -> Step:
    """The step of a layer."""
    return steps.get(shape.kind, EVERY) if shape.groups == 1 else EVERY


def _block(table: LatencyTable, probe: LayerShape, side: int) -> int:
    for block in BLOCKS:
        first, *between, last = (table.ms(_varied(probe, width)[side]) for width in _looked_at(block))
        if last >= RISE * first and min(between) - first >= DONE * (last - first):
            return block
    return 1


def _looked_at(block: int) -> tuple[int, ...]:
    return block, 5 * block // 4, 3 * block // 2, 2 * block


def _varied(probe: LayerShape, width: int) -> tuple[LayerShape, LayerShape]:
    """The probe with so many input channels, and with so many output channels."""
    return probe.with_channels(width, probe.out_channels), probe.with_channels(probe.in_channels, width)
