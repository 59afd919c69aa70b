"""|weight * gradient| with the gradient by central differences, one weight at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import trace
from optimize.importance.snip import Snip
from tests.nets import Residual, cases, chain, ready

STEP = 1e-5


class Tiny(nn.Module):
    """A stem onto which a second convolution is added, an up-convolution, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.more = nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 1)
        self.up, self.head = nn.ConvTranspose2d(3, 2, 2, 2), nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.more(torch.relu(x)))
        out: torch.Tensor = self.head(torch.relu(self.up(x)).mean((2, 3)))
        return out


def mean_loss(module: nn.Module, inputs: np.ndarray, truth: np.ndarray) -> float:
    with torch.no_grad():
        logits = module(torch.tensor(inputs)).numpy()
    return float((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(truth)), truth]).mean())


def sensitivities(module: nn.Module, layer: str, inputs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|w * dL/dw|, shaped like the weight."""
    weight = module.get_submodule(layer).get_parameter("weight")
    flat, found = weight.data.view(-1), []
    for place in range(len(flat)):
        value = float(flat[place])
        either = []
        for way in (1, -1):
            flat[place] = value + way * STEP
            either.append(mean_loss(module, inputs, truth))
        flat[place] = value
        found.append(abs(value * (either[0] - either[1]) / (2 * STEP)))
    return np.reshape(found, weight.shape)


def test_against_central_differences() -> None:
    module = ready(Tiny()).double()
    inputs: np.ndarray = cases(6, (1, 3, 3)).astype(np.float64)
    of = Candidate(module, torch.tensor(inputs[:1]))
    with torch.no_grad():
        truth = module(torch.tensor(inputs)).numpy().argmax(1)
    groups = trace(of).groups
    got = dict(zip([group.name for group in groups], Snip()(of, Reference(of, inputs), groups), strict=True))
    stem, more, up = (sensitivities(module, name, inputs, truth) for name in ("stem", "more", "up"))
    np.testing.assert_allclose(got["stem"], stem.sum((1, 2, 3)) + more.sum((1, 2, 3)), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(got["up"], up.sum((0, 2, 3)), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("batch", [7, 128])
def test_batches_do_not_show(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    of = Candidate(ready(Residual()), torch.from_numpy(cases(1)))
    groups = trace(of).groups
    whole = Snip()(of, Reference(of, cases(20)), groups)
    monkeypatch.setattr("optimize.importance.loss.BATCH", batch)
    for a, b in zip(whole, Snip()(of, Reference(of, cases(20)), groups), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3)


def test_the_network_keeps_its_parameters_and_gets_no_gradients() -> None:
    of = Candidate(ready(chain()).requires_grad_(False), torch.from_numpy(cases(1)))
    before = of.fingerprint
    scores = Snip()(of, Reference(of, cases(20)), trace(of).groups)
    assert all((score > 0).any() for score in scores)
    assert of.fingerprint == before
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in of.module.parameters())
