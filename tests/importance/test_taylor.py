"""The slope in each gate against finite differences: a gate is a factor on the weights with which a channel is read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup, trace
from optimize.importance.taylor import Taylor
from tests.nets import TOPOLOGIES, Residual, cases, chain, chain_bn, ready

STEP = 1e-5


def losses(module: nn.Module, inputs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = module(torch.tensor(inputs)).numpy()
    shifted = logits - logits.max(1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    each = -np.take_along_axis(log, truth[:, None], 1)[:, 0]
    return np.asarray(each.reshape(len(each), -1).mean(1))


def with_gate(module: nn.Module, group: ChannelGroup, channel: int, gate: float, run: Callable[[], np.ndarray]) -> np.ndarray:
    """`run()` while every reader's weights on the channel are multiplied by `gate`."""
    before = {slot.module: module.get_submodule(slot.module).get_parameter("weight").detach().clone() for slot in group.consumers}
    with torch.no_grad():
        for slot in group.consumers:
            layer = module.get_submodule(slot.module)
            columns = torch.from_numpy(slot.index[channel])
            view = layer.get_parameter("weight") if getattr(layer, "transposed", False) else layer.get_parameter("weight").transpose(0, 1)
            view[columns] *= gate
    found = run()
    with torch.no_grad():
        for name, weight in before.items():
            module.get_submodule(name).get_parameter("weight").copy_(weight)
    return found


def check(net: nn.Module, inputs: np.ndarray) -> None:
    """Every group's scores against finite differences."""
    module = ready(net).double()
    of = Candidate(module, torch.tensor(inputs[:1]))
    with torch.no_grad():
        truth = module(torch.tensor(inputs)).numpy().argmax(1)
    groups = trace(of).groups
    assert groups
    found = Taylor()(of, Reference(of, inputs), groups)
    for group, score in zip(groups, found, strict=True):
        want = []
        for channel in range(group.size):
            up, down = (with_gate(module, group, channel, 1 + way * STEP, lambda: losses(module, inputs, truth)) for way in (1, -1))
            want.append(np.abs((up - down) / (2 * STEP)).mean())
        np.testing.assert_allclose(score, want, rtol=2e-4, atol=1e-7)
        assert score.max() > 0


@pytest.mark.parametrize("name", list(TOPOLOGIES))
def test_the_slope_in_every_gate(name: str) -> None:
    check(TOPOLOGIES[name](), cases(5).astype(np.float64))


def test_the_truth_is_what_the_original_predicts() -> None:
    """Another network is scored against the same original: the slope follows the original's classes, not its own."""
    original, other = (Candidate(ready(chain(), seed), torch.from_numpy(cases(1))) for seed in (0, 3))
    inputs = cases(40)
    theirs, own = original.predict(inputs).argmax(1), other.predict(inputs).argmax(1)
    assert (theirs != own).any()
    groups = trace(other).groups
    got = Taylor()(other, Reference(original, inputs), groups)[1]
    net = list(other.module.children())
    features = torch.nn.Sequential(*net[:-1])(torch.from_numpy(inputs)).detach()  # (n, 6): what the head reads
    head = net[-1]
    assert isinstance(head, nn.Linear)
    features.requires_grad_()
    loss = functional.cross_entropy(head(features), torch.from_numpy(theirs), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, features)
    np.testing.assert_allclose(got, (features * gradient).detach().abs().mean(0).numpy(), rtol=1e-4)


@pytest.mark.parametrize("batch", [7, 128])
def test_batches_do_not_show(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    of = Candidate(ready(Residual()), torch.from_numpy(cases(1)))
    groups = trace(of).groups
    whole = Taylor()(of, Reference(of, cases(20)), groups)
    monkeypatch.setattr("optimize.importance.loss.BATCH", batch)
    for a, b in zip(whole, Taylor()(of, Reference(of, cases(20)), groups), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_a_channel_nobody_weighs_is_worth_nothing_and_the_network_is_left_alone() -> None:
    of = Candidate(ready(chain_bn()), torch.from_numpy(cases(1)))
    with torch.no_grad():
        of.module.get_submodule("3").get_parameter("weight")[:, 2] = 0
    before = of.fingerprint
    score = Taylor()(of, Reference(of, cases(20)), trace(of).groups)[0]
    assert score[2] == 0
    assert (np.delete(score, 2) > 0).all()
    assert of.fingerprint == before
    assert all(parameter.grad is None for parameter in of.module.parameters())
    assert not any(layer._forward_pre_hooks for layer in of.module.modules())


def test_windows_folded_into_the_batch_share_their_case_s_gate() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # (n, 2, 4): two steps
            steps = torch.tanh(self.enter(x)).flatten(0, 1)  # signs differ, so it matters whose gate a step has
            out: torch.Tensor = self.head(steps).unflatten(0, (len(x), 2)).mean(1)
            return out

    check(Folded(), np.random.default_rng(0).standard_normal((6, 2, 4)))


def test_what_else_a_reader_is_called_with_reaches_it() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.up = nn.Conv2d(3, 5, 1), nn.ConvTranspose2d(5, 4, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.up(torch.tanh(self.enter(x)), [24, 23])
            return out

    class Named(Sized):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.up(input=torch.tanh(self.enter(x)), output_size=[24, 23])
            return out

    for net in (Sized(), Named()):
        check(net, cases(5).astype(np.float64))
