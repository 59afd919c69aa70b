"""The time of a whole run, before and after: `bloodcells --statistical` of two revisions of this repository, pair by pair.

    python -m benchmarks.studies.run_time --before REVISION [--seeds 5] [--before-seeds 5] [--targets onnxruntime openvino] [--work DIR]

For each seed, both revisions compress the half-width VGG16 with the same weights, data, limits and seed, one after the other, each in a
process of its own; which is first changes from seed to seed. Every run is a first look at the test images. What is finished lies in DIR and
is not run again. The earlier revision is checked out beside this one, as a worktree. About six minutes for each pair on two cores.
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
from statistics import median
from typing import Any

COLUMNS = ("target", "revision", "runs", "seconds", "CPU seconds", "peak memory", "accepted", "parameters off", "file", "accuracy lost")
TARGETS = ("onnxruntime", "openvino")
LIMIT_S = 180
SOURCE = "bloodmnist_rebuilt_28.npz"
HERE = Path(__file__).resolve().parent.parent.parent


def one(target: str, seed: int, folder: Path) -> None:
    """Compress once, with the package that is first on the path, and write what became of it."""
    # imported here: the other revision's modules of these names are meant where its process runs this
    from benchmarks.studies import bloodcells
    from optimize.run.compress import compress
    from optimize.run.recipe import resolve

    settings: dict[str, Any] = {"arch": bloodcells.ARCH, "input_shape": bloodcells.INPUT, "data": str(bloodcells.SHARED / SOURCE)}
    settings |= {"mean": bloodcells.MEAN, "std": bloodcells.STD, "pad": bloodcells.PAD, "drop_overlap": True, **bloodcells.STATISTICAL}
    settings |= {"seed": seed, "out": folder / "out", "history": folder / "looks.jsonl"}
    recipe = resolve(bloodcells.REFERENCE, target=target, overrides=settings)
    start = time.perf_counter()
    report = compress(recipe, overwrite=True)
    seconds = time.perf_counter() - start
    before, after = report["baseline"], report["compressed"]
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "seconds": seconds,
        "cpu_seconds": sum(used.ru_utime + used.ru_stime for used in (own, children)),
        "peak_bytes": own.ru_maxrss * 1024,
        "verdict": report["verdict"],
        "reasons": report["reasons"],
        "precision": report["precision"],
        "off": None if after is None else 1 - after["parameters"] / before["parameters"],
        "size_bytes": None if after is None else after["size_bytes"],
        "lost": None if after is None else before["metrics"]["overall"]["accuracy"] - after["metrics"]["overall"]["accuracy"],
        "proposals": len(report["steps"]),
        "both": judged_both_ways(report["steps"]),
        "load_percent": report.get("load_percent"),
        "profile": report.get("profile"),
    }
    (folder / "outcome.json").write_text(json.dumps(found), encoding="utf-8")


def judged_both_ways(steps: Sequence[Mapping[str, Any]]) -> list[tuple[bool, bool]]:
    """Whether widths were kept that were repaired at once, and whether the same widths were that were repaired from layer to layer."""
    kept: dict[str, dict[bool, bool]] = {}
    for step in steps:
        if step["step"] == "PruneToWidths" and "at_once" in step["settings"]:
            kept.setdefault(json.dumps(step["settings"]["widths"]), {})[step["settings"]["at_once"]] = step["kept"]
    return [(both[True], both[False]) for both in kept.values() if len(both) == 2]


def outcome(tree: Path, target: str, seed: int, folder: Path) -> dict[str, Any]:
    """What is kept of a run, or the run itself, by the package in `tree`."""
    kept = folder / "outcome.json"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # without this file's folder on the path: it has a `coverage.py`
        command = [sys.executable, "-P", str(Path(__file__).resolve()), "--one", target, str(seed), str(folder)]
        # the models and the shared data are found from the tree's own place, so the worktree must be a sibling of this one
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tree)}, cwd=tree, check=True)
    return dict(json.loads(kept.read_text(encoding="utf-8")))


def row(target: str, revision: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line of the table."""
    made = [run for run in runs if run["off"] is not None]
    accepted = sum(run["verdict"] == "pass" for run in runs)
    return [
        target,
        revision,
        str(len(runs)),
        spread([run["seconds"] for run in runs], "{:.0f}"),
        spread([run["cpu_seconds"] for run in runs], "{:.0f}"),
        f"{max(run['peak_bytes'] for run in runs) / 2**30:.2f} GiB",
        f"{accepted} of {len(runs)}",
        spread([100 * run["off"] for run in made], "{:.1f} %"),
        spread([run["size_bytes"] / 1000 for run in made], "{:.0f} kB"),
        spread([100 * run["lost"] for run in made], "{:+.2f} pp"),
    ]


def spread(values: Sequence[float], form: str) -> str:
    """The median of some values, and the least and largest."""
    if not values:
        return "-"
    return f"{form.format(median(values))} ({form.format(min(values))} to {form.format(max(values))})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="earlier revision, for git")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--before-seeds", type=int, default=None, help="run the earlier revision with these many seeds only")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--one", nargs=3, default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        return one(asked.one[0], int(asked.one[1]), Path(asked.one[2]))
    work = asked.work or Path(tempfile.mkdtemp())
    earlier = HERE.parent / f"{HERE.name}-before"
    trees = {"after": HERE}
    if asked.before:
        if not earlier.exists():
            subprocess.run(["git", "worktree", "add", "--detach", str(earlier), asked.before], cwd=HERE, check=True)
        trees = {"before": earlier, "after": HERE}
    count = asked.seeds if asked.before_seeds is None else asked.before_seeds
    found: dict[str, dict[str, list[dict[str, Any]]]] = {target: {name: [] for name in trees} for target in asked.targets}
    for seed in range(asked.seeds):
        for target in asked.targets:
            names = [name for name in trees if name == "after" or seed < count]
            # which is first changes from seed to seed
            for name in names[:: 1 if seed % 2 else -1]:
                found[target][name].append(outcome(trees[name], target, seed, work / f"{target}-{seed}-{name}"))
    tell(found, asked.before)


def tell(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], before: str | None) -> None:
    """Write the results."""
    from benchmarks.results import write

    table = [row(target, name, runs) for target, of in found.items() for name, runs in of.items() if runs]
    notes = ["Medians, in brackets the least and the largest. One seed is one pair; the seed decides which images repairs are fitted on."]
    for target, of in found.items():
        slowest = max(run["seconds"] for run in of["after"])
        notes.append(f"{target}: the target, {LIMIT_S} s, was {'reached' if slowest <= LIMIT_S else 'missed'} on this machine.")
        pairs = list(zip(of.get("before", ()), of["after"], strict=False))
        if pairs:
            ratios = [first["seconds"] / second["seconds"] for first, second in pairs]
            cpu = [first["cpu_seconds"] / second["cpu_seconds"] for first, second in pairs]
            faster, work = spread(ratios, "{:.1f}x"), spread(cpu, "{:.1f}x")
            notes.append(f"{target}: {faster} as fast as before, {work} by CPU seconds, {len(pairs)} pairs.")
    both = [pair for of in found.values() for run in of["after"] for pair in run["both"]]
    better, worse = (sum(once is first and late is not first for once, late in both) for first in (False, True))
    notes.append(
        f"{len(both)} widths were judged after both repairs: {better} were kept only after the one from layer to layer, {worse} only after "
        "the one at once. Those were the first that were refused, or the last that were kept, so they lie where the two differ most."
    )
    title = "The time of a whole run: half-width VGG16 on blood cells, limits of 2 pp and 6 pp at 95 % confidence"
    write("run_time", title, list(COLUMNS), table, {"runs": found, "before": before}, notes)


if __name__ == "__main__":
    main()
