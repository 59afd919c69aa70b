"""How often a run ends with "pass", at how much compression, and how often what was accepted truly breaks a limit.

    python -m benchmarks.studies.acceptance [--cuts 12] [--networks digits cnn5 vgg16] [--targets onnxruntime] [--work DIR] [--show]

Three networks: the demo's for scikit-learn's digits (10 classes), and for blood cells (8 classes) a small CNN5 that is trained here and the
half-width VGG16 with its published weights. Their images are cut at random another way each time, and a part of them, the truth pool, is in
no split of the run. An accepted artifact is measured on the truth pool as well: where its loss exceeds a limit there, the acceptance was
false. A verdict at 95 % confidence may err in 5 % of the runs whose artifact is at the limit.

A run prepares, searches, compiles, chooses the precision and reads the test split once, as `optimize compress` does; it is not timed beside
its baselines, which takes minutes and decides nothing here. Finished runs lie in DIR, and are read the next time. `--show` runs nothing and
writes the table of what is finished. `benchmarks.studies.acceptance_counts` draws the counts alone, thousands of times.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from benchmarks.results import ROOT, write
from benchmarks.studies import bloodcells
from benchmarks.studies.peers.cases import CACHE
from optimize.backends import backend, title
from optimize.data.dataset import Preprocessing, Split
from optimize.guard.evaluate import score_split
from optimize.guard.limits import POWER
from optimize.guard.verdict import judge
from optimize.loading.factory import load_factory
from optimize.progress import note, shown
from optimize.run.compile_artifact import select
from optimize.run.compress import run_search
from optimize.run.demo import NET, SETTINGS, _train
from optimize.run.final_verdict import scores_on_test
from optimize.run.prepare import prepare
from optimize.run.recipe import resolve

COLUMNS = (
    *("network", "runtime", "runs", "pass", "inconclusive", "fail", "chance that was predicted", "false acceptances"),
    *("parameters off", "accuracy lost on test", "shipped, or would have"),
)
TITLE = "How often a run ends accepted, and how often that is wrong"
DIGITS = {"train": 450, "calibration": 100, "val": 400, "test": 547}
CNN5_SPLITS = {"train": 6000, "calibration": 800, "val": 1000, "test": 2500}
VGG_SPLITS = {"val": 850, "test": 1484}
"""Images of each split; what is left of them is the truth pool."""
CNN5_WIDTHS, CNN5_EPOCHS = (24, 48, 96, 96, 96), 8
PARTS = ("images", "labels")


@dataclass(frozen=True)
class Network:
    """One network of the study.

    Args:
        title: name in the table.
        made: (folder, cut) -> model file, settings of the run, truth pool.
        needs: file that must be there; None for none.
    """

    title: str
    made: Callable[[Path, int], tuple[Path, Mapping[str, Any], Split]]
    needs: Path | None = None


def digits(folder: Path, cut: int) -> tuple[Path, Mapping[str, Any], Split]:
    """The demo's network, trained anew on its cut."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images * (255 / 16)).round().astype(np.uint8)
    arrays, truth = cut_up({"images": images, "labels": found.target}, DIGITS, cut)
    (folder / "net.py").write_text(NET, encoding="utf-8")
    (folder / "optimize.toml").write_text(SETTINGS, encoding="utf-8")
    np.savez_compressed(folder / "digits.npz", **arrays)
    model = folder / "model.safetensors"
    save_file(_train(arrays["train_images"], arrays["train_labels"], folder).state_dict(), model)
    return model, {}, Split("truth", truth["images"], truth["labels"], Preprocessing((0.305,), (0.376,)))


def cnn5(folder: Path, cut: int) -> tuple[Path, Mapping[str, Any], Split]:
    """A small CNN5 for blood cells. It is trained once; its train images are the same in every cut."""
    cells = _cells(("train", "val", "test"))
    learned, rest = cut_up(cells, {"train": CNN5_SPLITS["train"]}, 0)
    arrays, truth = cut_up(rest, {name: count for name, count in CNN5_SPLITS.items() if name != "train"}, cut)
    arch_args = {"num_classes": 8, "size": 32, "widths": list(CNN5_WIDTHS)}
    arch, weights = f"{ROOT / 'models' / 'cnn5.py'}:cnn5", folder.parent / "cnn5.safetensors"
    if not weights.exists():
        split = Split("train", learned["train_images"], learned["train_labels"], _preprocessing())
        save_file(bloodcells.train(split, CNN5_EPOCHS, net=load_factory(arch)(**arch_args)).state_dict(), weights)  # type: ignore[arg-type]
    model = folder / "model.safetensors"
    save_file(load_file(weights), model)
    np.savez(folder / "cells.npz", **arrays, **learned)
    return model, {**_settings(folder), "arch": arch, "arch_args": arch_args}, _truth(truth)


def vgg16(folder: Path, cut: int) -> tuple[Path, Mapping[str, Any], Split]:
    """The half-width VGG16 for blood cells. It was trained on the train split, so the others are cut anew, and calibration is of train."""
    arrays, truth = cut_up(_cells(("val", "test")), VGG_SPLITS, cut)
    train = _cells(("train",))
    chosen = np.random.default_rng(cut).permutation(len(train["images"]))
    used = {"calibration": chosen[:856], "train": chosen[856:3856]}
    arrays |= {f"{name}_{part}": train[part][rows] for name, rows in used.items() for part in PARTS}
    model = folder / "model.safetensors"
    save_file(load_file(bloodcells.REFERENCE), model)
    np.savez(folder / "cells.npz", **arrays)
    return model, {**_settings(folder), "arch": bloodcells.ARCH}, _truth(truth)


CELLS = bloodcells.SHARED / "bloodmnist_rebuilt_28.npz"
NETWORKS = {
    "digits": Network("digits, 10 classes", digits),
    "cnn5": Network("CNN5 on blood cells, 8 classes", cnn5, CELLS),
    "vgg16": Network("VGG16 (half width) on blood cells, 8 classes", vgg16, bloodcells.REFERENCE),
}


def cut_up(items: Mapping[str, np.ndarray], sizes: Mapping[str, int], cut: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Images and labels cut at random: those of each named split, as an `.npz` of data names them, and what is left."""
    order = np.random.default_rng(cut).permutation(len(items["images"]))
    *parts, left = np.split(order, np.cumsum(list(sizes.values())))
    named = {f"{name}_{part}": items[part][rows] for name, rows in zip(sizes, parts, strict=True) for part in PARTS}
    return named, {part: items[part][left] for part in PARTS}


def _cells(splits: Sequence[str]) -> dict[str, np.ndarray]:
    """Blood cells of these splits, each different photograph once: a copy in two splits would be seen twice."""
    with np.load(CELLS, allow_pickle=False) as archive:
        images = np.concatenate([archive[f"{name}_images"] for name in splits])
        labels = np.concatenate([archive[f"{name}_labels"].ravel() for name in splits]).astype(np.int64)
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    return {"images": images[np.sort(first)], "labels": labels[np.sort(first)]}


def _preprocessing() -> Preprocessing:
    return Preprocessing(bloodcells.MEAN, bloodcells.STD, bloodcells.PAD)


def _settings(folder: Path) -> dict[str, Any]:
    prepared = {"mean": bloodcells.MEAN, "std": bloodcells.STD, "pad": bloodcells.PAD, "drop_overlap": True}
    return {"data": str(folder / "cells.npz"), "input_shape": bloodcells.INPUT, **prepared, **bloodcells.STATISTICAL}


def _truth(arrays: Mapping[str, np.ndarray]) -> Split:
    return Split("truth", arrays["images"], arrays["labels"], _preprocessing())


def outcome(name: str, target: str, cut: int, work: Path) -> dict[str, Any]:
    """One run, or what is kept of it."""
    folder = work / f"{name}-{target}-{cut}"
    kept = folder / "outcome.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    model, settings, truth = NETWORKS[name].made(folder, cut)
    job = prepare(resolve(model, target=target, overrides={**settings, "out": folder / "out"}), resume=False, overwrite=True)
    search = run_search(job)
    selection = select(job, search, job.space.fresh("compile"))
    verdict = judge(job.limits, *scores_on_test(job, selection.artifact))
    # The measured loss on the truth pool against each limit: its images are in no split, so their number alone limits what it shows.
    with backend(selection.artifact.target).build(selection.artifact, threads=job.recipe.threads) as session:
        truths = [score_split(predict, truth, job.data.classes, "the truth") for predict in (job.original.predict, session.predict)]
    true = judge(replace(job.limits, verdict="point"), *truths)
    on_guard = selection.chosen.verdict
    found = {
        "network": name,
        "target": target,
        "cut": cut,
        "verdict": verdict.outcome,
        "reasons": list(verdict.reasons),
        "chance": None if on_guard is None else on_guard.chance,
        "asked": job.acceptance_rule.asked_chance,
        "precision": selection.chosen.precision,
        "off": 1 - selection.candidate.parameters / job.original.parameters,
        "lost": verdict.rails[0].value,
        "backed_off": len(selection.notes) // 2,
        "truth": true.outcome,
        "truth_reasons": list(true.reasons),
        "truth_cases": len(truth),
        "seconds": time.perf_counter() - started,
    }
    kept.write_text(json.dumps(found), encoding="utf-8")
    job.space.clean()
    note(json.dumps(found))
    return found


def row(name: str, target: str, found: Sequence[dict[str, Any]]) -> list[str]:
    """One line of the table."""
    verdicts, precisions = Counter(run["verdict"] for run in found), Counter(run["precision"] for run in found)
    off, lost = np.array([run["off"] for run in found]), np.array([run["lost"] for run in found])
    chances = [run["chance"] for run in found if run["chance"] is not None]
    wrong = sum(run["verdict"] == "pass" and run["truth"] == "fail" for run in found)
    return [
        NETWORKS[name].title,
        title(target),
        str(len(found)),
        *(str(verdicts[verdict]) for verdict in ("pass", "inconclusive", "fail")),
        f"mean {100 * float(np.mean(chances)):.1f} %" if chances else "-",
        f"{wrong} of {verdicts['pass']}",
        f"{100 * off.min():.1f} % to {100 * off.max():.1f} %, median {100 * np.median(off):.1f} %",
        f"{100 * lost.min():+.2f} pp to {100 * lost.max():+.2f} pp, mean {100 * lost.mean():+.2f} pp",
        ", ".join(f"{count} {precision}" for precision, count in sorted(precisions.items())),
    ]


def finished(work: Path) -> list[dict[str, Any]]:
    """The finished runs in the working folder."""
    return [dict(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(work.glob("*/outcome.json"))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=12)
    parser.add_argument("--first", type=int, default=0, help="the first cut")
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--targets", nargs="+", choices=("openvino", "onnxruntime"), default=["onnxruntime"])
    parser.add_argument("--work", type=Path, default=CACHE.parent / "acceptance")
    parser.add_argument("--show", action="store_true", help="run nothing; write the table of the finished runs")
    parser.add_argument("--no-table", action="store_true", help="run only; write no table")
    asked = parser.parse_args(arguments)
    with shown():
        for cut in () if asked.show else range(asked.first, asked.first + asked.cuts):
            for name in asked.networks:
                needs = NETWORKS[name].needs
                if needs is not None and not needs.exists():
                    note(f"{name} is left out: {needs.name} is not there")
                    continue
                for target in asked.targets:
                    outcome(name, target, cut, asked.work)
    found = finished(asked.work)
    if not asked.no_table:
        keys = [(name, target) for name in NETWORKS for target in asked.targets]
        groups = {key: [run for run in found if (run["network"], run["target"]) == key] for key in keys}
        table = [row(*key, runs) for key, runs in groups.items() if runs]
        accepted = [run for run in found if run["verdict"] == "pass"]
        false = sum(run["truth"] == "fail" for run in accepted)
        notes = [
            f"The search aims at a chance of {100 * POWER:.0f} %. {len(accepted)} of {len(found)} runs were accepted, {false} of them "
            "falsely: their loss exceeds a limit on images that no split of the run holds."
        ]
        write("acceptance", TITLE, list(COLUMNS), table, {"results": found}, notes)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
