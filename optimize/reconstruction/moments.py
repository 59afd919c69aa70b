"""Second moments of what a layer reads now and of what it gave in the original: all that repair and scoring need.

With x the rows a layer reads in the network as it is and y its output rows in the *original*, both centred:

    gram  = sum x'x / n      cross = sum x'y / n      energy = sum y^2 / n

Rows are sampled positions of unlabelled inputs, read in batches; products are computed in float32 and summed in float64, batch by batch.
Both networks get the same inputs and are read at the same positions, in the same order.

Why moments: every subset of the layer's inputs can be solved for from them, without another pass over the images.

Example: rows x = 1, 2, 3 and outputs y = 2, 4, 6. Centred they are -1, 0, 1 and -2, 0, 2, so gram = 2/3, cross = 4/3, energy = 8/3, and the
best weight is cross / gram = 2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import nn

from optimize.candidate import Floats
from optimize.graph.layer_calls import calls
from optimize.graph.layer_types import groups, linear_submodule
from optimize.graph.replay import Changed, Replay
from optimize.graph.trace import ChannelGroup, Index
from optimize.progress import timed
from optimize.reconstruction.cholesky import require_finite
from optimize.reconstruction.layer_matrix import input_rows, matrix, needs_dual_form, output_rows, position_grid
from optimize.reconstruction.position_sampling import sample_positions, unusual_positions
from optimize.reconstruction.shuffled_batches import ShuffledBatches

T = TypeVar("T")
Memory: TypeAlias = dict[Any, Any]
Positions: TypeAlias = Callable[[str, torch.Tensor], torch.Tensor]
"""(layer's name, its input) -> the flat positions at which each case is read, (cases, positions)."""

BATCH, LEAST_BATCH, BATCH_VALUES = 128, 8, 1 << 22  # cases, and values of their inputs: at 3 x 224 x 224, 27 cases
MIN_POSITIONS, MAX_POSITIONS, SPACING = 16, 128, 128
MEMORY_BYTES = 1 << 30
CHUNK = 4096  # rows of which products are computed together
MAX_DUAL_ROWS = 2048
"""Number of rows that a wide layer is fitted on: they are held in memory, and solving takes cubic time in their number."""
WIDEST = 8192
"""Columns up to which steps that need a Gram matrix build one: half a gigabyte in float64, and solving it takes cubic time."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Centred second moments of one layer.

    Args:
        gram: (p, p), moments of the rows it reads. For a grouped layer only the groups' blocks, one below the other, (p, p / groups).
        cross: (p, m), moments of these rows with the outputs of the original's layer.
        energy: (m,), variance of the original's outputs.
        mean_in: (p,), mean of the rows.
        mean_out: (m,), mean of the original's outputs.
        rows: number of rows.
        inputs: (n, p), for a wide layer the rows themselves, centred and divided by sqrt(n); gram and cross are empty then.
        targets: (n, m), for a wide layer the original's outputs on these rows, centred and divided by sqrt(n).
    """

    gram: torch.Tensor
    cross: torch.Tensor
    energy: torch.Tensor
    mean_in: torch.Tensor
    mean_out: torch.Tensor
    rows: int
    inputs: torch.Tensor | None = None
    targets: torch.Tensor | None = None

    def between(self, columns: torch.Tensor) -> torch.Tensor:
        """Return the centred second moments of some columns; for a grouped layer all of one group."""
        if self.inputs is not None:
            return self.inputs[:, columns].T @ self.inputs[:, columns]
        return self.gram[columns][:, columns % self.gram.shape[1]]

    @property
    def variance(self) -> torch.Tensor:
        """Variance of each column, (p,)."""
        if self.inputs is not None:
            return self.inputs.square().sum(0)
        return self.gram.reshape(-1, self.gram.shape[1], self.gram.shape[1]).diagonal(dim1=1, dim2=2).flatten()


class OriginalOutputs:
    """Outputs of the original's layers at sampled positions of the inputs, held within a memory limit.

    Args:
        original: the network whose outputs repairs aim at.
        inputs: (N, C, *spatial), unlabelled.
        layers: the layers that may be asked for, in execution order.
        rows: number of rows a layer is fitted on, as far as the inputs allow.
        seed: seed of the sampled positions.
        memory: results of earlier instances for the same original, inputs and seed, which this one uses and adds to; empty by default.
    """

    def __init__(
        self, original: nn.Module, inputs: Floats, layers: Sequence[str], *, rows: int, seed: int, memory: Memory | None = None
    ) -> None:
        self._original = original
        self._cases = len(inputs)
        self._layers = list(layers)
        self._rows = rows
        self._seed = seed
        # a batch of large images would take gigabytes in the first layers, where maps are widest
        self._batch = int(np.clip(BATCH_VALUES // max(1, inputs[0].size), min(LEAST_BATCH, BATCH), BATCH))
        # shuffled, since a layer with many positions needs the first inputs only, and files are often sorted by class
        self._batches = ShuffledBatches(inputs, size=self._batch, seed=seed)
        memory = {} if memory is None else memory
        # the same inputs and positions: the original's outputs there need not be computed again
        self._targets: dict[str, torch.Tensor] = memory.setdefault(("targets", rows, seed), {})
        if "unusual" not in memory:
            memory["unusual"] = unusual_positions(original, self._batches)
        self._unusual_positions: list[torch.Tensor] | None = memory["unusual"]
        self._sampled: dict[Any, torch.Tensor] = memory.setdefault(("positions", rows, seed), {})
        self._following = False
        self._replay = Replay(original, self._batches)

    def moments(self, module: nn.Module, names: Sequence[str], changing: Collection[str] = ()) -> dict[str, Moments]:
        """Return the moments of the layers `names` of `module` against the original's, from one pass over the inputs.

        Args:
            module: the network as it is.
            names: the layers to measure.
            changing: layers in which this or a later `module` may differ from earlier ones. What lies in front of the first of them is
                run only once. Empty when nothing is known.
        """
        sums = {name: running_sums(module.get_submodule(name)) for name in names}
        with timed("normal equations"):
            for name, inputs, targets in self.row_batches(module, names, changing):
                sums[name].add(inputs, targets)
            made = {name: total.moments() for name, total in sums.items()}
        for name, each in made.items():
            require_finite(f"layer {name}", each.gram, each.cross, each.energy)
        return made

    def follow(self, change: Callable[[], Changed]) -> Changed:
        """Return what `change` returns, which asks for moments of a network while it changes it from front to back.

        Every pass goes on where the last one ended (`graph/replay.py`). Whether the trace computes what the network does is checked once,
        on the network at the end. Where it does not, `change` is called again, and every pass runs the network itself.

        Args:
            change: function whose result has the network at the end as `module`.
        """
        self._following = True
        try:
            changed = change()
            if self._replay.traced:
                self._replay.check_outputs(changed.module)
                if not self._replay.traced:
                    changed = change()
        finally:
            self._following = False
        return changed

    def narrow(self, group: ChannelGroup, keep: Index, changing: Collection[str]) -> None:
        """Go on behind the layers that made a group's channels, of which only `keep` are left; see `Replay.narrow`.

        Args:
            group: the group that was cut.
            keep: its channels that are left.
            changing: the layers that later passes may find changed.
        """
        readers, makers = group.consumers, {slot.module for slot in group.slots if slot.side == "out"}
        if len(readers) == 1 and readers[0].module not in makers:
            layer = linear_submodule(self._original, readers[0].module)
            gone = np.delete(readers[0].index, keep, axis=0).ravel()
            self._replay.narrow(makers, readers[0].module, gone, -1 if isinstance(layer, nn.Linear) else 1, changing)

    def rows(self, module: nn.Module, name: str, changing: Collection[str] = ()) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows themselves: those that the layer `name` of `module` reads, (n, p), and the original's outputs, (n, m)."""
        inputs, targets = zip(*((inputs, targets) for _, inputs, targets in self.row_batches(module, [name], changing)), strict=True)
        return torch.cat(inputs), torch.cat(targets)

    def row_batches(
        self, module: nn.Module, names: Sequence[str], changing: Collection[str] = ()
    ) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """Yield batch by batch: a layer, the rows it reads, and the original's outputs for them."""
        self._fetch_targets(names)
        taken = dict.fromkeys(names, 0)
        if not self._following:
            self._replay.check(module, names)

        def read(number: int, layers: Sequence[str], at: Positions) -> list[tuple[str, torch.Tensor]]:
            def rows(name: str, inputs: torch.Tensor) -> torch.Tensor:
                return input_rows(linear_submodule(module, name), inputs, at(name, inputs))

            return self._replay.inputs(module, layers, number, rows, changing)

        for name, rows in self._read_batches(names, read):
            part = slice(taken[name], taken[name] + len(rows))
            taken[name] = part.stop
            yield name, rows, self._targets[name][part]

    def _fetch_targets(self, names: Sequence[str]) -> None:
        """Compute the targets of these layers, and of as many following layers as the memory holds, unless they are there."""
        if self._targets.keys() >= set(names):
            return
        # the layers in front are done with: repair goes from front to back, so the memory is for the layers from here on
        self._targets.clear()
        ahead = self._layers[min(self._layers.index(name) for name in names) :]
        widths = [matrix(linear_submodule(self._original, layer)).shape[1] for layer in ahead]
        # 4 bytes a value; at 20,000 rows 1 GiB holds 13,421 outputs, dozens of layers, from one pass over the original
        room = np.cumsum(widths) * self._rows * 4 <= MEMORY_BYTES
        fetched = [layer for layer, fits in zip(ahead, room, strict=True) if fits or layer in names]
        parts: dict[str, list[torch.Tensor]] = {layer: [] for layer in fetched}
        for name, rows in self._read_batches(fetched, self._outputs):
            parts[name].append(rows)
        self._targets.update({name: torch.cat(rows) for name, rows in parts.items()})

    def _outputs(self, number: int, names: Sequence[str], at: Positions) -> list[tuple[str, torch.Tensor]]:
        def rows(name: str, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
            return output_rows(linear_submodule(self._original, name), output, at(name, inputs))

        return calls(self._original, names, self._batches[number], rows)

    def _read_batches(
        self, names: Sequence[str], run: Callable[[int, Sequence[str], Positions], list[tuple[str, T]]]
    ) -> Iterator[tuple[str, T]]:
        """Yield what `run` returns for every batch, until each layer has its rows."""
        # inputs until a layer has its rows: with 32 positions of each, 20,000 rows take 625 inputs. Before its first call the number of its
        # positions is not known, so all inputs are assumed.
        need = dict.fromkeys(names, self._cases)
        for number, batch in enumerate(self._batches):
            start = number * self._batch
            unfinished = [name for name in names if need[name] > start]
            if not unfinished:
                return

            def at(name: str, inputs: torch.Tensor, cases: int = len(batch), start: int = start) -> torch.Tensor:
                grid = tuple(position_grid(linear_submodule(self._original, name), inputs.shape))
                per_case = _positions_per_case(prod(grid), ceil(self._rows / self._cases))
                need[name] = ceil(self._rows / per_case)
                return self._positions(grid, start, cases, per_case)

            yield from run(number, unfinished, at)

    def _positions(self, grid: tuple[int, ...], start: int, cases: int, per_case: int) -> torch.Tensor:
        """Return the positions at which these cases are read, the same for every network and for every layer with this grid."""
        key = (grid, start, per_case)
        if key not in self._sampled:
            unusual = None if self._unusual_positions is None else self._unusual_positions[start // self._batch]
            self._sampled[key] = sample_positions(unusual, grid, cases, per_case, (self._seed, start, prod(grid)))
        return self._sampled[key]


def _positions_per_case(positions: int, required_n: int) -> int:
    """Return how many positions of each case are read.

    Neighbouring positions of a large map tell little new, so one in `SPACING` is read, and more positions of each case mean fewer passes.

    Example: a 64x64 map has 4096 positions, and 4096 / 128 = 32 are read; of an 8x8 map, 16 of 64.

        >>> _positions_per_case(64 * 64, 1), _positions_per_case(8 * 8, 1)
        (32, 16)
    """
    return min(positions, max(required_n, MIN_POSITIONS, min(MAX_POSITIONS, positions // SPACING)))


def running_sums(layer: nn.Module, share: float = 1.0) -> _RunningSums | _RowCollector:
    """Return empty sums for a layer; of rows that are kept themselves it takes this share of the most that are."""
    return _RowCollector(ceil(share * MAX_DUAL_ROWS)) if needs_dual_form(layer) else _RunningSums(groups(layer))


class _RowCollector:
    """Collects the first rows themselves, for a layer that is solved in the dual form."""

    def __init__(self, most: int) -> None:
        self.rows, self.most = 0, most
        self._x: list[torch.Tensor] = []
        self._y: list[torch.Tensor] = []

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        room = self.most - self.rows
        if room > 0:
            self._x.append(x[:room].double())
            self._y.append(y[:room].double())
            self.rows += len(self._x[-1])

    def moments(self) -> Moments:
        x, y = torch.cat(self._x), torch.cat(self._y)
        mean_x, mean_y = x.mean(0), y.mean(0)
        # divided by the root of n, so that z'z is the Gram matrix that the other layers have, and one ridge means the same for both
        inputs, targets = (x - mean_x) / self.rows**0.5, (y - mean_y) / self.rows**0.5
        empty = torch.zeros(0, 0, dtype=torch.float64)
        return Moments(empty, empty, targets.square().sum(0), mean_x, mean_y, self.rows, inputs, targets)


class _RunningSums:
    """Running sums of the moments.

    The means of the first rows are subtracted from all rows: with large means, sum x^2 / n - mean^2 would be a small difference of large
    numbers and lose its digits.
    """

    def __init__(self, blocks: int) -> None:
        self.rows, self.blocks = 0, blocks
        self.waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        # bfloat16 or half inputs are too coarse to sum products of
        x, y = (rows.to(torch.promote_types(rows.dtype, torch.float32)) for rows in (x, y))
        self.waiting.append((x, y))
        # Adding a product up in float64 takes as long as the product of a few hundred rows, so small batches are put together first.
        if sum(len(rows) for rows, _ in self.waiting) >= CHUNK:
            self._add_waiting()

    def _add_waiting(self) -> None:
        x, y = (torch.cat(parts) for parts in zip(*self.waiting, strict=True))
        self.waiting.clear()
        if not self.rows:
            p, m = x.shape[1], y.shape[1]
            self.shift_x, self.shift_y = x.mean(0), y.mean(0)
            self.xx, self.xy, self.yy = (torch.zeros(shape, dtype=torch.float64) for shape in ((p, p // self.blocks), (p, m), (m,)))
            self.x, self.y = torch.zeros(p, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
        x, y = x - self.shift_x, y - self.shift_y
        self.rows += len(x)
        # of a grouped layer only products within a group are needed: (groups, columns of a group, rows) times its transpose
        parts = x.T.reshape(self.blocks, -1, len(x))
        # float32 products of one batch, added up in float64: fast, and no digits are lost over many batches
        self.xx += (parts @ parts.mT).flatten(0, 1)
        self.xy += x.T @ y
        self.yy += y.double().square().sum(0)
        self.x += x.double().sum(0)
        self.y += y.double().sum(0)

    def moments(self) -> Moments:
        if self.waiting:
            self._add_waiting()
        mean_x, mean_y = self.x / self.rows, self.y / self.rows
        centre = mean_x.reshape(self.blocks, -1)
        gram = self.xx.div_(self.rows).reshape(self.blocks, *centre.shape[1:], -1)
        return Moments(
            # E[(x - s)(x - s)'] - (mean - s)(mean - s)', with the shift s of the first rows
            gram=gram.addcmul_(centre[:, :, None], centre[:, None, :], value=-1).flatten(0, 1),
            cross=self.xy.div_(self.rows).addr_(mean_x, mean_y, alpha=-1),
            energy=self.yy / self.rows - mean_y.square(),
            mean_in=mean_x + self.shift_x,
            mean_out=mean_y + self.shift_y,
            rows=self.rows,
        )
