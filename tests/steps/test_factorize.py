"""Low-rank layers: the rank by hand, what must not change, and what the inputs' own directions are worth."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Floats, Reference
from optimize.steps.factorize import Factorize


def linear(weight: Floats, bias: Floats | None = None) -> nn.Linear:
    """A layer y = x W + b with W (in, out)."""
    layer = nn.Linear(weight.shape[0], weight.shape[1], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.T.copy()))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
    return layer


def spectrum(values: list[float], width: int, seed: int = 0) -> Floats:
    """A square matrix with these singular values, the rest 0."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(2))
    return np.asarray(left[:, : len(values)] * np.array(values) @ right[: len(values)], dtype=np.float32)


def alone(layer: nn.Linear) -> Candidate:
    return Candidate(nn.Sequential(layer).eval(), torch.zeros(1, layer.in_features))


def normal(cases: int, width: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal((cases, width)).astype(np.float32)


def rank(candidate: Candidate) -> int | None:
    """Rank of the pair that stands for the only layer; None when it is still whole."""
    layer = candidate.module.get_submodule("0")
    return None if isinstance(layer, nn.Linear) else layer[0].out_features  # type: ignore[index]


# Squares 16, 9, 4, 1: shares of 30 summed up are 0.533, 0.833, 0.967, 1.
@pytest.mark.parametrize(("energy", "expected"), [(0.5, 1), (0.53, 1), (0.54, 2), (0.83, 2), (0.84, 3), (0.96, 3), (0.97, 4), (0.9999, 4)])
def test_the_rank_is_the_smallest_that_keeps_the_energy(energy: float, expected: int) -> None:
    start = alone(linear(spectrum([4, 3, 2, 1], 16)))
    assert rank(Factorize(energy, whiten=False)(start, Reference(start, normal(4, 16)))) == expected


def test_energy_one_changes_nothing() -> None:
    start = alone(linear(spectrum([4], 16)))
    same = Factorize(1.0)(start, Reference(start, normal(64, 16)))
    assert same.module is start.module
    assert same.lineage == (Factorize(1.0),)


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_layer_of_low_rank_is_factorized_without_loss(whiten: bool, with_bias: bool) -> None:
    rng = np.random.default_rng(2)
    weight = (rng.standard_normal((40, 3)) @ rng.standard_normal((3, 24))).astype(np.float32)
    start = alone(linear(weight, rng.standard_normal(24).astype(np.float32) if with_bias else None))
    inputs = normal(400, 40) + np.float32(2)  # off centre: a moment about the mean would miss what the inputs share
    before = start.fingerprint
    made = Factorize(0.999999, whiten=whiten)(start, Reference(start, inputs))
    assert rank(made) == 3
    assert made.parameters == 3 * (40 + 24) + 24 * with_bias
    expected = start.predict(inputs)
    np.testing.assert_allclose(made.predict(inputs), expected, atol=2e-4 * np.abs(expected).max())
    assert start.fingerprint == before
    assert made.fingerprint == Factorize(0.999999, whiten=whiten)(start, Reference(start, inputs)).fingerprint


@pytest.mark.parametrize(("values", "expected"), [([1] * 7, 7), ([1] * 8, None), ([1] * 16, None)])
def test_only_where_it_lowers_the_parameters(values: list[float], expected: int | None) -> None:
    """16 x 16: rank 8 would need 8 * 32 = 256 parameters, which is what the matrix has."""
    start = alone(linear(spectrum(values, 16)))
    made = Factorize(0.9999, whiten=False, gain=0.0)(start, Reference(start, normal(4, 16)))
    assert rank(made) == expected
    assert made.parameters <= start.parameters


@pytest.mark.parametrize(("values", "expected"), [(5, 5), (6, None)])
def test_only_where_a_quarter_of_the_layer_is_saved(values: int, expected: int | None) -> None:
    """16 x 16: rank 5 saves 96 of 256, rank 6 just a quarter, which is not more."""
    start = alone(linear(spectrum([1] * values, 16)))
    assert rank(Factorize(0.9999, whiten=False)(start, Reference(start, normal(4, 16)))) == expected


def test_a_layer_that_is_all_zero_stays() -> None:
    start = alone(linear(np.zeros((16, 16), dtype=np.float32)))
    for whiten in (True, False):
        made = Factorize(0.9, whiten=whiten)(start, Reference(start, normal(64, 16)))
        assert np.isfinite(made.predict(normal(4, 16))).all()
        assert made.parameters <= start.parameters


def correlated(cases: int, seed: int) -> Floats:
    """Inputs that live almost wholly in the last three of 32 directions."""
    return np.asarray(normal(cases, 32, seed) * np.r_[np.full(29, 0.05), 3, 4, 5], dtype=np.float32)


def test_whitening_beats_the_plain_decomposition_at_the_same_rank() -> None:
    start = alone(linear(normal(32, 32, 3), normal(1, 32, 4)[0]))
    inputs, unseen = correlated(2000, 5), correlated(500, 6)
    aim = Reference(start, inputs)
    whitened = Factorize(0.99)(start, aim)
    expected = start.predict(unseen)
    errors = {whiten: np.square(at_rank(start, aim, 3, whiten).predict(unseen) - expected).mean() for whiten in (True, False)}
    assert rank(whitened) == 3
    assert errors[True] < 0.01 * errors[False]


def at_rank(start: Candidate, aim: Reference, wanted: int, whiten: bool) -> Candidate:
    """The more energy is kept, the higher the rank; a layer that is still whole has the highest."""

    def made(energy: float) -> Candidate:
        return Factorize(float(energy), whiten=whiten)(start, aim)

    energies = np.linspace(0.02, 0.9999, 200)
    found = made(energies[bisect_left(energies, wanted, key=lambda energy: rank(made(energy)) or start.example.shape[1])])
    assert rank(found) == wanted
    return found


@pytest.mark.parametrize("shift", [0, 30])
def test_the_energy_is_that_of_the_outputs_on_these_inputs(shift: int) -> None:
    """What is lost on the very inputs is at most the share given up; sum of squares about zero, without the bias."""
    start = alone(linear(normal(32, 32, 3)))
    inputs = correlated(3000, 5) + shift * np.eye(32, dtype=np.float32)[0]  # a direction in which the inputs hardly vary
    for energy in (0.5, 0.9, 0.99):
        made = Factorize(energy)(start, Reference(start, inputs))
        lost = np.square(made.predict(inputs) - start.predict(inputs)).sum() / np.square(start.predict(inputs)).sum()
        assert 0 < lost <= (1 - energy) * 1.001


def pair_parameters(inside: int, outside: int, low: int) -> int:
    """Of a low-rank pair whose second half has a bias."""
    return low * (inside + outside) + outside


@pytest.mark.parametrize(("inside", "outside", "low"), [(50, 8, 2), (8, 50, 3), (30, 30, 5)])
def test_parameters_by_rank(inside: int, outside: int, low: int) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((inside, low)) @ rng.standard_normal((low, outside))).astype(np.float32)
    start = alone(linear(weight, np.ones(outside, dtype=np.float32)))
    made = Factorize(1 - 1e-9, whiten=False)(start, Reference(start, normal(4, inside)))
    assert made.parameters == pair_parameters(inside, outside, low)


# A published VGG19: convolutions, 25088 -> 4096 and 4096 -> 4096 cut to these ranks, and a head of eight classes that stays.
@pytest.mark.parametrize(
    ("first", "second", "total"),
    [(19, 12, 20_718_152), (44, 31, 21_603_400), (79, 55, 22_821_448), (150, 92, 25_196_616), (309, 169, 30_467_656)],
)
def test_the_same_arithmetic_gives_the_published_sizes(first: int, second: int, total: int) -> None:
    head = 4096 * 8 + 8
    assert 20_024_384 + pair_parameters(25088, 4096, first) + pair_parameters(4096, 4096, second) + head == total


class Asked(nn.Module):
    """A forward that asks one layer for its width."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.plain = linear(spectrum([1], 16)), linear(spectrum([1], 16, seed=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.plain(self.asked(x.view(-1, self.asked.in_features)))  # type: ignore[no-any-return]


def test_a_layer_that_the_forward_asks_for_its_attributes_stays() -> None:
    start = Candidate(Asked().eval(), torch.zeros(1, 16))
    made = Factorize(0.9)(start, Reference(start, normal(64, 16)))
    assert type(made.module.get_submodule("asked")) is nn.Linear
    assert type(made.module.get_submodule("plain")) is nn.Sequential
    inputs = normal(8, 16)
    np.testing.assert_allclose(made.predict(inputs), start.predict(inputs), atol=1e-5)


class Tokens(nn.Module):
    """One layer over (N, tokens, in), and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.idle = linear(spectrum([2, 1], 16)), linear(spectrum([2, 1], 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.each(x).mean(1)  # type: ignore[no-any-return]


def test_tokens_are_rows_and_a_layer_that_is_not_called_stays() -> None:
    start = Candidate(Tokens().eval(), torch.zeros(1, 5, 16))
    inputs = normal(64 * 5, 16).reshape(64, 5, 16)
    made = Factorize(0.9999)(start, Reference(start, inputs))
    assert type(made.module.get_submodule("idle")) is nn.Linear
    assert made.module.get_submodule("each.0").weight.shape == (2, 16)
    np.testing.assert_allclose(made.predict(inputs), start.predict(inputs), atol=1e-5)


@pytest.mark.parametrize(("worth", "split"), [(0.0, True), (0.3, True), (0.36, False)])
def test_a_layer_is_split_only_where_that_saves_enough_of_the_network(worth: float, split: bool) -> None:
    """Of rank 1, 20 x 20 weights become 40: of the 1,000 parameters of the whole that saves 36 %."""
    torch.manual_seed(0)
    layer = nn.Linear(20, 20, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.outer(torch.randn(20), torch.randn(20)))
    net = nn.Sequential(layer, nn.Unflatten(1, (20, 1)), nn.Conv1d(20, 30, 1, bias=False), nn.Flatten())
    start = Candidate(net.eval(), torch.zeros(1, 20))
    assert start.parameters == 1000
    found = Factorize(0.99, worth=worth)(start, Reference(start, np.random.default_rng(0).normal(size=(64, 20)).astype(np.float32)))
    assert found.parameters == (640 if split else 1000)


class Twice(nn.Module):
    """One layer under two names, or two layers with one weight."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Linear(32, 32)
        self.two = nn.Linear(32, 32) if tied else self.one
        self.one.weight = nn.Parameter(torch.randn(32, 2) @ torch.randn(2, 32))
        self.two.weight = self.one.weight
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.two(torch.relu(self.one(x)))))


@pytest.mark.parametrize("tied", [False, True])
def test_a_layer_known_by_two_names_makes_the_network_smaller_or_stays(tied: bool) -> None:
    start = Candidate(Twice(tied).eval(), torch.zeros(1, 32))
    inputs = np.random.default_rng(0).standard_normal((200, 32)).astype(np.float32)
    made = Factorize(0.999, worth=0)(start, Reference(start, inputs))
    # rank 2 of 32 x 32: both uses are one pair, or, of two layers with one weight, neither can go alone
    assert made.parameters == start.parameters - (0 if tied else 32 * 32 - 2 * 64)
    assert made.module.get_submodule("one") is made.module.get_submodule("two") or tied
    np.testing.assert_allclose(made.predict(inputs), start.predict(inputs), atol=1e-3)
