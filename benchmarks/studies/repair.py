"""The same channels removed, only the operator and the repair differ: what each is worth, without retraining and without labels.

    python -m benchmarks.studies.repair [--data FILE.npz] [--model FILE.safetensors] [--shares 0.5 0.75 …] [--minutes 9]

A half-width VGG16-BN on blood cells loses the same share of channels in each of its 13 convolutions, those with the smallest L2 norm,
paired by the likeness of their activations: once for each operator, without repair, with new batch-norm statistics, with least squares.
Everything is measured on the guard split; the test split is not read. A second survey, by output error, shows what a better choice of
channels adds. At three depths the published crossover filter, trained pair by pair, races the closed form. Nine minutes on two cores;
what does not fit into `--minutes` is left out, and said.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import ROOT, write
from benchmarks.studies.bloodcells import ARCH, INPUT, MEAN, PAD, STD
from optimize.candidate import Candidate, Floats, Reference
from optimize.data.dataset import Dataset, Preprocessing, load_data
from optimize.graph.trace import trace
from optimize.guard.classification_score import ClassificationScore, answers
from optimize.hardware.malloc import retain_freed_memory
from optimize.loading.load import load_model
from optimize.progress import note, shown
from optimize.reconstruction.layer_repair import RIDGE
from optimize.steps.merge import Merge
from optimize.steps.merging.crossover import (
    PUBLISHED_BATCH,
    PUBLISHED_BATCHES,
    families,
    family_targets,
    reconstruction_error,
    sample_inputs,
    solve,
    train_filters,
    whole_maps,
)
from optimize.steps.merging.folding import ProducerLayer
from optimize.steps.merging.pairing import RemovalPlan, plan_removals
from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm

SHARES = (0.5, 0.75, 0.875, 0.625, 0.25)
OPERATORS: dict[str, dict[str, Any]] = {
    "drop": {},
    "average, as published": {"operator": "average"},
    "average, columns added": {"operator": "average-add"},
    "medoid, columns added": {"operator": "medoid"},
    "crossover, trained, as published": {"operator": "crossover-sgd"},
    "crossover, closed form, maximum": {"operator": "crossover"},
    "crossover, closed form, after activation": {"operator": "crossover", "target": "post-activation"},
    "model folding": {"operator": "fold"},
    "neuron merging": {"operator": "neuron-merging"},
}
BY_ERROR = "drop, chosen by output error"
REPAIRS = ("none", "batchnorm", "least squares")
COLUMNS = ("removed per conv", "operator", *REPAIRS, "worst class: batchnorm, least squares", "output error", "seconds")
TITLE = "Guard accuracy of a half-width VGG16-BN on blood cells after the same channels were removed, by operator and repair"
NORM_CASES = 512
RACE_S = 180
RACED_FAMILIES = 24
RACED = ("17", "27", "7")


class Bench:
    """The network, the data, and one way to measure a candidate."""

    def __init__(self, model: Path, splits: Dataset, *, cases: int, rows: int) -> None:
        assert splits.train is not None
        self.start = load_model(model, arch=ARCH, input_shape=INPUT)
        chosen = np.sort(np.random.default_rng(0).permutation(len(splits.train))[:cases])
        self.reference = Reference(self.start, splits.train.inputs(chosen))
        self.rows, self.splits = rows, splits
        self.unseen = splits.guard.inputs()
        self._cases = splits.guard.inputs()
        self.before = self._score(self.start)
        self._wanted = self.start.predict(self.unseen)

    def survey(self, choose: Any) -> tuple[RemovalPlan | None, ...]:
        """Which channels go, for every share."""
        return plan_removals(self.start, self.reference, choose=choose, rows=self.rows, ridge=RIDGE)

    def measure(self, candidate: Candidate) -> dict[str, float]:
        """Accuracy and worst drop of a class's recall on the guard split; squared error of the outputs on unseen inputs, as a share."""
        after = self._score(candidate)
        recall = after.per_class
        off = candidate.predict(self.unseen) - self._wanted
        return {
            "accuracy": after.accuracy,
            "worst_class_drop": max(each.recall - recall[name].recall for name, each in self.before.per_class.items()),
            "output_error": float(np.square(off).sum() / np.square(self._wanted - self._wanted.mean(0)).sum()),
        }

    def _score(self, candidate: Candidate) -> ClassificationScore:
        return answers(candidate.predict(self._cases), self.splits.guard.labels, self.splits.classes)


def variants(bench: Bench, share: float, name: str, surveys: Sequence[RemovalPlan | None]) -> list[dict[str, Any]]:
    """One operator at one share, followed by each repair."""
    settings = {"share": share, "rows": bench.rows, **OPERATORS.get(name, {})}
    start = time.perf_counter()
    plain = Merge(**settings).with_plans(bench.start, bench.reference, surveys)
    merging = time.perf_counter() - start
    renewed = RecalibrateBatchNorm(NORM_CASES)(plain, bench.reference)  # what repair="batchnorm" does, without merging once more
    renewing = time.perf_counter() - start
    start = time.perf_counter()
    refitted = Merge(**settings, repair="least squares").with_plans(bench.start, bench.reference, surveys)
    seconds = (merging, renewing, time.perf_counter() - start)
    made = zip(REPAIRS, (plain, renewed, refitted), seconds, strict=True)
    results = [
        {"share": share, "operator": name, "repair": repair, "seconds": spent, **bench.measure(each)} for repair, each, spent in made
    ]
    note(f"{share:.1%} {name}: " + ", ".join(f"{each['accuracy']:.2%} in {each['seconds']:.1f} s" for each in results))
    return results


def race(bench: Bench, layer: str, found: RemovalPlan, inputs: Floats) -> dict[str, Any]:
    """Half of one layer's channels merged towards the maximum: trained one family after another, all at once, and in closed form.

    All three start from the same images, and catching what the layer reads is part of each time. Only the layer's first families take
    part: more of them lengthen the training and leave the closed form's Gram matrix as it is.
    """
    maker = ProducerLayer(bench.start.module, layer, None, np.arange(len(found.likeness)))
    members = families(found.merge_into(0.5))[:RACED_FAMILIES]
    heads = np.array([family[0] for family in members])
    weight, bias = maker.plain()
    clock = [time.perf_counter()]
    maps = whole_maps(maker, inputs)
    trained = torch.cat([train_filters(maker, [family], maps) for family in members])
    clock.append(time.perf_counter())
    train_filters(maker, members, whole_maps(maker, inputs))
    clock.append(time.perf_counter())
    seen = sample_inputs(bench.start.module, layer, inputs, rows=bench.rows, seed=0)
    solved, level = solve(seen, family_targets(seen.outputs(weight, bias), members, "max"), weight[:, heads], RIDGE)
    clock.append(time.perf_counter())
    unseen = sample_inputs(bench.start.module, layer, bench.unseen, rows=4 * bench.rows, seed=1)
    aim = family_targets(unseen.outputs(weight, bias), members, "max")
    result = {
        "layer": layer,
        "families": len(members),
        "trained_one_by_one_s": clock[1] - clock[0],
        "trained_at_once_s": clock[2] - clock[1],
        "closed_form_s": clock[3] - clock[2],
        "kept_error": reconstruction_error(unseen, weight[:, heads], bias[heads], aim),
        # the published prediction has no bias, and neither has this layer
        "trained_error": reconstruction_error(unseen, trained.flatten(1).T.double(), bias[heads], aim),
        "closed_form_error": reconstruction_error(unseen, solved, level, aim),
    }
    note(_finish(result))
    return result


def _finish(raced: dict[str, Any]) -> str:
    factors = [raced[key] / raced["closed_form_s"] for key in ("trained_one_by_one_s", "trained_at_once_s")]
    errors = [f"{raced[key]:.4f}" for key in ("closed_form_error", "trained_error", "kept_error")]
    return (
        f"Layer {raced['layer']}, {raced['families']} crossover filters: closed form {raced['closed_form_s']:.2f} s, "
        f"{factors[0]:.0f}x faster than training one after another and {factors[1]:.1f}x faster than training all at once; "
        f"reconstruction error on unseen inputs {errors[0]}, trained {errors[1]}, kept filter as it was {errors[2]}."
    )


def study(bench: Bench, shares: Sequence[float], raced: Sequence[str], deadline: float) -> dict[str, Any]:
    """Every operator at every share, then the race, as far as the time goes."""
    by_norm, by_error = bench.survey("norm"), bench.survey("output error")
    results: dict[str, Any] = {"race": [], "variants": [], "left_out": []}
    for share, name in ((share, name) for share in shares for name in (*OPERATORS, BY_ERROR)):
        if time.perf_counter() > deadline - RACE_S:
            results["left_out"].append(f"{name} at {share:.1%}")
        else:
            results["variants"] += variants(bench, share, name, by_error if name == BY_ERROR else by_norm)
    names = [group.name for group in trace(bench.start).groups]
    for layer in raced:
        found = by_norm[names.index(layer)]
        if found is None or time.perf_counter() > deadline - RACE_S / 3:
            results["left_out"].append(f"the race in layer {layer}")
        else:
            results["race"].append(race(bench, layer, found, bench.reference.calibration[: PUBLISHED_BATCHES * PUBLISHED_BATCH]))
    return results


def rows(results: dict[str, Any]) -> list[list[str]]:
    """The table: a line for each share and operator, shares ascending."""
    lines: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for each in sorted(results["variants"], key=lambda each: float(each["share"])):
        lines.setdefault((each["share"], each["operator"]), []).append(each)
    return [
        [
            f"{100 * share:g} %",
            name,
            *(f"{100 * each['accuracy']:.1f} %" for each in line),
            ", ".join(f"{-100 * each['worst_class_drop']:+.1f} pp" for each in line[1:]),
            ", ".join(f"{each['output_error']:.3g}" for each in line),
            ", ".join(f"{each['seconds']:.1f}" for each in line),
        ]
        for (share, name), line in lines.items()
    ]


def main() -> None:
    """Run the study and write its results."""
    shared = ROOT.parent / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shared / "bloodmnist_rebuilt_28.npz")
    parser.add_argument("--model", type=Path, default=shared / "models" / "vgg16_half_blood28.safetensors")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--race", nargs="*", default=RACED)
    parser.add_argument("--cases", type=int, default=256)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    retain_freed_memory()
    start = time.perf_counter()
    splits = load_data(arguments.data, preprocessing=Preprocessing(MEAN, STD, PAD), input_shape=INPUT, num_classes=8, drop_overlap=True)
    with shown():
        bench = Bench(arguments.model, splits, cases=arguments.cases, rows=arguments.rows)
        results = study(bench, arguments.shares, arguments.race, start + 60 * arguments.minutes)
    table = rows(results)
    notes = [
        f"Original: {100 * bench.before.accuracy:.2f} % of {len(splits.guard)} guard images. No retraining and no labels: "
        f"{arguments.cases} training images without their labels, {arguments.rows} sampled positions per fit (the steps' own default is "
        f"20,000; fewer here for time). Output error: squared difference to the original's outputs on "
        f"{len(splits.guard)} images of neither, as a share of their variance. Three figures: none, batchnorm, least squares.",
        *map(_finish, results["race"]),
        *([f"Left out for time: {', '.join(results['left_out'])}."] if results["left_out"] else []),
    ]
    if not arguments.dry:
        write("repair", TITLE, list(COLUMNS), table, {**results, "original_accuracy": bench.before.accuracy}, notes)
    print(json.dumps([*table, *notes], indent=1))


if __name__ == "__main__":
    main()
