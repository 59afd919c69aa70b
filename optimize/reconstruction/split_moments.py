"""Moments in two parts, the rows that a layer is fitted to and the rows that the fit is checked on, and both parts together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import nn

from optimize.progress import timed
from optimize.reconstruction.moments import Moments, OriginalOutputs, running_sums

HELD_OUT = 0.2
"""Share of the rows that a repair is checked on, and not fitted to."""


Split: TypeAlias = tuple[Moments, Moments | None]
"""Moments of the rows to fit to, and of the held-out rows; None where there are too few rows for one."""


def split_moments(targets: OriginalOutputs, module: nn.Module, names: Sequence[str], changing: Collection[str] = ()) -> dict[str, Split]:
    """Return each layer's moments of the rows to fit to, and of every fifth row, held out.

    Args:
        targets: outputs of the original's layers.
        module: the network as it is.
        names: the layers.
        changing: layers that may change, see `OriginalOutputs.moments`.
    """
    layers = {name: module.get_submodule(name) for name in names}
    fitted, held_out = ({name: running_sums(layer, share) for name, layer in layers.items()} for share in (1 - HELD_OUT, HELD_OUT))
    counts = dict.fromkeys(names, 0)
    with timed("normal equations"):
        for name, inputs, outputs in targets.row_batches(module, names, changing):
            # Rows come case by case, so the last ones are whole cases but for one. Neighbours in one image are much alike: rows held out
            # in between them would confirm anything.
            held = int(HELD_OUT * len(inputs))
            first = len(inputs) - held
            fitted[name].add(inputs[:first], outputs[:first])
            if held:
                held_out[name].add(inputs[first:], outputs[first:])
            counts[name] += held
        return {name: (fitted[name].moments(), held_out[name].moments() if counts[name] else None) for name in names}


def pooled(one: Moments, other: Moments) -> Moments:
    """Return the moments of the rows of both together."""
    rows = one.rows + other.rows
    share, rest = one.rows / rows, other.rows / rows
    gap_in, gap_out = one.mean_in - other.mean_in, one.mean_out - other.mean_out
    mean_in, mean_out = one.mean_in - rest * gap_in, one.mean_out - rest * gap_out
    # Moments about the common mean: the mean of both parts' own, and share * rest times the product of the gaps between their means.
    # Example: rows 0, 2 and rows 4, 6: both have variance 1, and together 1 + 1/2 * 1/2 * 4^2 = 5.
    between = share * rest
    whole = replace(
        one,
        energy=share * one.energy + rest * other.energy + between * gap_out.square(),
        mean_in=mean_in,
        mean_out=mean_out,
        rows=rows,
    )
    if one.inputs is not None and one.targets is not None and other.inputs is not None and other.targets is not None:
        parts = ((one, one.inputs, one.targets), (other, other.inputs, other.targets))
        inputs = torch.cat([(x * part.rows**0.5 + part.mean_in - mean_in) / rows**0.5 for part, x, _ in parts])
        outputs = torch.cat([(y * part.rows**0.5 + part.mean_out - mean_out) / rows**0.5 for part, _, y in parts])
        return replace(whole, inputs=inputs, targets=outputs)
    gaps = gap_in.reshape(-1, one.gram.shape[1])  # a grouped layer has a Gram matrix for each group
    apart = (gaps[:, :, None] * gaps[:, None, :]).flatten(0, 1)
    return replace(
        whole,
        gram=(share * one.gram).add_(other.gram, alpha=rest).add_(apart, alpha=between),
        cross=(share * one.cross).add_(other.cross, alpha=rest).addr_(gap_in, gap_out, alpha=between),
    )
