"""The result of a comparison, as one value: every judged figure, the outcome of all together, and what they were measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optimize.deploy.gate.judged import Judged, Outcome, whole_outcome

FORMAT = 1
EXIT_CODES: Mapping[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
FIRST_WORD: Mapping[Outcome, str] = {"pass": "PASS", "fail": "REGRESSION", "inconclusive": "INCONCLUSIVE"}
MARKS: Mapping[Outcome, str] = {"pass": "ok", "fail": "FAIL", "inconclusive": "??", "not judged": "--"}


@dataclass(frozen=True)
class GateResult:
    """A finished comparison; true only when it passed.

    Args:
        baseline: the baseline, as the user named it.
        candidate: the candidate, as the user named it.
        judged: every figure, judged or only shown.
        notes: sentences on how it was measured.
        created: time of the comparison, ISO 8601 with its zone.
        commit: id of the commit that was measured; empty where none was named.
        fingerprint: facts of the machine.
        fingerprint_sha256: hash of these facts.
        seconds: seconds that the comparison took.
    """

    baseline: str
    candidate: str
    judged: tuple[Judged, ...]
    notes: tuple[str, ...]
    created: str
    commit: str
    fingerprint: Mapping[str, str]
    fingerprint_sha256: str
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """The outcome of all figures together: "pass", "fail" or "inconclusive"."""
        return whole_outcome(self.judged)

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0 pass, 1 regression, 3 inconclusive."""
        return EXIT_CODES[self.outcome]

    @property
    def reasons(self) -> list[str]:
        """The figures that decided, in words: those that failed and those that could not be decided."""
        return [f"{figure.name}: {figure.reason}" for figure in self.judged if figure.outcome in ("fail", "inconclusive")]

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        count = sum(figure.outcome != "not judged" for figure in self.judged)
        limits = "1 limit" if count == 1 else f"{count} limits"
        decided = {"pass": f"{limits} held", "fail": "a limit is missed", "inconclusive": "the measurements do not decide"}[self.outcome]
        return f"{FIRST_WORD[self.outcome]}: {self.candidate} against {self.baseline}: {decided}"

    @property
    def lines(self) -> Iterator[str]:
        """The result as lines of text."""
        yield self.headline
        width = max((len(figure.name) for figure in self.judged), default=0)
        for figure in self.judged:
            values = f"{in_words(figure.baseline, figure.unit)} → {in_words(figure.candidate, figure.unit)}"
            yield f"  {MARKS[figure.outcome]:4} {figure.name:{width}}  {values}: {figure.reason}"
        yield from self.notes

    def as_dict(self) -> dict[str, Any]:
        """Return the form of `--json` and `--out`, format 1."""
        return {
            "format": FORMAT,
            "kind": "gate",
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "reasons": self.reasons,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "criteria": [figure.as_dict() for figure in self.judged],
            "notes": list(self.notes),
            "created": self.created,
            "commit": self.commit or None,
            "fingerprint": dict(self.fingerprint),
            "fingerprint_sha256": self.fingerprint_sha256,
            "seconds": self.seconds,
        }

    def __bool__(self) -> bool:
        return self.outcome == "pass"


def in_words(value: float | None, unit: str) -> str:
    """Return a figure with its unit; "unknown" for None.

    >>> in_words(1.23456, "ms"), in_words(1_234_567, "bytes"), in_words(0.985, "share"), in_words(None, "s")
    ('1.23 ms', '1.23 MB', '98.50 %', 'unknown')
    """
    if value is None:
        return "unknown"
    if unit == "share":
        return f"{100 * value:.2f} %"
    if unit in ("ms", "s"):
        return f"{value:.3g} {unit}"
    # four digits at most: 999.6 would be rounded to 1000 of the smaller step
    for step in ("", "k", "M", "G"):
        if abs(value) < 999.5 or step == "G":
            break
        value /= 1000
    return f"{value:.3g} {step}{'B' if unit == 'bytes' else f' {unit}' if step else unit}"
