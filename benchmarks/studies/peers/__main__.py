"""Ours against what is usually put together: one machine, the same models, data and guard-rails.

    python -m benchmarks.studies.peers [--cases vgg19 unet resnet20] [--shared DIR] [--work DIR] [--retrain]
        [--make original ours assembled controlled] [--prepare-only] [--label WORD] [--quick]

Each case is a trained network with its data. The contenders: the original in every runtime and precision; ours for target cpu, which
chooses between OpenVINO and ONNX Runtime, with `--retrain` also with recovery training, and so for ONNX Runtime alone; torch-pruning's
group pruner at several ratios, recovered by the training that ours would use, in batches of 64, exported and compiled in every precision
of both runtimes, each kept at the largest ratio at which its compiled form holds the guard-rails as measured, on the guard split and on
the test split (ours never sees the latter before its verdict); and NNCF's quantization with accuracy control. All finished ones then take
turns at batch 1 and 8, and the goals are put beside what was measured. What is finished lies in DIR, each ratio by itself, and a second
call goes on from there; `--make` makes only what it names, and without a name nothing. A case's records are made again when a setting or
a version changes. The results of another machine go beside those of the first with a `--label` in their names.

VGG19 is trained first where its weights do not lie in `.cache/peers`, which takes twenty minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import ROOT, write
from benchmarks.studies.peers import table
from benchmarks.studies.peers.cases import CACHE, CASES, Ground, opened
from benchmarks.studies.peers.contenders import tasks
from benchmarks.studies.peers.contest import contest, keep, latencies, without_broken
from benchmarks.studies.peers.record import KINDS, Record, made, put, reason
from optimize.errors import OptimizeError
from optimize.hardware.malloc import retain_freed_memory
from optimize.progress import note, shown

SECONDS = 15.0
GOALS = "goals.json"
RAILS = "2 pp overall and 6 pp per class, of Dice where there are masks; as measured, not with statistics"


def study(
    name: str, shared: Path, work: Path, *, quick: bool, retrain: bool, make: Sequence[str], timed: bool
) -> tuple[Ground, list[Record], dict[str, Any]] | None:
    """Prepare the contenders of a case that are of the kinds `make`, and time all that are finished; None where nothing is timed."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    ground = opened(CASES[name](shared, folder, quick))
    records = []
    for task in tasks(ground, retrain=retrain):
        torch.manual_seed(0)
        records += made(folder / task.key, ground.identity, task.failure, task.make, read_only=task.failure.kind not in make)
    if not timed:
        return None
    found = contest(ground, records, 1.0 if quick else SECONDS)
    keep(folder, found)
    return ground, without_broken(records, found), found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results: a table for each case, and one of the goals for all cases that are kept in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data", help="data and weights")
    parser.add_argument("--work", type=Path, default=None, help="where everything is kept; .cache/peers, and a new folder with --quick")
    parser.add_argument("--retrain", action="store_true", help="rows of ours with recovery training too")
    parser.add_argument("--make", nargs="*", choices=KINDS, default=KINDS, help="kinds of contenders to prepare; without a name none")
    parser.add_argument("--prepare-only", action="store_true", help="time nothing, write nothing: another job may share the machine")
    parser.add_argument("--label", default="", help="a word after the names of the results, such as the machine's")
    parser.add_argument("--quick", action="store_true", help="few images, one ratio, one epoch, wide limits; print, write nothing")
    asked = parser.parse_args(arguments)
    work = asked.work or (Path(tempfile.mkdtemp()) if asked.quick else CACHE)
    work = work.absolute()
    retain_freed_memory()
    label = f"_{asked.label}" if asked.label else ""
    left_out = []
    with shown():
        for name in asked.cases:
            try:
                whole = study(
                    name, asked.shared, work, quick=asked.quick, retrain=asked.retrain, make=asked.make, timed=not asked.prepare_only
                )
            except OptimizeError as problem:  # data or a package is missing: the other cases need neither
                left_out.append(f"{name} is left out: {reason(problem)}.")
                note(left_out[-1])
            else:
                if whole is not None:
                    told(name, work, *whole, label=label, quick=asked.quick)
    if asked.prepare_only:
        return
    found = {name: json.loads((work / name / GOALS).read_text(encoding="utf-8")) for name in CASES if (work / name / GOALS).exists()}
    rows = [row for each in found.values() for row in each["rows"]]
    notes = [f"The guard-rails: {RAILS}. The fastest of each kind that holds them on the test split is compared.", *left_out]
    notes += [line for each in found.values() for line in each["notes"]]
    if found and not asked.quick:
        write(f"peers{label}", "Goals against what is usually put together", list(table.GOAL_COLUMNS), rows, found, notes)
    print(json.dumps([*rows, *notes], indent=1))


def told(name: str, work: Path, ground: Ground, records: Sequence[Record], found: dict[str, Any], *, label: str, quick: bool) -> None:
    """Write the table of a case, and keep its goals for the table of all cases."""
    times = latencies(found)
    reached = table.goals(records, times)
    kept = {
        "rows": [goal.row(name) for goal in reached],
        "notes": [
            f"{name}: timed {found['date']}, other processes used up to {busiest(found):.0f} % of the machine.",
            *(f"{name}, {line}." for line in table.shares(records, times, found["roof_ms"])),
        ],
        "goals": [asdict(goal) | {"outcome": goal.outcome} for goal in reached],
    }
    put(work / name / GOALS, json.dumps(kept, indent=1) + "\n")
    rows, notes = table.rows(records, times), [_about(ground), *ground.case.remarks, *table.notes(found, records)]
    if not quick:
        raw = {"records": [_portable(each, work) for each in records], "contest": found}
        write(f"peers_{name}{label}", f"{ground.case.title}: ours and others", list(table.COLUMNS), rows, raw, notes)
    print(json.dumps([*rows, *notes], indent=1))


def busiest(found: dict[str, Any]) -> float:
    """The largest share of the machine that other processes used around the rounds, percent."""
    return float(max(max(each.values()) for each in found["load_percent"].values()))


def _about(ground: Ground) -> str:
    data, case = ground.data, ground.case
    ratios = ", ".join(f"{each:g}" for each in case.ratios)
    return (
        f"{len(data.training_split or ())} images to recover on, {len(data.guard)} to decide on, {len(data.test)} for the verdict: "
        "too few for a "
        f"statistical one, so losses are compared as measured. The original in torch: {100 * ground.on_test.overall:.2f} %. Assembled: "
        f"torch-pruning at ratios of {ratios}, {case.epochs} epochs of recovery at most, with the original's answers and the labels."
    )


def _portable(record: Record, work: Path) -> dict[str, Any]:
    """A record without the folder it lies in."""
    artifact = None if record.artifact is None else str(Path(record.artifact).relative_to(work))
    return {**asdict(record), "artifact": artifact}


if __name__ == "__main__":
    main()
