"""The rows of the report's tables. They are read from the report's dict and arranged; nothing is measured anew.

Everything is ordered by its content (label order, slowest first, natural order of names), never by the order of a mapping's keys, so a
report read back from JSON renders to the same bytes. A part the run ended before producing gives empty rows or `None` cells.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any

from optimize.report.terms import terms
from optimize.report.wording import Report, natural


@dataclass(frozen=True)
class Contender:
    """One runtime at one batch size. `ratio`: how many times as fast the artifact is. `share`: its median in percent of the slowest."""

    name: str
    latency: Report
    ratio: Report | None
    share: float
    ours: bool = False


@dataclass(frozen=True)
class LayerRow:
    """One layer of the original and what became of it.

    Args:
        name: name of the layer in the original.
        kind: class of the module.
        original_shape: shape of its weights in the original.
        new_shapes: shapes of the weights that replace them; empty when the layer was removed.
        channels: numbers of outputs in the original and in the candidate.
        rank: rank of the product, where the layer was split in two; else None.
        share: share of its weights that is left.
        precision: precision in which it really ran; None where the compiled graph does not have its name.
    """

    name: str
    kind: str
    original_shape: tuple[int, ...]
    new_shapes: tuple[tuple[int, ...], ...]
    channels: tuple[int, int]
    rank: int | None
    share: float
    precision: str | None


def find(report: Any, *path: str) -> Any:
    """The value at the end of a path of keys; None where a part of the path is missing or null."""
    for key in path:
        # A part may be null at any depth: a run that ended early has `"compressed": null`.
        if report is None:
            return None
        report = report.get(key)
    return report


def class_names(report: Report) -> list[str]:
    """Class names in label order, as far as the report knows it."""
    measured = find(report, "baseline", "metrics", "per_class") or {}
    # Mappings of a report have sorted keys, so without the list of classes their natural order has to do.
    return list(report["classes"]) if report["classes"] else sorted(measured, key=natural)


@dataclass(frozen=True)
class Part:
    """One class, or one value of a subgroup column: its number of cases or patients, and each figure as (baseline, candidate)."""

    name: str
    n: int | None
    figures: tuple[tuple[float | None, float | None], ...]


def per_class(report: Report) -> list[Part]:
    """Every class, in label order."""
    words = terms(report)
    return [_part(report, ("per_class", name), name, words.unit, [key for _, key in words.figures]) for name in class_names(report)]


def per_group(report: Report) -> dict[str, list[Part]]:
    """Every value of every column of subgroups that was measured."""
    words = terms(report)
    known = find(report, "baseline", "metrics", "per_group") or {}
    return {
        column: [
            _part(report, ("per_group", column, value), value, words.unit, [words.overall_key])
            for value in sorted(known[column], key=natural)
        ]
        for column in sorted(known, key=natural)
    }


def batches(report: Report) -> list[str]:
    """Every batch size at which anything was timed, smallest first."""
    timed = [find(report, part, "latency_ms") for part in ("baseline", "compressed")]
    timed += [find(entry, "latency_ms") for entry in (report["baselines"] or {}).values()]
    # As numbers: as text "16" would stand before "2".
    return sorted({batch for medians in timed for batch in medians or {}}, key=int)


def unreliable_reasons(report: Report, batch: str) -> list[str]:
    """Reasons why latencies at one batch size are unreliable, each reason once; empty where the report does not say."""
    entries = find(report, "latency_reliability", batch) or {}
    return list(dict.fromkeys(reason for name in sorted(entries, key=natural) for reason in entries[name]["reasons"]))


def contenders(report: Report, batch: str) -> list[Contender]:
    """The artifact and every baseline at one batch size, slowest first."""
    timed = {name: find(entry, "latency_ms", batch) for name, entry in originals(report).items()}
    ours = find(report, "compressed", "latency_ms", batch)
    # Bars are shares of the slowest median, which is 100 %. A clock that read 0 must not be divided by.
    slowest = max([entry["p50"] for entry in [*timed.values(), ours] if entry], default=1.0) or 1.0
    rows = [
        Contender(name, latency, find(report, "speedup", batch, name), latency["p50"] / slowest * 100)
        for name, latency in timed.items()
        if latency
    ]
    if ours:
        rows.append(Contender(artifact_name(report), ours, None, ours["p50"] / slowest * 100, ours=True))
    # The artifact stands last, below the runtimes that it is compared with, however slow it is.
    return sorted(rows, key=lambda row: (row.ours, -row.latency["p50"], row.name))


def originals(report: Report) -> dict[str, Report]:
    """The original in every runtime it was measured in, by name; the one it came in is among them."""
    entries = dict(report["baselines"] or {})
    runtime = find(report, "baseline", "runtime")
    if runtime and report["baseline"]:
        # The runtime may have been measured among the baselines too; that entry stays.
        entries.setdefault(runtime, report["baseline"])
    return {name: entries[name] for name in sorted(entries, key=natural)}


def strongest(report: Report) -> Contender | None:
    """The fastest baseline at batch 1, or at the smallest batch that was timed: a fair speed-up is quoted against this one."""
    # Against Torch eager nearly every artifact looks fast; the fastest runtime is what a user would use otherwise.
    timed = [row for row in contenders(report, batches(report)[0]) if not row.ours] if batches(report) else []
    return min(timed, key=lambda row: row.latency["p50"], default=None)


def artifact_name(report: Report) -> str:
    """The compiled artifact's name in tables: its runtime and its precision, which some runtimes' names hold already."""
    runtime, precision = find(report, "compressed", "runtime") or report["target"], report["precision"]
    # "TensorRT fp16" at fp16 must not become "TensorRT fp16 fp16".
    return runtime if precision is None or precision in runtime.split() else f"{runtime} {precision}"


def layers(report: Report) -> list[LayerRow]:
    """Layers of the original in execution order, with the precision of the compiled layer of the same name."""
    ran = report["layer_precisions"] or {}
    entries = list(report["layers"] or [])
    # A factorized layer "fc" has two entries, "fc.0" and "fc.1", each with the original's shape. They become one row with a rank.
    # Example: (512, 2048) as (64, 2048) and (512, 64) has rank 64 and 16 % of the weights.
    rows: list[LayerRow] = []
    while entries:
        first = entries.pop(0)
        whole = _split_in_two(first, entries[0] if entries else None)
        parts = [first, entries.pop(0)] if whole else [first]
        new_shapes = tuple(tuple(part["after"]) for part in parts if part["after"] is not None)
        original_shape = tuple(first["before"])
        # The two factors may have run in different precisions, so there may be more than one.
        known = sorted({ran[part["name"]] for part in parts if part["name"] in ran})
        rows.append(
            LayerRow(
                name=whole or first["name"],
                kind=first["kind"],
                original_shape=original_shape,
                new_shapes=new_shapes,
                channels=(original_shape[0] if original_shape else 1, (new_shapes[-1][0] if new_shapes[-1] else 1) if new_shapes else 0),
                rank=new_shapes[0][0] if whole else None,
                share=sum(map(prod, new_shapes)) / max(1, prod(original_shape)),
                precision=", ".join(known) or None,
            )
        )
    return rows


def unmatched(report: Report) -> list[tuple[str, str]]:
    """Layers of the compiled graph whose names the original does not have, as (name, precision)."""
    # A compiler fuses layers under names of its own; they are listed, so that the precisions add up to all layers that ran.
    known = {layer["name"] for layer in report["layers"] or []}
    ran = report["layer_precisions"] or {}
    return [(name, ran[name]) for name in sorted(ran, key=natural) if name not in known]


def ran_in(report: Report) -> list[tuple[str, int]]:
    """How many layers of the compiled graph ran in each precision, most frequent first."""
    counted = Counter((report["layer_precisions"] or {}).values())
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


def _part(report: Report, path: tuple[str, ...], name: str, unit: str, keys: list[str]) -> Part:
    baseline, candidate = (find(report, part, "metrics", *path) for part in ("baseline", "compressed"))
    return Part(name, find(baseline, unit), tuple((find(baseline, key), find(candidate, key)) for key in keys))


def _split_in_two(first: Report, second: Report | None) -> str | None:
    """The name of the layer that was split into these two entries; None where they are two layers of their own.

    Two linear layers in a row with nothing between them are only made by splitting one, and the inner width of a split is below both
    of its outer widths.
    """
    if second is None or not (first["after"] and second["after"]):
        return None
    name, _, end = first["name"].rpartition(".")
    # "fc.0" and "fc.1" may also be two layers that the network came with. Then the next line sees two shapes, or no smaller inner width.
    beside = end == "0" and second["name"] == f"{name}.1" and first["kind"] == second["kind"] == "Linear"
    factors = beside and first["before"] == second["before"] and first["after"][0] == second["after"][1] < min(first["before"])
    return name if name and factors else None
