"""Networks of timm, such as `timm:resnet18`."""

from __future__ import annotations

from typing import Any

PACKAGE = "timm"
CLASSES, CHANNELS = "num_classes", "in_chans"
DOWNLOADS = {"pretrained": False}


def names() -> list[str]:
    """Return the names of all networks, and those with the name of a training behind a point, such as `resnet18.tv_in1k`."""
    import timm

    return [*timm.list_models(), *timm.list_pretrained()]


def build(name: str, arguments: dict[str, Any]) -> object:
    """Return a network with weights that nobody trained."""
    import timm

    return timm.create_model(name, **arguments)
