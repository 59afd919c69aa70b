"""What a repaired network loses on images that the original was trained on, beside what it loses on unseen ones.

    python -m benchmarks.studies.second_opinion [--nets cells unet] [--shared DIR]

The search asks images of train for a second opinion (`optimize/searching/train_check.py`), though the original may know them by heart. Here
both networks are pruned mildly to boldly and repaired without training, and every one of them is scored on the guard, on a second opinion's
images of train, and on the test split, which is taken for the truth. How far the first two are from it is the answer; of a large guard,
also how far two hundred of its images are, drawn a hundred times. Among the images of train are those that the repair was fitted on: what
it loses on these is put beside what it loses on images that were drawn alike and left out of the fit. Eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import ROOT, write
from benchmarks.studies.control import Case, brains, cells, few
from optimize.candidate import Candidate, Floats, Reference
from optimize.data.calibration_sampling import unlabelled
from optimize.data.dataset import Split
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.hardware.malloc import retain_freed_memory
from optimize.progress import note, shown
from optimize.searching.train_check import TrainCheck
from optimize.steps.prune import Prune

NETS = {"cells": cells, "unet": brains}
BUDGETS = {"cells": (0.002, 0.005, 0.01, 0.015, 0.02, 0.03), "unet": (0.001, 0.002, 0.004, 0.006, 0.008, 0.012)}
FEW, DRAWS = 200, 100
COLUMNS = ("network", "parameters off", "original: train, guard, test", "lost on train", "lost on the guard", "lost on test")
TITLE = "What a repair without training loses: on images of train, on the guard and on the test split"


def study(case: Case, budgets: Sequence[float]) -> list[dict[str, Any]]:
    """A result for each budget."""
    data, original = case.data, case.original
    assert data.training_split is not None
    assert data.train is not None
    witness = TrainCheck.from_train(original, data.training_split, 0, data.test.n_independent, data.classes, Limits(), 0)
    assert witness is not None
    parts = _drawn(data.guard) if len(data.guard) > FEW else []
    inputs = unlabelled(original, [data.calibration, data.train], 0)
    assert inputs.unseen is not None
    reference = Reference(original, inputs.fitted, unseen=inputs.unseen)
    splits = {"train": witness.split, "guard": data.guard, "test": data.test}
    splits |= {"fitted": _of(data.training_split, inputs.fitted), "unseen": _of(data.training_split, inputs.unseen)}

    def scores(each: Candidate) -> tuple[dict[str, float], list[float]]:
        whole = {name: score_split(each.predict, split, data.classes, name) for name, split in splits.items()}
        guard = whole["guard"]
        drawn = [guard.take(rows).overall for rows in parts] if isinstance(guard, ClassificationScore) else []
        return {name: score.overall for name, score in whole.items()}, drawn

    (before, parts_before), found = scores(original), list[dict[str, Any]]()
    for budget in budgets:
        made = Prune(budget)(original, reference)
        after, parts_after = scores(made)
        lost = {name: before[name] - after[name] for name in splits}
        drawn = [old - new for old, new in zip(parts_before, parts_after, strict=True)]
        off = 1 - made.parameters / original.parameters
        found.append({"network": case.name, "budget": budget, "parameters_off": off, "before": before, "lost": lost, "lost_by_few": drawn})
        note(json.dumps({**found[-1], "lost_by_few": len(drawn)}))
    return found


def _of(split: Split, inputs: Floats) -> Split:
    """Those items of a split whose inputs these are."""
    wanted = {each.tobytes() for each in inputs}
    return split.take(np.flatnonzero([split.inputs(slice(row, row + 1)).tobytes() in wanted for row in range(len(split))]))


def _drawn(guard: Split) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.sort(rng.permutation(len(guard))[:FEW]) for _ in range(DRAWS)]


def misses(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How far each is from what was lost on test: root mean squares over all budgets."""
    truth = np.array([each["lost"]["test"] for each in found])
    told = {name: _root([each["lost"][name] for each in found] - truth) for name in ("train", "guard")}
    few_of = np.array([each["lost_by_few"] for each in found])  # (budgets, draws)
    return told | ({"few": _root(few_of - truth[:, None])} if few_of.size else {})


def _root(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def row(found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    before = ", ".join(f"{100 * found['before'][name]:.2f} %" for name in ("train", "guard", "test"))
    lost = [f"{100 * found['lost'][name]:+.2f} pp" for name in ("train", "guard", "test")]
    return [found["network"], f"{100 * found['parameters_off']:.1f} %", before, *lost]


def remark(found: Sequence[dict[str, Any]]) -> str:
    """How far off train and the guard are, in words."""
    told = misses(found)
    fewer = f", {100 * told['few']:.2f} pp for {FEW} of its images" if "few" in told else ""
    fitted, unseen = (100 * float(np.mean([each["lost"][name] for each in found])) for name in ("fitted", "unseen"))
    named = f"{100 * told['train']:.2f} pp for images of train, {100 * told['guard']:.2f} pp for the guard{fewer}"
    own = f"On average a repair lost {fitted:+.2f} pp on the images it was fitted on, {unseen:+.2f} pp on others that were drawn alike."
    return f"{found[0]['network']}: from what was lost on test (root mean square) {named}. {own}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=tuple(NETS), default=tuple(NETS))
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data", help="data and weights")
    parser.add_argument("--quick", action="store_true", help="few images, one budget; print, write nothing")
    asked = parser.parse_args(arguments)
    retain_freed_memory()
    results = []
    with shown():
        for name in asked.nets:
            case = NETS[name](asked.shared, 0, asked.quick)
            case = replace(case, data=few(case.data)) if asked.quick else case
            results.append(study(case, BUDGETS[name][:1] if asked.quick else BUDGETS[name]))
    rows, notes = [row(each) for found in results for each in found], [remark(found) for found in results]
    if not asked.quick:
        write("second_opinion", TITLE, list(COLUMNS), rows, {"results": [each for found in results for each in found]}, notes)
    print(json.dumps([*rows, *notes], indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
