"""Thinner convolutions in a row: against the whole one at full rank, against closed forms, and against torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from optimize.reconstruction.low_rank import Whole, channel, smallest, spatial, tucker

CHANNELS, OUTPUTS = 4, 6


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(count: int, seed: int = 1) -> torch.Tensor:
    """Of directions that vary by very different amounts."""
    root = random(count, count, seed=seed) * torch.logspace(0, -3, count, dtype=torch.float64)
    return root @ root.T


def computed(kernels: tuple[torch.Tensor, ...], inputs: torch.Tensor, pads: list[tuple[int, int]]) -> torch.Tensor:
    for kernel, pad in zip(kernels, pads, strict=True):
        inputs = functional.conv2d(inputs, kernel, padding=pad)
    return inputs


FULL = {
    "channel": (lambda whole: channel(whole, OUTPUTS), [(1, 1), (0, 0)]),
    "spatial": (lambda whole: spatial(whole, 3 * CHANNELS), [(1, 0), (0, 1)]),
    "tucker": (lambda whole: tucker(whole, CHANNELS, OUTPUTS), [(0, 0), (1, 1), (0, 0)]),
}


@pytest.mark.parametrize("form", FULL)
@pytest.mark.parametrize("whitened", [False, True])
def test_at_full_rank_they_compute_what_the_whole_one_does(form: str, whitened: bool) -> None:
    weight = random(CHANNELS, 3, 3, OUTPUTS)
    make, pads = FULL[form]
    thin = make(Whole(weight, covariance(CHANNELS * 9) if whitened else None))
    inputs = random(2, CHANNELS, 7, 8, seed=3)
    expected = functional.conv2d(inputs, weight.permute(3, 0, 1, 2), padding=1)
    torch.testing.assert_close(computed(thin.kernels, inputs, pads), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert thin.lost < 1e-9


@pytest.mark.parametrize("make", [lambda whole: channel(whole, 3), lambda whole: spatial(whole, 5), lambda whole: tucker(whole, 3, 4)])
def test_the_map_is_that_of_the_kernels_and_the_loss_that_of_the_outputs(make) -> None:  # type: ignore[no-untyped-def]
    weight, gram = random(CHANNELS, 3, 3, OUTPUTS), covariance(CHANNELS * 9)
    thin = make(Whole(weight, gram))
    inputs = random(2, CHANNELS, 6, 6, seed=3)
    pads = {"channel": [(1, 1), (0, 0)], "spatial": [(1, 0), (0, 1)], "tucker": [(0, 0), (1, 1), (0, 0)]}[thin.form]
    together = thin.map.reshape(CHANNELS, 3, 3, OUTPUTS).permute(3, 0, 1, 2)
    torch.testing.assert_close(computed(thin.kernels, inputs, pads), functional.conv2d(inputs, together, padding=1))
    # rows with exactly this covariance: the loss is what they say
    rows = torch.linalg.cholesky(gram + 1e-12 * torch.eye(len(gram))).T
    matrix = weight.flatten(0, -2)
    assert thin.lost == pytest.approx(float((rows @ (matrix - thin.map)).square().sum() / (rows @ matrix).square().sum()), rel=1e-3)


def test_no_map_of_the_rank_loses_less_than_the_channel_form() -> None:
    """Eckart and Young: the loss is the sum of the squared singular values that are left out."""
    weight, gram = random(CHANNELS, 3, 3, OUTPUTS), covariance(CHANNELS * 9)
    sigma = torch.linalg.svdvals(torch.linalg.cholesky(gram + 1e-12 * torch.eye(len(gram))).T @ weight.flatten(0, -2))
    for rank in (1, 2, 4):
        expected = float(sigma[rank:].square().sum() / sigma.square().sum())
        assert channel(Whole(weight, gram), rank).lost == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("form", FULL)
def test_whitening_loses_less_on_inputs_that_use_few_directions(form: str) -> None:
    weight, gram = random(CHANNELS, 3, 3, OUTPUTS), covariance(CHANNELS * 9)
    low = {"channel": lambda each: channel(each, 2), "spatial": lambda each: spatial(each, 3), "tucker": lambda each: tucker(each, 2, 2)}
    plain = low[form](Whole(weight)).map
    assert low[form](Whole(weight, gram)).lost < 0.8 * Whole(weight, gram).lost(plain)


@pytest.mark.parametrize(("form", "rank"), [("channel", 2), ("spatial", 3), ("tucker", 2)])
def test_a_planted_rank_is_found(form: str, rank: int) -> None:
    if form == "channel":
        weight = torch.einsum("iyxr,ro->iyxo", random(CHANNELS, 3, 3, rank), random(rank, OUTPUTS, seed=1))
    elif form == "spatial":
        weight = torch.einsum("iyr,rxo->iyxo", random(CHANNELS, 3, rank), random(rank, 3, OUTPUTS, seed=1))
    else:
        weight = torch.einsum("ir,ryxs,so->iyxo", random(CHANNELS, rank), random(rank, 3, 3, 2, seed=1), random(2, OUTPUTS, seed=2))
    thin = smallest(Whole(weight, covariance(CHANNELS * 9) + torch.eye(CHANNELS * 9)), form, 1 - 1e-8)
    assert thin is not None
    assert [kernel.shape[0] for kernel in thin.kernels[:-1]] == {"channel": [2], "spatial": [3], "tucker": [2, 2]}[form]
    assert thin.lost < 1e-8


def test_more_energy_takes_a_higher_rank_and_keeps_what_it_promises() -> None:
    whole = Whole(random(CHANNELS, 3, 3, OUTPUTS), covariance(CHANNELS * 9))
    for form in FULL:
        found = [smallest(whole, form, energy) for energy in (0.5, 0.9, 0.99)]
        widths = [thin.kernels[0].shape[0] for thin in found if thin is not None]
        assert widths == sorted(widths)
        assert all(thin is not None and thin.lost <= 1 - energy for thin, energy in zip(found, (0.5, 0.9, 0.99), strict=True))


def test_forms_that_do_not_apply() -> None:
    pointwise, line = Whole(random(CHANNELS, 1, 1, OUTPUTS)), Whole(random(CHANNELS, 3, OUTPUTS))
    assert smallest(pointwise, "spatial", 0.5) is None
    assert smallest(pointwise, "tucker", 0.5) is None
    assert smallest(pointwise, "channel", 0.5) is not None
    assert smallest(line, "spatial", 0.5) is None
    assert smallest(line, "tucker", 0.5) is not None
