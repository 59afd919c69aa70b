from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from optimize.errors import InputError
from optimize.measure.kernel_blocks import Step
from optimize.measure.layers import LayerShape
from optimize.measure.table import LatencyTable
from optimize.measure.width_latency import Grid, Surface, rising, surfaces, widths

RUNTIME: Any = SimpleNamespace(NAME="fake", preflight=lambda: None, precisions=lambda: ("f32",), version=lambda: "1.2")
CONV = LayerShape("conv", 20, 40, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1))
DEPTHWISE = LayerShape("conv", 32, 64, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), groups=32)


def table(tmp_path: Path, asked: list[LayerShape] | None = None) -> LatencyTable:
    """A thousandth for each pair of channels, and one for the layer."""

    def timer(shapes: Sequence[LayerShape]) -> Mapping[LayerShape, float]:
        if asked is not None:
            asked.extend(shapes)
        return {shape: 1 + shape.in_channels * shape.out_channels / 1000 for shape in shapes}

    return LatencyTable(RUNTIME, path=tmp_path / "table.json", timer=timer)


def grids() -> st.SearchStrategy[np.ndarray]:
    rows = st.integers(1, 6)
    return st.tuples(rows, rows, st.integers(0, 2**32 - 1)).map(lambda drawn: np.random.default_rng(drawn[2]).uniform(0.01, 5, drawn[:2]))


@pytest.mark.parametrize(
    ("full", "step", "expected"),
    [
        (1, 1, (1,)),
        (3, 1, (1, 2, 3)),
        (64, 1, (1, 2, 4, 8, 16, 24, 32, 48, 64)),
        (65, 1, (1, 2, 4, 8, 16, 24, 32, 48, 64, 65)),
        (512, 1, (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)),
        (40, 4, (4, 8, 16, 32, 40)),
        (520, 4, (4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 520)),
    ],
)
def test_widths(full: int, step: int, expected: tuple[int, ...]) -> None:
    assert widths(full, step) == expected


def test_a_grid_varies_what_it_is_told_to() -> None:
    ins, outs = (1, 2, 4, 8, 16, 20), (1, 2, 4, 8, 16, 24, 32, 40)
    found = {vary: Grid.up_to(CONV, vary=vary) for vary in ("both", "in", "out")}  # type: ignore[arg-type]
    assert {vary: (grid.in_widths, grid.out_widths) for vary, grid in found.items()} == {
        "both": (ins, outs),
        "in": (ins, (40,)),
        "out": ((20,), outs),
    }
    assert found["in"].cells[3] == [CONV.with_channels(8, 40)]


def test_a_grouped_layer_is_measured_at_multiples_of_its_groups() -> None:
    grid = Grid.up_to(LayerShape("conv", 20, 40, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), groups=4))
    assert (grid.in_widths, grid.out_widths) == ((4, 8, 16, 20), (4, 8, 16, 32, 40))
    assert {shape.groups for row in grid.cells for shape in row} == {4}


def test_the_outputs_of_a_depthwise_layer_follow_its_inputs(tmp_path: Path) -> None:
    grid = Grid.up_to(DEPTHWISE)
    found = [(shape.in_channels, shape.out_channels, shape.groups) for [shape] in grid.cells]
    assert found == [(width, 2 * width, width) for width in (1, 2, 4, 8, 16, 24, 32)]
    [cost] = surfaces(table(tmp_path), [grid])
    assert cost(8, 16) == pytest.approx(1 + 8 * 16 / 1000)
    assert cost(20, 40) == pytest.approx(1 + (16 * 32 + 24 * 48) / 2 / 1000)


def test_grid_points_are_the_table_and_between_them_it_is_bilinear(tmp_path: Path) -> None:
    [found] = surfaces(table(tmp_path), [Grid.up_to(CONV)])
    assert found(16, 24) == pytest.approx(1 + 16 * 24 / 1000)
    # A product is bilinear: it comes out exactly everywhere.
    for read, made in ((1, 1), (3, 7), (18, 33), (20, 40), (13, 24)):
        assert found(read, made) == pytest.approx(1 + read * made / 1000, rel=1e-12)


def test_between_two_steps_a_layer_costs_what_the_next_one_costs() -> None:
    found = Surface(Grid(CONV, (4, 8), (16, 32, 40), Step(1, 16)), np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]]))
    assert [found(4, width) for width in (1, 9, 16, 17, 32, 33, 40)] == [1, 1, 1, 2, 2, 4, 4]
    assert found(6, 20) == 3.5
    with pytest.raises(InputError, match=r"`out_channels` \(=41\) must lie within the measured widths, 16 to 40\."):
        found(4, 41)


def test_numbers_made_by_hand() -> None:
    found = Surface(Grid(CONV, (4, 8), (8, 16, 32)), np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]]))
    assert found(4, 8) == 1
    assert found(8, 32) == 9
    assert found(6, 8) == 2
    assert found(4, 12) == 1.5
    assert found(6, 24) == 5  # the mean of 2, 4, 5 and 9
    assert found(7, 12) == pytest.approx(0.25 * 1.5 + 0.75 * 4)


@given(grids(), st.integers(0, 1000))
def test_agrees_with_an_independent_interpolation(ms: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ins, outs = (tuple(sorted(rng.choice(np.arange(1, 65), size, replace=False).tolist())) for size in ms.shape)
    read, made = int(rng.integers(ins[0], ins[-1] + 1)), int(rng.integers(outs[0], outs[-1] + 1))
    found = Surface(Grid(CONV, ins, outs), ms)(read, made)
    if min(ms.shape) > 1:
        assert found == pytest.approx(RegularGridInterpolator((ins, outs), ms)((read, made)))
    elif ms.shape == (1, 1):
        assert found == ms[0, 0]


@given(grids())
def test_a_wider_layer_is_never_cheaper(ms: np.ndarray) -> None:
    found = Surface(Grid(CONV, widths(64)[: len(ms)], widths(64)[: ms.shape[1]]), rising(ms))
    ins, outs = (range(1, side[-1] + 1) for side in (found.grid.in_widths, found.grid.out_widths))
    costs = np.array([[found(read, made) for made in outs] for read in ins])
    assert (np.diff(costs, axis=0) >= -1e-12).all()
    assert (np.diff(costs, axis=1) >= -1e-12).all()
    assert ms.min() <= costs.min() <= costs.max() <= ms.max()


def test_rising_by_hand() -> None:
    """The dip at 2 and the 4 before it meet halfway; what follows both was in order and stays."""
    np.testing.assert_array_equal(rising(np.array([[1.0, 4.0, 2.0, 5.0]])), [[1, 3, 3, 5]])
    np.testing.assert_array_equal(rising(np.array([[1.0, 2.0], [0.5, 3.0]])), [[0.75, 2], [0.75, 3]])


@given(grids())
def test_what_rises_by_itself_stays_as_it_is(ms: np.ndarray) -> None:
    ordered = np.sort(np.sort(ms, axis=0), axis=1)
    np.testing.assert_array_equal(rising(ordered), ordered)


def test_all_grids_are_timed_together_and_shared_cells_once(tmp_path: Path) -> None:
    asked: list[LayerShape] = []
    small = CONV.with_channels(16, 32)
    found = surfaces(table(tmp_path, asked), [Grid.up_to(CONV), Grid.up_to(small, vary="out")])
    assert len(asked) == len(set(asked)) == 6 * 8  # the second grid lies in the first
    assert found[1](16, 20) == found[0](16, 20)


@pytest.mark.parametrize(
    ("at", "message"), [((21, 8), r"`in_channels` \(=21\) must lie within .* 1 to 20"), ((8, 0), r"`out_channels` \(=0\).* 1 to 40")]
)
def test_outside_the_grid_is_an_error(at: tuple[int, int], message: str, tmp_path: Path) -> None:
    [found] = surfaces(table(tmp_path), [Grid.up_to(CONV)])
    with pytest.raises(InputError, match=message):
        found(*at)


def test_a_fixed_side_is_not_looked_at(tmp_path: Path) -> None:
    [found] = surfaces(table(tmp_path), [Grid.up_to(CONV, vary="out")])
    assert found(20, 8) == found(3, 8) == pytest.approx(1 + 20 * 8 / 1000)
