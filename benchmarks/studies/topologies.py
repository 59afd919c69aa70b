"""Channels that hang together in unusual ways: attention gates, recurrent and depthwise convolutions, cut and repaired without retraining.

    python -m benchmarks.studies.topologies [--shares 0.125 0.25 …] [--work DIR] [--dry]

Two networks are trained here: a narrow RAAGR2-Net that outlines brain tumours (64x64), and a MobileNet at a quarter of its width that tells
blood cells apart. Then each loses the same share of every group of channels: once those with the smallest L2 norm, with the batch norms
measured anew, once those of least output error, with least squares in every layer that reads them. Everything is measured on the
validation split, of which neither training nor repair saw anything. About twelve minutes on two cores, two thirds of it training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from benchmarks.denormals import flushed
from benchmarks.results import ROOT, write
from benchmarks.studies.bloodcells import INPUT, MEAN, PAD, STD
from optimize.candidate import Candidate, Floats, Reference
from optimize.data.dataset import Preprocessing, load_data
from optimize.graph.macs import macs
from optimize.hardware.malloc import retain_freed_memory
from optimize.loading.factory import load_factory
from optimize.progress import note, shown, track
from optimize.reconstruction.layer_repair import RIDGE
from optimize.steps.merge import Merge
from optimize.steps.merging.pairing import Choice, plan_removals

SHARES = (0.125, 0.25, 0.5, 0.75)
WAYS: dict[str, tuple[Choice, dict[str, Any]]] = {
    "smallest L2 norm, batch-norm re-estimation": ("norm", {"repair": "batchnorm"}),
    "least output error, least squares": ("output error", {"repair": "least squares"}),
}
COLUMNS = (
    *("network", "channels removed", "parameters off", "MACs off"),
    *(f"{way}: {what}" for way in WAYS for what in ("score", "agreement")),
    "seconds",
)
TITLE = "Pruned through attention gates, recurrent and depthwise convolutions, without retraining"
WIDTHS = (12, 24, 48, 96)
Metric = Callable[[Floats], float]
Arrays = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Case:
    """A network, what it is repaired on, and what it is measured by.

    Args:
        name: in the table.
        start: the trained network.
        reference: with unlabelled training inputs.
        unseen: validation inputs.
        score: of predictions on them, against the labels.
        agreement: of predictions on them, with the original's.
    """

    name: str
    start: Candidate
    reference: Reference
    unseen: Floats
    score: Metric
    agreement: Metric


def tumours(data: Path, work: Path, epochs: int, cases: int) -> Case:
    """RAAGR2-Net on brain MRI at half size; Dice over all pixels of the validation patients."""
    arrays = np.load(data)
    images, masks = _halved(arrays, "train")
    unseen, truth = _halved(arrays, "val")
    torch.manual_seed(0)
    net = load_factory(f"{ROOT / 'models' / 'raagr2.py'}:RAAGR2")(images.shape[1], 1, WIDTHS)
    assert isinstance(net, nn.Module)
    trained(net, images, torch.from_numpy(masks), _overlap_loss, work / "tumours.safetensors", epochs=epochs, batch=16, rate=2e-3)
    start = Candidate(net, torch.from_numpy(unseen[:1]))
    known = start.predict(unseen) > 0.5
    reference = Reference(start, images[_drawn(len(images), cases)])

    def overlap(wanted: Arrays) -> Metric:
        return lambda made: dice(made > 0.5, wanted)

    return Case("RAAGR2-Net, brain tumours", start, reference, unseen, overlap(truth > 0.5), overlap(known))


def cells(data: Path, work: Path, epochs: int, cases: int) -> Case:
    """MobileNet on blood cells; accuracy."""
    splits = load_data(data, preprocessing=Preprocessing(MEAN, STD, PAD), input_shape=INPUT, num_classes=8, drop_overlap=True)
    assert splits.train is not None
    torch.manual_seed(0)
    net = load_factory(f"{ROOT / 'models' / 'mobilenet.py'}:mobilenet")(num_classes=8, width=0.25)
    assert isinstance(net, nn.Module)
    labels = torch.from_numpy(splits.train.labels)
    trained(net, splits.train.inputs(), labels, functional.cross_entropy, work / "cells.safetensors", epochs=epochs, batch=64, rate=3e-3)
    unseen = splits.guard.inputs()
    start = Candidate(net, torch.from_numpy(unseen[:1]))
    known = start.predict(unseen).argmax(1)
    reference = Reference(start, splits.train.inputs(_drawn(len(splits.train), cases)))

    def hit(wanted: Arrays) -> Metric:
        return lambda made: float((made.argmax(1) == wanted).mean())

    return Case("MobileNet x 0.25, blood cells", start, reference, unseen, hit(splits.guard.labels), hit(known))


@flushed()
def trained(
    net: nn.Module,
    inputs: Floats,
    targets: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    path: Path,
    *,
    epochs: int,
    batch: int,
    rate: float,
) -> None:
    """Train with Adam and a one-cycle schedule and leave the weights at `path`; take them from there if they are there already."""
    if path.exists():
        net.load_state_dict(load_file(path))
        net.eval()
        return
    torch.manual_seed(0)
    given = torch.from_numpy(inputs)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    steps = max(1, len(given) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    net.train()
    for _ in track(range(epochs), f"train {path.stem}"):
        for chosen in torch.split(torch.randperm(len(given))[: steps * batch], batch):
            optimizer.zero_grad()
            torch.autograd.backward(loss(net(given[chosen]), targets[chosen]))
            optimizer.step()
            schedule.step()
    net.eval()
    save_file(net.state_dict(), path)


def dice(made: Arrays, truth: Arrays) -> float:
    """Twice what two masks share, over what both hold; 1 where both are empty."""
    both = int(made.sum()) + int(truth.sum())
    return 2 * int((made & truth).sum()) / both if both else 1.0


def study(case: Case, shares: Sequence[float], rows: int) -> list[dict[str, Any]]:
    """Every share, both ways."""
    clock = time.perf_counter()
    start, reference = case.start, case.reference
    surveys = {way: plan_removals(start, reference, choose=choose, rows=rows, ridge=RIDGE) for way, (choose, _) in WAYS.items()}
    note(f"{case.name}: {len(next(iter(surveys.values())))} groups surveyed in {time.perf_counter() - clock:.0f} s")
    results = []
    for share in shares:
        for way, (_, settings) in WAYS.items():
            clock = time.perf_counter()
            made = Merge(share, rows=rows, **settings).with_plans(start, reference, surveys[way])
            seconds = time.perf_counter() - clock
            predicted = made.predict(case.unseen)
            results.append(
                {
                    **{"network": case.name, "share": share, "way": way, "seconds": seconds},
                    **{"score": case.score(predicted), "agreement": case.agreement(predicted)},
                    **{"parameters": made.parameters, "macs": macs(made)},
                }
            )
            note(f"{case.name}, {share:.1%}, {way}: {results[-1]['score']:.3f}, agreement {results[-1]['agreement']:.3f}")
    return results


def rows(case: Case, results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The lines of the table: one for each share."""
    lines = []
    before = (case.start.parameters, macs(case.start))
    for share in dict.fromkeys(each["share"] for each in results):
        line = [next(each for each in results if each["share"] == share and each["way"] == way) for way in WAYS]
        off = [f"{100 * (1 - line[-1][key] / whole):.1f} %" for key, whole in zip(("parameters", "macs"), before, strict=True)]
        figures = [f"{each[key]:.3f}" for each in line for key in ("score", "agreement")]
        lines.append([case.name, f"{100 * share:g} %", *off, *figures, ", ".join(f"{each['seconds']:.0f}" for each in line)])
    return lines


def _halved(arrays: Any, split: str) -> tuple[Floats, Floats]:
    """Images (N, C, 64, 64), each channel of each normalised as the reference network's are, and masks (N, 1, 64, 64)."""
    images = functional.avg_pool2d(torch.from_numpy(arrays[f"{split}_images"]).permute(0, 3, 1, 2).float(), 2)
    spread, mean = torch.std_mean(images, (2, 3), correction=0, keepdim=True)
    masks = functional.avg_pool2d(torch.from_numpy(arrays[f"{split}_masks"]).float()[:, None], 2)
    return ((images - mean) / (spread + 1)).numpy(), (masks >= 0.5).float().numpy()


def _overlap_loss(made: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross entropy plus one minus the soft Dice of the batch."""
    shared = 2 * (made * truth).sum() + 1
    return functional.binary_cross_entropy(made, truth) + 1 - shared / (made.sum() + truth.sum() + 1)


def _drawn(count: int, cases: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(count)[:cases])


def main() -> None:
    """Run the study and write its results."""
    shared = ROOT.parent / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mri", type=Path, default=shared / "lgg_mri_seg_128.npz")
    parser.add_argument("--cells", type=Path, default=shared / "bloodmnist_rebuilt_28.npz")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "topologies", help="where trained weights are kept, and found again")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--epochs", type=int, nargs=2, default=(20, 8), help="of the two networks")
    parser.add_argument("--cases", type=int, default=256)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    retain_freed_memory()
    arguments.work.mkdir(parents=True, exist_ok=True)
    table: list[list[str]] = []
    results: list[dict[str, Any]] = []
    notes: list[str] = []
    with shown():
        for make, data, epochs in zip((tumours, cells), (arguments.mri, arguments.cells), arguments.epochs, strict=True):
            case = make(data, arguments.work, epochs, arguments.cases)
            found = study(case, arguments.shares, arguments.rows)
            whole = case.start.predict(case.unseen)
            results += found
            table += rows(case, found)
            notes.append(f"{case.name}: {case.start.parameters:,} parameters, score {case.score(whole):.3f} before.")
    notes.append(
        f"Score: accuracy, or Dice over all pixels; agreement: the same with the original's predictions for the truth. Validation split. "
        f"{arguments.cases} training images at most, without labels, {arguments.rows} sampled positions per fit."
    )
    if not arguments.dry:
        write("topologies", TITLE, list(COLUMNS), table, {"results": results}, notes)
    print(json.dumps([*table, *notes], indent=1))


if __name__ == "__main__":
    main()
