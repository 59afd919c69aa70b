"""Fit the output layer to the original's probabilities, not to its logits.

Least squares counts an error in a large logit as much as the same error near the decision, though only the latter changes an answer. With
logits 9 and 0, an error of 1 moves the first probability by .0002; with logits 0 and 0, by .23. So the layer whose outputs are the
network's is fitted a second time, with the weights W that minimize

    mean over rows of KL(p || q)  +  l2 * ||U (W - V)||^2,       q = softmax(x W + b),  p = softmax of the original's outputs

where V is the least-squares solution and U'U the second moment of what the layer reads. It is convex, as logistic regression is; with one
output both are sigmoids. Solved by L-BFGS in the coordinates U W, in which the penalty is round. No label is looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optimize.candidate import Candidate, Meaning, Reference
from optimize.data.output_meaning import Values, stand_alone
from optimize.graph.layer_calls import calls
from optimize.graph.layer_types import groups, linear_submodule
from optimize.graph.surgery import with_tensors
from optimize.progress import timed
from optimize.reconstruction.layer_matrix import matrix, unrepairable_reason, weight_from
from optimize.reconstruction.layer_repair import ROWS
from optimize.reconstruction.moments import OriginalOutputs

Array = npt.NDArray[np.float64]
PULL = 1e-3
MAX_EVALUATIONS = 200
GRADIENT_TOLERANCE = 1e-7
"""Nats per unit of a standardized weight: a smaller slope is none."""


@dataclass(frozen=True)
class FitOutput:
    """Refit the last layer by cross entropy with the original's answers; a network without such a layer stays as it is.

    Args:
        rows: sampled positions it is fitted on.
        l2: strength of the pull to the present weights.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> narrow = opt.PruneToWidths((("0", 3),))(original, reference)
        >>> fitted = opt.FitOutput()(narrow, reference)
        >>> fitted.parameters == narrow.parameters, torch.equal(fitted.module[0].weight, narrow.module[0].weight)
        (True, True)
    """

    TRAINS: ClassVar[bool] = False

    rows: int = ROWS
    l2: float = PULL

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the candidate with the refitted layer."""
        name = shared_output_layer(candidate, reference)
        if name is None:
            return candidate.after(self, candidate.module)
        original = reference.original.module
        targets = OriginalOutputs(original, reference.calibration, [name], rows=self.rows, seed=reference.seed, memory=reference.memory)
        return candidate.after(self, self.fitted(candidate.module, name, targets, meaning=candidate.outputs))

    def fitted(
        self, module: nn.Module, name: str, targets: OriginalOutputs, changing: Collection[str] = (), meaning: Meaning = "logits"
    ) -> nn.Module:
        """Return the network with the refitted output layer.

        Args:
            module: the network.
            name: name of its output layer.
            targets: outputs of the original's layers.
            changing: layers from which on the network has still to be run, see `OriginalOutputs.moments`.
            meaning: meaning of the outputs: outputs of several labels are fitted one by one.
        """
        with timed("inputs of the output layer"):
            inputs, outputs = (rows.double().numpy() for rows in targets.rows(module, name, changing))
        layer = linear_submodule(module, name)
        bias = np.zeros(outputs.shape[1]) if layer.bias is None else layer.bias.detach().double().numpy()
        with timed("fit the output layer"):
            start = matrix(layer).numpy()
            # of numbers, the fit is that of their logits, see `Values`
            middle, scale = (np.array(side) for side in ((meaning.middle, meaning.spread) if isinstance(meaning, Values) else (0.0, 1.0)))
            outputs, start, bias = (outputs - middle) / scale, start / scale, (bias - middle) / scale
            columns = [slice(k, k + 1) for k in range(outputs.shape[1])] if stand_alone(outputs.shape, meaning) else [slice(None)]
            fits = [fit_to_answers(inputs, outputs[:, part], start[:, part], bias[part], self.l2) for part in columns]
            weight, bias = np.concatenate([made for made, _ in fits], axis=1), np.concatenate([made for _, made in fits])
            weight, bias = weight * scale, bias * scale + middle
        tensors = {"weight": weight_from(layer, torch.from_numpy(weight))}
        if layer.bias is not None:
            tensors["bias"] = torch.from_numpy(bias).to(layer.bias.dtype)
        return with_tensors(module, name, **tensors)


def shared_output_layer(candidate: Candidate, reference: Reference) -> str | None:
    """Return the name of the layer that gives the outputs of the candidate and of the original; None where they have no such layer."""
    name = output_layer(candidate)
    # without the same layer at the end of both networks, what the original gave is no target for it
    return name if name is not None and output_layer(reference.original) == name else None


def output_layer(candidate: Candidate) -> str | None:
    """Return the name of the linear layer whose outputs are the network's; None where something comes between, such as a softmax."""
    layers = {
        name: layer
        for name, layer in candidate.module.named_modules()
        if unrepairable_reason(layer) is None and groups(layer) == 1 and not getattr(layer, "transposed", False)
    }
    called = calls(candidate.module, list(layers), candidate.example, lambda _, __, output: output.clone())
    # a layer that is called earlier too would change more than the output
    if not called or [name for name, _ in called].count(called[-1][0]) > 1:
        return None
    name, made = called[-1]
    with torch.inference_mode():
        outputs = candidate.module(candidate.example.clone())
    return name if isinstance(outputs, torch.Tensor) and made.shape == outputs.shape and torch.equal(made, outputs) else None


def fit_to_answers(inputs: Array, targets: Array, weight: Array, bias: Array, l2: float) -> tuple[Array, Array]:
    """Return the weights (p, K) and biases (K,) whose answers to the inputs are nearest to the original's.

    Args:
        inputs: (n, p) rows that the layer reads.
        targets: (n, K) outputs of the original; with K = 1 the logits of a sigmoid.
        weight: (p, K) weights to start from; the penalty pulls towards them.
        bias: (K,) biases to start from; nothing pulls them.
        l2: strength of the penalty, per unit of a standardized weight.
    """
    given, wanted, present, offset = (torch.from_numpy(part) for part in (inputs, targets, weight, bias))
    mean = given.mean(0)
    centred = given - mean
    # In the coordinates of the inputs' principal axes, each scaled to variance 1, the loss curves alike in all directions, and L-BFGS needs
    # few steps.
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(given))
    used = values > values[-1] * 1e-10  # directions that the inputs take at all
    across = vectors[:, used] / values[used].sqrt()  # (p, r): centred @ across has the identity for its second moment
    rows, classes = centred @ across, wanted.shape[1]
    start_outputs = given @ present + offset
    probabilities = _log_probabilities(wanted).exp()

    step = torch.zeros(rows.shape[1] + 1, classes, dtype=torch.float64, requires_grad=True)
    options = {"max_iter": MAX_EVALUATIONS, "max_eval": MAX_EVALUATIONS, "tolerance_grad": GRADIENT_TOLERANCE, "tolerance_change": 1e-12}
    # torch's own, on torch's threads: those of two libraries on the same cores wait for each other
    optimizer = torch.optim.LBFGS([step], line_search_fn="strong_wolfe", history_size=10, **options)  # type: ignore[arg-type]

    def loss() -> torch.Tensor:
        now = step.detach()
        logs = _log_probabilities(start_outputs + rows @ now[1:] + now[0])
        excess = (logs.exp() - probabilities)[:, -classes:] / len(rows)  # with one output the first column is the background's
        # The gradient of a cross entropy by its logits is q - p. Row 0 belongs to the bias, which no penalty pulls.
        step.grad = torch.cat([excess.sum(0, keepdim=True), rows.T @ excess + 2 * l2 * now[1:]])
        return -(probabilities * logs).sum(1).mean() + l2 * now[1:].square().sum()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    step = step.detach()
    change = across @ step[1:]
    # back to uncentred inputs: (x - mean) change = x change - mean change
    return (present + change).numpy(), (offset + step[0] - mean @ change).numpy()


def _log_probabilities(outputs: torch.Tensor) -> torch.Tensor:
    both = torch.cat([torch.zeros_like(outputs), outputs], 1) if outputs.shape[1] == 1 else outputs
    return both.log_softmax(1)
