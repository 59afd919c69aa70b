"""Whole layers taken out, without any training: what deletion leaves of a network, and what refitting the readers leaves.

    python -m benchmarks.studies.depth [--most 8] [--shared DIR]

Layers are taken out one more at a time, the least harmful first, as the search's own scan measures it, here on the guard's images. Either
the layer and its norm become identities and nothing else happens, which needs a layer that makes as many channels as it reads, or the
readers are refitted to the original by least squares (`optimize/graph/bypass.py`). No other channel goes; the test split is read at every
row. Half-width VGG16 on blood cells; five minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import ROOT, write
from benchmarks.studies.control import Case, cells, few
from optimize.candidate import Candidate, Reference
from optimize.errors import InputError
from optimize.graph.bypass import makers, remove_layers
from optimize.graph.macs import macs
from optimize.graph.trace import trace
from optimize.guard.evaluate import score_split
from optimize.progress import note, shown
from optimize.searching.scan import scan
from optimize.steps.prune_to_widths import PruneToWidths

COLUMNS = ("layers out", "the last one", "MACs off", "test: original", "readers refitted", "deleted")
TITLE = "Whole layers taken out of VGG16-BN (half width, 13 convolutions) on blood cells, no training"


def measured(case: Case, most: int) -> list[dict[str, Any]]:
    """A result for each number of layers that are gone, up to `most`."""
    data, original = case.data, case.original
    assert data.train is not None
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.train))[: case.inputs])
    reference = Reference(original, data.train.inputs(chosen))

    def test(each: Candidate) -> float:
        return float(score_split(each.predict, data.test, data.classes, case.name).overall)

    curves, _ = scan(original, reference, data.guard, levels=(0.0,))
    out = {curve.group: curve.harm[-1] for curve in curves if not curve.widths[-1]}
    order = sorted(out, key=lambda name: out[name])[:most]
    groups = {group.name: group for group in trace(original).groups}
    before, found = test(original), list[dict[str, Any]]()
    for count in range(1, len(order) + 1):
        begun = time.perf_counter()
        gone = order[:count]
        repaired = PruneToWidths(tuple((name, 0) for name in gone))(original, reference)
        deleted = Candidate(remove_layers(original.module, [layer for name in gone for layer in makers(groups[name])]), original.example)
        found.append(
            {
                "network": case.name,
                "layers": gone,
                "harm": out[gone[-1]],
                "macs_off": 1 - macs(repaired) / macs(original),
                "original": before,
                "repaired": test(repaired),
                "deleted": _or_none(test, deleted),
                "seconds": time.perf_counter() - begun,
            }
        )
        note(json.dumps(found[-1]))
    return found


def _or_none(test: Callable[[Candidate], float], each: Candidate) -> float | None:
    """The score, or None where the widths do not fit without the layer."""
    try:
        return test(each)
    except (RuntimeError, InputError):
        return None


def row(found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    scores = [f"{100 * found[name]:.2f} %" if found[name] is not None else "does not fit" for name in ("original", "repaired", "deleted")]
    return [str(len(found["layers"])), found["layers"][-1], f"{100 * found['macs_off']:.1f} %", *scores]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=8, help="layers to take out")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data", help="data and weights")
    parser.add_argument("--quick", action="store_true", help="few images; print, write nothing")
    asked = parser.parse_args(arguments)
    with shown():
        case = cells(asked.shared, 0, asked.quick)
        results = measured(replace(case, data=few(case.data)) if asked.quick else case, asked.most)
    rows = [row(each) for each in results]
    notes = ["Layers go in the order of the harm that each does alone, measured on the guard's images without their labels."]
    if not asked.quick:
        write("depth", TITLE, list(COLUMNS), rows, {"results": results}, notes)
    print(json.dumps([*rows, *notes], indent=1))


if __name__ == "__main__":
    main()
