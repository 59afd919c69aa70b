"""A network of usual size at usual resolution: ResNet50 at 224 pixels on 2,000 images, the time and the memory of a whole run.

    python -m benchmarks.studies.resnet50 [--target onnxruntime] [--time-budget 45min] [--data FILE.npz] [--work DIR]

The images are blood cells, enlarged from 28 to 224 pixels: 1,200 for repair, 400 to decide on, 400 for the verdict. The convolutions have
random weights, whose batch norms were measured on the images, and the last layer is fitted to the labels of the 1,200: what is asked here
is how long a run takes and how much memory it needs, not how good a network is. The limits are 3 pp overall and 10 pp in any class, as
measured, since 400 images show no less.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.results import HISTORY, ROOT, write
from optimize.loading.factory import load_factory
from optimize.progress import shown, track
from optimize.run.compress import compress
from optimize.run.recipe import resolve

ARCH = f"{ROOT / 'models' / 'resnet.py'}:resnet50"
DATA = ROOT.parent / "shared" / "data" / "bloodmnist_rebuilt_28.npz"
SIZE, CLASSES = 224, 8
TRAIN, VAL, TEST = 1200, 400, 400
LIMITS = {"max_drop": "3pp", "max_class_drop": "10pp", "verdict": "point"}
TARGET_S, TARGET_BYTES = 45 * 60, 6 << 30
COLUMNS = ("part", "seconds", "CPU seconds", "peak memory")


def enlarged(source: Path, work: Path, seed: int = 0) -> Path:
    """2,000 images of 224 pixels, uint8, cut into splits."""
    path = work / "cells224.npz"
    if path.exists():
        return path
    arrays = {}
    rng = np.random.default_rng(seed)
    with np.load(source, allow_pickle=False) as archive:
        for name, count in (("train", TRAIN), ("val", VAL), ("test", TEST)):
            chosen = np.sort(rng.permutation(len(archive[f"{name}_images"]))[:count])
            pixels = torch.from_numpy(archive[f"{name}_images"][chosen]).permute(0, 3, 1, 2).float()
            large = nn.functional.interpolate(pixels, SIZE, mode="bicubic", align_corners=False).round().clamp(0, 255)
            arrays[f"{name}_images"] = large.permute(0, 2, 3, 1).byte().numpy()
            arrays[f"{name}_labels"] = archive[f"{name}_labels"][chosen].ravel()
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def fitted(data: Path, work: Path) -> Path:
    """Random convolutions whose norms fit the images, and a last layer that was fitted to the labels."""
    path = work / "resnet50.safetensors"
    if path.exists():
        return path
    torch.manual_seed(0)
    net: Any = load_factory(ARCH)(num_classes=CLASSES)
    with np.load(data, allow_pickle=False) as archive:
        images, labels = archive["train_images"], torch.from_numpy(archive["train_labels"].astype(np.int64))
    batches = [torch.from_numpy(images[at : at + 50]).permute(0, 3, 1, 2).float() / 255 for at in range(0, len(images), 50)]
    head, net.fc = net.fc, nn.Identity()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # the plain mean of all batches
    with torch.inference_mode():
        net.train()
        for batch in track(batches[:4], "norms"):
            net(batch)
        net.eval()
        features = torch.cat([net(batch) for batch in track(batches, "features")])
        mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    features = ((features - mean) / std).clone()
    weight, bias = torch.zeros(CLASSES, features.shape[1], requires_grad=True), torch.zeros(CLASSES, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(features @ weight.T + bias, labels) + 0.1 * weight.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.copy_(weight / std)
        head.bias.copy_(bias - (weight / std) @ mean)
    net.fc = head
    save_file(net.state_dict(), path)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--time-budget", default=None)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=None)
    asked = parser.parse_args(arguments)
    work = asked.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    with shown():
        data = enlarged(asked.data, work)
        model = fitted(data, work)
        settings: dict[str, Any] = {"arch": ARCH, "arch_args": {"num_classes": CLASSES}, "input_shape": (3, SIZE, SIZE), **LIMITS}
        settings |= {"data": str(data), "out": work / asked.target, "history": HISTORY}
        if asked.time_budget:
            settings["time_budget"] = asked.time_budget
        report = compress(resolve(model, target=asked.target, overrides=settings), overwrite=True)
    tell(report)


def tell(report: dict[str, Any]) -> None:
    """Write the results."""
    profile, before, after = report["profile"], report["baseline"], report["compressed"]
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in profile["rows"]:
        parts.setdefault(row["part"], []).append(row)
    table = [
        [
            part,
            f"{sum(row['seconds'] for row in rows):.0f}",
            f"{sum(row['cpu_seconds'] for row in rows):.0f}",
            f"{max(row['peak_memory_bytes'] for row in rows) / 2**30:.2f} GiB",
        ]
        for part, rows in parts.items()
    ]
    # of the process since it began, which the figures of the parts are samples of
    seconds, peak = report["duration_s"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    table.append(["whole run", f"{seconds:.0f}", "", f"{peak / 2**30:.2f} GiB"])
    held = "reached" if seconds <= TARGET_S and peak <= TARGET_BYTES else "missed"
    kept = sum(step["kept"] for step in report["steps"] if "kept" in step)
    notes = [
        f"The target, {TARGET_S // 60} minutes and {TARGET_BYTES / 2**30:.0f} GiB, was {held}.",
        f"{len(report['steps'])} proposals, {kept} kept; verdict {report['verdict']}; {report['precision']}.",
        f"Longest stages: {', '.join(longest(profile))}.",
    ]
    if after is not None:
        shares = {title: 100 * (1 - after[name] / before[name]) for name, title in (("parameters", "parameters"), ("macs", "MACs"))}
        off = [f"{share:.1f} % of {title} off" for title, share in shares.items()]
        accuracy = [100 * each["metrics"]["overall"]["accuracy"] for each in (before, after)]
        notes.append(f"{' and '.join(off)}; test accuracy {accuracy[0]:.2f} % -> {accuracy[1]:.2f} %.")
    title = "ResNet50 at 224 pixels on 2,000 images: where the time and the memory of a whole run go"
    write("resnet50", title, list(COLUMNS), table, {"report": report}, notes)


def longest(profile: dict[str, Any], count: int = 6) -> list[str]:
    """The stages that took most seconds, with these."""
    rows = sorted(profile["rows"], key=lambda row: -float(row["seconds"]))[:count]
    return [f"{row['stage']} {row['seconds']:.0f} s" for row in rows]


if __name__ == "__main__":
    main()
