"""Second moments of what a layer reads now and what it gave in the original: all that repair and scoring need.

With x the rows a layer reads in the network as it stands and y its output rows in the *original*, both centred:

    gram  = sum x'x / n      cross = sum x'y / n      energy = sum y^2 / n

Rows are sampled positions of unlabelled inputs, streamed in batches; products are taken in float32 and summed in float64 batch by batch.
Both networks see the same inputs and are read at the same positions, in the same order.
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
from optimize.graph.layer_types import groups, linear_submodule
from optimize.graph.replay import Replay, calls
from optimize.reconstruction.layer_matrix import input_rows, matrix, output_rows, positions_per_sample, wide
from optimize.reconstruction.position_sampling import drawn, unusual

T = TypeVar("T")
Memory: TypeAlias = dict[Any, Any]
_At: TypeAlias = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]
"""Given a layer's name, input and output: the flat positions at which each case is read, (cases, each)."""

BATCH = 128
LEAST_POSITIONS, MOST_POSITIONS, SPACING = 16, 128, 128
MEMORY_BYTES = 1 << 30
MOST_WIDE_ROWS = 2048
"""Rows that a wide layer is fitted on: they are kept, and solving takes cubic time in their number."""
WIDEST = 8192
"""Columns up to which a gram matrix is built: half a gigabyte in float64, and solving it takes cubic time."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Centred second moments of one layer.

    Args:
        gram: (p, p) of what it reads; of a grouped layer only the groups' blocks, one below the other, (p, p / groups).
        cross: (p, m) with what the original's layer gave.
        energy: (m,) variance of the original's outputs.
        mean_in: (p,).
        mean_out: (m,) of the original's outputs.
        rows: how many rows were seen.
        inputs: of a wide layer, whose gram and cross are left empty, the rows themselves, (n, p), centred and divided by sqrt(n).
        targets: (n, m) the original's outputs on them, likewise.
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
        """Second moments of some columns (of one group, where the layer is grouped), centred."""
        if self.inputs is not None:
            return self.inputs[:, columns].T @ self.inputs[:, columns]
        return self.gram[columns][:, columns % self.gram.shape[1]]

    @property
    def variance(self) -> torch.Tensor:
        """(p,) of each column."""
        if self.inputs is not None:
            return self.inputs.square().sum(0)
        return self.gram.reshape(-1, self.gram.shape[1], self.gram.shape[1]).diagonal(dim1=1, dim2=2).flatten()


class OriginalOutputs:
    """What the original's layers give, at sampled positions of the sampled inputs; kept within a memory limit.

    Args:
        original: the network every repair aims at.
        inputs: (N, C, *spatial), unlabelled.
        layers: the layers that may be asked for, in execution order.
        rows: how many rows a layer is fitted on, as far as the inputs allow.
        seed: of the sampled positions.
        memory: what earlier ones for the same original, inputs and seed have found, and this one adds to; none by default.
    """

    def __init__(
        self, original: nn.Module, inputs: Floats, layers: Sequence[str], *, rows: int, seed: int, memory: Memory | None = None
    ) -> None:
        self._original = original
        self._inputs = torch.from_numpy(inputs[np.random.default_rng(seed).permutation(len(inputs))])
        self._layers = list(layers)
        self._rows = rows
        self._seed = seed
        self._batches = torch.split(self._inputs, BATCH)
        memory = {} if memory is None else memory
        # the same inputs and positions: what the original gives there need not be found again
        self._kept: dict[str, torch.Tensor] = memory.setdefault(("targets", rows, seed), {})
        if "unusual" not in memory:
            memory["unusual"] = unusual(original, self._batches)
        self._unusual: list[torch.Tensor] | None = memory["unusual"]
        self._replay = Replay(original, self._batches)

    def moments(self, module: nn.Module, names: Sequence[str], changing: Collection[str] = ()) -> dict[str, Moments]:
        """Moments of the layers `names` of `module` against the original's, from one pass over the inputs.

        Args:
            module: the network as it stands.
            names: its layers to look at.
            changing: layers in which this or a later `module` may differ from earlier ones; what lies before the first of them is run only
                once. Empty when nothing is known.
        """
        sums = {name: _sums(module.get_submodule(name)) for name in names}
        for name, given, wanted in self._read(module, names, changing):
            sums[name].add(given, wanted)
        return {name: total.moments() for name, total in sums.items()}

    def rows(self, module: nn.Module, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows themselves: what the layer `name` of `module` reads, (n, p), and what the original's gave, (n, m)."""
        given, wanted = zip(*((given, wanted) for _, given, wanted in self._read(module, [name])), strict=True)
        return torch.cat(given), torch.cat(wanted)

    def _read(
        self, module: nn.Module, names: Sequence[str], changing: Collection[str] = ()
    ) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """Batch by batch: a layer, the rows it reads, and what the original's gave for them."""
        self._fetch(names)
        taken = dict.fromkeys(names, 0)
        self._replay.check(module, names)

        def read(number: int, wanted: Sequence[str], at: _At) -> list[tuple[str, torch.Tensor]]:
            def rows(name: str, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
                return input_rows(linear_submodule(module, name), given, at(name, given, output))

            return self._replay.calls(module, wanted, number, rows, changing)

        for name, rows in self._visit(names, read):
            part = slice(taken[name], taken[name] + len(rows))
            taken[name] = part.stop
            yield name, rows, self._kept[name][part]

    def _fetch(self, names: Sequence[str]) -> None:
        """Have these layers' targets, and as many following layers' as the memory holds."""
        if self._kept.keys() >= set(names):
            return
        self._kept.clear()
        ahead = self._layers[min(self._layers.index(name) for name in names) :]
        widths = [matrix(linear_submodule(self._original, layer)).shape[1] for layer in ahead]
        room = np.cumsum(widths) * self._rows * 4 <= MEMORY_BYTES
        wanted = [layer for layer, fits in zip(ahead, room, strict=True) if fits or layer in names]
        parts: dict[str, list[torch.Tensor]] = {layer: [] for layer in wanted}
        for name, rows in self._visit(wanted, self._outputs):
            parts[name].append(rows)
        self._kept.update({name: torch.cat(rows) for name, rows in parts.items()})

    def _outputs(self, number: int, names: Sequence[str], at: _At) -> list[tuple[str, torch.Tensor]]:
        def rows(name: str, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
            return output_rows(linear_submodule(self._original, name), output, at(name, given, output))

        return calls(self._original, names, self._batches[number], rows)

    def _visit(self, names: Sequence[str], run: Callable[[int, Sequence[str], _At], list[tuple[str, T]]]) -> Iterator[tuple[str, T]]:
        """What `run` gives of every batch, until each layer has its rows."""
        need = dict.fromkeys(names, len(self._inputs))
        for number, batch in enumerate(self._batches):
            start = number * BATCH
            wanted = [name for name in names if need[name] > start]
            if not wanted:
                return

            def at(name: str, given: torch.Tensor, output: torch.Tensor, cases: int = len(batch), start: int = start) -> torch.Tensor:
                layer = linear_submodule(self._original, name)
                count = positions_per_sample(layer, given, output)
                each = _positions_per_case(count, ceil(self._rows / len(self._inputs)))
                need[name] = ceil(self._rows / each)
                sizes = () if isinstance(layer, nn.Linear) else (given if layer.transposed else output).shape[2:]
                grid = tuple(sizes) if prod(sizes) == count else (count,)
                where = None if self._unusual is None else self._unusual[start // BATCH]
                return drawn(where, grid, cases, each, (self._seed, start, count))

            yield from run(number, wanted, at)


def _positions_per_case(places: int, least: int) -> int:
    """Large maps give more positions each, since their neighbours tell little new, and so need fewer forward passes."""
    return min(places, max(least, LEAST_POSITIONS, min(MOST_POSITIONS, places // SPACING)))


def _sums(layer: nn.Module) -> _Sums | _Rows:
    return _Rows() if wide(layer) else _Sums(groups(layer))


class _Rows:
    """The first rows themselves."""

    def __init__(self) -> None:
        self.rows = 0
        self._x: list[torch.Tensor] = []
        self._y: list[torch.Tensor] = []

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        room = MOST_WIDE_ROWS - self.rows
        if room > 0:
            self._x.append(x[:room].double())
            self._y.append(y[:room].double())
            self.rows += len(self._x[-1])

    def moments(self) -> Moments:
        x, y = torch.cat(self._x), torch.cat(self._y)
        mean_x, mean_y = x.mean(0), y.mean(0)
        given, wanted = (x - mean_x) / self.rows**0.5, (y - mean_y) / self.rows**0.5
        empty = torch.zeros(0, 0, dtype=torch.float64)
        return Moments(empty, empty, wanted.square().sum(0), mean_x, mean_y, self.rows, given, wanted)


class _Sums:
    """Running sums; the first batch's means are taken off first, so that centring costs no digits."""

    def __init__(self, blocks: int) -> None:
        self.rows, self.blocks = 0, blocks

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        x, y = (rows.to(torch.promote_types(rows.dtype, torch.float32)) for rows in (x, y))
        if not self.rows:
            p, m = x.shape[1], y.shape[1]
            self.shift_x, self.shift_y = x.mean(0), y.mean(0)
            self.xx, self.xy, self.yy = (torch.zeros(shape, dtype=torch.float64) for shape in ((p, p // self.blocks), (p, m), (m,)))
            self.x, self.y = torch.zeros(p, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
        x, y = x - self.shift_x, y - self.shift_y
        self.rows += len(x)
        parts = x.T.reshape(self.blocks, -1, len(x))
        self.xx += (parts @ parts.mT).flatten(0, 1)
        self.xy += x.T @ y
        self.yy += y.double().square().sum(0)
        self.x += x.double().sum(0)
        self.y += y.double().sum(0)

    def moments(self) -> Moments:
        mean_x, mean_y = self.x / self.rows, self.y / self.rows
        centre = mean_x.reshape(self.blocks, -1)
        gram = self.xx.div_(self.rows).reshape(self.blocks, *centre.shape[1:], -1)
        return Moments(
            gram=gram.addcmul_(centre[:, :, None], centre[:, None, :], value=-1).flatten(0, 1),
            cross=self.xy.div_(self.rows).addr_(mean_x, mean_y, alpha=-1),
            energy=self.yy / self.rows - mean_y.square(),
            mean_in=mean_x + self.shift_x,
            mean_out=mean_y + self.shift_y,
            rows=self.rows,
        )
