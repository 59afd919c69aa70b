"""One proposal of a search and what became of it, as the ledger, the report and the terminal show it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimize.candidate import Step
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict
from optimize.progress import COLUMNS
from optimize.searching import snapshot

NOT_SMALLER = "nothing became smaller"

_END_OF_FIGURE = re.compile(r" \(|; ")
"""Text that follows the figure in a reason of `optimize.guard.verdict`."""


@dataclass(frozen=True)
class ScoreSummary:
    """The part of a score that strategies use and the ledger holds: the overall figure, and one figure for each class that occurs."""

    overall: float
    per_class: Mapping[str, float]

    @classmethod
    def of(cls, score: Score) -> ScoreSummary:
        """Return the summary of a score."""
        return cls(score.overall, dict(score.figures))


@dataclass(frozen=True)
class Trial:
    """One proposal and its outcome; true when it was kept.

    Args:
        step: the step that was proposed.
        verdict: verdict on the guard split.
        parameters: number of parameters of the proposed candidate.
        macs: multiply-accumulates of the proposed candidate for one input.
        score: score of the proposed candidate on the guard split.
        worst: the class that fell most, and by how much.
        seconds: time that making and judging it took.
        findings: notes that the step recorded while it ran.
        latency_ms: median latency at batch 1 in the target's runtime, where it was measured.
    """

    step: Step
    verdict: Verdict
    parameters: int
    macs: int
    score: ScoreSummary
    worst: tuple[str, float]
    seconds: float
    findings: tuple[str, ...] = ()
    latency_ms: float | None = None

    def __bool__(self) -> bool:
        return bool(self.verdict)

    @property
    def changed_nothing(self) -> bool:
        """Whether the step removed no parameter, so that there was nothing to judge."""
        return self.verdict.reasons == (NOT_SMALLER,)

    def as_dict(self) -> dict[str, Any]:
        """Return the trial as the ledger and the report hold it."""
        name, drop = self.worst
        return {
            **plain(self.step),
            "kept": bool(self),
            "reasons": list(self.verdict.reasons),
            "parameters": self.parameters,
            "macs": self.macs,
            "overall": self.score.overall,
            "per_class": dict(self.score.per_class),
            "worst_class": {"name": name, "drop": drop},
            "seconds": round(self.seconds, 3),
            "latency_ms": self.latency_ms,
            "chance": self.verdict.chance,
            **({"findings": list(self.findings)} if self.findings else {}),
        }

    @classmethod
    def read(cls, step: Step, entry: Mapping[str, Any]) -> Trial:
        """Return the trial of a step from the entry that `as_dict` made."""
        # the rails are not in the ledger: nothing asks for them after the proposal was decided
        verdict = Verdict("pass" if entry["kept"] else "fail", tuple(entry["reasons"]), chance=entry.get("chance"))
        reading, worst = ScoreSummary(entry["overall"], entry["per_class"]), (entry["worst_class"]["name"], entry["worst_class"]["drop"])
        seconds, findings, latency_ms = entry["seconds"], tuple(entry.get("findings", ())), entry.get("latency_ms")
        return cls(step, verdict, entry["parameters"], entry["macs"], reading, worst, seconds, findings, latency_ms)

    def line(self, original: int) -> str:
        """Return one short line: the proposal, kept or rolled back, and the figure that decided.

        Args:
            original: number of parameters of the original.
        """
        # the first setting of a step is the one that a search varies: a budget, an energy, a group
        setting = next(iter(plain(self.step)["settings"].values()))
        outcome, off = "kept" if self else "rolled back", 100 * (1 - self.parameters / original)
        proposal = f"{type(self.step).__name__} {_brief(setting)}, {off:.1f} % of parameters off"
        line = f"{outcome:>11}  {proposal}: {_figure(self.verdict.reasons[0])}"
        # cut at a word, for a terminal of that width; the whole reason is in `details`
        return line if len(line) <= COLUMNS else f"{line[: COLUMNS - 2].rpartition(' ')[0]} …"

    @property
    def details(self) -> tuple[str, ...]:
        """The lines that a reader gets who asks for more: every reason in full, what was noticed, and the time that was measured."""
        measured = () if self.latency_ms is None else (f"{self.latency_ms:.3f} ms on the target",)
        return (*self.verdict.reasons, *measured, *self.findings)


def plain(step: Step) -> dict[str, Any]:
    """Return a step as the ledger holds it: JSON turns its tuples into lists."""
    # through JSON and back, as an entry of the ledger has been: only so can the two be compared
    return dict(json.loads(json.dumps(snapshot.describe(step))))


def _figure(reason: str) -> str:
    """Return the figure that a reason begins with, without its bound and what else was measured; the ledger has the whole reason.

    >>> _figure("accuracy 97.3 % against 97.8 % (a drop of 1.2 pp at most, at 95 % confidence), limit 2 pp; recall of the worst class 8 …")
    'accuracy 97.3 % against 97.8 %'
    """
    return _END_OF_FIGURE.split(reason, maxsplit=1)[0].removeprefix("overall ")


def _brief(setting: Any) -> str:
    """Return a setting in a word or two."""
    if isinstance(setting, list):
        # the steps of a chain, or the (group, width) pairs of `PruneToWidths`, of which there are too many to name
        inner = [_part(step) for step in setting if isinstance(step, dict)]
        return " and ".join(inner) if inner else f"{len(setting)} groups"
    return f"{setting:g}" if isinstance(setting, float) else str(setting)


def _part(step: Mapping[str, Any]) -> str:
    """Return the name of a chain's step, with its share where only a part of the way to the trained weights was gone."""
    interpolation = step["settings"].get("interpolation", 1.0)
    return str(step["step"]) if interpolation == 1 else f"{interpolation:g} of {step['step']}"
