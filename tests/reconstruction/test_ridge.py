"""The closed form against numpy.linalg.lstsq on the rows themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from optimize.graph.surgery import with_tensors
from optimize.graph.trace import Graph, trace
from optimize.progress import collect_findings
from optimize.reconstruction.cholesky import RankDeficiency
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.ridge import Problem, build_problem, refit
from tests.nets import candidate, cases, ready

Array = npt.NDArray[np.float64]
EMPTY = Graph((), (), {}, {})
EVERY = 10**6
TINY = 1e-10


def two_linear(bias: bool = True, norm: bool = False) -> nn.Module:
    tail: list[nn.Module] = [nn.BatchNorm1d(4)] if norm else []
    return ready(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4, bias=bias), *tail))


def disturbed(module: nn.Module) -> nn.Module:
    """The same network with other first weights: what the last layer reads is no longer what it was."""
    weight = module.get_submodule("0").get_parameter("weight")
    return with_tensors(module, "0", weight=weight + 0.4 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))


def rows(module: nn.Module, inputs: npt.NDArray[np.float32], upto: int) -> Array:
    with torch.inference_mode():
        made: Array = module[:upto](torch.from_numpy(inputs)).double().numpy()  # type: ignore[index]
    return made


def problem_of(now: nn.Module, original: nn.Module, inputs: npt.NDArray[np.float32], graph: Graph = EMPTY, ridge: float = TINY) -> Problem:
    moments = OriginalOutputs(original, inputs, ["2"], rows=EVERY, seed=0).moments(now, ["2"])["2"]
    return build_problem(now, original, graph, "2", moments, {}, ridge)


def fit(x: Array, y: Array) -> Array:
    """What the best affine map of x makes of x."""
    ones = np.column_stack([x, np.ones(len(x))])
    fitted: Array = ones @ np.linalg.lstsq(ones, y, rcond=None)[0]
    return fitted


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("keep", [np.arange(9), np.array([0, 2, 3, 7])], ids=["all", "some"])
def test_refit_is_the_best_affine_map(bias: bool, keep: npt.NDArray[np.int64]) -> None:
    original, inputs = two_linear(bias), cases(300, (6,))
    now = disturbed(original)
    problem = problem_of(now, original, inputs)
    x = rows(now, inputs, 2)[:, keep]
    layer = refit(now, problem, torch.from_numpy(keep)).get_submodule("2")
    got = x @ layer.get_parameter("weight").detach().double().numpy().T + layer.get_parameter("bias").detach().double().numpy()
    np.testing.assert_allclose(got, fit(x, rows(original, inputs, 3)), atol=1e-4)


def test_without_a_bias_the_intercept_goes_into_the_norm() -> None:
    original = candidate(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4, bias=False), nn.BatchNorm1d(4)), (6,))
    inputs, graph = cases(300, (6,)), trace(original)
    assert graph.norms["2"] == "3"
    now = disturbed(original.module)
    mended = refit(now, problem_of(now, original.module, inputs, graph), torch.arange(9))
    assert mended.get_submodule("2").bias is None
    best = torch.from_numpy(fit(rows(now, inputs, 2), rows(original.module, inputs, 3)).astype(np.float32))
    with torch.inference_mode():
        torch.testing.assert_close(mended(torch.from_numpy(inputs)), original.module.get_submodule("3")(best), atol=1e-4, rtol=1e-4)


def test_a_layer_that_lost_outputs_is_fitted_to_those_it_kept() -> None:
    original, inputs = two_linear(), cases(300, (6,))
    now, kept = disturbed(original), np.array([1, 3])
    moments = OriginalOutputs(original, inputs, ["2"], rows=EVERY, seed=0).moments(now, ["2"])["2"]
    whole = build_problem(now, original, EMPTY, "2", moments, {}, TINY)
    layer = now.get_submodule("2")
    narrow = with_tensors(now, "2", weight=layer.get_parameter("weight")[kept], bias=layer.get_parameter("bias")[kept])
    narrow.get_submodule("2").out_features = 2  # type: ignore[assignment]
    posed = build_problem(narrow, original, EMPTY, "2", moments, {"2": kept}, TINY)
    assert torch.equal(posed.target, whole.target[:, kept])
    assert torch.equal(posed.mean_out, whole.mean_out[kept])
    every = torch.arange(9)
    torch.testing.assert_close(posed.solve(every), whole.with_outputs(kept, 1).solve(every))
    expected = fit(rows(now, inputs, 2), rows(original, inputs, 3)[:, kept])
    np.testing.assert_allclose(rows(refit(narrow, whole, every, kept), inputs, 3), expected, atol=1e-4)


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 100.0])
def test_an_untouched_network_stays_whatever_the_ridge(ridge: float) -> None:
    original, inputs = two_linear(), cases(300, (6,))
    mended = refit(original, problem_of(original, original, inputs, ridge=ridge), torch.arange(9))
    np.testing.assert_allclose(rows(mended, inputs, 3), rows(original, inputs, 3), atol=1e-4)


def test_ridge_pulls_to_the_present_weights() -> None:
    original, inputs = two_linear(), cases(300, (6,))
    now = disturbed(original)
    problems = [problem_of(now, original, inputs, ridge=ridge) for ridge in (1e-6, 1.0, 1e6)]
    far = [(problem.solve(torch.arange(9)) - problem.old).norm() for problem in problems]
    assert far[0] > far[1] > far[2]
    assert far[2] < 1e-4


def test_a_norm_weighs_each_output_by_its_slope_squared() -> None:
    original = two_linear(norm=True)
    norm = original.get_submodule("3")
    graph, inputs = Graph((), (), {"2": "3"}, {}), cases(300, (6,))
    problem = problem_of(original, original, inputs, graph)
    with torch.inference_mode():
        before, after = (norm(torch.full((1, 4), value)) for value in (0.0, 1.0))
    torch.testing.assert_close(problem.weight, (after - before)[0].double().square(), rtol=1e-5, atol=1e-6)
    assert problem.energy == pytest.approx(float(np.var(rows(original, inputs, 4), axis=0).sum()), rel=1e-3)


def test_a_constant_input_is_solvable() -> None:
    """Nothing varies: the weights stay, and the intercept still meets the mean."""
    original, inputs = two_linear(), cases(300, (6,))
    layer = original.get_submodule("0")
    layer2 = original.get_submodule("2").get_parameter("weight")
    dead = with_tensors(original, "0", weight=torch.zeros_like(layer.get_parameter("weight")))
    mended = refit(dead, problem_of(dead, original, inputs), torch.arange(9))
    torch.testing.assert_close(mended.get_submodule("2").get_parameter("weight"), layer2, rtol=0, atol=1e-2)
    np.testing.assert_allclose(rows(mended, inputs, 3)[0], rows(original, inputs, 3).mean(0), atol=1e-4)


def test_what_the_rows_do_not_determine_is_reported() -> None:
    original = two_linear()
    for count, missing in ((300, None), (6, 4)):
        inputs = cases(count, (6,))
        with collect_findings() as found:
            refit(original, problem_of(original, original, inputs), torch.arange(9))
        assert found == ([] if missing is None else [RankDeficiency("2", 9, 6, found[0].lift)])  # type: ignore[attr-defined]
        assert missing is None or found[0].missing == missing  # type: ignore[attr-defined]


def test_a_lift_is_reported() -> None:
    singular = torch.ones(2, 2, dtype=torch.float64)
    singular[0, 0] -= 1e-9
    one = torch.ones(2, 1, dtype=torch.float64)
    problem = Problem("layer", singular, one, one, torch.ones(1), 1.0, 0.0, one[:, 0], torch.ones(1), None, None)
    with collect_findings() as found:
        problem.solve(torch.arange(2))
    assert len(found) == 1
    assert "had to be added to solve it" in str(found[0])
