"""How the time of the engine grows with the number of layers, at constant width and on tiny images.

    python -m benchmarks.studies.layers [--quick] [--largest 256]

Three families of networks, all 16 channels wide on images of 4 x 4, so that a layer's arithmetic takes no time and what is done for each
layer shows: plain chains, residual networks, and dense blocks of eight pairs of layers, each reading all in front of it in its block. Timed
are what a run does again and again: finding the groups and trying their cuts (`plan`), one mild `Prune`, one `PruneToWidths` to three
quarters, one `scan`, and the choice of widths for it (`knapsack`). The exponents are slopes of log time over log layers: 1 is linear.

`scan` alone may grow faster: the harm of each group is what the whole network behind it makes of a cut.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.results import write
from optimize.candidate import Candidate, Reference
from optimize.data.preprocessing import Preprocessing
from optimize.data.split import Split
from optimize.graph.layer_types import LINEAR_MAPS
from optimize.graph.trace import trace
from optimize.progress import note, shown
from optimize.reconstruction.channel_removal import unprunable_reasons
from optimize.reconstruction.layer_repair import repairable
from optimize.searching.knapsack import Item, Knapsack, groups_by_layer
from optimize.searching.scan import Curve, scan
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths

DEPTHS = (8, 16, 32, 64, 128, 256)
CHANNELS, SIDE, IMAGES, ROWS = 16, 4, 64, 1024
BLOCK, GROWTH = 8, 8
SCAN_DEPTH = 64
"""Layers up to which the scan is timed."""
COLUMNS = ("network", "layers", "plan, s", "prune, s", "narrow, s", "knapsack, s", "scan, s")
TITLE = "CPU time against the number of layers, 16 channels on images of 4 x 4"
JOBS = ("plan", "prune", "narrow", "knapsack", "scan")


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*_normed(CHANNELS, CHANNELS), nn.ReLU(), *_normed(CHANNELS, CHANNELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return torch.relu(x + self.body(x))


class Dense(nn.Module):
    """Two convolutions that read everything in front of them in the block, and add to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_normed(channels, CHANNELS), nn.ReLU(), *_normed(CHANNELS, GROWTH), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input with the new channels behind it."""
        return torch.cat([x, self.body(x)], 1)


def chain(depth: int) -> Candidate:
    """Convolutions with norms in a row."""
    widths = [3, *[CHANNELS] * depth]
    return _candidate([layer for before, after in pairwise(widths) for layer in (*_normed(before, after), nn.ReLU())])


def residual(depth: int) -> Candidate:
    """Residual blocks of two convolutions."""
    return _candidate([*_normed(3, CHANNELS), nn.ReLU(), *(Residual() for _ in range(depth // 2))])


def dense(depth: int) -> Candidate:
    """Dense blocks, each closed by a convolution that leaves as many channels as the block was given."""
    layers: list[nn.Module] = [*_normed(3, CHANNELS), nn.ReLU()]
    for start in range(0, depth // 2, BLOCK):
        pairs = min(BLOCK, depth // 2 - start)
        layers += [Dense(CHANNELS + GROWTH * place) for place in range(pairs)]
        layers += [*_normed(CHANNELS + GROWTH * pairs, CHANNELS), nn.ReLU()]
    return _candidate(layers)


NETWORKS: dict[str, Callable[[int], Candidate]] = {"chain": chain, "residual": residual, "dense": dense}


def measured(network: str, depth: int, *, scanned: bool) -> dict[str, Any]:
    """CPU seconds of each job on one network."""
    torch.manual_seed(0)
    start = NETWORKS[network](depth)
    random = np.random.default_rng(0)
    images = random.standard_normal((2 * IMAGES, 3, SIDE, SIDE), dtype=np.float32)
    reference = Reference(start, images[:IMAGES])
    graph = trace(start)
    widths = tuple((group.name, max(1, 3 * group.size // 4)) for group in graph.groups)
    guard = Split("guard", images[IMAGES:], np.arange(IMAGES) % 10, Preprocessing())
    jobs: dict[str, Callable[[], object]] = {
        "plan": lambda: _reasons(start, images),
        "prune": lambda: Prune(1e-3, rows=ROWS)(start, reference),
        "narrow": lambda: PruneToWidths(widths, rows=ROWS)(start, reference),
        "knapsack": lambda: _knapsack(start, random).within(0.01),
        **({"scan": lambda: scan(start, reference, guard)} if scanned else {}),
    }
    layers = sum(isinstance(layer, LINEAR_MAPS) for layer in start.module.modules())
    return {"network": network, "layers": layers, "seconds": {name: _seconds(job) for name, job in jobs.items()}}


def exponent(results: Sequence[dict[str, Any]], network: str, job: str) -> float:
    """Slope of log seconds over log layers, over the larger half of the sizes: small ones show what a call costs once."""
    own = [result for result in results if result["network"] == network and job in result["seconds"]]
    own = own[-max(2, (len(own) + 1) // 2) :]
    return float(np.polyfit(np.log([result["layers"] for result in own]), np.log([result["seconds"][job] for result in own]), 1)[0])


def row(result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    seconds = result["seconds"]
    return [result["network"], str(result["layers"]), *(f"{seconds[job]:.3g}" if job in seconds else "–" for job in JOBS)]


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small sizes; print, write nothing")
    parser.add_argument("--largest", type=int, default=max(DEPTHS), help="number of layers to end at")
    arguments = parser.parse_args()
    depths = DEPTHS[:2] if arguments.quick else [depth for depth in DEPTHS if depth <= arguments.largest]
    measured("chain", DEPTHS[0], scanned=True)  # what is imported or built at the first call is no layer's time
    results = []
    with shown():
        for network in NETWORKS:
            for depth in depths:
                results.append(measured(network, depth, scanned=depth <= SCAN_DEPTH))
                note(" | ".join(row(results[-1])))
    exponents = {network: {job: exponent(results, network, job) for job in JOBS} for network in NETWORKS}
    slopes = [", ".join(f"{job} {slope:.2f}" for job, slope in exponents[network].items()) for network in NETWORKS]
    notes = [
        "Exponents of time against layers, over the larger half of the sizes: "
        + "; ".join(f"{network}: {text}" for network, text in zip(NETWORKS, slopes, strict=True))
        + ".",
        f"`scan` is timed up to {SCAN_DEPTH} layers: the harm of each group is measured at the outputs, through all layers behind it.",
    ]
    table = [row(result) for result in results]
    if not arguments.quick:
        write("layers", TITLE, list(COLUMNS), table, {"results": results, "exponents": exponents}, notes)
    print(json.dumps([*table, *notes], indent=1))


def _normed(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]


def _candidate(layers: Sequence[nn.Module]) -> Candidate:
    """Return the layers with a classifier behind them; the norms know their statistics."""
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10))
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(32, 3, SIDE, SIDE))
    return Candidate(net.eval().requires_grad_(False), torch.randn(1, 3, SIDE, SIDE))


def _reasons(candidate: Candidate, images: np.ndarray[Any, Any]) -> list[str | None]:
    graph = trace(candidate)
    return unprunable_reasons(graph.groups, candidate.module, repairable(candidate.module, candidate.module, graph), images)


def _knapsack(candidate: Candidate, random: np.random.Generator) -> Knapsack:
    """Return the knapsack of a network with harms that are drawn at random, and multiply-accumulates as prices."""
    graph = trace(candidate)
    curves = []
    for group in graph.groups:
        widths = sorted({max(1, group.size * eighths // 8) for eighths in range(1, 9)}, reverse=True)
        harms = np.concatenate([[0.0], np.cumsum(random.random(len(widths) - 1))]) / 1000
        curves.append(Curve(group.name, tuple(widths), tuple(harms.tolist())))
    layers = dict(candidate.module.named_modules())
    items = []
    for name, (reads, makes) in groups_by_layer(graph, graph.groups).items():
        layer: Any = layers[name]
        if isinstance(layer, nn.Conv2d):
            items.append(Item(lambda read, made: read * made / 1e4, layer.in_channels, layer.out_channels, tuple(reads), tuple(makes)))
    return Knapsack(curves, items)


def _seconds(job: Callable[[], object]) -> float:
    # of the processor and not of the clock: other processes would bend the curve
    begun = time.process_time()
    job()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
