"""Second moments of what a layer reads now and what it gave in the original: all that repair and scoring need.

With x the rows a layer reads in the network as it stands and y its output rows in the *original*, both centred:

    gram  = sum x'x / n      cross = sum x'y / n      energy = sum y^2 / n

Rows are sampled positions of unlabelled inputs, streamed in batches; products are taken in float32 and summed in float64 batch by batch.
Both networks see the same inputs and are read at the same positions, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from torch import nn

from optimize.candidate import Floats
from optimize.layers import groups
from optimize.linear import LinearMap, input_rows, matrix, output_rows, places, wide

T = TypeVar("T")
Hook: TypeAlias = Callable[[nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor], torch.Tensor], None]

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
        given: of a wide layer, whose gram and cross are left empty, the rows themselves, (n, p), centred and divided by sqrt(n).
        wanted: (n, m) the original's outputs on them, likewise.
    """

    gram: torch.Tensor
    cross: torch.Tensor
    energy: torch.Tensor
    mean_in: torch.Tensor
    mean_out: torch.Tensor
    rows: int
    given: torch.Tensor | None = None
    wanted: torch.Tensor | None = None

    def between(self, columns: torch.Tensor) -> torch.Tensor:
        """Second moments of some columns (of one group, where the layer is grouped), centred."""
        if self.given is not None:
            return self.given[:, columns].T @ self.given[:, columns]
        return self.gram[columns][:, columns % self.gram.shape[1]]

    @property
    def variance(self) -> torch.Tensor:
        """(p,) of each column."""
        if self.given is not None:
            return self.given.square().sum(0)
        return self.gram.reshape(-1, self.gram.shape[1], self.gram.shape[1]).diagonal(dim1=1, dim2=2).flatten()


class Targets:
    """What the original's layers give, at sampled positions of the sampled inputs; kept within a memory limit.

    Args:
        original: the network every repair aims at.
        inputs: (N, C, *spatial), unlabelled.
        layers: the layers that may be asked for, in execution order.
        rows: how many rows a layer is fitted on, as far as the inputs allow.
        seed: of the sampled positions.
    """

    def __init__(self, original: nn.Module, inputs: Floats, layers: Sequence[str], *, rows: int, seed: int) -> None:
        self._original = original
        self._inputs = torch.from_numpy(inputs[np.random.default_rng(seed).permutation(len(inputs))])
        self._layers = list(layers)
        self._rows = rows
        self._seed = seed
        self._kept: dict[str, torch.Tensor] = {}

    def moments(self, module: nn.Module, names: Sequence[str]) -> dict[str, Moments]:
        """Moments of the layers `names` of `module` against the original's, from one pass over the inputs."""
        self._fetch(names)
        sums = {name: _sums(module.get_submodule(name)) for name in names}
        taken = dict.fromkeys(names, 0)
        for name, rows in self._visit(module, names, lambda layer, given, _, at: input_rows(layer, given, at)):
            start = taken[name]
            taken[name] += len(rows)
            sums[name].add(rows, self._kept[name][start : taken[name]])
        return {name: total.moments() for name, total in sums.items()}

    def _fetch(self, names: Sequence[str]) -> None:
        """Have these layers' targets, and as many following layers' as the memory holds."""
        if self._kept.keys() >= set(names):
            return
        self._kept.clear()
        ahead = self._layers[min(self._layers.index(name) for name in names) :]
        widths = [matrix(self._original.get_submodule(layer)).shape[1] for layer in ahead]  # type: ignore[arg-type]
        room = np.cumsum(widths) * self._rows * 4 <= MEMORY_BYTES
        wanted = [layer for layer, fits in zip(ahead, room, strict=True) if fits or layer in names]
        parts: dict[str, list[torch.Tensor]] = {layer: [] for layer in wanted}
        for name, rows in self._visit(self._original, wanted, lambda layer, _, output, at: output_rows(layer, output, at)):
            parts[name].append(rows)
        self._kept = {name: torch.cat(rows) for name, rows in parts.items()}

    def _visit(
        self, module: nn.Module, names: Sequence[str], rows: Callable[[LinearMap, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """`rows(layer, input, output, positions)` of every call of the named layers, batch by batch, until each has its rows."""
        need = dict.fromkeys(names, len(self._inputs))
        for start in range(0, len(self._inputs), BATCH):
            wanted = [name for name in names if need[name] > start]
            if not wanted:
                return

            def read(name: str, given: torch.Tensor, output: torch.Tensor, start: int = start) -> torch.Tensor:
                layer: LinearMap = module.get_submodule(name)  # type: ignore[assignment]
                count = places(layer, given, output)
                each = _positions_per_case(count, ceil(self._rows / len(self._inputs)))
                need[name] = ceil(self._rows / each)
                return rows(layer, given, output, _positions(len(given), count, each, (self._seed, start, count)))

            yield from calls(module, wanted, self._inputs[start : start + BATCH], read)


def calls(
    module: nn.Module, names: Sequence[str], inputs: torch.Tensor, read: Callable[[str, torch.Tensor, torch.Tensor], T]
) -> list[tuple[str, T]]:
    """`read(name, input, output)` at every call of the named layers, in order; the network is left as soon as nothing more can come.

    It is read at once, since a later operation may overwrite the tensors in place.
    """
    seen: list[tuple[str, T]] = []
    # A layer may be called many times, so one can only stop early when the last named layer is never reused: the number of
    # calls is counted on a single case first.
    expected = _count_calls(module, names, inputs[:1])

    def record(name: str) -> Hook:
        def hook(_: nn.Module, args: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor], output: torch.Tensor) -> None:
            seen.append((name, read(name, args[0] if args else named["input"], output)))
            if len(seen) == expected:
                raise _AllSeen

        return hook

    _run_hooked(module, names, record, inputs)
    return seen


def _count_calls(module: nn.Module, names: Sequence[str], inputs: torch.Tensor) -> int:
    count = 0

    def record(_: str) -> Hook:
        def hook(*_: object) -> None:
            nonlocal count
            count += 1

        return hook

    _run_hooked(module, names, record, inputs)
    return count


class _AllSeen(Exception):
    pass


def _run_hooked(module: nn.Module, names: Sequence[str], hook: Callable[[str], Hook], inputs: torch.Tensor) -> None:
    handles = [module.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True) for name in names]
    try:
        with torch.inference_mode():
            module(inputs.clone())  # the network may work in place
    except _AllSeen:
        pass
    finally:
        for handle in handles:
            handle.remove()


def _positions_per_case(places: int, least: int) -> int:
    """Large maps give more positions each, since their neighbours tell little new, and so need fewer forward passes."""
    return min(places, max(least, LEAST_POSITIONS, min(MOST_POSITIONS, places // SPACING)))


def _positions(cases: int, count: int, each: int, seed: tuple[int, ...]) -> torch.Tensor:
    """`each` of `count` flat positions for every case, without repetition: (cases, each)."""
    if each == count:
        return torch.arange(count).expand(cases, -1)
    draw = np.random.default_rng(seed).random((cases, count))
    return torch.from_numpy(np.argpartition(draw, each, axis=1)[:, :each])


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
