"""Transposed convolutions against a design matrix built by hand: a column for every weight and one for every bias, solved by QR."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.linalg import lstsq
from torch import nn

from optimize.graph.surgery import with_tensors
from optimize.graph.trace import Graph, trace
from optimize.importance.output_error import eliminate
from optimize.reconstruction import layer_matrix
from optimize.reconstruction.layer_matrix import columns
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.ridge import Problem, build_problem, refit
from tests.nets import candidate, cases, ready

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
EMPTY = Graph((), (), {}, {})
EVERY = 10**6
NONE = np.array([], dtype=np.int64)

LAYERS: dict[str, Any] = {
    "kernel 2": lambda bias: nn.ConvTranspose2d(4, 2, 2, 2, bias=bias),
    "kernel 3": lambda bias: nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, bias=bias),
    "kernel 4": lambda bias: nn.ConvTranspose2d(4, 2, 4, 2, 1, bias=bias),
    "a phase without taps": lambda bias: nn.ConvTranspose2d(4, 2, 1, 2, 0, 1, bias=bias),
    "grouped": lambda bias: nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=2, bias=bias),
    "depthwise": lambda bias: nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=4, bias=bias),
    "stride 1": lambda bias: nn.ConvTranspose2d(4, 2, 3, 1, 1, bias=bias),
}


class Design:
    """The least squares of a whole layer, by what each weight alone makes of the inputs; errors are summed over a block's outputs.

    Args:
        layer: the transposed convolution.
        x: what it reads, (N, C, H, W).
        wanted: what it should give, (N, K, H * stride, W * stride).
        ridge: strength of the pull to the present weights.
    """

    def __init__(self, layer: Any, x: torch.Tensor, wanted: torch.Tensor, ridge: float) -> None:
        units = torch.eye(layer.weight.numel(), dtype=torch.float64).view(-1, *layer.weight.shape)
        arguments = (None, layer.stride, layer.padding, layer.output_padding, layer.groups)
        made = [nn.functional.conv_transpose2d(x.double(), unit, *arguments).flatten() for unit in units]
        biases = torch.eye(wanted.shape[1], dtype=torch.float64)[:, None, :, None, None].expand(-1, len(x), -1, *wanted.shape[2:])
        blocks = wanted.numel() / (wanted.shape[1] * np.prod(layer.stride))
        pull = np.sqrt(ridge) * np.eye(len(units), len(units) + len(biases))
        self.rows = np.vstack([torch.stack([*made, *biases.flatten(1)], 1).numpy() / np.sqrt(blocks), pull])
        old = layer.weight.detach().double().flatten().numpy()
        self.goal = np.concatenate([wanted.double().flatten().numpy() / np.sqrt(blocks), np.sqrt(ridge) * old])

    def best(self, gone: Index = NONE) -> tuple[Array, float]:
        """Weights and biases in one vector, those `gone` at zero, and the least value of the objective."""
        solution = np.zeros(self.rows.shape[1])
        free = np.setdiff1d(np.arange(len(solution)), gone)
        solution[free] = lstsq(self.rows[:, free], self.goal, lapack_driver="gelsy")[0]
        return solution, self.value(solution)

    def value(self, solution: Array) -> float:
        """The objective at given weights and biases."""
        return float(np.square(self.rows @ solution - self.goal).sum())


def posed(name: str, *, bias: bool = True) -> tuple[nn.Module, Problem, Design]:
    """A network whose first layer has changed, the repair of the layer behind it, and the same by hand. Means are far from zero."""
    original = ready(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), LAYERS[name](bias)))
    weight = original.get_submodule("0").get_parameter("weight")
    now = with_tensors(original, "0", weight=weight + 0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    inputs = cases(6, (3, 4, 4))
    moments = OriginalOutputs(original, inputs, ["2"], rows=EVERY, seed=0).moments(now, ["2"])["2"]
    problem = build_problem(now, original, EMPTY, "2", moments, {}, 1e-2)
    with torch.inference_mode():
        x, wanted = now[:2](torch.from_numpy(inputs)), original(torch.from_numpy(inputs))  # type: ignore[index]
    return now, problem, Design(now.get_submodule("2"), x, wanted, problem.ridge)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_the_repair_is_the_argmin_of_the_whole_layer(name: str, bias: bool) -> None:
    now, problem, design = posed(name, bias=bias)
    layer = refit(now, problem, torch.arange(len(problem.old))).get_submodule("2")
    got = torch.cat([layer.get_parameter("weight").flatten(), layer.get_parameter("bias")]).detach().double().numpy()
    best, least = design.best()
    np.testing.assert_allclose(got, best, atol=2e-4)
    assert design.value(got) == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_some_channels_alone_are_solved_for_as_well(name: str) -> None:
    now, problem, design = posed(name)
    layer: Any = now.get_submodule("2")
    coupled = np.arange(4).reshape(layer.groups, -1)  # a grouped layer loses a channel in every group
    if coupled.shape[1] == 1:
        pytest.skip("a depthwise layer loses outputs with its inputs")
    lost = coupled[:, 0]
    stay = np.setdiff1d(np.arange(len(problem.old)), columns(layer, lost).numpy())
    gone = np.arange(layer.weight.numel()).reshape(4, -1)[lost].ravel()
    solved = torch.zeros_like(problem.old)
    solved[stay] = problem.solve(torch.from_numpy(stay))
    bias = (problem.mean_out - problem.mean_in @ solved).view(-1, problem.phases).mean(1)
    got = torch.cat([layer_matrix.weight_from(layer, solved).flatten(), bias]).double().numpy()
    np.testing.assert_allclose(got, design.best(gone)[0], atol=2e-4)


@pytest.mark.parametrize("wide", [False, True], ids=["by moments", "by rows"])
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "depthwise"])
def test_a_removal_costs_the_difference_of_two_refits(name: str, wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if wide:
        monkeypatch.setattr(layer_matrix, "MAX_GRAM_COLUMNS", 1)
    now, problem, design = posed(name)
    layer: Any = now.get_submodule("2")
    coupled = np.arange(4).reshape(layer.groups, -1).T  # (channels of the group, inputs of the layer)
    pairs = problem.independent_problems(columns(layer, coupled))
    weights = np.arange(layer.weight.numel()).reshape(4, -1)

    def cost(channels: list[int]) -> float:
        return (design.best(weights[coupled[channels].ravel()].ravel())[1] - design.best()[1]) / problem.energy

    found = eliminate(pairs)
    order: list[int] = []
    for _ in range(len(coupled) - 1):
        trials = {channel: cost([*order, channel]) for channel in set(range(len(coupled))) - set(order)}
        order.append(min(trials, key=trials.__getitem__))
    assert found.order.tolist() == order
    np.testing.assert_allclose(found.cost, [cost(order[: count + 1]) for count in range(len(order))], rtol=2e-3, atol=1e-6)


def test_many_channels_at_once_cost_what_their_refit_costs() -> None:
    _, problem, design = posed("kernel 4")
    layer = LAYERS["kernel 4"](True)
    found = eliminate(problem.independent_problems(columns(layer, np.arange(4)[:, None])), order=np.array([2, 0, 1]))
    gone = np.arange(layer.weight.numel()).reshape(4, -1)[[0, 2]].ravel()
    assert found.cost[1] == pytest.approx((design.best(gone)[1] - design.best()[1]) / problem.energy, rel=2e-3)


def test_everything_lost_costs_the_energy_at_most() -> None:
    """The unit of a cost is the variance about the mean of a channel: what stays when only its bias is left."""
    original = ready(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, 2)))
    inputs = cases(6, (3, 4, 4))
    moments = OriginalOutputs(original, inputs, ["2"], rows=EVERY, seed=0).moments(original, ["2"])["2"]
    energy = build_problem(original, original, EMPTY, "2", moments, {}, 1e-2).energy
    with torch.inference_mode():
        outputs = original(torch.from_numpy(inputs)).double()
    # summed over the 4 phases of a block
    assert energy == pytest.approx(4 * float(outputs.var((0, 2, 3), correction=0).sum()), rel=1e-4)


def test_without_a_bias_the_shared_intercept_goes_into_the_norm() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(2))
    original, inputs = candidate(net, (3, 4, 4)), cases(6, (3, 4, 4))
    weight = original.module.get_submodule("0").get_parameter("weight")
    now = with_tensors(original.module, "0", weight=weight.flip(0))
    graph = trace(original)
    assert graph.norms["2"] == "3"
    moments = OriginalOutputs(original.module, inputs, ["2"], rows=EVERY, seed=0).moments(now, ["2"])["2"]
    problem = build_problem(now, original.module, graph, "2", moments, {}, 1e-3)
    mended = refit(now, problem, torch.arange(len(problem.old)))
    with torch.inference_mode():
        x, wanted = now[:2](torch.from_numpy(inputs)), original.module[:3](torch.from_numpy(inputs))  # type: ignore[index]
        got = mended(torch.from_numpy(inputs))
    layer: Any = now.get_submodule("2")
    solution, _ = Design(layer, x, wanted, problem.ridge).best()
    best, bias = torch.from_numpy(solution).float().split([layer.weight.numel(), 2])
    with torch.inference_mode():
        expected = nn.functional.conv_transpose2d(x, best.view_as(layer.weight), bias, 2, 1, 1)
        torch.testing.assert_close(got, original.module.get_submodule("3")(expected), rtol=1e-3, atol=1e-3)
    assert mended.get_submodule("2").bias is None
