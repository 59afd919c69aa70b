"""Networks of segmentation-models-pytorch by the names of their classes, such as `smp:Unet`, with the encoder in arch_args."""

from __future__ import annotations

from typing import Any

PACKAGE = "segmentation-models-pytorch"
CLASSES, CHANNELS = "classes", "in_channels"
DOWNLOADS = {"encoder_weights": None}


def names() -> list[str]:
    """Return the names of all networks."""
    import segmentation_models_pytorch as smp
    from segmentation_models_pytorch.base import SegmentationModel

    return sorted(name for name, value in vars(smp).items() if isinstance(value, type) and issubclass(value, SegmentationModel))


def build(name: str, arguments: dict[str, Any]) -> object:
    """Return a network with weights that nobody trained."""
    import segmentation_models_pytorch as smp

    return getattr(smp, name)(**arguments)
