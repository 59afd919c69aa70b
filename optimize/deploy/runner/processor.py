"""What the runtimes of processors share: which instruction set a model may run on, and the shape of its input."""

from __future__ import annotations

from collections.abc import Sequence

from .artifact import Artifact
from .errors import Refused
from .machine import SATURATING, cpu_level, in_words
from .manifest import Manifest


def differences(manifest: Manifest, artifact: Artifact) -> list[str]:
    """Return how this processor differs from the one that verified the model, in a few words each; none where it computes alike.

    Raises:
        Refused: when the model's 8-bit products would overflow here, and it was not made for such a processor.
    """
    here = cpu_level(manifest.target)
    made_for = manifest.made_for or manifest.cpu_level
    if "int8" in manifest.precision.split("+") and here in SATURATING and made_for not in SATURATING:
        remedy = f"use a machine with {in_words(made_for)}, or compress with --cpu-level {here}"
        raise Refused(f"the int8 model was made for {in_words(made_for)}, this machine has {in_words(here)}, where it overflows: {remedy}.")
    # what the manifest says must be what the artifact itself says, since two documents may be changed one by one
    if artifact.built.get("isa") != manifest.cpu_level or artifact.built.get("made_for") != manifest.made_for:
        raise Refused("artifact.json and manifest.json name other instruction sets: get the bundle again.")
    if here == manifest.cpu_level:
        return []
    return [f"verified on {in_words(manifest.cpu_level)}, here is {in_words(here)}"]


def require_shape(artifact: Artifact, sizes: Sequence[object]) -> None:
    """Check that an opened model takes the inputs that its artifact says.

    Args:
        artifact: the artifact.
        sizes: (C, *spatial) as the opened model has it; what is no number is open.

    Raises:
        Refused: naming both shapes.
    """
    said = artifact.input_shape
    if len(sizes) != len(said) or any(isinstance(size, int) and size != asked for size, asked in zip(sizes, said, strict=True)):
        raise Refused(f"artifact.json says that inputs are {said}, the model takes {tuple(sizes)}: get the bundle again.")
