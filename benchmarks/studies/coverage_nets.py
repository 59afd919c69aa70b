"""Which networks of other libraries can be loaded, cut, repaired, exported and compiled, and which not, with the reason.

    python -m benchmarks.studies.coverage_nets [--families torchvision timm monai smp odd] [--names PATTERN] [--stages trace prune compile]
                                               [--limit N] [--work DIR] [--show]

Each network has random weights, batch norms that were measured on noise, and the smallest input that it takes. In an own process it is

    loaded    as a user's network is, and traced
    pruned    of about 30 % of its MACs, the widths of all groups alike, with repair; and with a budget of 0, which must change nothing
    compiled  for both CPU runtimes, in float and in int8 (`compile`), where int8 may be off by as much as its rounding is in torch

A process that takes more than ten minutes or 12 GB is ended. Finished networks lie in DIR, and are not run again. `--show` writes the table
of what is finished. A refusal is a line that names what cannot be done; a traceback is a fault of this program.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import resource
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks.catalogue import FAMILIES, build, every
from benchmarks.results import ROOT, write
from benchmarks.studies.peers.cases import CACHE
from optimize.backends import backend
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate, Floats, Reference
from optimize.errors import OptimizeError
from optimize.graph.layer_types import BATCH_NORMS
from optimize.graph.macs import attention_in_parts, macs
from optimize.graph.surgery import copy_module
from optimize.graph.trace import LINEAR_MAPS, Graph, trace
from optimize.loading.load import load_model
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths

STAGES = ("trace", "prune", "compile")
SECONDS, MEMORY = 600, 12 << 30
IMAGES = 24
SHARE = 0.7
"""Share of the MACs that is to be left."""
FLOAT, INT8 = 1e-3, 0.5
"""Largest difference between a compiled network and torch, as a share of the spread of the outputs."""
AS_ROUNDED = 2.0
"""In int8 a network may also be off by so many times what rounding to 8 bits alone does to it in torch, which random weights amplify."""
COLUMNS = (
    *("family", "stages run", "tried", "loaded", "traced", "with a group", "60 % of MACs in groups"),
    *("pruned and repaired", "unchanged at 0"),
    *("compiled, float", "compiled, int8", "end to end", "tracebacks", "median seconds", "largest memory"),
)


def tried(family: str, name: str, stages: Sequence[str]) -> dict[str, Any]:
    """What becomes of one network, stage by stage; the first that fails ends it."""
    found: dict[str, Any] = {"family": family, "name": name}
    started = time.perf_counter()
    try:
        _try(found, family, name, stages)
    except OptimizeError as refused:
        found["refused"] = str(refused)
    except Exception:  # what this study looks for
        found["traceback"] = traceback.format_exc()[-2000:]
    found |= {"seconds": time.perf_counter() - started, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    return found


def _try(found: dict[str, Any], family: str, name: str, stages: Sequence[str]) -> None:
    built = build(family, name)
    found["shape"] = list(built.shape)
    inputs = np.random.default_rng(0).standard_normal((IMAGES, *built.shape), np.float32)
    measure_norms(built.module, inputs)
    candidate = load_model(built.module, input_shape=built.shape)
    found["loaded"], found["parameters"], found["macs"] = True, candidate.parameters, macs(candidate)
    graph = trace(candidate)
    found["traced"] = not any(layer == "(network)" for layer, _ in graph.fixed)
    found["groups"], found["fixed"] = len(graph.groups), list(Counter(reason for _, reason in graph.fixed).most_common(6))
    found["prunable"] = prunable_share(candidate, graph)
    if "prune" in stages:
        _prune(found, candidate, graph, inputs)
    if "compile" in stages:
        _compile(found, candidate, inputs)


def measure_norms(module: nn.Module, inputs: Floats) -> None:
    """Measure the statistics of all batch norms on some inputs: a random network's outputs would else explode or vanish."""
    norms = [layer for layer in module.modules() if isinstance(layer, BATCH_NORMS) and layer.track_running_stats]
    for norm in norms:
        norm.train()
        norm.momentum = None
    with torch.no_grad():
        module(torch.from_numpy(inputs))
    module.eval()


def prunable_share(candidate: Candidate, graph: Graph) -> float:
    """The share of the linear layers' MACs that lies in layers which make or read the channels of a group."""
    names = {slot.module for group in graph.groups for slot in group.slots}
    total = prunable = 0
    with attention_in_parts(), FlopCounterMode(display=False) as counted, torch.no_grad():
        candidate.module(candidate.example)
    counts, root = counted.get_flop_counts(), type(candidate.module).__name__
    for name, layer in candidate.module.named_modules():
        if isinstance(layer, LINEAR_MAPS):
            own = sum(counts.get(f"{root}.{name}", {}).values())
            total += own
            prunable += own if name in names else 0
    return prunable / total if total else 0.0


def _prune(found: dict[str, Any], candidate: Candidate, graph: Graph, inputs: Floats) -> None:
    reference = Reference(candidate, inputs)
    # with few rows and random weights a repair promises nothing; what is asked is whether it runs, and stays finite
    same = Prune(0.0)(candidate, reference)
    before = candidate.predict(inputs[:4])
    change = float(np.abs(same.predict(inputs[:4]) - before).max() / max(1e-12, np.abs(before).max()))
    found["unchanged"], found["change_at_0"] = change <= 1e-6, change
    if not graph.groups:
        return
    share = math.sqrt(SHARE)
    widths = tuple((group.name, max(1, round(share * group.size))) for group in graph.groups)
    cut = PruneToWidths(widths)(candidate, reference)
    outputs = cut.predict(inputs[:4])
    found["left"] = macs(cut) / max(1, macs(candidate))
    found["pruned"] = bool(np.isfinite(outputs).all()) and cut.parameters < candidate.parameters


def rounded_error(candidate: Candidate, inputs: Floats, compared: Floats) -> float:
    """Return how far 8 bits move the outputs, as torch computes it: the largest change, as a share of the outputs' spread.

    The weights of every linear layer are rounded to 255 levels for each output channel, and what it reads to 256 levels between the
    smallest and the largest value on `inputs`. No runtime has a part in it: a compiled network that is off by about as much is compiled
    faithfully, however much that is. Random weights can amplify rounding without bound, as no trained network may.

    Args:
        candidate: the network.
        inputs: what the ranges are taken from, (N, C, *spatial).
        compared: what the outputs are compared on, (N, C, *spatial).
    """
    module = copy_module(candidate.module, share=False)
    layers = [layer for layer in module.modules() if isinstance(layer, LINEAR_MAPS)]
    ranges: dict[nn.Module, tuple[float, float]] = {}

    def measure(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        low, high = ranges.get(layer, (0.0, 0.0))
        ranges[layer] = min(low, float(given[0].min())), max(high, float(given[0].max()))

    def rounded(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        low, high = ranges[layer]
        step = max(high - low, 1e-12) / 255
        return (((given[0] - low) / step).round().clamp(0, 255) * step + low, *given[1:])

    def outputs(batch: Floats, hook: Callable[..., Any]) -> Floats:
        handles = [layer.register_forward_pre_hook(hook) for layer in layers]
        with torch.no_grad():
            made: Floats = module(torch.from_numpy(batch)).numpy()
        for handle in handles:
            handle.remove()
        return made

    outputs(inputs, measure)
    for layer in layers:
        outer = 1 if layer.__class__.__name__.startswith("ConvTranspose") else 0
        weight = layer.weight.detach()
        scale = weight.abs().amax([axis for axis in range(weight.dim()) if axis != outer], keepdim=True).clamp_min(1e-12) / 127
        layer.weight.data = (weight / scale).round() * scale
    expected = candidate.predict(compared)
    return float(np.abs(outputs(compared, rounded) - expected).max()) / max(float(expected.std()), 1e-9)


def _compile(found: dict[str, Any], candidate: Candidate, inputs: Floats) -> None:
    expected = candidate.predict(inputs[:4])
    spread = max(float(expected.std()), 1e-9)
    found["rounding"] = rounded_error(candidate, inputs, inputs[:4])
    with TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        export_onnx(candidate, onnx, inputs[:4])
        for target in ("onnxruntime", "openvino"):
            runtime = backend(target)
            for precision in ("f32", "int8"):
                into = Path(folder) / f"{target}-{precision}"
                quantized = precision == "int8"
                artifact = runtime.quantize(onnx, into, inputs) if quantized else runtime.convert(onnx, into, "f32")
                with runtime.build(artifact, threads=1) as session:
                    error = float(np.abs(session.predict(inputs[:4]) - expected).max()) / spread
                found.setdefault("errors", {})[f"{target} {precision}"] = error


def kept_at(family: str, name: str, work: Path) -> Path:
    """The file that keeps what is found of a network."""
    return work / f"{family}-{name.replace('/', '_')}.json"


def ended(family: str, name: str, stages: Sequence[str], work: Path) -> dict[str, Any]:
    """What is kept of a network, or the run itself in a process of its own."""
    kept = kept_at(family, name, work)
    if kept.exists():
        found = dict(json.loads(kept.read_text(encoding="utf-8")))
        if set(stages) <= set(found["stages"]) or "traceback" in found or "refused" in found:
            return found
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.studies.coverage_nets", "--one", family, name, *stages]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))

    try:
        run = subprocess.run(
            command, cwd=ROOT, env=environment, preexec_fn=bounded, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
        tail = " ".join(run.stderr.split())[-500:]
        found = json.loads(lines[-1]) if lines else {"family": family, "name": name, "traceback": f"exit {run.returncode}: {tail}"}
    except subprocess.TimeoutExpired:
        found = {"family": family, "name": name, "refused": f"took more than {SECONDS} s", "seconds": SECONDS}
    found["stages"] = list(stages)
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def row(family: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line of the table."""
    ran = {stage for each in found for stage in each.get("stages", ())}

    def count(holds: Callable[[Mapping[str, Any]], object], stage: str = "trace") -> str:
        return str(sum(bool(holds(each)) for each in found)) if stage in ran else "not run"

    seconds = [each["seconds"] for each in found if "seconds" in each]
    return [
        *(family, ", ".join(stage for stage in STAGES if stage in ran), str(len(found))),
        *(count(lambda each: each.get("loaded")), count(lambda each: each.get("traced"))),
        *(count(lambda each: each.get("groups")), count(lambda each: each.get("prunable", 0) >= 0.6)),
        *(count(lambda each: each.get("pruned"), "prune"), count(lambda each: each.get("unchanged"), "prune")),
        count(lambda each: compiled(each, "f32", FLOAT), "compile"),
        count(in_8_bits, "compile"),
        *(count(end_to_end, "compile"), count(lambda each: each.get("traceback"))),
        f"{np.median(seconds):.0f}" if seconds else "-",
        f"{max((each.get('peak_bytes', 0) for each in found), default=0) / 2**30:.1f} GiB",
    ]


def compiled(found: Mapping[str, Any], precision: str, tolerance: float) -> bool:
    """Whether both runtimes compute what torch computes."""
    errors = [error for name, error in found.get("errors", {}).items() if name.endswith(precision)]
    return len(errors) == 2 and all(error <= tolerance for error in errors)


def in_8_bits(found: Mapping[str, Any]) -> bool:
    """Whether both runtimes compute in int8 what torch computes, or are off by about as much as the rounding to 8 bits alone."""
    return compiled(found, "int8", max(INT8, AS_ROUNDED * found.get("rounding", 0.0)))


def end_to_end(found: Mapping[str, Any]) -> bool:
    """Whether every stage succeeded."""
    return bool(found.get("pruned") and found.get("unchanged") and compiled(found, "f32", FLOAT) and in_8_bits(found))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--names", default="*", help="only networks whose names fit this pattern")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--limit", type=int, default=None, help="most networks of a family, evenly spread")
    parser.add_argument("--work", type=Path, default=CACHE.parent / "coverage_nets")
    parser.add_argument("--show", action="store_true", help="run nothing; write the table of what is finished")
    parser.add_argument("--one", nargs="+", default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        print(json.dumps(tried(asked.one[0], asked.one[1], asked.one[2:])), flush=True)
        return
    asked.work.mkdir(parents=True, exist_ok=True)
    listed = [pair for pair in every(tuple(asked.families)) if fnmatch.fnmatch(pair[1], asked.names)]
    found: dict[str, list[dict[str, Any]]] = {}
    for family in asked.families:
        own = [name for one, name in listed if one == family]
        if asked.limit and len(own) > asked.limit:
            own = [own[place] for place in np.unique(np.linspace(0, len(own) - 1, asked.limit).astype(int))]
        for name in own:
            kept = kept_at(family, name, asked.work)
            if asked.show:
                found.setdefault(family, []).extend([json.loads(kept.read_text(encoding="utf-8"))] if kept.exists() else [])
                continue
            found.setdefault(family, []).append(ended(family, name, asked.stages, asked.work))
            print(told(found[family][-1]), flush=True)
    if asked.show:
        refused = Counter(f"{each['family']}: {each['refused'][:160]}" for own in found.values() for each in own if "refused" in each)
        notes = [f"Refused, {count} x {text}" for text, count in refused.most_common(12)]
        made = [each for own in found.values() for each in own if each.get("errors")]
        far = [each["name"] for each in made if not compiled(each, "int8", INT8)]
        off = [each["name"] for each in made if not in_8_bits(each)]
        notes += [f"Int8 moves {len(far)} of {len(made)} networks by more than {INT8} of their outputs' spread; weights are random."]
        notes += [f"By more than {AS_ROUNDED:g} times what rounding to 8 bits does in torch: {', '.join(off) or 'none'}."]
        whole = {family: sum(one == family for one, _ in every((family,))) for family in found}
        part = [f"{len(own)} of {whole[family]} of {family}" for family, own in found.items() if len(own) < whole[family]]
        notes += [f"Only some small networks ran: {', '.join(part)}. The targets are of all, and were not reached."] if part else []
        days = sorted({date.fromtimestamp(file.stat().st_mtime).isoformat() for file in asked.work.glob("*.json")})
        notes += [f"The networks ran from {days[0]} to {days[-1]}."] if len(days) > 1 else []
        rows = [row(family, own) for family, own in found.items() if own]
        write("coverage_nets", __doc__.splitlines()[0].rstrip("."), list(COLUMNS), rows, {"networks": found}, notes)


def told(found: Mapping[str, Any]) -> str:
    """One line on one network."""
    if "traceback" in found or "refused" in found:
        kind, fault = ("TRACEBACK", found["traceback"]) if "traceback" in found else ("refused", found["refused"])
        return f"{found['family']:12} {found['name']:34} {kind}: {fault.strip().splitlines()[-1][:200]}"
    shares = f"{found['groups']:3} groups, {100 * found['prunable']:3.0f} % of MACs"
    rest = {key: found[key] for key in ("left", "pruned", "unchanged", "change_at_0", "errors") if key in found}
    text = ", ".join(f"{key} {value:.2g}" if isinstance(value, float) else f"{key} {value}" for key, value in rest.items())
    reasons = "; ".join(f"{count}x {reason}" for reason, count in found["fixed"][:3])
    return f"{found['family']:12} {found['name']:34} {shares}, {found['seconds']:.0f} s, {text} [{reasons}]"


if __name__ == "__main__":
    main()
