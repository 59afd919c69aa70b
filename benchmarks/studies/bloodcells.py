"""The main job on blood cells: train a half-width VGG16-BN, compress it without any retraining, for both CPU targets.

    python -m benchmarks.studies.bloodcells [--data FILE.npz] [--work DIR] [--epochs 8 | --weights FILE.safetensors]

The limits are fixed beforehand: 1 pp overall, 4 pp in any class. Everything is decided on the guard split; the test split is read once, by
each compiled artifact. With --weights nothing is trained. About eight minutes on two cores, half of it training.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.results import ROOT, write
from optimize.compress import compress
from optimize.data import Preprocessing, Split, load_data
from optimize.factory import load_factory
from optimize.progress import note, shown, track
from optimize.recipe import resolve

ARCH = f"{ROOT / 'models' / 'vgg.py'}:vgg16_compact"
MEAN, STD, PAD = (0.79616, 0.65997, 0.69649), (0.22092, 0.25112, 0.09444), 2
INPUT = (3, 32, 32)
COLUMNS = (
    *("artifact", "verdict", "parameters off", "MACs off", "file smaller", "test accuracy", "worst class"),
    *("p50, batch 1", "faster than", "whole run"),
)
LIMITS = {"max_drop": "1pp", "max_class_drop": "4pp"}


def train(split: Split, epochs: int, seed: int = 0) -> nn.Module:
    """Train from scratch with Adam, a one-cycle schedule and flips."""
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)  # gradients of dead channels shrink until every operation on them is slow
    net = load_factory(ARCH)(num_classes=8)
    assert isinstance(net, nn.Module)
    inputs, labels = torch.from_numpy(split.inputs()), torch.from_numpy(split.labels)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    batches = len(inputs) // 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * batches)
    net.train()
    for _ in track(range(epochs), "train"):
        for chosen in torch.split(torch.randperm(len(inputs))[: batches * 128], 128):
            images = inputs[chosen]
            for axis in (2, 3):
                images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(axis), images)
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(net(images), labels[chosen]))
            optimizer.step()
            schedule.step()
    return net.eval()


def study(data: Path, work: Path, epochs: int, model: Path | None = None) -> list[dict[str, Any]]:
    """Train once (or take the weights given), compress for both targets; returns the reports."""
    if model is None:
        splits = load_data(data, preprocessing=Preprocessing(MEAN, STD, PAD), input_shape=INPUT, num_classes=8, drop_overlap=True)
        assert splits.train is not None
        model = work / "vgg16_half.safetensors"
        save_file(train(splits.train, epochs).state_dict(), model)
    reports = []
    for target in ("openvino", "onnxruntime"):
        network = {"arch": ARCH, "input_shape": INPUT}
        cells = {"data": str(data), "mean": MEAN, "std": STD, "pad": PAD, "drop_overlap": True}
        recipe = resolve(model, target=target, overrides={**network, **cells, **LIMITS, "out": work / target})
        start = time.perf_counter()
        report = compress(recipe, overwrite=True)
        note(f"{target}: {report['verdict']} in {time.perf_counter() - start:.0f} s")
        reports.append(report)
    return reports


def row(report: dict[str, Any]) -> list[str]:
    """One line of the table."""
    before, after = report["baseline"], report["compressed"]
    drops = {
        name: each["recall"] - after["metrics"]["per_class"][name]["recall"] for name, each in before["metrics"]["per_class"].items()
    }
    worst = max(drops, key=lambda name: drops[name])
    gains = report["speedup"]["1"]
    return [
        after["runtime"],
        report["verdict"],
        f"{100 * (1 - after['parameters'] / before['parameters']):.1f} %",
        f"{100 * (1 - after['macs'] / before['macs']):.1f} %",
        f"{before['size_bytes'] / after['size_bytes']:.0f}x",
        f"{100 * before['metrics']['overall']['accuracy']:.2f} % -> {100 * after['metrics']['overall']['accuracy']:.2f} %",
        f"{-100 * drops[worst]:+.1f} pp (class {worst})",
        f"{after['latency_ms']['1']['p50']:.3f} ms",
        ", ".join(f"{gain['value']:.1f}x [{gain['low']:.1f}, {gain['high']:.1f}] {name}" for name, gain in gains.items()),
        f"{report['duration_s']:.0f} s",
    ]


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "bloodmnist_rebuilt_28.npz")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--weights", type=Path, default=None)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    with shown():
        reports = study(arguments.data, work, arguments.epochs, arguments.weights)
    write(
        "bloodcells",
        "VGG16-BN (half width, 3.7 million parameters) on blood cells, 8 classes, no retraining; limits 1 pp overall, 4 pp per class",
        list(COLUMNS),
        [row(report) for report in reports],
        {"reports": reports},
        [f"{reports[0]['data']['test']['cases']} test images, read once per artifact; in brackets the 95 % interval of the ratio."],
    )
    print(json.dumps([row(report) for report in reports], indent=1))


if __name__ == "__main__":
    main()
