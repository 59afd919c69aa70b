"""Where a run ended: what was found, before it becomes the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optimize.backends.export import Parity
from optimize.candidate import Candidate
from optimize.guard.flips import Flip
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict
from optimize.quantization.variant import Variant
from optimize.run.baselines import Profile
from optimize.searching.walk import SearchResult


@dataclass(frozen=True, eq=False)
class Compiled:
    """What came out of the target's compiler.

    Args:
        candidate: the network that ships.
        chosen: the precision that ships.
        variants: every precision that was tried.
        parity: of the ONNX file with torch.
        layer_precisions: layer -> precision it really ran in.
        profile: the artifact and its baselines, measured.
        roofline: the artifact under this machine's roofs (`measure/roofline_report.py`); None where that was not measured.
        notes: why it was not measured, and what a reader should know of the layers.
    """

    candidate: Candidate
    chosen: Variant
    variants: Sequence[Variant]
    parity: Parity
    layer_precisions: Mapping[str, str]
    profile: Profile
    roofline: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()

    @property
    def load_percent(self) -> dict[str, float]:
        """What was timed -> percent of the machine that other processes used meanwhile."""
        variants = [variant.load_percent for variant in self.variants if variant.load_percent is not None]
        batches = {f"batch {batch}": percent for batch, percent in self.profile.load_percent.items()}
        return ({"every precision": max(variants)} if variants else {}) | batches


@dataclass(frozen=True, eq=False)
class Result:
    """Where a run ended.

    Args:
        verdict: the answer.
        search: what the search found.
        compiled: None when the run ended before there was an artifact.
        original: score of the original on the test split.
        artifact: score of the artifact on the test split.
        notes: what a reader should know.
        flips: cases of the test split whose decision changed; None where there is no artifact.
        health: what was found about the calibration split.
        unverified: what was compiled and could not be run.
        parity: of the ONNX file with torch, where nothing was run.
        standing: the original beside a constant answer (`run/original.py`).
        looks: at the test split, as `history.Look` says it; None where it was not read.
    """

    verdict: Verdict
    search: SearchResult
    compiled: Compiled | None = None
    original: Score | None = None
    artifact: Score | None = None
    notes: Sequence[str] = ()
    flips: Sequence[Flip] | None = None
    health: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    unverified: Sequence[Variant] = ()
    parity: Parity | None = None
    standing: Mapping[str, Any] | None = None
    looks: Mapping[str, Any] | None = None

    @property
    def best(self) -> Candidate:
        """The network that was compiled; the last that the search kept where none was."""
        return self.search.best if self.compiled is None else self.compiled.candidate
