"""Directions in which changed outputs count, so that a few backward passes tell what any small change of a network does to its answers.

For outputs that move from z by a small d, the divergence of the answers (`guard/divergence.py`) is, to second order,

    KL  =  1/2 d' F d,      F = diag(p) - p p',      p = softmax(z)

and p (1 - p) in place of F where a single output is the logit of a yes. A probe is a random vector u with E[u u'] = F, so the mean of
(u'd)^2 over probes is d' F d. With signs x of mean 0, one for each class,

    u  =  sqrt(p) x - p (sqrt(p)'x)

Signs are rows of a Hadamard matrix, by the rank of each class's probability. Over as many probes as there are classes the mean is exact.
With fewer it is exact for the likeliest classes, which hold nearly all of p. Pixels of a mask have independent signs, so that the square of
a sum over pixels is, on average, the sum of squares.

Example: p = (.5, .5), two probes with signs (1, 1) and (1, -1): u = (0, 0) and (.71, -.71), so the mean of u u' is
((.25, -.25), (-.25, .25)) = F.
"""

from __future__ import annotations

import torch

PROBES = 4
"""Backward passes for each input. The error of a mean over n inputs is about sqrt(2 / (4 n)) with masks: a tenth with 48 inputs, and about
the same for all widths of a group."""


def output_probes(logits: torch.Tensor, weights: torch.Tensor, generator: torch.Generator, *, alone: bool = False) -> torch.Tensor:
    """Return probes of a batch's outputs, (probes, N, K, *spatial).

    Args:
        logits: the outputs, (N, K) or (N, K, *spatial).
        weights: weight of each case or pixel in the harm, (N, *spatial); of each output, (N, K), where each stands alone.
        generator: source of the random signs.
        alone: whether each output is a yes or no of its own, as with several labels.

    Example:
        >>> logits = torch.tensor([[1.0, -1.0, 0.5]])
        >>> probes = output_probes(logits, torch.ones(1), torch.Generator().manual_seed(0))[:, 0]
        >>> p = logits[0].softmax(0)
        >>> torch.allclose(probes.T @ probes / len(probes), p.diag() - torch.outer(p, p), atol=1e-6)
        True
    """
    classes = logits.shape[1]
    scale = weights.to(logits.dtype).sqrt()
    scale = scale if scale.shape == logits.shape else scale[:, None]
    if classes == 1 or alone:
        # a single number for each case needs no random sign, and no second probe
        count = PROBES if logits.dim() > 2 or classes > 1 else 1
        spread = (logits.sigmoid() * (-logits).sigmoid()).sqrt() * scale
        return spread * _signs((count, *logits.shape), generator)
    count = PROBES if logits.dim() > 2 else min(PROBES, 1 << (classes - 1).bit_length())
    shares = logits.softmax(1)
    ranks = shares.argsort(1, descending=True).argsort(1)
    # classes of one block of `count` ranks have orthogonal rows; each block, and each pixel, has a random sign of its own
    blocks = _signs((logits.shape[0], -(-classes // count), *logits.shape[2:]), generator)
    signs = _hadamard(count)[:, ranks % count] * blocks.gather(1, ranks // count)
    root = shares.sqrt()
    return (root * signs - shares * (root * signs).sum(2, keepdim=True)) * scale


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=generator) * 2.0 - 1.0


def _hadamard(size: int) -> torch.Tensor:
    """Return the Hadamard matrix of a power of two."""
    matrix, step = torch.ones(1, 1), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    while len(matrix) < size:
        matrix = torch.kron(step, matrix)
    return matrix
