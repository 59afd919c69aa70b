"""MACs removed at 1 and 3 pp of accuracy, ResNet20 on CIFAR-10: ours against torch-pruning's group pruner, the same recovery for both.

    python -m benchmarks.studies.resnet20 [--shared DIR] [--epochs 1] [--minutes 8]

Ours narrows to widths from the scan and the knapsack, priced by MACs alone; the group pruner takes the channels with the least group norm,
globally, at several ratios. Each point is scored on the test images without recovery and after the same recovery training. All settings
are fixed in this file; no test image is looked at to choose anything. Eight minutes on two cores; what does not fit is left out, and said.
The images are JPEG files: without Pillow the study is skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.group_pruner import group_pruned
from benchmarks.results import ROOT, write
from optimize.candidate import Candidate, Labelled, Reference
from optimize.data.dataset import Preprocessing, Split
from optimize.graph.macs import macs
from optimize.hardware.malloc import retain_freed_memory
from optimize.loading.load import load_model
from optimize.progress import note, shown
from optimize.searching.prices import Pricing, make_knapsack
from optimize.searching.scan import scan
from optimize.steps.finetune import Finetune
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths

ARCH = f"{ROOT / 'models' / 'resnet_cifar.py'}:resnet20"
IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INPUT = (3, 32, 32)
TRAIN_PER_CLASS, CASES, MILD = 800, 1024, 0.0005
RECOVERY_CASES = 4000
HARMS = (0.03, 0.1, 0.3, 0.01, 0.6, 0.06)
RATIOS = (0.05, 0.2, 0.3, 0.1, 0.5, 0.02)
LOSSES = (0.01, 0.03)
STREAM = tuple(f"layer{stage}.{block}.conv2" for stage in (1, 2, 3) for block in (0, 1, 2))
OURS, THEIRS = "ours: scan, knapsack, least squares", "torch-pruning: global group norm"
COLUMNS = ("method", "setting", "MACs off", "parameters off", "test accuracy, no recovery", "test accuracy, recovered", "seconds")


@dataclass(frozen=True, eq=False)
class Point:
    """One pruned network before any recovery."""

    method: str
    setting: str
    candidate: Candidate
    seconds: float


def images(path: Path, per_class: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All images of a zip with a folder for each class, uint8 (N, 32, 32, 3), and their classes, (N,)."""
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        folders = sorted({name.split("/")[-2] for name in names})
        labels = np.array([folders.index(name.split("/")[-2]) for name in names])
        taken = [at for k in range(len(folders)) for at in np.flatnonzero(labels == k)[:per_class]]
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(names[at]))).convert("RGB")) for at in taken]
    return np.stack(pixels), labels[taken]


def splits(shared: Path, quick: bool) -> tuple[Split, Split, Split]:
    """Train, 8,000 images, and guard, 2,000, both of the train file; test, 5,000. A quick trial's test images are guard images."""
    pixels, labels = images(shared / "cifar10_jpeg_train_10k.zip", 100 if quick else None)
    place = np.arange(len(labels)) % np.bincount(labels)[0]
    first = place < (80 if quick else TRAIN_PER_CLASS)
    train, guard = (Split(name, pixels[rows], labels[rows], IMAGENET) for name, rows in (("train", first), ("guard", ~first)))
    if quick:
        return train, guard, guard
    return train, guard, Split("test", *images(shared / "cifar10_jpeg_test_5k.zip"), IMAGENET)


def ours(original: Candidate, reference: Reference, guard: Split, harms: Sequence[float]) -> Iterator[Point]:
    """Narrowed to the boldest widths within each sum of harms, out of one mildly pruned start."""
    begun = time.perf_counter()
    start = Prune(MILD)(original, reference)
    curves, _ = scan(start, reference, guard)
    items = make_knapsack(start, curves, Pricing(table=None, latency=0, macs=1, parameters=0))
    before = time.perf_counter() - begun
    note(f"scan: {before:.0f} s")
    for harm in harms:
        begun = time.perf_counter()
        narrow = PruneToWidths(tuple(sorted(items.within(harm).items())))
        made = narrow(start, reference)
        yield Point(OURS, f"{harm:g} nats", made, before + time.perf_counter() - begun)


def theirs(original: Candidate, ratios: Sequence[float]) -> Iterator[Point]:
    """Pruned by the group pruner at each ratio; the classifier stays.

    Where what it makes of the padded shortcuts does not run, it is asked again for the channels inside the blocks alone.
    """
    for ratio in ratios:
        for where, keeps in (("", ("linear",)), (", inside the blocks alone", ("linear", "conv1", *STREAM))):
            begun = time.perf_counter()
            try:
                made = group_pruned(original, ratio, keeps)
            except Exception as problem:  # whatever the pruner makes of the padded shortcuts is a finding
                note(f"torch-pruning at {ratio:g}{where}: {type(problem).__name__}: {problem}".partition("\n")[0])
            else:
                yield Point(THEIRS, f"ratio {ratio:g}{where}", made, time.perf_counter() - begun)
                break


def alternating(first: Iterator[Point], second: Iterator[Point]) -> Iterator[Point]:
    """One of each in turn, so that neither is left out alone when time is short."""
    for pair in iter(lambda: (next(first, None), next(second, None)), (None, None)):
        yield from (point for point in pair if point is not None)


def accuracy(candidate: Candidate, split: Split) -> float:
    """Share of a split that is classified rightly."""
    right = [candidate.predict(split.inputs(batch)).argmax(1) == split.labels[batch] for batch in split.batches]
    return float(np.concatenate(right).mean())


def removed_at(points: Sequence[tuple[float, float]], loss: float) -> float:
    """MACs removed at a loss, both as shares, along the line through those of (removed, lost) that no other one beats on both."""
    hull = [(0.0, 0.0)]
    for removed, lost in sorted(points, key=lambda point: (point[1], -point[0])):
        if removed > hull[-1][0]:
            hull.append((removed, max(lost, hull[-1][1])))
    return float(np.interp(loss, [lost for _, lost in hull], [removed for removed, _ in hull]))


def study(shared: Path, epochs: int, deadline: float, quick: bool) -> dict[str, Any]:
    """Every point of both methods, scored with and without recovery."""
    train, guard, test = splits(shared, quick)
    original = load_model(shared / "models" / "cifar10_resnet20-12fca82f.th", arch=ARCH, input_shape=INPUT)
    rng = np.random.default_rng(0)
    drawn = train.inputs(np.sort(rng.permutation(len(train))[: 128 if quick else CASES]))
    lesson = train.take(np.sort(rng.permutation(len(train))[:RECOVERY_CASES]))
    reference = Reference(original, drawn, train=Labelled(lesson.inputs, lesson.labels))
    recovery = Finetune(epochs=epochs, learning_rate=3e-4, horizontal_flip=True)
    whole, before = macs(original), accuracy(original, test)
    note(f"original: {before:.2%} of {len(test)} images")
    results: dict[str, Any] = {"original": before, "test_cases": len(test), "macs": whole, "points": []}
    harms, ratios = (HARMS[:2], RATIOS[:2]) if quick else (HARMS, RATIOS)
    for point in alternating(ours(original, reference, guard, harms), theirs(original, ratios)):
        if time.perf_counter() > deadline:
            break
        begun = time.perf_counter()
        recovered = recovery(point.candidate, reference)
        spent = time.perf_counter() - begun
        results["points"].append(
            {
                "method": point.method,
                "setting": point.setting,
                "macs_off": 1 - macs(point.candidate) / whole,
                "parameters_off": 1 - point.candidate.parameters / original.parameters,
                "plain": accuracy(point.candidate, test),
                "recovered": accuracy(recovered, test),
                "seconds": point.seconds,
                "recovery_s": spent,
            }
        )
        note(" | ".join(row(results["points"][-1])))
    results["left_out"] = len(harms) + len(ratios) - len(results["points"])
    results["removed_at"] = {
        method: {kind: [_at(results, method, kind, loss) for loss in LOSSES] for kind in ("plain", "recovered")}
        for method in (OURS, THEIRS)
    }
    return results


def _at(results: dict[str, Any], method: str, kind: str, loss: float) -> float:
    mine = [each for each in results["points"] if each["method"] == method]
    return removed_at([(each["macs_off"], results["original"] - each[kind]) for each in mine], loss)


def row(point: dict[str, Any]) -> list[str]:
    """One line of the table."""
    shares = [f"{100 * point[key]:.1f} %" for key in ("macs_off", "parameters_off")]
    scores = [f"{100 * point[key]:.2f} %" for key in ("plain", "recovered")]
    return [point["method"], point["setting"], *shares, *scores, f"{point['seconds']:.1f} + {point['recovery_s']:.0f} of recovery"]


def remarks(results: dict[str, Any], epochs: int) -> list[str]:
    """What stands below the table."""
    lines = [
        f"Original: {100 * results['original']:.2f} % of {results['test_cases']} test images (JPEG, lossy), {results['macs'] / 1e6:.1f} M "
        f"MACs. Recovery: {epochs} epoch(s) of AdamW at 3e-4 with distillation and flips on {RECOVERY_CASES} images, the same for both."
    ]
    for method, kinds in results["removed_at"].items():
        figures = [f"{kind} {100 * one:.1f} % at 1 pp, {100 * three:.1f} % at 3 pp" for kind, (one, three) in kinds.items()]
        lines.append(f"MACs removed, {method}: {'; '.join(figures)} (interpolated along the points that no other beats).")
    tried = {each["method"] for each in results["points"]}
    lines += [f"{method}: no ratio gave a network that runs." for method in (OURS, THEIRS) if method not in tried]
    return lines + ([f"{results['left_out']} settings are left out, for time or because nothing ran."] if results["left_out"] else [])


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--quick", action="store_true", help="few images, two points each; print, write nothing")
    arguments = parser.parse_args()
    retain_freed_memory()
    if importlib.util.find_spec("PIL") is None:
        raise SystemExit("skipped: Pillow is not installed, and the images are JPEG files: pip install pillow")
    torch.manual_seed(0)
    with shown():
        results = study(arguments.shared, arguments.epochs, time.perf_counter() + 60 * (arguments.minutes - 0.5), arguments.quick)
    table, notes = [row(each) for each in results["points"]], remarks(results, arguments.epochs)
    if not arguments.quick:
        title = "ResNet20 on CIFAR-10: MACs removed against accuracy, ours and torch-pruning's group pruner, with and without recovery"
        write("resnet20", title, list(COLUMNS), table, results, notes)
    print(json.dumps([*table, *notes], indent=1))


if __name__ == "__main__":
    main()
