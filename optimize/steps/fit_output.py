"""Fit the layer that answers to the original's answers, not to its outputs.

Least squares counts an error in a large logit as much as the same error beside the decision, though only the latter changes an answer. So
the layer whose outputs are the network's is fitted a second time, with the weights W that minimize

    mean over rows of KL(p || q)  +  pull * ||U (W - V)||^2,       q = softmax(x W + b),  p = softmax of the original's outputs

where V is the least-squares solution and U'U the second moment of what the layer reads. It is convex, as logistic regression is; with one
output both are sigmoids. Solved by L-BFGS in the coordinates U W, in which the penalty is round. No label is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from optimize.candidate import Candidate, Reference
from optimize.graph.layer_types import groups, linear_submodule
from optimize.graph.replay import calls
from optimize.graph.surgery import with_tensors
from optimize.reconstruction.layer_matrix import matrix, unrepairable_reason, weight_from
from optimize.reconstruction.layer_repair import ROWS
from optimize.reconstruction.moments import OriginalOutputs

Array = npt.NDArray[np.float64]
PULL = 1e-3
EVALUATIONS = 200
STILL = 1e-7
"""Nats per unit of a standardized weight: a smaller slope is none."""


@dataclass(frozen=True)
class FitOutput:
    """Refit the last layer by cross entropy with the original's answers; a network without such a layer stays as it is.

    Args:
        rows: sampled positions it is fitted on.
        l2: strength of the pull to the present weights.
    """

    rows: int = ROWS
    l2: float = PULL

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the candidate with the refitted layer."""
        module, original = candidate.module, reference.original.module
        name = answering(candidate)
        if name is None or answering(reference.original) != name:
            return candidate.after(self, module)
        targets = OriginalOutputs(original, reference.calibration, [name], rows=self.rows, seed=reference.seed, memory=reference.memory)
        given, wanted = (rows.double().numpy() for rows in targets.rows(module, name))
        layer = linear_submodule(module, name)
        bias = np.zeros(wanted.shape[1]) if layer.bias is None else layer.bias.detach().double().numpy()
        weight, bias = fitted(given, wanted, matrix(layer).numpy(), bias, self.l2)
        tensors = {"weight": weight_from(layer, torch.from_numpy(weight))}
        if layer.bias is not None:
            tensors["bias"] = torch.from_numpy(bias).to(layer.bias.dtype)
        return candidate.after(self, with_tensors(module, name, **tensors))


def answering(candidate: Candidate) -> str | None:
    """The linear layer whose outputs are the network's; None where something comes between, such as a softmax."""
    layers = {
        name: layer
        for name, layer in candidate.module.named_modules()
        if unrepairable_reason(layer) is None and groups(layer) == 1 and not getattr(layer, "transposed", False)
    }
    called = calls(candidate.module, list(layers), candidate.example, lambda _, __, output: output.clone())
    if not called or [name for name, _ in called].count(called[-1][0]) > 1:
        return None
    name, made = called[-1]
    with torch.inference_mode():
        outputs = candidate.module(candidate.example.clone())
    return name if isinstance(outputs, torch.Tensor) and made.shape == outputs.shape and torch.equal(made, outputs) else None


def fitted(given: Array, wanted: Array, weight: Array, bias: Array, l2: float) -> tuple[Array, Array]:
    """Weights (p, K) and bias (K,) whose answers to the rows are nearest to those wanted.

    Args:
        given: (n, p) rows.
        wanted: (n, K) outputs of the original; with K = 1 the logits of a sigmoid.
        weight: (p, K) at the start, and what is pulled towards.
        bias: (K,) likewise, but not pulled.
        l2: per unit of a standardized weight.
    """
    mean = given.mean(0)
    centred = given - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(given))
    sure = values > values[-1] * 1e-10
    across = vectors[:, sure] / np.sqrt(values[sure])  # (p, r): centred @ across has the identity for its second moment
    rows, classes = centred @ across, wanted.shape[1]
    before = given @ weight + bias
    shares = np.exp(_log_shares(wanted))

    def loss(flat: Array) -> tuple[float, Array]:
        step = flat.reshape(rows.shape[1] + 1, classes)
        logs = _log_shares(before + rows @ step[1:] + step[0])
        apart = (np.exp(logs) - shares)[:, -classes:] / len(rows)  # with one output the first column is the background's
        slope = np.vstack([apart.sum(0), rows.T @ apart + 2 * l2 * step[1:]])
        return float(-(shares * logs).sum(1).mean() + l2 * np.square(step[1:]).sum()), slope.ravel()

    start = np.zeros((rows.shape[1] + 1) * classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxfun": EVALUATIONS, "gtol": STILL, "ftol": 1e-12})
    step = found.x.reshape(rows.shape[1] + 1, classes)
    change = across @ step[1:]
    return weight + change, bias + step[0] - mean @ change


def _log_shares(outputs: Array) -> Array:
    both = np.concatenate([np.zeros_like(outputs), outputs], axis=1) if outputs.shape[1] == 1 else outputs
    return np.asarray(both - logsumexp(both, axis=1, keepdims=True))
