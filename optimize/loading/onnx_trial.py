"""A node of an ONNX file with what it was given in a trial run: what its function is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from optimize.loading.onnx_layers import Constants

Function: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Trial:
    """A node with what it was given in a trial run.

    Args:
        attributes: attributes of the node.
        constants: its inputs that are constants; None in the places of the others.
        given: all its inputs; None where one is left out.
        outputs: number of its outputs.
        opset: version of ONNX's operators that the file means.
    """

    attributes: Mapping[str, Any]
    constants: Constants
    given: Sequence[torch.Tensor | None]
    outputs: int
    opset: int

    def numbers(self, place: int, attribute: str = "") -> list[int] | None:
        """Return whole numbers that are an attribute in old files and an input in new ones; None where there are none."""
        if attribute in self.attributes:
            value = self.attributes[attribute]
            return [int(value)] if isinstance(value, int) else [int(number) for number in value]
        tensor = self.constants[place] if place < len(self.constants) else None
        return None if tensor is None else [int(number) for number in tensor.flatten().tolist()]
