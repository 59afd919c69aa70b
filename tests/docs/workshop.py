"""The files that the pages name, made tiny: `model.pt`, `net.py`, `cells.npz`, `optimize.toml`, and the folder `out` of a finished run."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests import conftest, runs
from tests.docs.pages import ROOT, blocks
from tests.runs import Run

CLASSES = 8
NET = '''from torch import nn


def make(classes: int = 8) -> nn.Module:
    """A small network for (N, 3, 28, 28) images."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 32), nn.ReLU(), nn.Linear(32, classes)
    )
'''
COUNTS = {"train": 25, "val": 70, "test": 80}
"""Images of each class, in each split: as many as the limits that the pages show can be decided with."""


def readme(language: str, contains: str) -> str:
    """The first block of the README in this language that holds this text."""
    found = blocks("README.md", (ROOT / "README.md").read_text(encoding="utf-8"))
    return next(block.text for block in found if block.language == language and contains in block.text)


def images(labels: np.ndarray, seed: int) -> np.ndarray:
    """Uint8 (N, 28, 28, 3): coarse random patches for each class, under noise."""
    patterns = np.random.default_rng(0).uniform(40, 215, (CLASSES, 7, 7, 3)).repeat(4, axis=1).repeat(4, axis=2)
    noise = np.random.default_rng(seed).normal(0, 20, (len(labels), 28, 28, 3))
    return np.asarray(np.clip(patterns[labels] + noise, 0, 255), dtype=np.uint8)


def arrays() -> dict[str, np.ndarray]:
    """`cells.npz`."""
    found = {}
    for seed, (split, count) in enumerate(COUNTS.items(), start=1):
        labels = np.repeat(np.arange(CLASSES), count)
        found |= {f"{split}_images": images(labels, seed), f"{split}_labels": labels}
    return found


@cache
def trained() -> nn.Module:
    """The network of `net.py`, trained for a second."""
    pixels = torch.from_numpy(np.moveaxis(arrays()["train_images"], -1, 1).astype(np.float32))
    labels = torch.from_numpy(arrays()["train_labels"])
    inputs = (pixels / 255 - 0.5) / 0.5
    source = NET.replace("def make", "def net")
    return runs.fitted(source, lambda module: nn.functional.cross_entropy(module(inputs), labels), rate=5e-3, steps=40)


def bring(folder: Path) -> Path:
    """What a user brings, in `folder`, with the first toml block of docs/data.md as its settings."""
    page = "docs/data.md"
    settings = next(block.text for block in blocks(page, (ROOT / page).read_text(encoding="utf-8")) if block.language == "toml")
    model = runs.laid(folder, NET, settings, arrays(), trained())
    (folder / "data.npz").rename(folder / "cells.npz")
    return model


def copied(workshop: Path, folder: Path) -> Path:
    """A copy of the workshop for one page."""
    return shutil.copytree(workshop, folder, dirs_exist_ok=True)


def command_line(text: str) -> str:
    """The one `optimize compress` line of a block of shell."""
    return next(line for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line.startswith("optimize compress"))


def finished(run: Run) -> None:
    """See that a run ended well, and say why it did not."""
    assert run.exit_code == 0, (run.stdout + run.stderr, json.dumps(run.report["reasons"]) if (run.out / "report.json").exists() else "")


__all__ = ("arrays", "bring", "command_line", "conftest", "copied", "finished", "readme", "trained")
