"""Networks of torchvision: classifiers and segmenters, such as `torchvision:resnet50` or `torchvision:deeplabv3_resnet50`."""

from __future__ import annotations

from typing import Any

PACKAGE = "torchvision"
CLASSES, CHANNELS = "num_classes", None
DOWNLOADS = {"weights": None, "weights_backbone": None}


def names() -> list[str]:
    """Return the names of all networks."""
    from torchvision import models

    return list(models.list_models())


def build(name: str, arguments: dict[str, Any]) -> object:
    """Return a network with weights that nobody trained."""
    from torchvision import models

    # only networks on top of a backbone know the second argument
    if name not in [*models.list_models(models.segmentation), *models.list_models(models.detection)]:
        arguments = {key: value for key, value in arguments.items() if key != "weights_backbone"}
    # these two draw their weights for half a minute, unless they are told not to
    slow = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, **{**slow, **arguments})
