"""Take one output of a network that returns several: a dict, a tuple, a named tuple or an object with named fields.

    {"out": (N, 21, H, W), "aux": (N, 21, H, W)}      torchvision's segmenters: `out`
    (logits, features)                                the first tensor
    ImageClassifierOutput(loss=None, logits=…)        Hugging Face: `logits`

What the other outputs need, such as an auxiliary head that only training uses, is left out: it is in no compiled file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from optimize.errors import InputError, did_you_mean
from optimize.loading.file_network import FileNetwork

USUAL = ("logits", "out", "output", "outputs", "pred", "prediction", "predictions", "scores", "probs")
"""Names that are taken where the user names none, the first that is there."""


class OneOutput(nn.Module):
    """A network of which one output is returned.

    Args:
        network: the network, whose forward returns several outputs.
        key: the output's name or position.
    """

    def __init__(self, network: nn.Module, key: str | int) -> None:
        super().__init__()
        self.network, self.key = network, key

    def forward(self, inputs: torch.Tensor) -> Any:
        """(N, C, *spatial) -> what the network returns under that name or at that position."""
        returned = self.network(inputs)
        return returned[self.key] if isinstance(self.key, int) else _by_name(returned)[self.key]


class AsColumn(nn.Module):
    """A network that returns one number an input without an axis for it, (N,), as one that returns (N, 1).

    Args:
        network: the network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) -> (N, 1)."""
        # a forward that ends in squeeze() returns (2,) for two inputs and () for one
        column: torch.Tensor = self.network(inputs).reshape(inputs.shape[0], 1)
        return column


def with_one_output(module: nn.Module, returned: object, asked: str | None) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a network that returns one tensor, and a note on which of several was taken.

    Args:
        module: the network.
        returned: what it returned for two inputs.
        asked: name or position of the output to take; None for the usual one.

    Raises:
        InputError: when there is no such output, or none that is a tensor of floats.

    Example:
        >>> class Two(nn.Module):
        ...     def forward(self, x):
        ...         return {"aux": x[:, :1], "out": x}
        >>> inputs = torch.zeros(2, 3)
        >>> one, (note,) = with_one_output(Two(), Two()(inputs), None)
        >>> one(inputs).shape, note
        (torch.Size([2, 3]), 'the network returns aux, out: `out` is taken; --output aux takes another')
    """
    if isinstance(returned, torch.Tensor):
        if asked is not None:
            raise InputError(f"`--output` (={asked}): the network returns a single tensor: leave it out.")
        if returned.shape == (2,) and returned.is_floating_point() and not isinstance(module, FileNetwork):
            return AsColumn(module).eval().requires_grad_(False), ("the network returns one number an input, (N,): it is taken as (N, 1)",)
        return module, ()
    named, listed = _by_name(returned), list(returned) if isinstance(returned, tuple | list) else []
    found: dict[str, object] = {**named, **{str(place): value for place, value in enumerate(listed)}}
    usable = [key for key, value in found.items() if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim()]
    # a named tuple has both, and its names say more
    shown = [key for key in usable if key in named] or usable
    if listed and isinstance(listed[0], Mapping) and "boxes" in listed[0]:
        # torchvision's detectors choose boxes inside the network: their number is another one for each image
        raise InputError(
            "the network is a detector that returns lists of boxes, whose number depends on the image: no runtime is compiled for that, "
            "and boxes are not judged by this version."
        )
    if not usable:
        kind = type(returned).__name__
        raise InputError(f"the network returns a {kind} without a tensor of floats: wrap it in a module that returns one (--arch file).")
    if asked is not None and asked not in usable:
        near = did_you_mean(asked, shown)
        raise InputError(f"`--output` (={asked}) is none of the network's outputs ({', '.join(shown)}){near}: name one.")
    key = asked if asked is not None else next((name for name in USUAL if name in shown), shown[0])
    others = [name for name in shown if name != key]
    notes = (f"the network returns {', '.join(shown)}: `{key}` is taken; --output {others[0]} takes another",) if others else ()
    one = module.choosing(key) if isinstance(module, FileNetwork) else OneOutput(module, key if key in named else int(key))
    return one.eval().requires_grad_(False), () if asked is not None else notes


def _by_name(returned: Any) -> dict[str, Any]:
    """Return the outputs that have names."""
    if isinstance(returned, Mapping):
        return {str(name): value for name, value in returned.items()}
    if isinstance(returned, tuple) and hasattr(returned, "_asdict"):
        return dict(returned._asdict())
    if isinstance(returned, tuple | list | torch.Tensor):
        return {}
    return {name: value for name, value in getattr(returned, "__dict__", {}).items() if isinstance(value, torch.Tensor)}
