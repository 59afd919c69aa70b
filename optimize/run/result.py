"""The result of a run as objects, before it becomes the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
    """The compiled artifact with everything that was measured of it.

    Args:
        candidate: the network that ships.
        chosen: the precision that ships.
        variants: every precision that was tried, the chosen one among them.
        parity: largest difference between the ONNX file and torch.
        layer_precisions: layer -> precision in which the runtime really ran it.
        profile: measurements of the artifact and its baselines.
        onnx: folder with the ONNX files that were compiled: `model.onnx` of the network that ships and `original.onnx`.
        roofline: the artifact under this machine's roofs (`measure/roofline_report.py`); None where that was not measured.
        notes: why the roofline was not measured, and what a reader should know of the layers.
    """

    candidate: Candidate
    chosen: Variant
    variants: Sequence[Variant]
    parity: Parity
    layer_precisions: Mapping[str, str]
    profile: Profile
    onnx: Path
    roofline: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()

    @property
    def load_percent(self) -> dict[str, float]:
        """Name of a measurement -> percent of the machine that other processes used during it."""
        variants = [variant.load_percent for variant in self.variants if variant.load_percent is not None]
        batches = {f"batch {batch}": percent for batch, percent in self.profile.load_percent.items()}
        return ({"every precision": max(variants)} if variants else {}) | batches


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a run.

    Args:
        verdict: the verdict on the artifact, or on the run where there is none.
        search: result of the search.
        compiled: None when the run ended before there was an artifact.
        original: score of the original on the test split.
        artifact: score of the artifact on the test split.
        notes: sentences for the report.
        flips: cases of the test split whose decision changed; None where there is no artifact.
        health: findings on the calibration split.
        unverified: variants that were compiled here and cannot run here.
        parity: largest difference between the ONNX file and torch, where no artifact was run.
        original_check: comparison of the original with a constant answer (`run/original.py`).
        looks: the look at the test split, from `history.Look.as_dict`; None where the split was not read.
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
    original_check: Mapping[str, Any] | None = None
    looks: Mapping[str, Any] | None = None

    @property
    def best(self) -> Candidate:
        """The network that was compiled; the last one that the search kept where no artifact was made."""
        return self.search.best if self.compiled is None else self.compiled.candidate
