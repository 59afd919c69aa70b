"""How often a run ends with "pass": what the search settles on by the guard, judged on test images that nobody has looked at.

    python -m benchmarks.studies.acceptance [--cuts 12] [--targets openvino onnxruntime] [--work DIR]

The problem is the demo's: a small net for scikit-learn's digits, 450 images to decide on, 597 for a statistical verdict at 2 pp. Its images
are cut at random another way each time, and the net is trained anew. The search asks the guard for so much that one proposal, picked
before, would hold on the test images four times in five (`optimize/guard/verdict.py: level`); but it keeps the boldest of dozens. What is
finished lies in DIR. About two minutes for each cut and target.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import write
from benchmarks.studies.peers.cases import CACHE
from optimize.backends import title
from optimize.guard.limits import POWER
from optimize.progress import note, shown
from optimize.run.compress import compress
from optimize.run.demo import prepared
from optimize.run.recipe import resolve

COLUMNS = ("runtime", "cuts", "pass", "inconclusive", "fail", "parameters off", "accuracy lost on test", "shipped, or would have")
TITLE = "How often what the search settles on passes the verdict"


def outcome(target: str, cut: int, work: Path) -> dict[str, Any]:
    """One run, or what is kept of it."""
    folder = work / f"{target}-{cut}"
    kept = folder / "outcome.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    report = compress(resolve(prepared(folder, cut), target=target, overrides={"out": folder / "out"}), overwrite=True)
    before, after = report["baseline"], report["compressed"]
    found = {
        "target": target,
        "cut": cut,
        "verdict": report["verdict"],
        "reasons": report["reasons"],
        "precision": report["precision"],
        "off": 1 - after["parameters"] / before["parameters"],
        "lost": next(rail["value"] for rail in report["rails"] if rail["scope"] == "overall" and rail["rule"] == "drop"),
    }
    kept.write_text(json.dumps(found), encoding="utf-8")
    note(json.dumps(found))
    return found


def row(target: str, found: Sequence[dict[str, Any]]) -> list[str]:
    """One line of the table."""
    verdicts, precisions = Counter(each["verdict"] for each in found), Counter(each["precision"] for each in found)
    off, lost = np.array([each["off"] for each in found]), np.array([each["lost"] for each in found])
    return [
        title(target),
        str(len(found)),
        *(str(verdicts[each]) for each in ("pass", "inconclusive", "fail")),
        f"{100 * off.min():.1f} % to {100 * off.max():.1f} %, median {100 * np.median(off):.1f} %",
        f"{100 * lost.min():+.2f} pp to {100 * lost.max():+.2f} pp, mean {100 * lost.mean():+.2f} pp",
        ", ".join(f"{count} {precision}" for precision, count in sorted(precisions.items())),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=12)
    parser.add_argument("--targets", nargs="+", choices=("openvino", "onnxruntime"), default=["openvino", "onnxruntime"])
    parser.add_argument("--work", type=Path, default=CACHE.parent / "acceptance")
    asked = parser.parse_args(arguments)
    with shown():
        found = {target: [outcome(target, cut, asked.work) for cut in range(asked.cuts)] for target in asked.targets}
    notes = [f"The search asks for a power of {100 * POWER:.0f} %. The first cut is the demo's."]
    results = [each for some in found.values() for each in some]
    write("acceptance", TITLE, list(COLUMNS), [row(target, some) for target, some in found.items()], {"results": results}, notes)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
