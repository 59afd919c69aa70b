"""Convolutions in a row: what they compute, what they cost, what must not change, and that they survive the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.errors import InputError
from optimize.graph.macs import macs
from optimize.searching.snapshot import restore, save
from optimize.steps.factorize_convolutions import FORMS, FactorizeConvolutions

EXAMPLE = FactorizeConvolutions(0.4, gain=0.0)


def planted(rank: int, layer: nn.Conv2d) -> nn.Conv2d:
    """A layer whose matrix has a rank."""
    weight = torch.randn(rank, layer.in_channels * 9)
    with torch.no_grad():
        layer.weight.copy_((torch.randn(layer.out_channels, rank) @ weight).reshape(layer.weight.shape))
    return layer


def net(full: bool = False, **settings: int) -> Candidate:
    torch.manual_seed(0)
    first = nn.Conv2d(8, 16, 3, **settings)
    layers = [first if full else planted(3, first), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.Flatten(), nn.LazyLinear(4)]
    module = nn.Sequential(*layers)
    module(torch.zeros(1, 8, 13, 11))
    return Candidate(module.eval().requires_grad_(False), torch.randn(1, 8, 13, 11))


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 8, 13, 11), np.float32) + np.float32(1)


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"padding": 2, "dilation": 2}], ids=str)
def test_a_low_rank_layer_is_split_and_nothing_else(settings: dict[str, int]) -> None:
    start = net(**settings)
    before = start.fingerprint
    made = FactorizeConvolutions(1 - 1e-7)(start, Reference(start, images(64)))
    row = made.module.get_submodule("0")
    assert isinstance(row, nn.Sequential)
    assert [type(part) for part in row] == [nn.Conv2d] * len(row)
    assert isinstance(made.module.get_submodule("2"), nn.Conv2d)
    expected = start.predict(images(8, 1))
    np.testing.assert_allclose(made.predict(images(8, 1)), expected, atol=2e-3 * np.abs(expected).max())
    assert macs(made) < macs(start)
    assert start.fingerprint == before


@pytest.mark.parametrize("form", FORMS)
def test_a_bolder_energy_costs_less_and_loses_more_and_the_mean_is_kept(form: str) -> None:
    start = net(full=True)
    reference = Reference(start, images(96))
    layer = start.module.get_submodule("0")
    found = []
    for energy in (0.6, 0.4):
        made = FactorizeConvolutions(energy, forms=(form,), gain=0.0)(start, reference)
        row = made.module.get_submodule("0")
        with torch.no_grad():
            apart = row(torch.from_numpy(images(96))) - layer(torch.from_numpy(images(96)))
        found.append((macs(made), float(apart.square().mean())))
        # per channel, what is lost has no mean: the bias makes up for it
        assert float(apart.mean((0, 2, 3)).abs().max()) < 1e-5 * float(apart.std())
    assert found[1][0] < found[0][0]
    assert found[1][1] > found[0][1]


def test_the_cheapest_form_is_taken_and_one_that_saves_too_little_is_not() -> None:
    start = net()
    reference = Reference(start, images(64))
    alone = [macs(FactorizeConvolutions(0.9, forms=(form,))(start, reference)) for form in FORMS]
    assert macs(FactorizeConvolutions(0.9)(start, reference)) <= min(alone)
    same = FactorizeConvolutions(0.9, gain=0.99)(start, reference)
    assert same.module.state_dict().keys() == start.module.state_dict().keys()
    assert FactorizeConvolutions(1.0)(start, reference).module is start.module


def test_without_covariances_the_weights_decide() -> None:
    start = net()
    made = FactorizeConvolutions(1 - 1e-7, whiten=False)(start, Reference(start, images(4)))
    assert isinstance(made.module.get_submodule("0"), nn.Sequential)
    np.testing.assert_allclose(made.predict(images(4)), start.predict(images(4)), atol=1e-3 * np.abs(start.predict(images(4))).max())


def test_grouped_layers_and_volumes() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv3d(4, 8, 3, groups=4), nn.ReLU(), nn.Conv3d(8, 8, 3), nn.Flatten(), nn.LazyLinear(2))
    module(torch.zeros(1, 4, 6, 6, 6))
    start = Candidate(module.eval().requires_grad_(False), torch.randn(1, 4, 6, 6, 6))
    inputs = np.random.default_rng(0).standard_normal((32, 4, 6, 6, 6), np.float32)
    made = FactorizeConvolutions(0.5)(start, Reference(start, inputs))
    assert isinstance(made.module.get_submodule("0"), nn.Conv3d)
    assert isinstance(made.module.get_submodule("2"), nn.Sequential)
    assert np.isfinite(made.predict(inputs)).all()


@pytest.mark.parametrize("form", FORMS)
def test_it_comes_back_from_the_disk(form: str, tmp_path: Path) -> None:
    start = net(stride=2, padding=1)
    made = FactorizeConvolutions(0.8, forms=(form,), gain=0.0)(start, Reference(start, images(64)))
    save(made, tmp_path / "snapshot.safetensors")
    again = restore(start, tmp_path / "snapshot.safetensors")
    assert again.lineage == made.lineage
    np.testing.assert_array_equal(again.predict(images(3)), made.predict(images(3)))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(InputError, match=r"`energy` \(=1.5\) must be above 0 and at most 1"):
        FactorizeConvolutions(1.5)
    with pytest.raises(InputError, match=r"`forms` \(='spatail'\).*did you mean 'spatial'"):
        FactorizeConvolutions(0.9, forms=("spatail",))
