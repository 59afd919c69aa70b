"""Render the result of `benchmark` as lines of text for a terminal: aligned columns, the answers in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from optimize.measure.benchmark import label
from optimize.measure.quantiles import SHARES
from optimize.measure.reliability import STEADY, UNSURE

_MIB = 2**20


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the whole result."""
    yield f"{result['machine']['cpu']}, {result['machine']['logical_cores']} cores"
    yield "of a percentile in brackets: the true one is at most this, with 95 % confidence, or how many samples it takes to say so"
    yield ""
    yield from _table(_contenders(result["contenders"]))
    yield from _limits(result["contenders"])
    yield from _on_device(result["contenders"])
    yield from (f"no energy: {note}" for note in result["energy"]["notes"])
    for measurement in result["measurements"]:
        yield ""
        busy = ", ".join(f"{percent:.0f} % {when}" for when, percent in measurement["load_percent"].items())
        yield f"{label(measurement['batch'], measurement['threads'])} (other processes: {busy})"
        yield from _table(_latencies(measurement["latency_ms"], measurement["reliability"]))
        yield from _unsure(measurement["reliability"])
        # reasons that were printed for a contender are not repeated for every pair it is in
        said = {reason for answer in measurement["reliability"].values() for reason in answer["reasons"]}
        yield from _answers(measurement["comparison"], said)
        if "energy" in measurement:
            yield "energy of everything that ran on the whole package or GPU meanwhile, idle power included"
            yield from _table(_energies(measurement["energy"]))
        if "under_load" in measurement:
            yield f"with {result['settings']['contend']} background processes of {result['settings']['contend_with'] or 'the same model'}"
            reliable = {name: loaded["reliability"] for name, loaded in measurement["under_load"].items()}
            yield from _table(_latencies(measurement["under_load"], reliable, quiet=True))
            yield from _unsure(reliable)
            yield from dict.fromkeys(reason for loaded in measurement["under_load"].values() for reason in loaded["no_ratio"].values())
    if result["notes"]:
        yield ""
        yield from result["notes"]


def _contenders(contenders: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    yield "contender", "parameters", "MACs", "file MiB", "import s", "open s", "first s", "opened MiB", "peak MiB"
    for name, entry in contenders.items():
        cold, memory = entry["cold_start"], entry["memory"]
        peaks = " ".join(f"{peak / _MIB:.0f}" for peak in memory["peak_bytes"].values())
        times = (f"{cold[key]:.3f}" for key in ("imports_s", "open_s", "first_s"))
        work = ("-" if entry[key] is None else f"{entry[key]:,}" for key in ("parameters", "macs"))
        yield name, *work, f"{entry['size_bytes'] / _MIB:.2f}", *times, f"{memory['opened_bytes'] / _MIB:.0f}", peaks


def _limits(contenders: Mapping[str, Any]) -> Iterator[str]:
    for name, entry in contenders.items():
        limit = entry["memory"].get("limit")
        if limit is not None:
            answer = {True: "runs within", False: "does not run within", None: "was not tried within"}[limit["fits"]]
            why = f" ({limit['reason'].rstrip('.')})" if limit["reason"] else ""
            resident = f"{limit['peak_bytes']:,} bytes, which {'fits' if limit['resident_fits'] else 'does not fit'}"
            space = "address space, which is more than what it uses"
            yield f"{name} {answer} {limit['bytes']:,} bytes of {space}: peak resident memory was {resident}{why}"


def _on_device(contenders: Mapping[str, Any]) -> Iterator[str]:
    absent = {}
    for name, entry in contenders.items():
        held = entry["memory"]["device_bytes"]
        if held is not None:
            yield f"{name} holds {held / _MIB:.0f} MiB of GPU memory after its first batch"
        else:
            # by reason: several contenders without a GPU have one line in common
            absent[entry["memory"]["device_note"]] = name
    yield from (f"no GPU memory: {note}" for note in absent)


def _energies(measured: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    yield "contender", *(f"{meter} {unit}" for meter in measured["idle_w"] for unit in ("J/item", "W"))
    yield "idle", *(cell for watts in measured["idle_w"].values() for cell in ("-", f"{watts:.1f}"))
    for name, entry in measured["contenders"].items():
        figures = entry["meters"].values()
        yield name, *(cell for meter in figures for cell in (f"{meter['joules_per_item']:.3g}", f"{meter['watts']:.1f}"))


def _latencies(measured: Mapping[str, Any], reliable: Mapping[str, Any], *, quiet: bool = False) -> Iterator[Sequence[str]]:
    more = ("p50 x quiet", "p99 x quiet") if quiet else ()
    yield "contender", *(f"{name} ms" for name in SHARES), "items/s", "variation", "n", "steady", *more
    for name, entry in measured.items():
        slowdown = (_times(entry["times_quiet"][key]) for key in ("p50", "p99")) if quiet else ()
        steady = "yes" if reliable[name]["answer"] == STEADY else "no"
        figures = (f"{entry['items_per_s']:.1f}", f"{100 * entry['variation']:.1f} %", str(entry["n"]), steady)
        yield name, *(_bounded(entry[key]) for key in SHARES), *figures, *slowdown


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _bounded(percentile: Mapping[str, Any]) -> str:
    bound = percentile["at_most"]
    note = f"needs {percentile['samples_needed']}" if bound is None else f"<= {bound:.3f}"
    return f"{percentile['value']:.3f} [{note}]"


def _unsure(reliable: Mapping[str, Any]) -> Iterator[str]:
    """Yield every reason once: that the machine was busy is a reason of all contenders."""
    yield from dict.fromkeys(f"{UNSURE}: {reason}" for entry in reliable.values() for reason in entry["reasons"])


def _answers(comparison: Mapping[str, Any], said: Set[str]) -> Iterator[str]:
    """Yield the answer for every pair; a reason that was printed for a contender itself is not repeated."""
    for name, entry in comparison.items():
        ratio = "{value:.3f}x [{low:.3f}, {high:.3f}]".format(**entry["ratio"])
        doubted = any(reason in said for reason in entry["reasons"])
        measured = f"not measured reliably beside {entry['against']}" if doubted else f"{ratio} the speed of {entry['against']}"
        yield f"{name}: {entry['answer']}, {measured}"
        yield from dict.fromkeys("  for what is said above" if reason in said else f"  {reason}" for reason in entry["reasons"])


def _table(rows: Iterator[Sequence[str]]) -> Iterator[str]:
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    # names to the left, numbers to the right, so that digits of one column stand below each other
    for first, *numbers in cells:
        yield "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))]).rstrip()
