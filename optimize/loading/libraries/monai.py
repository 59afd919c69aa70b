"""Networks of MONAI by the names of their classes, such as `monai:UNet`; what a class must be given stands in arch_args."""

from __future__ import annotations

import inspect
from typing import Any

PACKAGE = "monai"
CLASSES, CHANNELS = None, None
DOWNLOADS = {"pretrained": False, "pretrained_url": None}


def names() -> list[str]:
    """Return the names of all networks."""
    import monai.networks.nets as nets
    from torch import nn

    return sorted(name for name, value in vars(nets).items() if inspect.isclass(value) and issubclass(value, nn.Module))


def build(name: str, arguments: dict[str, Any]) -> object:
    """Return a network with weights that nobody trained."""
    import monai.networks.nets as nets

    made = getattr(nets, name)
    known = inspect.signature(made.__init__).parameters
    return made(**{key: value for key, value in arguments.items() if key in known or key not in DOWNLOADS})
