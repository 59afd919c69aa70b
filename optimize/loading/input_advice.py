"""Find the remedy for an `--input` with which a network fails, mostly from the shape that its first convolution reads.

Where another number of images runs, the shape is right, and the network's forward has a batch size written in. That is tried on the meta
device, where tensors have shapes and no numbers, so it costs no arithmetic.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

BATCHES = (1, 4, 8, 10, 12, 16, 20, 24, 32, 48, 50, 64, 96, 100, 128, 200, 256, 512)
"""Batch sizes that people write into a forward."""


def input_remedy(module: nn.Module, shape: Sequence[int]) -> str:
    """Return how to mend the shape of one input; a general line where the network does not say.

    Args:
        module: the network.
        shape: shape of one input with which it fails, meant as (C, *spatial).
    """
    general = "check --input and --arch"
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
    if first is None or any(is_lazy(parameter) for parameter in first.parameters()):
        return general
    channels, spatial = first.in_channels, first.weight.dim() - 2
    reads = f"its first convolution reads {channels} channel{'s' if channels > 1 else ''} and {spatial} spatial axes"
    if len(shape) == spatial:
        return f"{reads}, so that the channels are missing: pass --input {_text((channels, *shape))}"
    if len(shape) == spatial + 2 and shape[1] == channels:
        return f"{reads}, and the number of images is no part of --input: pass --input {_text(shape[1:])}"
    if len(shape) != spatial + 1:
        return f"{reads}: pass --input with {spatial + 1} numbers, such as {_text((channels, *[64] * spatial))}"
    if shape[0] == channels:
        return general
    if shape[-1] == channels:
        return f"{reads}, and this looks like channels last: pass --input {_text((channels, *shape[:-1]))}"
    return f"{reads}: pass --input {_text((channels, *shape[1:]))}, or the arch_args that it was trained with"


def batch_remedy(module: nn.Module, shape: Sequence[int]) -> str | None:
    """Return what to say of a network that fails on two images and runs on another number of them; None where it is none of that kind.

    Args:
        module: the network.
        shape: shape of one input, (C, *spatial).
    """
    size = next((size for size in BATCHES if _runs(module, (size, *shape))), None)
    if size is None:
        return None
    images = "one image" if size == 1 else f"{size} images"
    free = "keep the batch dimension free (x.flatten(1), x.view(x.shape[0], …))"
    return f"it runs on {images} at once and not on two, so its forward has the batch size written in: {free}"


def _runs(module: nn.Module, shape: Sequence[int]) -> bool:
    """Return whether the network gives one output for each of the inputs (N, C, *spatial)."""
    try:
        with torch.no_grad():
            output = copy.deepcopy(module).to("meta")(torch.empty(*shape, device="meta"))
        return bool(output.dim() > 1 and output.shape[0] == shape[0])
    except Exception:  # the user's forward: whatever it raises
        return False


def _text(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))
