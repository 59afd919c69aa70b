"""Whether a compiled model runs in the precision that its name claims, layer by layer.

Only layers with weights are asked about: they are what int8 is for. What lies between them runs in int8 or in float as they do. A model
that runs a layer in int8 that was to stay in float, or no layer in int8 at all, is not what it is called, and is left behind. Where the
runtime has an integer kernel for some layers only, "int8" becomes "int8+f32", and the others are listed beside those that were kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optimize.backends import ON_CPU, float_part, int8_name
from optimize.backends.weighted_nodes import with_weights
from optimize.quantization.variant import Variant

NAMED = 6
"""Layers that a line names before it only counts."""


@dataclass(frozen=True)
class Claim:
    """What a precision says of a model's layers.

    Args:
        precision: of `artifact.PRECISIONS` or `artifact.MIXED`.
        kept: layers that were to stay in float.
        complete: whether the runtime tells of every layer; where it does not, one that it does not name is no reason to doubt.
        some: whether at least one of the layers that were not kept must run in what is claimed.
    """

    precision: str
    kept: Collection[str] = ()
    complete: bool = True
    some: bool = True

    @property
    def lowest(self) -> str:
        """The precision that layers with weights run in unless they were kept out of it."""
        return self.precision.partition("+")[0]

    def in_float(self, ran: Mapping[str, str], weighted: Collection[str]) -> tuple[str, ...]:
        """Layers with weights that ran in float though int8 was asked for, in the order of their names.

        Args:
            ran: layer -> the precision it ran in, of the compiled model.
            weighted: layers with weights.
        """
        if self.lowest != "int8":
            return ()
        return tuple(sorted(layer for layer in weighted if layer not in self.kept and ran.get(layer, "int8") != "int8"))

    def problem(self, ran: Mapping[str, str], weighted: Collection[str]) -> str:
        """Why the claim is false; empty where it is true, apart from what `in_float` names."""
        asked = [layer for layer in sorted(weighted) if layer in self.kept]
        if astray := [layer for layer in asked if ran.get(layer) == "int8"]:
            return f"claims {self.precision}, but {listed(astray)} runs in int8 and was to stay in float"
        if self.complete and (lost := sorted(set(weighted) - set(ran))):
            return f"claims {self.precision}, but {listed(lost)} is not found in the compiled model: what it runs in is not known"
        others = [ran[layer] for layer in weighted if layer in ran and layer not in self.kept]
        if self.some and others and self.lowest not in others:
            return f"claims {self.precision}, but no layer with weights runs in {self.lowest}"
        return ""


def checked(variant: Variant, ran: Mapping[str, str], onnx: Path, *, rough: bool = False) -> Variant:
    """The variant under a precision that says what its layers run in, or with why it is not what it claims.

    Args:
        variant: compiled.
        ran: layer -> the precision it runs in, as the runtime's `inspect` tells; TensorRT's may be silent on some layers or all.
        onnx: the model it was made of.
        rough: whether it is made to rank layers by, one in int8 at a time, and never ships: there may be no integer kernel for that one.
    """
    complete = variant.target in ON_CPU
    if variant.precision == "f32" or not (ran or complete):
        return variant
    claim, weighted = Claim(variant.precision, variant.kept, complete, some=not rough), with_weights(onnx)
    if problem := claim.problem(ran, weighted):
        return replace(variant, why=problem)
    found = claim.in_float(ran, weighted)
    if not found:
        return variant
    artifact, precision = variant.artifact, int8_name(found, float_part(variant.precision))
    return replace(variant, precision=precision, in_float=found, artifact=None if artifact is None else artifact.of_precision(precision))


def listed(layers: Sequence[str]) -> str:
    """Names of layers, at most `NAMED` of them, and how many more there are."""
    return ", ".join(layers[:NAMED]) + (f" and {len(layers) - NAMED} more" if len(layers) > NAMED else "")
