"""Measure how many channels a runtime's kernels compute at once: up to the next multiple of that, a wider layer costs the same.

Vector units work on blocks of channels, so the cost of a layer is a staircase in its widths: on a processor with AVX-512, a convolution
with 17 output channels takes as long as one with 32. A block of B channels shows when the cost rises from B to 2 B channels, and has done
so at 5/4 B and at 3/2 B already.

Worked example, B = 16, milliseconds at 16, 20, 24 and 32 output channels:

    1.00  1.95  1.97  2.00    the cost doubles, and nearly all of the rise is over at 20: a block of 16
    1.00  1.25  1.50  2.00    a quarter of the rise is over at 20, half of it at 24: the cost is in proportion, no block of 16
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from optimize.measure.layers import LayerShape
from optimize.measure.table import LatencyTable

BLOCKS = (32, 16, 8, 4)
"""Block sizes that are looked for, the largest first."""
RISE = 1.25
"""Smallest factor by which 2 B channels must cost more than B for a block of B."""
DONE = 0.75
"""Share of the rise that must be over between two multiples; a cost in proportion has a quarter and a half of it."""
FIXED_CHANNELS = 24
"""Channels on the side that does not vary."""
PROBES = {
    "conv": LayerShape("conv", FIXED_CHANNELS, FIXED_CHANNELS, (48, 48), (3, 3), (1, 1), (1, 1), (1, 1)),
    "transposed": LayerShape("transposed", FIXED_CHANNELS, FIXED_CHANNELS, (48, 48), (2, 2), (2, 2), (0, 0), (1, 1), (0, 0)),
}


class Step(NamedTuple):
    """Channels computed at once, on either side of a layer; 1 where the cost rises with every channel."""

    ins: int = 1
    outs: int = 1


EVERY = Step()
"""No steps: every channel costs."""


def kernel_steps(table: LatencyTable) -> Mapping[str, Step]:
    """Return the block sizes of each kind of layer; linear, grouped and depthwise layers are not probed."""
    widths = sorted({width for block in BLOCKS for width in _probed_widths(block)})
    table.fill(shape for probe in PROBES.values() for width in widths for shape in _varied(probe, width))
    return {kind: Step(*(_block(table, probe, side) for side in (0, 1))) for kind, probe in PROBES.items()}


def step_of(shape: LayerShape, steps: Mapping[str, Step]) -> Step:
    """Return the block sizes of a layer."""
    return steps.get(shape.kind, EVERY) if shape.groups == 1 else EVERY


def _block(table: LatencyTable, probe: LayerShape, side: int) -> int:
    for block in BLOCKS:
        # Example, block 16: widths 16, 20, 24, 32. Where 1.95 and 1.97 of a rise from 1.00 to 2.00 are reached at 20 and 24, the lesser of
        # the two is 95 % of the rise, above DONE.
        first, *between, last = (table.ms(_varied(probe, width)[side]) for width in _probed_widths(block))
        if last >= RISE * first and min(between) - first >= DONE * (last - first):
            return block
    return 1


def _probed_widths(block: int) -> tuple[int, ...]:
    return block, 5 * block // 4, 3 * block // 2, 2 * block


def _varied(probe: LayerShape, width: int) -> tuple[LayerShape, LayerShape]:
    """Return the probe with so many input channels, and with so many output channels."""
    return probe.with_channels(width, probe.out_channels), probe.with_channels(probe.in_channels, width)
