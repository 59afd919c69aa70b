"""Is it the architecture or the repair: the network that pruning left, trained from scratch, beside the repaired one.

    python -m benchmarks.studies.control [--nets cells unet] [--epochs 12] [--unet-epochs 25] [--shared DIR]

Both networks are pruned under fixed budgets. That of the U-Net was taken over from an earlier table that was made with the test split in
view, so its row is no first look. The same widths, initialised anew, are then trained on the whole train split: VGG16 on blood cells by the
recipe of the original (`bloodcells.train`), the U-Net on brain MRI by Adam, a one-cycle schedule, flips, and cross-entropy with soft Dice.
Either answer is published. Eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.denormals import flushed
from benchmarks.results import ROOT, write
from benchmarks.studies import bloodcells, unet
from optimize.candidate import Candidate, Reference
from optimize.data.dataset import Dataset, Preprocessing, load_data
from optimize.graph.macs import macs
from optimize.graph.surgery import copy_module
from optimize.guard.evaluate import score_split
from optimize.hardware.malloc import retain_freed_memory
from optimize.loading.load import load_model
from optimize.progress import note, shown, track
from optimize.steps.prune import Prune

BATCH, PEAK = 16, 2e-3
COLUMNS = (
    *("network", "epochs from scratch", "parameters off", "MACs off"),
    *("test: original", "repaired, no training", "same widths from scratch", "seconds"),
)
TITLE = "The architecture that pruning found, repaired without training against trained from scratch"


@dataclass(frozen=True, eq=False)
class Case:
    """One network: its data, how it is pruned, and how its like is trained."""

    name: str
    original: Candidate
    data: Dataset
    step: Prune
    inputs: int
    epochs: int
    train: Callable[[nn.Module, Dataset, int], nn.Module]


def cells(shared: Path, epochs: int, quick: bool) -> Case:
    """Half-width VGG16 on blood cells; accuracy."""
    original = load_model(shared / "models" / "vgg16_half_blood28.safetensors", arch=bloodcells.ARCH, input_shape=bloodcells.INPUT)
    prepared = Preprocessing(bloodcells.MEAN, bloodcells.STD, bloodcells.PAD)
    source = shared / "bloodmnist_rebuilt_28.npz"
    data = load_data(source, preprocessing=prepared, input_shape=bloodcells.INPUT, num_classes=8, drop_overlap=True)
    step = Prune(0.05, rows=512) if quick else Prune(0.005, rows=8192)

    def train(net: nn.Module, data: Dataset, epochs: int) -> nn.Module:
        assert data.train is not None
        return bloodcells.train(data.train, epochs, net=net)

    return Case("VGG16, blood cells, accuracy", original, data, step, 64 if quick else 1024, epochs, train)


def brains(shared: Path, epochs: int, quick: bool) -> Case:
    """U-Net on brain MRI; mean Dice over the patients."""
    original = load_model(shared / "models" / "unet32_lgg128.safetensors", arch=unet.ARCH, input_shape=unet.INPUT)
    prepared = Preprocessing((), (), 0, "image")
    data = load_data(
        shared / "lgg_mri_seg_128.npz", preprocessing=prepared, input_shape=unet.INPUT, num_classes=1, mask_shape=unet.INPUT[1:]
    )
    step = Prune(0.2, rows=128) if quick else Prune(0.003, multiple=8, rows=8192)
    return Case("U-Net, brain MRI, Dice", original, data, step, 4 if quick else 96, epochs, train_masks)


@flushed()
def train_masks(net: nn.Module, data: Dataset, epochs: int) -> nn.Module:
    """Train on the train split and on what was taken out of it for calibration."""
    assert data.train is not None
    torch.manual_seed(0)
    parts = (data.train, data.calibration)
    inputs = torch.from_numpy(np.concatenate([part.inputs() for part in parts]))
    masks = torch.from_numpy(np.concatenate([part.labels for part in parts])).reshape(len(inputs), 1, *inputs.shape[2:]).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    batches = len(inputs) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=epochs * batches)
    net.train()
    for epoch in track(range(epochs), "train from scratch"):
        losses = []
        for chosen in torch.split(torch.randperm(len(inputs))[: batches * BATCH], BATCH):
            both = torch.cat([inputs[chosen], masks[chosen]], 1)
            both = torch.where(torch.rand(len(both), 1, 1, 1) < 0.5, both.flip(3), both)
            optimizer.zero_grad()
            loss = mask_loss(net(both[:, :-1]), both[:, -1:])
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        note(f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.3f}")
    return net.eval()


def mask_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus one minus the batch's soft Dice; both (N, 1, H, W)."""
    shares = logits.sigmoid()
    dice = (2 * (shares * masks).sum() + 1) / (shares.sum() + masks.sum() + 1)
    return nn.functional.binary_cross_entropy_with_logits(logits, masks) + 1 - dice


def few(data: Dataset) -> Dataset:
    """A trial's data: a few images to train on, and guard images in place of the test's."""
    assert data.train is not None
    some = slice(None, None, max(1, len(data.train) // 64))
    guard = data.guard.take(slice(0, 32))
    return replace(data, train=data.train.take(some), calibration=data.calibration.take(slice(0, 16)), guard=guard, test=guard)


def renewed(module: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of a network with weights and statistics as if it had just been built."""
    torch.manual_seed(seed)
    fresh = copy_module(module, share=False).requires_grad_(True)
    for part in fresh.modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
    return fresh


def study(case: Case) -> dict[str, Any]:
    """Original, repaired and from scratch, on the test split."""
    sources = [split for split in (case.data.calibration, case.data.train) if split is not None]
    share = case.inputs // len(sources)
    rng = np.random.default_rng(0)
    inputs = np.concatenate([split.inputs(np.sort(rng.permutation(len(split))[:share])) for split in sources])
    clock = [time.perf_counter()]
    repaired = case.step(case.original, Reference(case.original, inputs))
    clock.append(time.perf_counter())
    note(f"{case.name}: pruned in {clock[1] - clock[0]:.0f} s, {1 - macs(repaired) / macs(case.original):.1%} of the MACs are gone")
    scratch = Candidate(case.train(renewed(repaired.module), case.data, case.epochs).requires_grad_(False), case.original.example)
    clock.append(time.perf_counter())
    compared = {"original": case.original, "repaired": repaired, "scratch": scratch}
    scores = {name: score_split(each.predict, case.data.test, case.data.classes, "score").overall for name, each in compared.items()}
    return {
        "name": case.name,
        "epochs": case.epochs,
        "budget": case.step.budget,
        "cases": len(case.data.test),
        "inputs": len(inputs),
        "parameters_off": 1 - repaired.parameters / case.original.parameters,
        "macs_off": 1 - macs(repaired) / macs(case.original),
        "scores": scores,
        "prune_s": clock[1] - clock[0],
        "train_s": clock[2] - clock[1],
    }


def row(result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    shares = [f"{100 * result[key]:.1f} %" for key in ("parameters_off", "macs_off")]
    scores = [f"{100 * result['scores'][key]:.2f} %" for key in ("original", "repaired", "scratch")]
    return [result["name"], str(result["epochs"]), *shares, *scores, f"{result['prune_s']:.0f} pruning, {result['train_s']:.0f} training"]


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--nets", nargs="+", choices=("cells", "unet"), default=["cells", "unet"])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--unet-epochs", type=int, default=25)
    parser.add_argument("--quick", action="store_true", help="one epoch, few inputs, 32 guard cases; print, write nothing")
    arguments = parser.parse_args()
    retain_freed_memory()
    makers = {"cells": (cells, arguments.epochs), "unet": (brains, arguments.unet_epochs)}
    results = []
    with shown():
        for name in arguments.nets:
            make, epochs = makers[name]
            case = make(arguments.shared, 1 if arguments.quick else epochs, arguments.quick)
            results.append(study(replace(case, data=few(case.data)) if arguments.quick else case))
            note(" | ".join(row(results[-1])))
    table = [row(each) for each in results]
    notes = [
        f"{each['name']}: budget {each['budget']:g}, repaired on {each['inputs']} unlabelled images, {each['cases']} test images. From "
        f"scratch: the train split with its labels, {each['epochs']} epochs, one seed."
        for each in results
    ]
    if not arguments.quick:
        write("control", TITLE, list(COLUMNS), table, {"results": results}, notes)
    print(json.dumps([*table, *notes], indent=1))


if __name__ == "__main__":
    main()
