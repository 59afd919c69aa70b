"""The two models that a bundle serves: one network behind two inputs.

    NAME           `input`, FP32 (N, C, *spatial): the network's own input, preprocessed by the client
    NAME-images    `images`, UINT8 (N, *spatial, C) or FP32 (N, C, *spatial): images as the run stored them; the bundle preprocesses them

The protocol knows no input that may be missing, so two inputs of one model are two models. `NAME-images` also has the output `decision`:
numbers of classes, INT64 (N), or masks. `NAME` has no such output, since the pad of its masks is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..preprocess import Array
from ..served_name import served_name
from .protocol import DATATYPES, Tensor

if TYPE_CHECKING:
    from ..model import Model

VERSION = "1"
OUTPUT, DECISION = "output", "decision"


@dataclass(frozen=True)
class ServedModel:
    """One model as the protocol sees it.

    Args:
        name: its name in addresses.
        platform: the runtime behind it.
        given: its input.
        made: its outputs.
        run: (N, …) of the input, and names of the wanted outputs -> each of them.
    """

    name: str
    platform: str
    given: Tensor
    made: tuple[Tensor, ...]
    run: Callable[[Array, Mapping[str, bool]], Mapping[str, Array]]

    @property
    def metadata(self) -> dict[str, Any]:
        """The answer to `GET /v2/models/NAME`."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": self.platform,
            "inputs": [self.given.metadata],
            "outputs": [tensor.metadata for tensor in self.made],
        }

    def max_batch(self, max_bytes: int, max_batch: int) -> int:
        """Return how many items a request may have: so many that neither its tensors nor its answer take more than `max_bytes` in memory.

        Args:
            max_bytes: most bytes of one tensor.
            max_batch: largest number of items, however small they are.
        """
        # an image of uint8 becomes floats: four bytes for one
        elements = self.given.item_bytes // DATATYPES[self.given.datatype].itemsize
        largest = max(4 * elements, *(tensor.item_bytes for tensor in self.made))
        return max(1, min(max_batch, max_bytes // largest))


def served_models(model: Model) -> dict[str, ServedModel]:
    """Return name -> served model, of a bundle that passed its checks."""
    name, platform = served_name(model.manifest["name"]), f"{model.manifest['target']}_{model.manifest['precision']}"
    whole = model.preprocessing.whole
    # one run tells the shapes of all outputs: the network's own outputs, and those without the pad
    raw = model.run(np.zeros((1, *model.input_shape), np.float32))
    inner = model.preprocessing.inner(raw)
    decided = model.decisions.raw(inner)
    decision = Tensor(DECISION, _datatype(decided.dtype), decided.shape[1:])

    def tensors(inputs: Array, wanted: Mapping[str, bool]) -> dict[str, Array]:
        return {OUTPUT: model.run(inputs)}

    def images(inputs: Array, wanted: Mapping[str, bool]) -> dict[str, Array]:
        found: dict[str, Array] = {OUTPUT: model.predict(inputs)}
        if DECISION in wanted:
            found[DECISION] = model.decisions.raw(found[OUTPUT])
        return found

    given = Tensor("images", "UINT8" if whole else "FP32", model.stored_shape)
    both = (
        ServedModel(name, platform, Tensor("input", "FP32", model.input_shape), (Tensor(OUTPUT, "FP32", raw.shape[1:]),), tensors),
        ServedModel(f"{name}-images", platform, given, (Tensor(OUTPUT, "FP32", inner.shape[1:]), decision), images),
    )
    return {served.name: served for served in both}


def _datatype(kind: np.dtype[Any]) -> str:
    return next(name for name, known in DATATYPES.items() if known == kind)
