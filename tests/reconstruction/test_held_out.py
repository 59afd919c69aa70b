"""A repair by too few rows is measured on rows that it has never seen, and must not be worse there than no repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.surgery import with_tensors
from optimize.graph.trace import trace
from optimize.progress import collect_findings
from optimize.reconstruction.held_out import PartialRepair, _Line, confirmed_solution
from optimize.reconstruction.layer_repair import repairable
from optimize.reconstruction.ridge import Problem, Solution
from optimize.steps.repair import Repair
from tests.nets import candidate, cases, reference

Array = npt.NDArray[np.float64]


class Bottleneck(nn.Module):
    """As in a small ResNet: wide 3x3 convolutions without bias, each with a norm, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.conv1, self.norm1 = nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.conv2, self.norm2 = nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.head = nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def inverted() -> nn.Module:
    """As in a MobileNetV2: wide pointwise convolutions around a depthwise one."""
    front = (nn.Conv2d(3, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 96, 1, bias=False), nn.BatchNorm2d(96))
    middle = (nn.ReLU6(), nn.Conv2d(96, 96, 3, groups=96, bias=False), nn.BatchNorm2d(96), nn.ReLU6())
    return nn.Sequential(*front, *middle, nn.Conv2d(96, 12, 1, bias=False), nn.BatchNorm2d(12), nn.Flatten(), nn.Linear(12 * 36, 4))


def upsampling() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 24, 1), nn.ReLU(), nn.ConvTranspose2d(24, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 2, 3))


def with_noise(start: Candidate, name: str, strength: float) -> Candidate:
    weight = start.module.get_submodule(name).get_parameter("weight")
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    return Candidate(with_tensors(start.module, name, weight=weight + strength * weight.std() * noise), start.example)


def outputs(module: nn.Module, name: str, inputs: npt.NDArray[np.float32]) -> Array:
    """What a layer gives behind the norm that follows it, if there is one."""
    norm = trace(Candidate(module, torch.from_numpy(inputs[:1]))).norms.get(name, name)
    seen: list[torch.Tensor] = []
    handle = module.get_submodule(norm).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    with torch.inference_mode():
        module(torch.from_numpy(inputs))
    handle.remove()
    return np.asarray(seen[0].double().numpy())


def error(now: nn.Module, start: Candidate, name: str, inputs: npt.NDArray[np.float32]) -> float:
    return float(np.square(outputs(now, name, inputs) - outputs(start.module, name, inputs)).mean())


@pytest.mark.parametrize("strength", [0.02, 0.3])
@pytest.mark.parametrize("build", [Bottleneck, inverted, upsampling], ids=lambda build: build.__name__)
def test_with_fewer_rows_than_unknowns_no_layer_gets_worse_on_unseen_inputs(build: Callable[[], nn.Module], strength: float) -> None:
    start = candidate(build(), (3, 8, 8))
    layers = repairable(start.module, start.module, trace(start))
    broken = with_noise(start, layers[0], strength)
    few, unseen = reference(start, 6), cases(60, (3, 8, 8), seed=9)
    module = broken.module
    for name in layers[1:]:  # each on what the ones before it give by now
        repaired = Repair(rows=60, layers=(name,))(Candidate(module, start.example), few).module
        # one image is held out: what it confirms may be off by chance
        assert error(repaired, start, name, unseen) <= 1.1 * error(module, start, name, unseen)
        module = repaired


def problems(rows: int, unknowns: int, noise: float, seed: int = 0, phases: int = 1) -> tuple[Problem, Problem]:
    """One layer whose targets are its outputs and noise, by rows to fit to and by held-out rows."""
    draw = np.random.default_rng(seed)
    true, made = draw.standard_normal((unknowns, 4)) / unknowns**0.5, []
    for count in (rows, max(10, rows // 4)):
        x = draw.standard_normal((count, unknowns)) + 1
        y = x @ true + noise * draw.standard_normal((count, 4)) + 0.3
        x0, y0 = x - x.mean(0), y - y.mean(0)
        moments = (x0.T @ x0 / count, x0.T @ y0 / count, true, np.ones(4))
        means = (torch.from_numpy(x.mean(0)), torch.from_numpy(y.mean(0)))
        variance = torch.from_numpy(y.var(0))
        problem = (
            Problem("layer", *map(torch.from_numpy, moments), float(variance.sum()), 1e-4, *means, None, None, rows=count, phases=phases)  # type: ignore[arg-type]
        )
        made.append(replace(problem, variance_out=variance))
    return made[0], made[1]


def held_out_error(problem: Problem, weights: torch.Tensor, intercept: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each output, but for the variance of the targets, which is the same for all."""
    spread = (weights * (problem.gram @ weights)).sum(0) - 2 * (weights * problem.target).sum(0)
    gap = problem.mean_out - problem.mean_in @ weights - intercept.repeat_interleave(problem.phases)
    return spread + gap.square()


@pytest.mark.parametrize("phases", [1, 2])
@pytest.mark.parametrize(("rows", "noise"), [(30, 1.0), (50, 0.3), (60, 3.0), (400, 1.0), (90, 0.05)])
def test_no_layer_is_worse_on_the_held_out_rows(rows: int, noise: float, phases: int) -> None:
    fit, held_out = problems(rows, 50, noise, phases=phases)
    moved = replace(fit, old=fit.old + 0.05), replace(held_out, old=held_out.old + 0.05)
    for part, check in ((fit, held_out), moved):
        solution = confirmed_solution(part, check, torch.arange(50))
        after = held_out_error(check, solution.weights, solution.intercept).sum()
        assert after <= held_out_error(check, part.old, torch.zeros(4 // phases)).sum() + 1e-9


def test_the_share_is_the_least_of_the_parabola_less_its_standard_error() -> None:
    """The example of the module: residuals 1 and 1, which change by 2 and 0. By moments about the means: x = 1, -1, and targets 1, 1."""
    x, y, zero = (torch.tensor(values, dtype=torch.float64)[:, None] for values in ([1.0, -1.0], [1.0, 1.0], [0.0]))
    one = torch.ones(1, dtype=torch.float64)
    held_out = Problem("layer", x.T @ x / 2, x.T @ y / 2 - 0, zero, one, 1.0, 0.0, x.mean(0), y.mean(0), None, None, rows=2)
    held_out = replace(held_out, variance_out=torch.zeros(1, dtype=torch.float64))
    # 1 + x is 2 and 0: the weight and the intercept both move by 1
    line = _Line(held_out, torch.arange(1), Solution(zero, zero[0]), Solution(one[:, None], one))
    assert (float(line.gain), float(line.curve), float(line.error)) == (1.0, 2.0, 1.0)
    assert line.share == pytest.approx(0.5 - (0.5 / (2 * 2)) ** 0.5)


def test_unchecked_it_would_be_worse() -> None:
    fit, held_out = problems(60, 50, 1.0)
    plain = fit.solution(torch.arange(50))
    with collect_findings() as found:
        checked = confirmed_solution(fit, held_out, torch.arange(50))
    errors = [float(held_out_error(held_out, each.weights, each.intercept).sum()) for each in (plain, checked)]
    assert errors[0] > float(held_out_error(held_out, fit.old, torch.zeros(4)).sum()) > errors[1]
    assert any(isinstance(finding, PartialRepair) and "of the way" in str(finding) for finding in found)


def test_what_is_confirmed_is_the_fit_to_all_rows() -> None:
    fit, held_out = problems(2000, 5, 0.1)
    every, _ = problems(2500, 5, 0.1)
    moved = [replace(problem, old=torch.zeros_like(problem.old)) for problem in (fit, held_out, every)]
    got, want = confirmed_solution(moved[0], moved[1], torch.arange(5), moved[2]), moved[2].solution(torch.arange(5))
    assert torch.equal(got.weights, want.weights)
