"""A small segmentation net with data it can tell apart, as files; `tests/runs.py` has the same for a classifier."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.data.dataset import Preprocessing, Split
from tests import runs

SIDE = 16
NET = '''import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    """Down once, up once, a skip beside it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(2, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.join = nn.Conv2d(2 * width, width, 3, padding=1)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = functional.relu(self.enter(x))
        deep = functional.relu(self.down(functional.max_pool2d(skip, 2)))
        return self.head(functional.relu(self.join(torch.cat([skip, self.up(deep)], 1))))


def net(width: int = 8) -> nn.Module:
    return Net(width)
'''
SETTINGS = """[model]
arch = "net.py:net"
input = [2, 16, 16]

[data]
path = "data.npz"
standardize = "image"
classes = ["spot"]

[search]
budgets = [0.002, 0.02]
energy = 1.0

[profile]
threads = 1
batch = 2
"""


def scans(patients: int, seed: int, each: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Uint8 images (N, 16, 16, 2), masks (N, 16, 16) and patients (N,); every patient's third image is healthy."""
    draw = np.random.default_rng(seed)
    count = patients * each
    centres, radii = draw.uniform(4, 12, (count, 2, 1, 1)), draw.uniform(2.5, 4.5, (count, 1, 1))
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"))
    masks = ((grid - centres) ** 2).sum(1) < radii**2
    masks[2::3] = False
    light = np.stack([90 + 60 * masks, 140 - 50 * masks], axis=-1) + draw.normal(0, 18, (count, SIDE, SIDE, 2))
    return np.clip(light, 0, 255).astype(np.uint8), masks.astype(np.uint8), np.repeat(np.arange(patients), each)


def arrays(test: int = 8, *, wrong_test: bool = False, wrong_val: bool = False) -> dict[str, np.ndarray]:
    """Splits of whole patients; where test is wrong, its masks are moved by half an image, where val is, by two pixels."""
    found = {}
    for seed, (split, count, wrong) in enumerate((("train", 20, False), ("val", 8, wrong_val), ("test", test, wrong_test)), start=1):
        images, masks, patients = scans(count, seed)
        far = 2 if split == "val" else SIDE // 2
        found |= {f"{split}_images": images, f"{split}_masks": np.roll(masks, far, axis=1) if wrong else masks}
        found[f"{split}_patient"] = np.array([f"{split} {number}" for number in patients])
    return found


def bring(folder: Path, data: dict[str, np.ndarray] | None = None) -> Path:
    """Write net.py, optimize.toml, data.npz and a trained model.pt into `folder`; the model's path."""
    return runs.laid(folder, NET, SETTINGS, data or arrays(), trained())


@cache
def trained() -> nn.Module:
    """The network of `bring`."""
    train = split("train")
    inputs, masks = torch.from_numpy(train.inputs()), torch.from_numpy(train.labels.astype(np.float32))
    loss = nn.functional.binary_cross_entropy_with_logits
    return runs.fitted(NET, lambda module: loss(module(inputs), masks), rate=1e-2, steps=60)


def split(name: str = "val", data: dict[str, np.ndarray] | None = None) -> Split:
    """One split as `optimize` holds it."""
    found = data or arrays()
    masks = found[f"{name}_masks"][:, None].astype(bool)
    return Split(name, found[f"{name}_images"], masks, Preprocessing(standardize="image"), found[f"{name}_patient"])


def original() -> Candidate:
    return Candidate(trained(), torch.zeros(1, 2, SIDE, SIDE))
