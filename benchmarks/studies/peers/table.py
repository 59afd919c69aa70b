"""What the contests say: a table of each case, and whether the goals were reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.studies.peers.record import Record
from optimize.backends import onnx_target_names, title
from optimize.hardware.machine import BUSY_PERCENT
from optimize.measure.latency import Latency, Ratio, ratio
from optimize.measure.quantiles import upper_rank

Times = Mapping[int, Mapping[str, Latency]]

COLUMNS = (
    *("contender", "verdict on test", "parameters off", "MACs off", "file", "on test", "worst class"),
    *("p50, batch 1", "p50, batch 8", "prepared in"),
)
GOAL_COLUMNS = ("case", "goal", "batch", "ours", "against", "times faster", "outcome")
ASSEMBLED, EXACT, ALIKE = 1.5, 30.0, 6.0
BASELINE = "original, ONNX Runtime f32"


@dataclass(frozen=True)
class Goal:
    """One of the goals at one batch size, with what was measured.

    Args:
        title: in words.
        aim: how many times faster ours must be.
        batch: size.
        ours: the contender of ours, or "".
        against: the one it is compared with, or "".
        measured: how many times faster it is; None where one of the two is missing.
        why: it is missing.
        made: whether anything of ours was made that could reach it.
    """

    title: str
    aim: float
    batch: int
    ours: str = ""
    against: str = ""
    measured: Ratio | None = None
    why: str = ""
    made: bool = True

    @property
    def outcome(self) -> str:
        """Reached only where the whole interval is: "reached", "missed", or why there is nothing to compare."""
        if self.measured is None:
            return f"open: {self.why}" if self.ours or not self.made else f"missed: {self.why}"
        if self.measured.low >= self.aim:
            return "reached"
        return "missed" if self.measured.high < self.aim else "missed, though the interval holds the goal"

    def row(self, case: str) -> list[str]:
        """One line of the table of goals."""
        gain = "-" if self.measured is None else _times(self.measured)
        return [case, f"{self.title}: {self.aim:g}x", str(self.batch), self.ours or "-", self.against or "-", gain, self.outcome]


def goals(records: Sequence[Record], times: Times) -> list[Goal]:
    """Every goal at every batch size; what takes part holds the guard-rails on the test split and was timed."""
    found = []
    for batch, taken in times.items():
        held = [each for each in records if each.holds and each.name in taken]
        ours = fastest([each for each in held if each.kind == "ours"], taken)
        rival = fastest([each for each in held if each.kind == "assembled"], taken)
        baseline = next((each for each in records if each.name == BASELINE and each.name in taken), None)
        found.append(_goal("against the best that was put together", ASSEMBLED, batch, ours, rival, taken))
        found.append(_goal("against the original in ONNX Runtime f32", EXACT, batch, ours, baseline, taken))
        for target in onnx_target_names():
            mine = fastest([each for each in held if each.kind == "ours" and each.target == target], taken)
            same = [
                each
                for each in records
                if mine is not None and each.kind == "original" and (each.target, each.base) == (target, mine.base) and each.name in taken
            ]
            alike = fastest(same, taken)
            goal = _goal(f"against the original in {title(target)} at the same precision", ALIKE, batch, mine, alike, taken)
            if ours is not None and not any(each.kind == "ours" and each.target == target for each in records):
                goal = replace(goal, why=f"ours was made for {title(ours.target)} alone", made=False)
            found.append(goal)
    return found


def fastest(records: Sequence[Record], taken: Mapping[str, Latency]) -> Record | None:
    """The one with the least median."""
    return min(records, key=lambda each: taken[each.name].p50, default=None)


def _goal(title: str, aim: float, batch: int, ours: Record | None, other: Record | None, taken: Mapping[str, Latency]) -> Goal:
    if ours is None:
        return Goal(title, aim, batch, against=other.name if other else "", why="nothing of ours holds the guard-rails")
    if other is None:
        return Goal(title, aim, batch, ours.name, why="nothing to compare with holds the guard-rails")
    return Goal(title, aim, batch, ours.name, other.name, ratio(taken[other.name], taken[ours.name]))


def rows(records: Sequence[Record], times: Times) -> list[list[str]]:
    """One line for each contender, in the order they were made."""
    original = next((each for each in records if each.parameters and each.kind == "original"), None)
    return [row(each, original, times) for each in records]


def row(record: Record, original: Record | None, times: Times) -> list[str]:
    """One line of a case's table; a contender that failed has the reason where the others have the verdict."""
    whole = Record("", "original") if original is None else original
    spent = "-" if record.prepared_s is None else f"{record.prepared_s:.0f} s"
    verdict = record.verdict or "-"
    if record.failed is not None:
        verdict = f"{record.verdict}: {record.failed}" if record.verdict else f"none: {record.failed}"
    return [
        record.name,
        verdict,
        _off(record.parameters, whole.parameters),
        _off(record.macs, whole.macs),
        "-" if record.size_bytes is None else f"{record.size_bytes / 1e6:.2f} MB",
        "-" if record.overall is None else f"{100 * record.overall:.2f} %",
        "-" if record.overall is None else f"{-100 * record.worst_drop + 0.0:+.1f} pp ({record.worst_class})",
        *(_p50(times.get(batch, {}).get(record.name)) for batch in (1, 8)),
        spent,
    ]


def median_interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """The two order statistics that hold the true median with 95 % confidence; None for too few samples.

    They are the k-th from both ends, where k is that of `quantiles.upper_rank` at 97.5 %: the median's binomial is symmetric.
    """
    rank = upper_rank(len(samples), 0.5, 0.975)
    if rank is None:
        return None
    ordered = sorted(samples)
    return ordered[len(ordered) - rank], ordered[rank - 1]


def shares(records: Sequence[Record], times: Times, roofs: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """In words, how much of the roofline ours and the best of the assembled reach."""
    for batch, taken in times.items():
        held = [each for each in records if each.holds and each.name in taken]
        for kind in ("ours", "assembled"):
            best = fastest([each for each in held if each.kind == kind], taken)
            roof_ms = None if best is None else roofs[str(batch)].get(best.name)
            if best is not None and roof_ms is not None:
                p50_ms = taken[best.name].p50
                yield f"batch {batch}, {best.name}: {100 * roof_ms / p50_ms:.0f} % of the roofline ({roof_ms:.3g} of {p50_ms:.3g} ms)"


def notes(contest: Mapping[str, Any], records: Sequence[Record]) -> list[str]:
    """What stands below a case's table, besides its own remarks."""
    loads = (
        f"{each['before']:.0f} % before and {each['after']:.0f} % after batch {batch}" for batch, each in contest["load_percent"].items()
    )
    busy = ", ".join(loads)
    lines = [f"Timed {contest['date']} in interleaved rounds; other processes used {busy}. In brackets 95 % intervals of the median."]
    if max(max(each.values()) for each in contest["load_percent"].values()) > BUSY_PERCENT:
        lines.append("The machine was busy: these times are not to be relied on.")
    told = [each for each in records if each.failed is None and (each.kind == "ours" or each.verdict != "pass")]
    lines += [f"{each.name}: {reason}." for each in told for reason in each.reasons]
    return lines + [f"{each.name}: {remark}." for each in records for remark in each.remarks]


def _p50(latency: Latency | None) -> str:
    if latency is None:
        return "-"
    interval = median_interval(latency.samples_ms)
    between = "" if interval is None else f" [{interval[0]:.3g}, {interval[1]:.3g}]"
    return f"{latency.p50:.3g} ms{between}"


def _times(gain: Ratio) -> str:
    return f"{gain.value:.2f}x [{gain.low:.2f}, {gain.high:.2f}]"


def _off(now: int | None, before: int | None) -> str:
    return "-" if now is None or not before else f"{100 * (1 - now / before):.1f} %"
