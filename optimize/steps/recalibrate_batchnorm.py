"""Batch-norm statistics measured anew: those of training are wrong once the layers in front of a norm have changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.layer_calls import calls
from optimize.graph.layer_types import BATCH_NORMS
from optimize.graph.surgery import with_tensors
from optimize.progress import track
from optimize.reconstruction.moments import BATCH


@dataclass(frozen=True)
class RecalibrateBatchNorm:
    """Give every batch norm the mean and the variance of its inputs; weights do not change.

    Norms are taken in execution order, each measured behind those already renewed, over all cases at once: the result does not depend on
    any batch size, and equals what the finished network feeds its norms. A momentum would average over networks that no longer exist.

    Args:
        cases: number of calibration inputs to measure on, from the first.
        layers: only these norms; empty for all.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 1, 4, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 1, 4, 4), np.float32))
        >>> renewed = opt.RecalibrateBatchNorm()(original, reference)
        >>> made = net[0](torch.from_numpy(reference.calibration)).mean((0, 2, 3))
        >>> torch.allclose(renewed.module[1].running_mean, made, atol=1e-5)
        True
    """

    TRAINS: ClassVar[bool] = False

    cases: int = 1024
    layers: tuple[str, ...] = ()

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the candidate with new running means and variances (unbiased, as torch estimates them)."""
        module = candidate.module
        inputs = torch.from_numpy(reference.calibration[: self.cases])
        chosen = [name for name in _norms(candidate) if not self.layers or name in self.layers]
        # In the order they run: a norm's inputs depend on the norms in front of it, which must be right before it is measured.
        for name in track(chosen, "recalibrate"):
            mean, variance = _statistics(module, name, inputs)
            old = module.get_submodule(name).get_buffer("running_mean")
            module = with_tensors(module, name, running_mean=mean.to(old.dtype), running_var=variance.to(old.dtype))
        return candidate.after(self, module)


def _norms(candidate: Candidate) -> list[str]:
    """Return the batch norms with statistics of their own, in the order of their first call; those never called are left out."""
    names = [name for name, layer in candidate.module.named_modules() if isinstance(layer, BATCH_NORMS) and layer.running_mean is not None]
    return list(dict.fromkeys(name for name, _ in calls(candidate.module, names, candidate.example, lambda *_: None)))


def _statistics(module: nn.Module, name: str, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and unbiased variance of each channel that the norm reads, float64 (C,)."""
    count, mean, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for chunk in torch.split(inputs, BATCH):
        for _, (number, centre, spread) in calls(module, [name], chunk, _summary):
            # Chan, Golub & LeVeque's update: sums of squares about each part's own mean lose no digits
            total, step = count + number, centre - mean
            squares = squares + spread + step.square() * (count * number / total)
            mean, count = mean + step * (number / total), total
    return mean, squares / max(1, count - 1)


def _summary(_: str, inputs: torch.Tensor, __: torch.Tensor) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Return the number of values per channel, their mean and the sum of their squares about it; inputs (N, C, *spatial)."""
    values = inputs.double().transpose(0, 1).flatten(1)  # (C, N * places)
    mean = values.mean(1)
    return values.shape[1], mean, (values - mean[:, None]).square().sum(1)
