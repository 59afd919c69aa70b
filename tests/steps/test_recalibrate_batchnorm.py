"""Norms measured anew: against numpy on what the finished network really feeds them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from optimize.candidate import Reference
from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm
from tests import nets
from tests.nets import candidate, cases, reference


class Twice(nn.Module):
    """One convolution and one norm, called twice; another norm is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.idle = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = torch.relu(self.norm(self.conv(x)))
        return x


def vectors() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False))


def read_by_norms(module: nn.Module, inputs: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
    """What each batch norm reads, (C, values)."""
    seen: dict[str, list[npt.NDArray[np.float64]]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.register_forward_hook(lambda _, given, __, name=name: seen.setdefault(name, []).append(given[0].double().numpy()))
    with torch.inference_mode():
        module(torch.from_numpy(inputs))
    return {name: np.concatenate([np.moveaxis(part, 1, 0).reshape(part.shape[1], -1) for part in parts], 1) for name, parts in seen.items()}


@pytest.mark.parametrize("build", [nets.chain_bn, nets.Residual, nets.Concat, nets.depthwise, vectors])
def test_statistics_are_those_of_what_the_finished_network_reads(build: Callable[[], nn.Module]) -> None:
    start = candidate(build())
    aim = reference(start, 300)  # more than one batch, and no multiple of it
    made = RecalibrateBatchNorm()(start, aim)
    read = read_by_norms(made.module, aim.calibration)
    assert read
    for name, values in read.items():
        norm = made.module.get_submodule(name)
        np.testing.assert_allclose(norm.get_buffer("running_mean").numpy(), values.mean(1), atol=1e-5)
        np.testing.assert_allclose(norm.get_buffer("running_var").numpy(), values.var(1, ddof=1), rtol=1e-4)


def test_a_norm_called_twice_gets_the_statistics_of_both_calls() -> None:
    """They come from the network as it stood: what the second call reads depends on the statistics themselves."""
    start = candidate(Twice())
    aim = reference(start, 40)
    made = RecalibrateBatchNorm()(start, aim)
    values = read_by_norms(start.module, aim.calibration)["norm"]
    np.testing.assert_allclose(made.module.get_buffer("norm.running_mean").numpy(), values.mean(1), atol=1e-5)
    np.testing.assert_allclose(made.module.get_buffer("norm.running_var").numpy(), values.var(1, ddof=1), rtol=1e-4)
    assert torch.equal(made.module.get_buffer("idle.running_mean"), start.module.get_buffer("idle.running_mean"))


def test_nothing_but_statistics_changes_and_the_input_stays() -> None:
    start = candidate(nets.Residual())
    aim, before = reference(start), start.fingerprint
    made = RecalibrateBatchNorm()(start, aim)
    assert start.fingerprint == before
    assert made.fingerprint == RecalibrateBatchNorm()(start, aim).fingerprint != before
    assert made.lineage == (RecalibrateBatchNorm(),)
    assert not made.module.training
    theirs = start.module.state_dict()
    changed = {name for name, tensor in made.module.state_dict().items() if not torch.equal(tensor, theirs[name])}
    assert changed == {f"{norm}.running_{kind}" for norm in ("norm1", "norm2") for kind in ("mean", "var")}


def test_only_the_first_cases_are_looked_at() -> None:
    start = candidate(nets.chain_bn())
    few = RecalibrateBatchNorm(cases=10)(start, reference(start))
    assert few.fingerprint == RecalibrateBatchNorm()(start, Reference(start, cases()[:10])).fingerprint
    assert few.fingerprint != RecalibrateBatchNorm(cases=11)(start, reference(start)).fingerprint


def test_done_twice_is_done_once() -> None:
    start = candidate(nets.Concat())
    aim = reference(start)
    once = RecalibrateBatchNorm()(start, aim)
    inputs = cases(8, seed=5)
    np.testing.assert_allclose(RecalibrateBatchNorm()(once, aim).predict(inputs), once.predict(inputs), rtol=1e-4, atol=1e-5)


def test_without_norms_the_network_stays() -> None:
    start = candidate(nets.chain())
    assert RecalibrateBatchNorm()(start, reference(start)).module is start.module
