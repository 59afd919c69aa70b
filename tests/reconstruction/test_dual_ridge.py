"""The same regression from rows as from moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.graph.trace import trace
from optimize.importance.output_error import eliminate
from optimize.reconstruction import layer_matrix, moments
from optimize.reconstruction.dual_ridge import RowState, solve
from optimize.reconstruction.layer_matrix import columns, needs_dual_form
from optimize.reconstruction.moments import Moments, OriginalOutputs
from optimize.reconstruction.ridge import Problem, build_problem
from optimize.steps.merge import Merge
from optimize.steps.prune import Prune
from optimize.steps.repair import Repair
from tests.nets import candidate, cases, reference

RIDGE = 1e-2


def rows(n: int, p: int, m: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x, y, old = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((n, p), (n, m), (p, m)))
    return (x - x.mean(0)) / n**0.5, (y - y.mean(0)) / n**0.5, old


@pytest.mark.parametrize("shape", [(12, 30, 4), (40, 9, 3)])
def test_weights_are_those_of_the_normal_equations(shape: tuple[int, int, int]) -> None:
    x, y, old = rows(*shape)
    tall = np.vstack([x, np.sqrt(RIDGE) * np.eye(shape[1])])
    goal = np.vstack([y, np.sqrt(RIDGE) * old])
    found, lift = solve(x, y, old, RIDGE)
    np.testing.assert_allclose(found, np.linalg.lstsq(tall, goal, rcond=None)[0], atol=1e-8)
    assert lift == 0


def problems(n: int, channels: int, block: int) -> tuple[Problem, Problem, torch.Tensor]:
    """One regression by its moments, and by its rows."""
    x, y, old = rows(n, channels * block, 3)
    weight = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    blocks = torch.from_numpy(np.random.default_rng(1).permutation(channels * block).reshape(channels, block))
    empty = torch.zeros(0, 0, dtype=torch.float64)
    rest = (old, weight, float((weight * y.square().sum(0)).sum()), RIDGE, torch.zeros(channels * block), torch.zeros(3), None, None)
    return Problem("layer", x.T @ x, x.T @ y, *rest), Problem("layer", empty, empty, *rest, inputs=x, targets=y), blocks


@pytest.mark.parametrize(("n", "channels", "block"), [(20, 8, 6), (60, 5, 3), (25, 70, 1)])
def test_channels_go_in_the_same_order_at_the_same_costs(n: int, channels: int, block: int) -> None:
    primal, dual, blocks = problems(n, channels, block)
    want, got = eliminate([(primal, blocks)]), eliminate([(dual, blocks)])
    assert got.order.tolist() == want.order.tolist()
    np.testing.assert_allclose(got.cost, want.cost, rtol=1e-6)
    left = torch.arange(0, channels * block, 2)
    torch.testing.assert_close(dual.solve(left), primal.solve(left))


def test_both_kinds_of_reader_share_a_channel() -> None:
    primal, dual, blocks = problems(30, 8, 3)
    assert eliminate([(primal, blocks), (dual, blocks)]).order.tolist() == eliminate([(primal, blocks), (primal, blocks)]).order.tolist()


def test_a_state_of_rows_keeps_its_place_after_a_removal() -> None:
    _, dual, blocks = problems(20, 6, 2)
    assert dual.inputs is not None
    assert dual.targets is not None
    state = RowState(dual.inputs, dual.targets, dual.old, RIDGE, 1.0, blocks)
    state.remove(np.array([1, 4]))
    rest = np.array([0, 2, 3, 5])
    stay = torch.sort(blocks[rest].flatten())[0]
    fresh = RowState(dual.inputs[:, stay], dual.targets, dual.old[stay], RIDGE, 1.0, torch.searchsorted(stay, blocks[rest]))
    np.testing.assert_allclose(state.costs(), fresh.costs(), rtol=1e-9)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 10), nn.ReLU(), nn.Linear(10, 4))


def posed() -> tuple[Moments, Problem]:
    start = candidate(net())
    aim = reference(start, 80)
    found = OriginalOutputs(start.module, aim.calibration, ["0", "3", "5"], rows=10**6, seed=0).moments(start.module, ["3"])["3"]
    return found, build_problem(start.module, start.module, trace(start), "3", found, {}, 1e-4)


def test_a_wide_layer_is_posed_by_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    moments_, whole = posed()
    monkeypatch.setattr(layer_matrix, "MAX_GRAM_COLUMNS", 200)
    rows_, wide_ = posed()
    assert needs_dual_form(net()[3])  # type: ignore[index]
    assert rows_.gram.numel() == 0
    assert rows_.inputs is not None
    assert rows_.inputs.shape == (80, 384)
    some = torch.arange(0, 384, 7)
    torch.testing.assert_close(rows_.between(some), moments_.between(some), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(rows_.variance, moments_.variance, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(rows_.energy, moments_.energy, rtol=1e-4, atol=1e-6)
    assert wide_.ridge == pytest.approx(whole.ridge, rel=1e-4)
    torch.testing.assert_close(wide_.solve(some), whole.solve(some), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "step",
    [Prune(0.05), Merge(0.5, repair="least squares", choose="output error"), Repair()],
    ids=lambda step: type(step).__name__,
)
def test_steps_do_the_same_either_way(step: Prune | Merge | Repair, monkeypatch: pytest.MonkeyPatch) -> None:
    start = candidate(net())
    aim, inputs = reference(start, 300), cases(20, seed=5)
    before = step(start, aim)
    monkeypatch.setattr(layer_matrix, "MAX_GRAM_COLUMNS", 200)
    after = step(start, aim)
    assert {name: kept.tolist() for name, kept in after.kept.items()} == {name: kept.tolist() for name, kept in before.kept.items()}
    np.testing.assert_allclose(after.predict(inputs), before.predict(inputs), rtol=1e-2, atol=2e-2)


def test_only_so_many_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_matrix, "MAX_GRAM_COLUMNS", 200)
    monkeypatch.setattr(moments, "MAX_DUAL_ROWS", 50)
    found, _ = posed()
    assert found.rows == 50
    assert found.inputs is not None
    assert found.inputs.shape == (50, 384)


def test_little_memory_lowers_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not needs_dual_form(nn.Linear(300, 2))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"total": 96 * 299**2}))
    assert needs_dual_form(nn.Linear(300, 2))
    assert not needs_dual_form(nn.Linear(299, 2))
    assert not needs_dual_form(nn.Conv2d(600, 600, 3, groups=2))
    assert len(columns(nn.Linear(300, 2), np.arange(2)[:, None])) == 2
