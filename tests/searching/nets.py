"""Networks with blocks, for strategies that go by blocks; weights drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.loading.factory import load_factory
from tests.models.conftest import ROOT
from tests.nets import candidate

MODELS = f"{ROOT}/models"


def built(factory: str, **settings: Any) -> nn.Module:
    """A reference architecture, by "file.py:factory"."""
    module = load_factory(f"{MODELS}/{factory}")(**settings)
    assert isinstance(module, nn.Module)
    return module


def five(widths: Sequence[int] = (8, 8, 8, 8, 16), classes: int = 4) -> Candidate:
    """Five blocks on 32 x 32 and a head: the 5-CNN in small."""
    layers: list[nn.Module] = []
    for before, after in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return candidate(nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1], classes)), (3, 32, 32))


def untrained(module: nn.Module, *shape: int) -> Candidate:
    """A candidate of a network as it was initialised."""
    return Candidate(module.eval(), torch.zeros(1, *shape))
