"""A small classifier with data it can tell apart, as files, and whole runs of the command on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import CliRunner
from torch import nn

from optimize.candidate import Candidate
from optimize.cli import main
from optimize.data.dataset import Preprocessing, Split

CLASSES = ("bar", "disc", "cross", "ring")
NET = '''from torch import nn


def net(width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * width, 32), nn.ReLU(), nn.Linear(32, 4)
    )
'''
SETTINGS = """[model]
arch = "net.py:net"
input = [1, 8, 8]

[data]
path = "data.npz"
mean = [0.5]
std = [0.25]
classes = ["bar", "disc", "cross", "ring"]

[limits]
max_drop = "4pp"
max_class_drop = "12pp"

[search]
budgets = [0.002, 0.02]
energy = 0.99

[profile]
threads = 1
batch = 2
"""


def images(labels: np.ndarray, seed: int) -> np.ndarray:
    """Uint8 (N, 8, 8): a fixed random pattern for each class under noise; no two images are equal."""
    patterns = np.random.default_rng(0).uniform(40, 215, (len(CLASSES), 8, 8))
    noise = np.random.default_rng(seed).normal(0, 25, (len(labels), 8, 8))
    return np.asarray(np.clip(patterns[labels] + noise, 0, 255), dtype=np.uint8)


def arrays(test: int = 30, *, wrong_test: float = 0.0, wrong_val: float = 0.0) -> dict[str, np.ndarray]:
    """Splits in the MedMNIST layout with `test` cases of each class; a share of labels is made wrong, in every class alike."""
    found = {}
    for seed, (split, count, wrong) in enumerate((("train", 40, 0.0), ("val", 50, wrong_val), ("test", test, wrong_test)), start=1):
        labels = np.repeat(np.arange(len(CLASSES)), count)
        found[f"{split}_images"] = images(labels, seed)
        found[f"{split}_labels"] = np.where(np.tile(np.arange(count) < wrong * count, len(CLASSES)), (labels + 1) % len(CLASSES), labels)
    return found


def bring(folder: Path, data: dict[str, np.ndarray] | None = None) -> Path:
    """Write net.py, optimize.toml, data.npz and a trained model.pt into `folder`; the model's path."""
    return laid(folder, NET, SETTINGS, data or arrays(), trained())


def laid(folder: Path, net: str, settings: str, data: dict[str, np.ndarray], module: nn.Module) -> Path:
    """The files that a user brings, in `folder`; the model's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(net)
    (folder / "optimize.toml").write_text(settings)
    np.savez(folder / "data.npz", **data)  # type: ignore[arg-type]
    torch.save(module.state_dict(), folder / "model.pt")
    return folder / "model.pt"


@cache
def trained() -> nn.Module:
    """The network of `bring`; trained once, since another number of threads would give other weights."""
    inputs = (torch.from_numpy(arrays()["train_images"][:, None].astype(np.float32)) / 255 - 0.5) / 0.25
    labels = torch.from_numpy(arrays()["train_labels"])
    return fitted(NET, lambda module: nn.functional.cross_entropy(module(inputs), labels), rate=5e-3, steps=40)


def fitted(net: str, loss: Callable[[nn.Module], torch.Tensor], *, rate: float, steps: int) -> nn.Module:
    """The network that the source `net` makes, after so many steps of Adam down the loss."""
    scope: dict[str, Any] = {}
    exec(net, scope)
    torch.manual_seed(0)
    module: nn.Module = scope["net"]()
    optimizer = torch.optim.Adam(module.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(loss(module))
        optimizer.step()
    return module.eval()


@dataclass(frozen=True)
class Run:
    """What one call of the command left behind."""

    exit_code: int
    stdout: str
    stderr: str
    out: Path

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "report.json").read_text())
        return found

    @property
    def ledger(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "ledger.jsonl").read_text().splitlines()]


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `optimize` with these arguments."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="optimize")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def compressed(model: Path, out: Path, *flags: object, target: str) -> Run:
    """`optimize compress` of a model from `bring`; no run knows of what others have looked at."""
    own = () if "--history" in flags else ("--history", history(out))
    return Run(*command("compress", model, "--target", target, "--out", out, "--json", *own, *flags), out)


def history(out: Path) -> Path:
    """A record of looks at the test split for one run alone: many share their data here."""
    return out.parent / f"{out.name}.looks.jsonl"


def trials(run: Run) -> list[dict[str, Any]]:
    """The run's proposals without the time they took."""
    return [{name: value for name, value in entry.items() if name not in ("seconds", "latency_ms")} for entry in run.ledger[1:]]


def split(name: str = "val", data: dict[str, np.ndarray] | None = None) -> Split:
    """One split as `optimize` holds it."""
    found = data or arrays()
    return Split(name, found[f"{name}_images"], found[f"{name}_labels"], Preprocessing((0.5,), (0.25,)))


def original() -> Candidate:
    return Candidate(trained(), torch.zeros(1, 1, 8, 8))
