"""Peak memory against the number of images: image files of 224 pixels, read, checked, sampled for repair and int8, judged, and compressed.

    python -m benchmarks.studies.streaming [--files 2000 8000 20000] [--generated 200000] [--compress 2000 20000] [--work DIR]

Each row is a process of its own, whose peak resident memory is taken after each stage. `--files` writes that many JPEG files into a tree of
two classes, each file another image; `--generated` passes a stack of images that are computed from their number when they are asked for, so
that 30 GB of images need no disk. 80 % of the images are train, 10 % val and 10 % test. `--compress` runs the whole command on files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.results import write

SIZE, CLASSES = 224, ("plain", "square")
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
STAGES = ("start", "read", "checked", "repair inputs", "int8 inputs", "judged", "whole command")
KINDS = {"files": "JPEG files", "generated": "computed", "compress": "JPEG files"}
COLUMNS = ("images", "as arrays", "source", *STAGES, "seconds")
LIMIT_S = 3600
CELL = 14
"""Pixels a side of the squares of one value, 16 x 16 in an image: no two images resemble each other, and JPEG keeps them apart."""


def image(number: int) -> np.ndarray:
    """Image `number`, uint8 (224, 224, 3): random squares; those of odd numbers have a bright middle."""
    cells = np.random.default_rng(number).integers(0, 160, (SIZE // CELL, SIZE // CELL, 3), np.uint8)
    if number % 2:
        cells[5:11, 5:11] += np.uint8(90)
    return cells.repeat(CELL, 0).repeat(CELL, 1)


def net() -> nn.Module:
    """A small network of three convolutions."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 7, 4, 3), nn.BatchNorm2d(8), nn.ReLU()
    second = nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()
    third = nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()
    return nn.Sequential(*first, *second, *third, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(144, len(CLASSES)))


def trained() -> nn.Module:
    """The network after 60 steps on 64 images whose numbers no data set has."""
    network, own = net(), np.arange(64) + 2**40
    inputs = torch.from_numpy(np.stack([image(int(number)) for number in own])).permute(0, 3, 1, 2).float() / 255
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), torch.from_numpy(own % 2)).backward()
        optimizer.step()
    return network.eval()


def numbers(count: int) -> dict[str, range]:
    """The numbers of the images of each split."""
    edges = np.cumsum([0, *(round(share * count) for share in SHARES.values())]).tolist()
    return {split: range(start, stop) for split, start, stop in zip(SHARES, edges, edges[1:], strict=False)}


def tree(root: Path, count: int) -> Path:
    """Write the images as JPEG files, train/plain/0000000.jpg and so on, unless they are there."""
    from PIL import Image

    for split, of_split in numbers(count).items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True, exist_ok=True)
        for number in of_split:
            path = root / split / CLASSES[number % 2] / f"{number:07}.jpg"
            if not path.exists():
                Image.fromarray(image(number)).save(path, quality=90)
    return root


def generated(count: int) -> dict[str, Any]:
    """The images as lazy stacks that compute them."""
    from optimize.data.lazy_images import lazy_images

    arrays: dict[str, Any] = {"classes": np.array(CLASSES)}
    for split, of_split in numbers(count).items():
        arrays |= {f"{split}_images": lazy_images(of_split, image, parallel=True), f"{split}_labels": np.array(of_split) % 2}
    return arrays


def staged(source: object) -> dict[str, int]:
    """Peak resident memory after each stage of a run on the data, in bytes."""
    # imported here: this process starts small
    from optimize.data.calibration_checks import check_calibration
    from optimize.data.calibration_sampling import unlabelled
    from optimize.data.dataset import load_data
    from optimize.guard.evaluate import score_split
    from optimize.loading.load import load_model
    from optimize.run.prepare import INT8_CASES

    original = load_model(trained(), input_shape=(3, SIZE, SIZE))
    peaks = {"start": peak()}
    data = load_data(source, input_shape=(3, SIZE, SIZE))
    peaks["read"] = peak()
    check_calibration(data)
    splits = [split for split in (data.calibration, data.train, data.guard, data.test) if split is not None]
    _ = [split.sha256 for split in splits]
    peaks["checked"] = peak()
    unlabelled(original, splits[:-2], 0)
    peaks["repair inputs"] = peak()
    data.calibration.inputs(np.arange(min(INT8_CASES, len(data.calibration))))
    peaks["int8 inputs"] = peak()
    for split in splits[-2:]:
        score_split(original.predict, split, data.classes, "judge")
    peaks["judged"] = peak()
    return peaks


def compressed(source: Path, folder: Path) -> dict[str, Any]:
    """The peak of a whole `compress` on a tree, and its verdict."""
    from optimize.run.compress import compress
    from optimize.run.recipe import resolve

    torch.save(trained().state_dict(), folder / "net.pt")
    settings: dict[str, Any] = {"arch": f"{__file__}:net", "input_shape": (3, SIZE, SIZE), "data": str(source), "out": folder / "out"}
    recipe = resolve(folder / "net.pt", target="onnxruntime", overrides={**settings, "history": folder / "looks.jsonl"})
    report = compress(recipe, overwrite=True)
    return {"whole command": peak(), "verdict": report["verdict"]}


def peak() -> int:
    """Most resident memory that this process had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(kind: str, count: int, folder: Path) -> dict[str, Any]:
    """Measure one row in a process of its own; what is there already is not measured again."""
    kept = folder / f"{kind}_{count}.json"
    if not kept.exists():
        start = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.studies.streaming", "--row", kind, str(count), "--work", str(folder)]
        subprocess.run(command, check=True, timeout=LIMIT_S)
        found = json.loads(kept.read_text(encoding="utf-8"))
        kept.write_text(json.dumps({**found, "seconds": time.perf_counter() - start}), encoding="utf-8")
    return {"kind": kind, "images": count, **json.loads(kept.read_text(encoding="utf-8"))}


def row(kind: str, count: int, folder: Path) -> None:
    """Measure in this process, and write what was found."""
    torch.set_num_threads(1)
    if kind == "compress":
        found = compressed(folder / f"tree_{count}", folder)
    else:
        found = staged(generated(count) if kind == "generated" else str(folder / f"tree_{count}"))
    (folder / f"{kind}_{count}.json").write_text(json.dumps(found), encoding="utf-8")


def cells(found: Mapping[str, Any]) -> list[str]:
    """The cells of a row, peaks in MB."""
    size = f"{found['images'] * SIZE * SIZE * 3 / 1e9:.1f} GB"
    stages = ["" if stage not in found else f"{found[stage] / 1e6:,.0f}" for stage in STAGES]
    return [f"{found['images']:,}", size, KINDS[found["kind"]], *stages, f"{found['seconds']:,.0f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all rows and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, nargs="*", default=[2000, 8000, 20000])
    parser.add_argument("--generated", type=int, nargs="*", default=[200_000])
    parser.add_argument("--compress", type=int, nargs="*", default=[2000, 20000])
    parser.add_argument("--row", nargs=2)
    parser.add_argument("--work", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    if chosen.row:
        row(chosen.row[0], int(chosen.row[1]), chosen.work)
        return
    folder = chosen.work or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    # no image that an earlier study decoded, and none left behind
    os.environ["OPTIMIZE_IMAGE_CACHE"] = str(folder / "cache")
    for count in {*chosen.files, *chosen.compress}:
        tree(folder / f"tree_{count}", count)
    rows = [child(kind, count, folder) for kind in KINDS for count in getattr(chosen, kind)]
    title = f"Peak memory in MB after each stage, images of {SIZE} x {SIZE} pixels in colour"
    notes = [
        "Each row is one process with one thread of torch; *start* is torch and the network. 80 % of the images are train.",
        "*JPEG files* are a tree of image files; *computed* images are made from their number when they are asked for.",
        "The images for repair, at most 537 MB as floats, are the largest part that is held; their number does not grow with the data.",
    ]
    write("streaming", title, COLUMNS, [cells(found) for found in rows], {"rows": rows}, notes)


if __name__ == "__main__":
    main()
