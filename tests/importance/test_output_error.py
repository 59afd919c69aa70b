"""The cost of a removal against its definition: the difference of two least-squares residuals, computed on the rows themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.importance.output_error import eliminate
from optimize.reconstruction.ridge import Problem

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
RIDGE = 1e-3


class Reader:
    """Rows, targets and the block of columns of each channel; the problem built from them and the residual by definition."""

    def __init__(self, channels: int, block: int, outputs: int, seed: int, weight: Array | None = None, rows: int = 200) -> None:
        draw = np.random.default_rng(seed)
        mixing = np.eye(channels * block) + 0.4 * draw.standard_normal((channels * block, channels * block)) / np.sqrt(channels)
        self.x = draw.standard_normal((rows, channels * block)) @ mixing
        self.old = draw.standard_normal((channels * block, outputs))
        self.y = self.x @ self.old + 0.1 * draw.standard_normal((rows, outputs))
        self.weight = np.ones(outputs) if weight is None else weight
        self.blocks = draw.permutation(channels * block).reshape(channels, block)

    @property
    def energy(self) -> float:
        return float((self.weight * self.y**2).mean(0).sum())

    @property
    def problem(self) -> Problem:
        gram, cross = self.x.T @ self.x / len(self.x), self.x.T @ self.y / len(self.x)
        p, m = cross.shape
        gram_, cross_, old, weight = map(torch.from_numpy, (gram, cross, self.old, self.weight))
        return Problem("layer", gram_, cross_, old, weight, self.energy, RIDGE, torch.zeros(p), torch.zeros(m), None, None)

    @property
    def pair(self) -> tuple[Problem, torch.Tensor]:
        return self.problem, torch.from_numpy(self.blocks)

    def residual(self, gone: Index) -> float:
        """min over W with the channels `gone` at zero of the weighted squared error plus ridge, by lstsq on stacked rows."""
        columns = self.blocks[gone].ravel()
        stay = np.setdiff1d(np.arange(self.x.shape[1]), columns)
        pull = np.sqrt(RIDGE * len(self.x)) * np.eye(self.x.shape[1])
        tall, goal = np.vstack([self.x, pull])[:, stay], np.vstack([self.y, pull @ self.old])
        solved = np.linalg.lstsq(tall, goal, rcond=None)[0]
        error = ((tall @ solved - goal) ** 2).sum(0) / len(self.x)
        return float(error @ self.weight) / self.energy


def costs(readers: list[Reader], gone: Index) -> float:
    return sum(reader.residual(gone) - reader.residual(np.array([], dtype=np.int64)) for reader in readers)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 7), st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.booleans(), st.integers(0, 999)
)
def test_every_removal_costs_the_difference_of_residuals(channels: int, block: int, outputs: list[int], weighted: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    readers = [Reader(channels, block, m, seed + place, draw.random(m) * 4 if weighted else None) for place, m in enumerate(outputs)]
    found = eliminate([reader.pair for reader in readers])
    assert len(found.order) == channels - 1
    for count in range(1, channels):
        assert found.cost[count - 1] == pytest.approx(costs(readers, found.order[:count]), rel=1e-6, abs=1e-9)


def test_each_step_removes_what_costs_least_then() -> None:
    readers = [Reader(6, 2, 3, seed=1), Reader(6, 1, 2, seed=2, weight=np.array([3.0, 0.2]))]
    order: list[int] = []
    for _ in range(5):
        trials = {channel: costs(readers, np.array([*order, channel])) for channel in set(range(6)) - set(order)}
        order.append(min(trials, key=trials.__getitem__))
    assert eliminate([reader.pair for reader in readers]).order.tolist() == order


def test_many_channels_go_in_chunks_whose_joint_cost_is_exact() -> None:
    reader = Reader(96, 1, 4, seed=3, rows=150)
    found = eliminate([reader.pair])
    for count in (3, 48, 90):
        assert found.cost[count - 1] == pytest.approx(costs([reader], found.order[:count]), rel=1e-6)
    assert (np.diff(found.cost) >= 0).all()
    assert sorted(found.order.tolist()) == sorted(set(found.order.tolist()))


@pytest.mark.parametrize("budget", [0.1, 0.4])
def test_the_budget_holds_and_one_more_would_pass_it(budget: float) -> None:
    reader = Reader(66, 1, 2, seed=4, rows=100)
    order = eliminate([reader.pair], budget=budget).order
    assert 0 < len(order) < 65
    assert costs([reader], order) <= budget
    left = np.setdiff1d(np.arange(66), order)
    assert min(costs([reader], np.array([*order, channel])) for channel in left) > budget


@pytest.mark.parametrize("least", [1, 4, 9])
def test_least_channels_stay_whatever_they_cost(least: int) -> None:
    assert len(eliminate([Reader(9, 2, 3, seed=5).pair], least=least).order) == 9 - least


@pytest.mark.parametrize("budget", [0.0, -0.5])
def test_no_budget_removes_nothing(budget: float) -> None:
    found = eliminate([Reader(9, 2, 3, seed=6).pair], budget=budget)
    assert (found.order.size, found.cost.size) == (0, 0)


def test_a_copy_is_free_and_the_last_of_them_is_not() -> None:
    reader = Reader(5, 1, 2, seed=7)
    reader.x[:, reader.blocks[3]] = reader.x[:, reader.blocks[1]]
    reader.old[reader.blocks[3]] = reader.old[reader.blocks[1]]
    reader.y = reader.x @ reader.old
    found = eliminate([reader.pair])
    assert found.order[0] in (1, 3)
    assert found.cost[0] < 1e-2 * found.cost[1]
    assert set(found.order[:2].tolist()) != {1, 3}
