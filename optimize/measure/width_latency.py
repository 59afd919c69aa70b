"""Latency of one layer at any width, interpolated in a grid of widths that were measured.

Between the grid's widths the cost is bilinear, in steps where the kernels have some (`measure/kernel_blocks.py`). The figures of the grid
are first made to rise with both widths, so that noise never makes a wider layer look cheaper: each becomes the mean of the largest figure
at or below its widths and the smallest figure at or above them. Both of these rise, so their mean does. Figures that rise anyway stay.

Worked example, one side, measured at 8, 16 and 32 channels: 2.0, 1.8 and 3.0 ms.

    largest so far        2.0  2.0  3.0
    smallest from here    1.8  1.8  3.0
    mean                  1.9  1.9  3.0      at 24 channels, halfway between 16 and 32: 2.45 ms; with blocks of 16 as at 32: 3.0 ms
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt

from optimize.errors import InputError
from optimize.measure.kernel_blocks import EVERY, Step
from optimize.measure.layers import LayerShape
from optimize.measure.table import LatencyTable

_SMALL = (1, 2, 4, 8, 16, 24, 32, 48, 64)


@dataclass(frozen=True)
class Grid:
    """The widths at which a layer is measured.

    Args:
        shape: shape of the layer; everything but its widths stays.
        in_widths: numbers of input channels, ascending; a single one when it is not to change.
        out_widths: numbers of output channels, ascending; a single one when it is not to change. Those of a depthwise layer follow its
            input channels, and this holds one entry.
        step: block sizes of the kernels on either side: a width costs what the next multiple of the block size costs.
    """

    shape: LayerShape
    in_widths: tuple[int, ...]
    out_widths: tuple[int, ...]
    step: Step = EVERY

    @classmethod
    def up_to(cls, shape: LayerShape, *, vary: Literal["both", "in", "out"] = "both") -> Grid:
        """Return the widths that suit kernels, up to those the layer has; `vary` names the sides that may change."""
        step = 1 if shape.depthwise else shape.groups
        ins = widths(shape.in_channels, step) if vary != "out" else (shape.in_channels,)
        outs = widths(shape.out_channels, step) if vary != "in" and not shape.depthwise else (shape.out_channels,)
        return cls(shape, ins, outs)

    @property
    def cells(self) -> list[list[LayerShape]]:
        """A row for each of `in_widths`, in it a shape for each of `out_widths`."""
        if self.shape.depthwise:
            outputs_per_input = self.shape.out_channels // self.shape.in_channels
            return [[self.shape.with_channels(width, outputs_per_input * width)] for width in self.in_widths]
        return [[self.shape.with_channels(read, made) for made in self.out_widths] for read in self.in_widths]


@dataclass(frozen=True, eq=False)
class Surface:
    """Milliseconds of one layer as a function of its widths.

    Args:
        grid: the widths at which it was measured.
        ms: (in_widths, out_widths), rising along both.
    """

    grid: Grid
    ms: npt.NDArray[np.float64]

    def __call__(self, in_channels: int, out_channels: int) -> float:
        """Return the milliseconds at these widths; a side that the grid holds fixed is not looked at.

        Raises:
            InputError: when a width lies outside the grid.
        """
        grid = self.grid
        read = _priced("in_channels", in_channels, grid.in_widths, grid.step.ins)
        made = _priced("out_channels", out_channels, grid.out_widths, grid.step.outs)
        # bilinear: first along the outputs in every row, then between the rows along the inputs
        along = [np.interp(made, grid.out_widths, row) for row in self.ms]
        return float(np.interp(read, grid.in_widths, along))


def surfaces(table: LatencyTable, grids: Iterable[Grid]) -> list[Surface]:
    """Return one surface for each grid; what the table lacks of all of them is timed together."""
    cells = [(grid, grid.cells) for grid in grids]
    table.fill(chain.from_iterable(row for _, rows in cells for row in rows))
    return [Surface(grid, rising(np.array([[table.ms(shape) for shape in row] for row in rows]))) for grid, rows in cells]


def widths(full: int, step: int = 1) -> tuple[int, ...]:
    """Return the widths below `full` that suit kernels, and `full`: 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, … times `step`."""
    multiples = list(_SMALL)
    while multiples[-1] * step < full:
        # 64 -> 96, 128 -> 192, 256: two widths in each doubling
        multiples += [multiples[-1] * 3 // 2, multiples[-1] * 2]
    return (*(step * width for width in multiples if step * width < full), full)


def _priced(name: str, width: int, measured: tuple[int, ...], step: int) -> int:
    """Return the width whose cost this one has."""
    whole = -(-width // step) * step
    if len(measured) > 1 and (whole < measured[0] or width > measured[-1]):
        raise InputError(f"`{name}` (={width}) must lie within the measured widths, {measured[0]} to {measured[-1]}.")
    # the next whole block may lie above the grid where the layer itself is no whole block
    return min(whole, measured[-1])


def rising(ms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the nearest of the simple grids that rise along both axes: halfway between the highest so far and the lowest from here on."""
    highest = np.maximum.accumulate(np.maximum.accumulate(ms, axis=0), axis=1)
    lowest = np.minimum.accumulate(np.minimum.accumulate(ms[::-1, ::-1], axis=0), axis=1)[::-1, ::-1]
    middle: npt.NDArray[np.float64] = (highest + lowest) / 2
    return middle
