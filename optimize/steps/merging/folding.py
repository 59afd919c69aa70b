"""A layer and the batch norm behind it as one affine map, and what can be merged once they are seen so.

    y = x W + b        z = a y + d,  a = gamma / sqrt(var + eps),  d = beta - a mean        hence  z = x V + c,  V = a W,  c = a b + d

Two channels may differ in W and agree in V, or the other way round: only V and c say what the activation sees. With w1 = 2, gamma = 1,
var = 4 and w2 = 3, gamma = 1, var = 9 (eps 0) both have V = 1: one channel, written down twice.

`fold` clusters the columns of (V; c) by k-means and replaces a cluster by its centroid (the idea of Model Folding, ICLR 2025). Averages
of maps that are not quite parallel vary less than their members; with the second moment G of x the deviation of each is sqrt(v' G v), and
the centroid is stretched about its mean until it varies as its members did on average (the idea of REPAIR, ICLR 2023), from data but
without a forward pass. Example: filters (1, 0) and (0, 1) on uncorrelated inputs of variance 1 each deviate by 1; their centroid (.5, .5)
deviates by sqrt(.25 + .25) = .71, and stretched by 1.41 to (.71, .71) it deviates by 1 again.

`compensate` (the idea of Neuron Merging, NeurIPS 2020) needs no data: v_n ~ s v_m with s = |v_n| / |v_m| > 0 passes through any activation
with f(s z) = s f(z), so the readers of n can read s times m instead: of filters (1, 2) and (2, 4) the second is 2 times the first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.graph.layer_types import LinearMap, linear_submodule
from optimize.graph.surgery import with_tensors
from optimize.graph.trace import Index
from optimize.reconstruction.layer_matrix import matrix, weight_from

ROUNDS = 100
COSINE_WEIGHT = 0.85
MIN_COSINE = 0.45


@dataclass(frozen=True, eq=False)
class ProducerLayer:
    """The only layer that makes a group's channels, and the batch norm behind it.

    Args:
        module: the network.
        name: the layer, a convolution or a linear one.
        norm: the batch norm that alone reads it, where there is one.
        rows: (size,) positions of the channels among the layer's outputs.
    """

    module: nn.Module
    name: str
    norm: str | None
    rows: Index

    @property
    def layer(self) -> LinearMap:
        """The layer itself."""
        return linear_submodule(self.module, self.name)

    def plain(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return W (p, size) and b (size,), float64."""
        bias = self.layer.bias
        whole = torch.zeros(matrix(self.layer).shape[1], dtype=torch.float64) if bias is None else bias.detach().double()
        return matrix(self.layer)[:, self.rows], whole[self.rows]

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return V (p, size) and c (size,), float64: the norm taken in."""
        weight, bias = self.plain()
        if self.norm is None:
            return weight, bias
        norm: Any = self.module.get_submodule(self.norm)
        slope = 1 / (norm.running_var.double() + norm.eps).sqrt()
        shift = torch.zeros_like(slope)
        if norm.affine:
            slope, shift = slope * norm.weight.detach().double(), norm.bias.detach().double()
        slope, shift = slope[self.rows], (shift - slope * norm.running_mean.double())[self.rows]
        return weight * slope, bias * slope + shift

    def mixed(self, mixture: torch.Tensor) -> nn.Module:
        """Return the network with every tensor of the layer and its norm mixed over the channels alike: new = mixture (size, size) old."""
        module = self.module
        for name in filter(None, (self.name, self.norm)):
            layer = module.get_submodule(name)
            tensors = {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}
            mixed = {key: torch.tensordot(mixture, old[self.rows].double(), 1) for key, old in tensors.items() if old.dim()}
            module = with_tensors(module, name, **{key: self._placed(tensors[key], value) for key, value in mixed.items()})
        return module

    def with_plain(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Module:
        """Return the network whose layer gives x W + b; without a bias of its own, the norm behind it takes b. None leaves b as it was."""
        whole = matrix(self.layer).clone()
        whole[:, self.rows] = weight
        module = with_tensors(self.module, self.name, weight=weight_from(self.layer, whole))
        if bias is None:
            return module
        # a norm subtracts its running mean, so a bias b in front of it is a running mean smaller by b
        if self.layer.bias is None and self.norm is not None:
            mean = self.module.get_submodule(self.norm).get_buffer("running_mean")
            return with_tensors(module, self.norm, running_mean=self._placed(mean, mean[self.rows].double() - bias))
        old = torch.zeros(whole.shape[1], dtype=self.layer.weight.dtype) if self.layer.bias is None else self.layer.bias
        return with_tensors(module, self.name, bias=self._placed(old, bias))

    def with_folded(self, weight: torch.Tensor, shift: torch.Tensor, mean_in: torch.Tensor, gram: torch.Tensor) -> nn.Module:
        """Return the network in which layer and norm together give x V + c.

        The norm, which must be affine, gets the statistics that these inputs give it, so that measuring them anew changes nothing.
        """
        if self.norm is None:
            return self.with_plain(weight, shift)
        norm: Any = self.module.get_submodule(self.norm)
        # Statistics of x V under these inputs. The norm divides by sqrt(var + eps), so with that as its slope it gives x V - mean + bias,
        # and with bias = mean + c the sum is x V + c.
        mean, variance = mean_in @ weight, (weight * (gram @ weight)).sum(0).clamp_min(0)
        values = {"running_mean": mean, "running_var": variance, "weight": (variance + norm.eps).sqrt(), "bias": mean + shift}
        placed = {key: self._placed(getattr(norm, key), value) for key, value in values.items()}
        # the layer's own bias, if any, would be taken for part of x V
        plain = self.with_plain(weight, None if self.layer.bias is None else torch.zeros_like(shift))
        return with_tensors(plain, self.norm, **placed)

    def _placed(self, old: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return old.detach().index_copy(0, torch.from_numpy(self.rows), values.to(old.dtype))

    def only(self, channels: Index) -> ProducerLayer:
        """Return the same layer, with only these of the group's channels in view."""
        return replace(self, rows=self.rows[channels])


def fold(producer: ProducerLayer, keep: Index, mean_in: torch.Tensor, gram: torch.Tensor) -> tuple[nn.Module, Index]:
    """Replace the filters by the centroids of k-means, started from the kept ones, each varying as its members did.

    Args:
        producer: the layer that makes the channels.
        keep: channels whose places the centroids take.
        mean_in: (p,) mean of the layer's inputs.
        gram: (p, p) their centred second moment.

    Returns:
        the network, and (size,) the kept place that stands for each channel.
    """
    weight, shift = producer.folded()
    # a channel is a point of p + 1 coordinates: the folded filter and its shift
    home = clusters(torch.vstack([weight, shift]).T, keep)
    # v' G v is the variance of x v; with the columns v of `weight`, summing weight * (G weight) down gives all of them at once
    deviation = (weight * (gram @ weight)).sum(0).clamp_min(0).sqrt()
    merged = np.array([k for k in keep if (home == k).sum() > 1], dtype=np.int64)
    if not len(merged):
        return producer.module, home
    # row k: 1 / members for each member of cluster k, so that mixture times anything is its mean over the cluster
    mixture = torch.from_numpy(np.stack([(home == k) / (home == k).sum() for k in merged]))
    centre, level, deviations = weight @ mixture.T, mixture @ shift, mixture @ deviation
    now = (centre * (gram @ centre)).sum(0).clamp_min(0).sqrt()
    stretch = torch.where(now > 1e-9 * deviations, deviations / now.clamp_min(1e-300), 1.0)
    # about the mean: mean x centre + level is the same before and after the stretch
    level = level + (1 - stretch) * (mean_in @ centre)
    return producer.only(merged).with_folded(centre * stretch, level, mean_in, gram), home


def clusters(points: torch.Tensor, keep: Index) -> Index:
    """Return the kept point whose cluster each point joins, (size,), by Lloyd's k-means on points (size, q) started at the kept ones."""
    centres = points[keep].clone()
    home = np.full(len(points), -1)
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(1).numpy()
        if (nearest == home).all():
            break
        home = nearest
        for k in range(len(keep)):
            if (home == k).any():  # an emptied cluster keeps its centre, and may fill again
                centres[k] = points[home == k].mean(0)
    return np.asarray(keep[home])


def compensate(producer: ProducerLayer, keep: Index) -> torch.Tensor:
    """Return how much of each kept channel its readers must read on behalf of each other channel: (size, size), row m, column n.

    m is the kept filter with the smallest score: .85 times 1 - cosine, plus .15 times the disagreement of the shifts. Where even their
    cosine is below .45, nothing stands for n.
    """
    weight, shift = producer.folded()
    length = weight.norm(dim=0).clamp_min(1e-300)
    cosine = (weight / length).T @ (weight / length)  # (size, size)
    scale = length[None, :] / length[:, None]  # row m, column n
    apart = (shift[None, :] - scale * shift[:, None]).abs() / scale
    # Example: filters at a cosine of .9 whose scaled shifts differ by .2 have the score .85 * .1 + .15 * .2 = .115.
    score = COSINE_WEIGHT * (1 - cosine) + (1 - COSINE_WEIGHT) * apart
    size = len(shift)
    reads = torch.zeros(size, size, dtype=torch.float64)
    reads[keep, keep] = 1
    for n in np.setdiff1d(np.arange(size), keep):
        m = keep[int(score[keep, n].argmin())]
        reads[m, n] = scale[m, n] if cosine[m, n] >= MIN_COSINE else 0.0
    return reads
