"""A trial of cuts: the network itself is run with fewer channels, since a trace may be wrong.

Operations that mix channels (a softmax, a normalization), fixed shapes, and channels that are part of the output all show.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from optimize.graph.channel_groups import ChannelGroup
from optimize.graph.surgery import copy_module, cut_in_place, mask_in_place


def check_cut(module: nn.Module, group: ChannelGroup, inputs: torch.Tensor) -> str | None:
    """Return why cutting the group's channels differs from setting their readers' weights to zero; None where it does not.

    Args:
        module: the network.
        group: the channels to try.
        inputs: (N, C, *spatial), a few inputs.
    """
    # a regular cut and a random one: a regular one alone can pass by luck where channels are used in blocks
    for keep in (np.arange(0, group.size, 2), np.sort(np.random.default_rng(0).permutation(group.size)[: group.size // 2 + 1])):
        try:
            trial = copy_module(module)
            with torch.inference_mode():
                # what a correct cut must equal: the readers take nothing from these channels
                mask_in_place(trial, group, np.setdiff1d(np.arange(group.size), keep))
                expected = trial(inputs.clone())
                # the masked columns are those that the cut takes out, so the masked network can be cut in place of the network
                cut_in_place(trial, group, keep)
                actual = trial(inputs.clone())
        except Exception as problem:  # the user's forward, on shapes it may not expect: whatever it raises means "cannot be cut"
            return f"the network does not run with fewer channels ({type(problem).__name__})"
        if expected.shape != actual.shape:
            return "the channels are part of the network's output"
        if not torch.allclose(actual, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
            return "something mixes the channels"
    return None
