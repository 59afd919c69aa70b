"""The main job on brain MRI: compress a trained U-Net, 7.8 million parameters, without any retraining.

    python -m benchmarks.studies.unet [--data FILE.npz] [--weights FILE.safetensors] [--targets onnxruntime openvino] [--work DIR]

The limits are fixed beforehand: 1 pp of Dice overall and for the tumour, and 0.97 Dice with the original's own masks. Everything is decided
on the guard split; the test split is read once, by each compiled artifact. About eight minutes a target on two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import HISTORY, ROOT, looks, write
from optimize.progress import note, shown
from optimize.report.speed import UNRELIABLE, doubts
from optimize.run.compress import compress
from optimize.run.recipe import resolve

SHARED = ROOT.parent / "shared" / "data"
ARCH = f"{ROOT / 'models' / 'unet.py'}:unet"
INPUT = (3, 128, 128)
LIMITS = {"max_drop": "1pp", "max_class_drop": "1pp", "min_agreement": 0.97, "verdict": "point"}
BASELINES = ("torch eager", "ONNX Runtime f32", "OpenVINO f32")
COLUMNS = (
    *("artifact", "verdict", "parameters off", "MACs off", "Dice on test", "agreement", "p50, batch 1"),
    *(f"faster than {name}" for name in BASELINES),
    *("file", "whole run"),
)
TITLE = "U-Net (7.8 million parameters) on brain MRI, tumours, no retraining; limits 1 pp of Dice, agreement 0.97, as measured"


def study(data: Path, weights: Path, work: Path, targets: Sequence[str], history: Path | None = HISTORY) -> list[dict[str, Any]]:
    """Compress for each target; returns the reports."""
    network = {"arch": ARCH, "input_shape": INPUT, "data": str(data), "standardize": "image"}
    reports = []
    for target in targets:
        recipe = resolve(weights, target=target, overrides={**network, **LIMITS, "history": history, "out": work / target})
        reports.append(compress(recipe, overwrite=True))
        note(f"{target}: {reports[-1]['verdict']} in {reports[-1]['duration_s']:.0f} s; {'; '.join(reports[-1]['reasons'])}")
    return reports


def row(report: dict[str, Any]) -> list[str]:
    """One line of the table; dashes where the run ended before there was an artifact."""
    before, after = report["baseline"], report["compressed"]
    if after is None:
        return [report["target"], report["verdict"], *["-"] * (len(COLUMNS) - 3), f"{report['duration_s']:.0f} s"]
    old, new = (each["metrics"]["overall"] for each in (before, after))
    return [
        after["runtime"],
        report["verdict"],
        f"{100 * (1 - after['parameters'] / before['parameters']):.1f} %",
        f"{100 * (1 - after['macs'] / before['macs']):.1f} %",
        f"{old['dice']:.4f} -> {new['dice']:.4f}",
        f"{new['agreement']:.4f}",
        UNRELIABLE if doubts(report, "1") else f"{after['latency_ms']['1']['p50']:.2f} ms",
        *(UNRELIABLE if doubts(report, "1", name) else _ratio(report["speedup"]["1"].get(name)) for name in BASELINES),
        f"{before['size_bytes'] / 1e6:.1f} -> {after['size_bytes'] / 1e6:.2f} MB",
        f"{report['duration_s']:.0f} s",
    ]


def _ratio(gain: dict[str, float] | None) -> str:
    return "-" if gain is None else f"{gain['value']:.1f}x [{gain['low']:.1f}, {gain['high']:.1f}]"


def shortened(data: Path, work: Path) -> Path:
    """A few slices of each patient, for a trial of the script; the last patients of train are its test split."""
    with np.load(data, allow_pickle=False) as archive:
        found = {name: archive[name] for name in archive.files if name.startswith(("train_", "val_"))}
    _, patient = np.unique(found["train_patient"], return_inverse=True)
    lasts = patient > patient.max() - 10
    parts = {"train": ("train", ~lasts), "test": ("train", lasts), "val": ("val", np.ones(len(found["val_images"]), dtype=bool))}
    arrays = {}
    for name, (source, rows) in parts.items():
        chosen = np.flatnonzero(rows)[::4]
        arrays |= {f"{name}_{each}": found[f"{source}_{each}"][chosen] for each in ("images", "masks", "patient")}
    path = work / "shortened.npz"
    np.savez(path, **arrays)
    return path


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED / "lgg_mri_seg_128.npz")
    parser.add_argument("--weights", type=Path, default=SHARED / "models" / "unet32_lgg128.safetensors")
    parser.add_argument("--targets", nargs="+", default=["onnxruntime"])
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--quick", action="store_true", help="a quarter of the slices; print, write nothing")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    data = shortened(arguments.data, work) if arguments.quick else arguments.data
    with shown():
        reports = study(data, arguments.weights, work, arguments.targets, None if arguments.quick else HISTORY)
    table = [row(report) for report in reports]
    test = reports[0]["data"]["test"]
    notes = [
        f"{test['cases']} test slices of {test['patients']} patients, {looks(reports)}; Dice is the mean over patients; in brackets "
        "the 95 % interval of the ratio.",
        *(f"{report['target']}: {reason}." for report in reports for reason in report["reasons"]),
    ]
    if not arguments.quick:
        write("unet", TITLE, list(COLUMNS), table, {"reports": reports}, notes)
    print(json.dumps([*table, *notes], indent=1))


if __name__ == "__main__":
    main()
