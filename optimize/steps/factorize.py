"""Low-rank linear layers: one big matrix as the product of two small ones.

A layer y = x W with W (in, out) becomes y = (x A) B with A (in, r), B (r, out). Truncating the singular values of W itself keeps W; what
matters is x W. So with the inputs' second moment gram = L L' the singular values are those of L' W (whitening, as in SVD-LLM, Wang et
al. 2024): the share of *output* energy that rank r keeps is the cumulative sum of sigma^2, and A B is the best rank-r map for these inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from optimize.candidate import Candidate, Reference, parameters
from optimize.graph.surgery import replace_module, runs_on
from optimize.graph.trace import trace
from optimize.progress import track
from optimize.reconstruction.moments import WIDEST, OriginalOutputs
from optimize.reconstruction.ridge import cholesky


@dataclass(frozen=True)
class Factorize:
    """Replace linear layers by a product of two wherever that saves enough parameters.

    Args:
        energy: least share of the layer's output energy to keep, in (0, 1]; 1 changes nothing.
        rows: inputs that the second moments are taken from, as far as there are so many.
        whiten: weigh directions by how much the inputs use them; off, and for layers too wide for a gram matrix, the weights alone decide.
        worth: share of the network's parameters that splitting a layer must save: a further layer takes time, however small.
        gain: share of the layer's own weights that it must save.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> opt.Factorize(1.0)(original, reference).parameters, opt.Factorize(0.5)(original, reference).parameters < original.parameters
        (44, True)
    """

    TRAINS: ClassVar[bool] = False

    energy: float
    rows: int = 20_000
    whiten: bool = True
    worth: float = 0.01
    gain: float = 0.25

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the factorized candidate; the same network when no layer gains."""
        if self.energy >= 1:
            return candidate.after(self, candidate.module)
        order = trace(candidate).order
        names = [name for name, layer in candidate.module.named_modules() if isinstance(layer, nn.Linear) and name in order]
        module = candidate.module
        for name in track(names, f"factorize, energy {self.energy:g}"):
            layer = candidate.module.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            least = max(self.worth * candidate.parameters, self.gain * layer.weight.numel())
            factors = self._factors(layer, self._gram(candidate, reference, name), least)
            if factors is None:
                continue
            proposed = replace_module(module, name, factors)
            # a weight that another layer uses too is still there
            if parameters(module) - parameters(proposed) > least and runs_on(proposed, candidate.example):
                module = proposed
        return candidate.after(self, module)

    def _gram(self, candidate: Candidate, reference: Reference, name: str) -> torch.Tensor | None:
        layer = candidate.module.get_submodule(name)
        if not self.whiten or not isinstance(layer, nn.Linear) or layer.in_features > WIDEST:
            return None
        # a search asks for one candidate with one energy after the other: what its layers read is the same each time
        fingerprint, known = reference.memory.get("factorized inputs", ("", {}))
        if fingerprint != (own_fingerprint := candidate.fingerprint):
            known = {}
            reference.memory["factorized inputs"] = own_fingerprint, known
        if (name, self.rows) not in known:
            own = OriginalOutputs(candidate.module, reference.calibration, [name], rows=self.rows, seed=reference.seed)
            moments = own.moments(candidate.module, [name])[name]
            # about zero, not about the mean: the product of two layers has to give x W itself, and nothing makes up for a shifted mean
            known[name, self.rows] = moments.gram.addr(moments.mean_in, moments.mean_in)
        gram: torch.Tensor = known[name, self.rows]
        return gram

    def _factors(self, layer: nn.Linear, gram: torch.Tensor | None, least: float) -> nn.Sequential | None:
        """Return the two layers; None where they do not save more than `least` parameters."""
        weight = layer.weight.detach().double().T  # (in, out)
        root = None if gram is None else _root(gram)
        left, sigma, right_rows = torch.linalg.svd(weight if root is None else root.T @ weight, full_matrices=False)
        share = torch.cumsum(sigma.square(), 0) / sigma.square().sum().clamp_min(1e-300)
        # the smallest rank whose share reaches the energy: shares .7, .9, .97, 1 and an energy of .95 give rank 3
        rank = int((share < self.energy - 1e-12).sum()) + 1
        # Example: 1024 x 512 has 524,288 weights; at rank 128 the two layers have 128 * (1024 + 512) = 196,608.
        if layer.in_features * layer.out_features - rank * (layer.in_features + layer.out_features) <= least:
            return None
        narrow = left[:, :rank] * sigma[:rank]
        if root is not None:
            # L' W = U S V', so W = (L'^-1 U S) V': the singular values were those of the whitened weights, and the whitening is undone here
            narrow = torch.linalg.solve_triangular(root.T, narrow, upper=True)
        first = nn.Linear(layer.in_features, rank, bias=False)
        second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
        first.weight = _parameter(narrow.T, layer)
        second.weight = _parameter(right_rows[:rank].T, layer)
        if layer.bias is not None:
            second.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=layer.bias.requires_grad)
        return nn.Sequential(first, second).eval()



def _root(gram: torch.Tensor) -> torch.Tensor:
    """Return the lower triangular L with L L' = gram; directions that no input takes get a little weight, so that L can be inverted."""
    lifted = gram.clone()
    lifted.diagonal().add_(1e-6 * float(gram.diagonal().mean()) + 1e-12)
    return cholesky(lifted)


def _parameter(value: torch.Tensor, like: nn.Linear) -> nn.Parameter:
    return nn.Parameter(value.to(like.weight.dtype).contiguous(), requires_grad=like.weight.requires_grad)
