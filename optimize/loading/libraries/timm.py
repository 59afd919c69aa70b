"""Networks of timm, such as `timm:resnet18`."""

from __future__ import annotations

from typing import Any

PACKAGE = "timm"
CLASSES, CHANNELS = "num_classes", "in_chans"
DOWNLOADS = {"pretrained": False}


def names() -> list[str]:
    """Return the names of all networks."""
    import timm

    return list(timm.list_models())


def build(name: str, arguments: dict[str, Any]) -> object:
    """Return a network with weights that nobody trained."""
    import timm

    return timm.create_model(name, **arguments)
