"""One filter for several channels: against numpy's least squares on patches unfolded by torch, and a plain training loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.candidate import Candidate
from optimize.steps.merging.crossover import (
    SampledInputs,
    Target,
    by_gradient,
    closed_form,
    families,
    reconstruction_error,
    sample_inputs,
    train_filters,
    whole_maps,
)
from optimize.steps.merging.folding import ProducerLayer
from tests.nets import candidate, cases, reference

HEIRS = np.array([0, 0, 2, 3, 2, 2])
EVERY = 10**6


def bare(bias: bool = True) -> Candidate:
    return candidate(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=bias), nn.ReLU(), nn.Conv2d(6, 4, 3)))


def normed(bias: bool = False) -> Candidate:
    return candidate(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=bias), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3)))


def maker(start: Candidate) -> ProducerLayer:
    return ProducerLayer(start.module, "0", "1" if isinstance(start.module[1], nn.BatchNorm2d) else None, np.arange(6))  # type: ignore[index]


def reading(start: Candidate, rows: int = EVERY) -> SampledInputs:
    return sample_inputs(start.module, "0", reference(start).calibration, rows=rows, seed=0)


def patches() -> npt.NDArray[np.float64]:
    """(rows, 27) and a column of ones."""
    unfolded = functional.unfold(torch.from_numpy(cases()).double(), 3, padding=1)  # (N, 27, places)
    rows = unfolded.transpose(1, 2).reshape(-1, 27).numpy()
    return np.column_stack([rows, np.ones(len(rows))])


def outputs(module: nn.Module, upto: int) -> npt.NDArray[np.float64]:
    """(rows, 6) of the first layers."""
    with torch.inference_mode():
        given = module[:upto](torch.from_numpy(cases()))  # type: ignore[index]
    return np.asarray(given.double().permute(0, 2, 3, 1).reshape(-1, 6).numpy())


def importance(y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    strength = np.abs(y).mean(0)
    return np.asarray(y @ strength / strength.sum())


AIMS: dict[Target, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "max": lambda y: y.max(1),
    "mean": lambda y: y.mean(1),
    "importance": importance,
    "post-activation": lambda y: y.max(1),
}


def test_families_name_the_kept_one_first() -> None:
    assert [family.tolist() for family in families(HEIRS)] == [[0, 1], [2, 4, 5]]
    assert [family.tolist() for family in families(np.array([3, 1, 3, 3]))] == [[3, 0, 2]]


def test_rows_are_all_there_is_and_otherwise_as_many_as_asked_for() -> None:
    start = bare()
    whole = reading(start)
    x = patches()[:, :-1]
    np.testing.assert_allclose(whole.mean.numpy(), x.mean(0), atol=1e-6)
    np.testing.assert_allclose(whole.gram.numpy(), np.cov(x.T, bias=True), atol=1e-5)
    assert len(whole.rows) == len(x) == 96 * 64
    assert len(reading(start, rows=96 * 5).rows) == 96 * 5


@pytest.mark.parametrize("start", [bare(), normed(), normed(bias=True)], ids=["bias", "norm", "norm and bias"])
@pytest.mark.parametrize("target", AIMS)
def test_closed_form_is_numpys_least_squares(start: Candidate, target: Target) -> None:
    """Seen where the target lives: on the layer's output, or on the norm's."""
    depth = 2 if target == "post-activation" and isinstance(start.module[1], nn.BatchNorm2d) else 1  # type: ignore[index]
    made = closed_form(maker(start), HEIRS, reading(start), target=target, ridge=1e-9)
    before, after = outputs(start.module, depth), outputs(made, depth)
    x = patches()
    for family in ([0, 1], [2, 4, 5]):
        aim = AIMS[target](before[:, family])
        fitted = x @ np.linalg.lstsq(x, aim, rcond=None)[0]
        got = after[:, family[0]]
        if depth == 1 and target != "post-activation" and start.module[0].bias is None:  # type: ignore[index]
            got = got - made[1].running_mean[family[0]].item() + start.module[1].running_mean[family[0]].item()  # type: ignore[index]
        np.testing.assert_allclose(got, fitted, atol=2e-4)
    np.testing.assert_array_equal(after[:, 3], before[:, 3])


def test_the_mean_of_filters_is_the_filter_of_means() -> None:
    start = bare()
    made = closed_form(maker(start), HEIRS, reading(start), target="mean", ridge=1e-9)
    old, new = start.module.get_parameter("0.weight"), made.get_parameter("0.weight")
    np.testing.assert_allclose(new[2].detach(), old[[2, 4, 5]].mean(0).detach(), atol=1e-4)
    np.testing.assert_allclose(
        made.get_parameter("0.bias")[0].detach(), start.module.get_parameter("0.bias")[:2].mean().detach(), atol=1e-4
    )


def test_a_strong_ridge_keeps_the_kept_filter() -> None:
    start = bare()
    made = closed_form(maker(start), HEIRS, reading(start), target="max", ridge=1e9)
    torch.testing.assert_close(made.get_parameter("0.weight"), start.module.get_parameter("0.weight"), atol=1e-5, rtol=0)


def naive(start: Candidate, family: list[int]) -> torch.Tensor:
    """The published loop for one family, on a fresh convolution without a bias."""
    maps = torch.from_numpy(cases())
    conv = nn.Conv2d(3, 1, 3, padding=1, bias=False)
    old = start.module.get_submodule("0")
    with torch.no_grad():
        conv.weight.copy_(old.get_parameter("weight")[family[:1]])
        aim = old(maps)[:, family].max(1, keepdim=True).values
    adam = torch.optim.Adam(conv.parameters(), lr=1e-3)
    for _ in range(50):
        adam.zero_grad()
        torch.autograd.backward(functional.mse_loss(conv(maps), aim))
        adam.step()
    return conv.weight.detach()


def test_families_trained_at_once_are_what_each_becomes_alone() -> None:
    start = bare()
    members = families(HEIRS)
    together = train_filters(maker(start), members, whole_maps(maker(start), cases()))
    alone = torch.cat([naive(start, family.tolist()) for family in members])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    made = by_gradient(maker(start), HEIRS, cases())
    torch.testing.assert_close(made.get_parameter("0.weight")[[0, 2]], alone, atol=2e-5, rtol=0)
    assert torch.equal(made.get_parameter("0.bias"), start.module.get_parameter("0.bias"))


def test_only_the_first_eight_batches_of_64_are_trained_on() -> None:
    start = bare()
    assert len(whole_maps(maker(start), cases(520))) == 512


def test_a_linear_layer_is_trained_like_a_convolution() -> None:
    start = candidate(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)), (5,))
    one = ProducerLayer(start.module, "0", None, np.arange(6))
    inputs = cases(96, (5,))
    got = train_filters(one, families(HEIRS), whole_maps(one, inputs))
    weight, bias = (start.module.get_parameter(f"0.{key}").detach() for key in ("weight", "bias"))
    aim = (torch.from_numpy(inputs) @ weight.T + bias)[:, :2].amax(1)
    error = [float((torch.from_numpy(inputs) @ row - aim).square().mean()) for row in (weight[0], got[0])]
    assert got.shape == (2, 5)
    assert error[1] < error[0]


@pytest.mark.parametrize("bias", [True, False])
def test_closed_form_reconstructs_at_least_as_well_as_training(bias: bool) -> None:
    start = bare(bias)
    x, aims = patches(), [outputs(start.module, 1)[:, family].max(1) for family in families(HEIRS)]
    trained = train_filters(maker(start), families(HEIRS), whole_maps(maker(start), cases())).flatten(1).double().numpy()
    solved = closed_form(maker(start), HEIRS, reading(start), target="max", ridge=1e-6)
    given = outputs(solved, 1)[:, [0, 2]]
    for k, aim in enumerate(aims):
        by_training = np.square(x[:, :-1] @ trained[k] - aim).mean()
        assert np.square(given[:, k] - aim).mean() < by_training


def test_reconstruction_error_is_a_share_of_the_targets_variance() -> None:
    start = bare()
    seen = reading(start)
    weight, bias = maker(start).plain()
    aim = seen.outputs(weight, bias)
    assert reconstruction_error(seen, weight, bias, aim) == pytest.approx(0, abs=1e-10)
    assert reconstruction_error(seen, 0 * weight, aim.double().mean(0), aim) == pytest.approx(1)
