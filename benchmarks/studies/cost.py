"""What the engine costs: time and memory of pruning against a network's number of layers and a layer's number of channels.

    python -m benchmarks.studies.cost [--quick]

A chain of 3x3 convolutions with batch norms, 32 channels wide, is pruned once under one error budget at several depths; and all but one
channel of a single layer, 32 to 512 wide, are eliminated by output error. The exponents are slopes of log time over log size. Each size has
a process of its own, whose peak of resident memory is told with and without what it took before the work. Three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Sequence
from itertools import pairwise
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.results import RESULTS, write
from optimize.candidate import Candidate, Reference
from optimize.importance.output_error import eliminate
from optimize.progress import note, shown
from optimize.reconstruction.ridge import Problem
from optimize.steps.prune import Prune

DEPTHS, WIDTHS = (4, 8, 16, 32), (32, 64, 128, 256, 512)
WIDTH, SIDE, CASES, ROWS, TAPS = 32, 16, 64, 4096, 9
SIZES = {"layers": DEPTHS, "channels": WIDTHS}
MB = 1e6
COLUMNS = ("what grows", "size", "seconds", "peak memory", "of which before the work")
TITLE = "Cost of pruning: one prune of a chain of convolutions by its depth, one layer's elimination by its channels"


def chain(depth: int) -> Candidate:
    """Convolution, batch norm and ReLU so many times, then pooling and a classifier; the norms know their statistics."""
    torch.manual_seed(0)
    widths = [3, *[WIDTH] * depth]
    layers = [
        layer
        for before, after in pairwise(widths)
        for layer in (nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
    ]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10))
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(32, 3, SIDE, SIDE))
    return Candidate(net.eval().requires_grad_(False), torch.zeros(1, 3, SIDE, SIDE))


def problem(channels: int) -> Problem:
    """A regression on this many channels, nine columns each, with as many outputs as channels; inputs drawn at random."""
    torch.manual_seed(0)
    columns = TAPS * channels
    inputs = torch.randn(2 * columns, columns, dtype=torch.float64)
    gram = inputs.T @ inputs / len(inputs)
    weights = torch.randn(columns, channels, dtype=torch.float64) / columns**0.5
    ones, zeros = torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    energy = float((weights * (gram @ weights)).sum())
    return Problem("layer", gram, gram @ weights, weights, ones, energy, 1e-4, torch.zeros(columns, dtype=torch.float64), zeros, None, None)


def measured(kind: str, size: int) -> dict[str, Any]:
    """Seconds and peak bytes of one size; to be run in a process of its own."""
    if kind == "layers":
        net = chain(size)
        reference = Reference(net, np.random.default_rng(0).standard_normal((CASES, 3, SIDE, SIDE), dtype=np.float32))
        step, work = Prune(0.01, rows=ROWS), net
        before, begun = _peak_bytes(), time.perf_counter()
        step(work, reference)
    else:
        one, owned = problem(size), torch.arange(TAPS * size).view(size, TAPS)
        before, begun = _peak_bytes(), time.perf_counter()
        eliminate([(one, owned)])
    seconds = time.perf_counter() - begun
    return {"kind": kind, "size": size, "seconds": seconds, "peak_bytes": _peak_bytes(), "before_bytes": before}


def _peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    line = next(each for each in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def study(sizes: dict[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Every size, each in a fresh process."""
    results = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for kind, size in ((kind, size) for kind, each in sizes.items() for size in each):
            results.append(pool.apply(measured, (kind, size)))
            note(" | ".join(row(results[-1])))
    return results


def exponent(results: Sequence[dict[str, Any]], kind: str) -> float:
    """Slope of log seconds over log size."""
    mine = [each for each in results if each["kind"] == kind]
    return float(np.polyfit(np.log([each["size"] for each in mine]), np.log([each["seconds"] for each in mine]), 1)[0])


def row(result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    memory = [f"{result[key] / MB:.0f} MB" for key in ("peak_bytes", "before_bytes")]
    return [result["kind"], str(result["size"]), f"{result['seconds']:.3g}", *memory]


def chart(results: Sequence[dict[str, Any]]) -> str:
    """Seconds over size, both logarithmic, as an SVG of 480 x 300."""
    xs, ys = ([log10(each[key]) for each in results] for key in ("size", "seconds"))
    left, low = min(xs), min(ys)
    wide, high = max(max(xs) - left, 1e-9), max(max(ys) - low, 1e-9)
    lines = []
    for kind, colour in zip(SIZES, ("#1f6fb4", "#c2410c"), strict=True):
        mine = [each for each in results if each["kind"] == kind]
        spots = [(50 + 400 * (log10(p["size"]) - left) / wide, 260 - 220 * (log10(p["seconds"]) - low) / high) for p in mine]
        lines.append(f'<polyline fill="none" stroke="{colour}" points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in spots)}"/>')
        for p, (x, y) in zip(mine, spots, strict=True):
            lines.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>')
            lines.append(f'<text x="{x - 8:.0f}" y="{y - 8:.0f}">{p["size"]}: {p["seconds"]:.2g} s</text>')
        place = 20 + 16 * list(SIZES).index(kind)
        lines.append(f'<text x="60" y="{place}" fill="{colour}">{kind}: exponent {exponent(results, kind):.2f}</text>')
    frame = '<path d="M50 30V260H460" fill="none" stroke="black"/><text x="200" y="290">size (log)</text><text x="4" y="28">s (log)</text>'
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 300" font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="480" height="300" fill="white"/>', frame, *lines, "</svg>", ""])


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest sizes; print, write nothing")
    arguments = parser.parse_args()
    with shown():
        results = study({kind: each[:2] for kind, each in SIZES.items()} if arguments.quick else SIZES)
    slopes = {kind: exponent(results, kind) for kind in SIZES}
    notes = [
        f"Time grows with the power {slopes['layers']:.2f} of the number of layers ({WIDTH} channels, {CASES} inputs of {SIDE}x{SIDE}, "
        f"{ROWS} rows per fit), and with the power {slopes['channels']:.2f} of a layer's channels (3x3, as many outputs as channels).",
        "The curve: `benchmarks/results/cost.svg`.",
    ]
    table = [row(each) for each in results]
    if not arguments.quick:
        write("cost", TITLE, list(COLUMNS), table, {"results": results, "exponents": slopes}, notes)
        (RESULTS / "cost.svg").write_text(chart(results), encoding="utf-8")
    print(json.dumps([*table, *notes], indent=1))


if __name__ == "__main__":
    main()
