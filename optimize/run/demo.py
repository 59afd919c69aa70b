"""The demo: train a small net on scikit-learn's handwritten digits and compress it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.backends import backend, cpu_target_names, description, require_runnable, target_names
from optimize.errors import InputError, TargetUnavailable
from optimize.hardware.installed_packages import install_command
from optimize.progress import note, track
from optimize.run.compress import compress
from optimize.run.history import SUFFIX
from optimize.run.recipe import resolve

EPOCHS = 12
TRAIN, CALIBRATION, VAL = 600, 150, 450

NET = '''"""A small convolutional net for 8x8 digits."""

from torch import nn


def digits() -> nn.Module:
    """Three convolutions and two linear layers: (N, 1, 8, 8) -> (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
'''

SETTINGS = """# What `optimize compress model.pt` does not need to be told.
[model]
arch = "net.py:digits"
input = [1, 8, 8]

[data]
path = "digits.npz"
mean = [0.305]
std = [0.376]

[profile]
batch = 1                           # no larger batches are timed

[limits]
max_drop = "2pp"
max_class_drop = "15pp"             # a class has about 60 test images: more than that they could not show
"""


def demo(folder: Path) -> dict[Path, dict[str, Any]]:
    """Write a model, its data and its `optimize.toml` into `folder`, and compress the model for every runtime that runs here.

    Returns:
        The reports by the folders they are in.

    Raises:
        InputError: when scikit-learn is not installed, or `folder` cannot be written or holds other files of the names used here.
        TargetUnavailable: when no runtime is installed.
    """
    # found out before the training, which takes longer
    targets = [name for name in target_names() if _runs(name)]
    if not targets:
        extras = ",".join(description(name).extra for name in cpu_target_names() if description(name).extra)
        raise TargetUnavailable(f"no runtime is installed: {install_command(extras)}.")
    _require_free(folder)
    model = prepared(folder)
    # All is made anew, and with it the record of looks: the demo shows a first run, however often it is called.
    (folder / f"digits.npz{SUFFIX}").unlink(missing_ok=True)
    reports = {}
    for target in targets:
        note(f"optimize compress {model} --target {target} --out {folder / target}")
        reports[folder / target] = compress(resolve(model, target=target, overrides={"out": folder / target}), overwrite=True)
    return reports


def prepared(folder: Path, cut: int = 0) -> Path:
    """Write the network's code, its settings, its data and its trained weights into `folder`, and return the file of the weights.

    Args:
        folder: folder to write into; it is made where it is missing.
        cut: seed of the cut of the images into splits.

    Raises:
        InputError: when scikit-learn is not installed, or `folder` cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "net.py").write_text(NET, encoding="utf-8")
        (folder / "optimize.toml").write_text(SETTINGS, encoding="utf-8")
    except OSError as problem:
        raise InputError(f"`--out` (={folder}) cannot be written ({problem.strerror}): name another folder.") from problem
    arrays = _digits(cut)
    np.savez_compressed(folder / "digits.npz", **arrays)  # type: ignore[arg-type]
    torch.save(_train(arrays["train_images"], arrays["train_labels"], folder).state_dict(), folder / "model.pt")
    return folder / "model.pt"


def _runs(target: str) -> bool:
    try:
        require_runnable(backend(target))
    except TargetUnavailable as missing:
        note(f"{target} is left out: {missing}")
        return False
    return True


def _require_free(folder: Path) -> None:
    """Refuse a folder with files that are not of an earlier demo; those of a demo may be replaced."""
    present = [name for name in ("net.py", "optimize.toml", "digits.npz", "model.pt") if (folder / name).exists()]
    ours = (folder / "net.py").is_file() and NET.splitlines()[0] in (folder / "net.py").read_text(encoding="utf-8", errors="replace")
    if present and not ours:
        raise InputError(f"`--out` (={folder}) holds a {present[0]} that is no demo's, and would lose it: name another folder.")


def _digits(cut: int) -> dict[str, np.ndarray]:
    """1,797 images, cut at random into train, calibration, val and test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("the demo needs scikit-learn for its digits: pip install 'optimize[demo]'.") from None
    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    # one permutation, cut in four: no image can be in two splits
    order = np.random.default_rng(cut).permutation(len(images))
    parts = dict(zip(("train", "calibration", "val", "test"), np.split(order, np.cumsum([TRAIN, CALIBRATION, VAL])), strict=True))
    arrays = {f"{name}_images": images[part] for name, part in parts.items()}
    return arrays | {f"{name}_labels": digits.target[part] for name, part in parts.items()}


def _train(images: np.ndarray, labels: np.ndarray, folder: Path) -> nn.Module:
    """Train the net that `net.py` describes."""
    from optimize.loading.factory import load_factory

    torch.manual_seed(0)
    net = load_factory(f"{folder / 'net.py'}:digits")()
    assert isinstance(net, nn.Module)
    inputs = torch.from_numpy((images[:, None].astype(np.float32) / 255 - 0.305) / 0.376)
    targets = torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=EPOCHS * (len(inputs) // 50))
    net.train()
    for _ in track(range(EPOCHS), "train on digits"):
        for batch in torch.split(torch.randperm(len(inputs)), 50):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(net(inputs[batch]), targets[batch]))
            optimizer.step()
            schedule.step()
    return net.eval()
