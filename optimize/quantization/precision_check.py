"""Check, layer by layer, that a compiled model runs in the precision that its name claims.

Only layers with weights are checked: they are what int8 is for. Operations between them run in int8 or in float as they do. A model that
runs a layer in int8 that was to stay in float, or no layer in int8 at all, is not what it is called, and does not ship. Where the runtime
has an integer kernel for some layers only, "int8" becomes "int8+f32", and the layers in float are listed.

Example: int8 was asked for, and of the layers conv1, conv2 and head the compiled model runs conv2 in f32. That is the mix "int8+f32" with
conv2 in float. If head was to stay in float but runs in int8, the claim is false.

    >>> Claim("int8").in_float({"conv1": "int8", "conv2": "f32", "head": "int8"}, ["conv1", "conv2", "head"])
    ('conv2',)
    >>> Claim("int8+f32", ["head"]).problem({"conv1": "int8", "head": "int8"}, ["conv1", "head"])
    'claims int8+f32, but head runs in int8 and was to stay in float'
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optimize.backends import description, float_part, int8_name
from optimize.backends.weighted_nodes import with_weights
from optimize.quantization.variant import Variant

MAX_LISTED = 6
"""Number of layers that a line names; it counts the rest."""


@dataclass(frozen=True)
class Claim:
    """The claim that a precision makes about a model's layers.

    Args:
        precision: one of `artifact.PRECISIONS` or `artifact.MIXED`.
        ignored_layers: layers that were to stay in float.
        complete: whether the runtime reports every layer. Where it does not, a layer that it does not report is no problem.
        needs_one: whether at least one of the other layers must run in the claimed precision.
    """

    precision: str
    ignored_layers: Collection[str] = ()
    complete: bool = True
    needs_one: bool = True

    @property
    def lowest(self) -> str:
        """The precision that layers with weights run in, apart from the ignored ones."""
        return self.precision.partition("+")[0]

    def in_float(self, ran: Mapping[str, str], weighted: Collection[str]) -> tuple[str, ...]:
        """Return the layers with weights that ran in float though int8 was asked for, in the order of their names.

        Args:
            ran: layer -> the precision it ran in, of the compiled model.
            weighted: layers with weights.
        """
        if self.lowest != "int8":
            return ()
        return tuple(sorted(layer for layer in weighted if layer not in self.ignored_layers and ran.get(layer, "int8") != "int8"))

    def problem(self, ran: Mapping[str, str], weighted: Collection[str]) -> str:
        """Return why the claim is false; empty where it is true, apart from the layers that `in_float` returns."""
        ignored = [layer for layer in sorted(weighted) if layer in self.ignored_layers]
        # a layer in int8 that was to stay in float may have cost accuracy that the mix was meant to save
        if astray := [layer for layer in ignored if ran.get(layer) == "int8"]:
            return f"claims {self.precision}, but {listed(astray)} runs in int8 and was to stay in float"
        # a layer that the runtime lost from sight may run in anything: the claim cannot be shown, so it is not made
        if self.complete and (lost := sorted(set(weighted) - set(ran))):
            return f"claims {self.precision}, but {listed(lost)} is not found in the compiled model: what it runs in is not known"
        precisions = [ran[layer] for layer in weighted if layer in ran and layer not in self.ignored_layers]
        if self.needs_one and precisions and self.lowest not in precisions:
            return f"claims {self.precision}, but no layer with weights runs in {self.lowest}"
        return ""


def checked(variant: Variant, ran: Mapping[str, str], onnx: Path, *, rough: bool = False) -> Variant:
    """Return the variant under the precision that its layers really run in, or with the reason why its claim is false.

    Args:
        variant: a compiled variant.
        ran: layer -> the precision it runs in, from the runtime's `inspect`. TensorRT may not report some layers, or any.
        onnx: the model it was compiled from.
        rough: whether it only ranks layers, with one in int8 at a time, and never ships. There may be no integer kernel for that one layer.
    """
    complete = description(variant.target).names_every_layer
    if variant.precision == "f32" or not (ran or complete):
        return variant
    claim, weighted = Claim(variant.precision, variant.kept, complete, needs_one=not rough), with_weights(onnx)
    if problem := claim.problem(ran, weighted):
        return replace(variant, why=problem)
    # Example: int8 was asked for in 20 layers and the runtime has no integer kernel for 2 of them: "int8+f32", with these two listed.
    in_float = claim.in_float(ran, weighted)
    if not in_float:
        return variant
    artifact, precision = variant.artifact, int8_name(in_float, float_part(variant.precision))
    return replace(variant, precision=precision, in_float=in_float, artifact=None if artifact is None else artifact.of_precision(precision))


def listed(layers: Sequence[str]) -> str:
    """Return the names of at most `MAX_LISTED` layers, and how many more there are."""
    return ", ".join(layers[:MAX_LISTED]) + (f" and {len(layers) - MAX_LISTED} more" if len(layers) > MAX_LISTED else "")
