"""Import torchvision where its compiled operators do not load, as beside a PyTorch from another package index.

Its classifiers need none of them. Only its own registrations ask for two operators by name as it is imported. So these are declared where
they are missing, without any code behind them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

OPERATORS = ("nms", "qnms")
_kept: list[torch.library.Library] = []
"""A declaration holds as long as its library object lives."""


def torchvision() -> ModuleType:
    """Return torchvision.

    Raises:
        ImportError: when it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in OPERATORS:
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        return importlib.import_module("torchvision")
