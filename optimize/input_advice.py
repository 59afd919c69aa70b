"""What to say of an `--input` with which a network fails: what its first convolution reads says most of it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.parameter import is_lazy


def input_remedy(module: nn.Module, shape: Sequence[int]) -> str:
    """How to mend the shape of one input; a general line where the network does not say.

    Args:
        module: the network.
        shape: with which it fails, meant as (C, *spatial).
    """
    general = "check --input and --arch"
    first = next((each for each in module.modules() if isinstance(each, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
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


def _text(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))
