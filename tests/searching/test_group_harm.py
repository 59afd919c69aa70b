"""Harm of many widths: predictions agree with what is measured, and the work grows with the layers, not with their square."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.data.dataset import Split
from optimize.data.preprocessing import Preprocessing
from optimize.searching.harm_correction import fit_correction, spread_over_sizes
from optimize.searching.scan import Curve, scan
from tests.nets import candidate, cases, reference

PAIRS = "optimize.searching.group_harm.MEASURED_PAIRS"


def curves_of(start: Candidate, count: int = 40) -> dict[str, Curve]:
    guard = Split("guard", cases(count, seed=9), np.zeros(count, np.int64), Preprocessing())
    return {curve.group: curve for curve in scan(start, reference(start), guard)[0]}


@contextmanager
def all_measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(PAIRS, 10**6)
        yield


class Wavy(nn.Module):
    """Four layers; what lies between the second and the third is given."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1)
        self.third, self.last = nn.Conv2d(16, 16, 3), nn.Linear(16, 4)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.between(torch.relu(self.second(torch.relu(self.first(x)))))
        return self.last(torch.relu(self.third(x)).mean((2, 3)))


def agreement(curves: dict[str, Curve], measured: dict[str, Curve]) -> tuple[float, float]:
    """Rank correlation of the harms at all widths but 0, and the largest ratio of two."""
    pairs = [
        (harm, true)
        for name, curve in curves.items()
        for width, harm, true in zip(curve.widths[1:], curve.harm[1:], measured[name].harm[1:], strict=True)
        if width
    ]
    first, second = np.array(pairs).T
    ranks = [values.argsort().argsort() for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1]), float(np.exp(np.abs(np.log(first / second)).max()))


def test_predictions_agree_with_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    start = candidate(Wavy(torch.nn.functional.silu))
    predicted = curves_of(start)
    with all_measured(monkeypatch):
        measured = curves_of(start)
    assert {name: curve.widths for name, curve in predicted.items()} == {name: curve.widths for name, curve in measured.items()}
    assert sum(len(curve.widths) - 1 for curve in predicted.values()) > 12
    rank, ratio = agreement(predicted, measured)
    assert rank > 0.97
    assert ratio < 1.6


@pytest.mark.parametrize("between", [torch.detach, lambda x: torch.round(50 * x) / 50], ids=["detached", "rounded"])
def test_without_gradients_a_few_widths_are_measured_and_the_others_interpolated(
    between: Callable[[torch.Tensor], torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = candidate(Wavy(between))
    curves = curves_of(start)
    with all_measured(monkeypatch):
        measured = curves_of(start)
    rank, ratio = agreement(curves, measured)
    assert rank > 0.95
    assert ratio < 2.5
    for name, curve in curves.items():
        pairs = [(harm, true) for width, harm, true in zip(curve.widths, curve.harm, measured[name].harm, strict=True) if width]
        exact = [harm == pytest.approx(true, rel=1e-4) for harm, true in pairs[1:]]
        # the first width, one in the middle and the last one
        assert exact[0]
        assert exact[-1]
        assert sum(exact) >= min(3, len(exact))


def deep(layers: int) -> nn.Module:
    made: list[nn.Module] = [nn.Conv2d(3, 8, 1)]
    for _ in range(layers):
        made += [nn.ReLU(), nn.Conv2d(8, 8, 1)]
    return nn.Sequential(*made, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def test_the_work_grows_with_the_layers_and_not_with_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that convolutions run on, trials on one or two images left out, and without removals of layers."""
    monkeypatch.setattr("optimize.searching.layer_removal.MAX_REMOVALS", 0)
    forward, images = nn.Conv2d._conv_forward, [0]

    def counted(layer: nn.Conv2d, inputs: torch.Tensor, *rest: torch.Tensor | None) -> torch.Tensor:
        images[0] += len(inputs) if len(inputs) > 2 else 0
        return forward(layer, inputs, *rest)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", counted)
    work = []
    for layers in (6, 12, 24):
        images[0] = 0
        curves_of(candidate(deep(layers)))
        work.append(images[0] / (layers + 1))
    assert work[2] < 1.25 * work[1] < 1.6 * work[0]


def test_few_layers_are_tried_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    start = candidate(deep(6))
    assert sum(not curve.widths[-1] for curve in curves_of(start).values()) == 7
    monkeypatch.setattr("optimize.searching.layer_removal.MAX_REMOVALS", 3)
    curves = curves_of(start)
    assert sum(not curve.widths[-1] for curve in curves.values()) == 3


def test_a_correction_is_trusted_where_most_pairs_agree() -> None:
    predicted = [10.0**-power for power in range(1, 6)]
    line = fit_correction(predicted, [2 * harm for harm in predicted])
    assert line.trusted
    assert line(0.5) == pytest.approx(1.0)
    assert line(0.0) == 0.0
    # one of five is off: the line stays, and it is still trusted
    assert fit_correction(predicted, [2 * harm for harm in predicted[:-1]] + [0.1]).trusted
    assert not fit_correction([0.0] * 4 + predicted, [1e-3] * 4 + predicted).trusted
    assert not fit_correction([0.0], [1e-3]).trusted
    nothing = fit_correction([0.0, 0.0], [0.0, 0.0])
    assert (nothing.factor, nothing.slope, nothing.trusted) == (1.0, 1.0, True)


def test_pairs_are_spread_over_all_sizes() -> None:
    harms = np.random.default_rng(0).random(100).tolist()
    chosen = [harms[place] for place in spread_over_sizes(harms)]
    assert chosen[0] == min(harms)
    assert chosen[-1] == max(harms)
    assert chosen == sorted(chosen)
    assert len(chosen) == 12
