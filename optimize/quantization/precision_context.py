"""All that a precision is made, judged and timed with: the candidate, the guard split, the limits and the runtime's settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from optimize.backends import Backend
from optimize.backends.session import Session
from optimize.candidate import Floats
from optimize.data.dataset import Split
from optimize.guard.acceptance_rule import AcceptanceRule
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.guard.verdict import SEARCH_CONFIDENCE, accept_proposal
from optimize.quantization.precision_check import checked
from optimize.quantization.variant import Variant
from optimize.searching.train_check import TrainCheck


@dataclass(frozen=True, eq=False)
class PrecisionContext:
    """Everything that variants of one candidate are made, judged and timed with.

    Args:
        onnx: the exported candidate.
        folder: folder for compiled artifacts.
        calibration: (N, C, *spatial), images for the ranges of int8.
        guard: the split that decides.
        baseline: the original's score on the guard split.
        limits: the guard-rails.
        threads: number of threads of the runtimes, or None for their own choice.
        confidence: confidence of the bounds that must lie within the limits.
        cpu_level: instruction set that int8 is made for; None for this machine's.
        cache_folder: folder for the results of an interrupted search of mixes, or None for one in `folder`.
        train_check: second check of variants that pass the guard split, on training images; None where there are too few.
        rule: decides whether a variant may ship; None for `accept_proposal` at `confidence`.
    """

    onnx: Path
    folder: Path
    calibration: Floats
    guard: Split
    baseline: Score
    limits: Limits
    threads: int | None = None
    confidence: float = SEARCH_CONFIDENCE
    cpu_level: str | None = None
    cache_folder: Path | None = None
    train_check: TrainCheck | None = None
    rule: AcceptanceRule | None = None

    def judged(self, variant: Variant, session: Session, runtime: Backend, *, rough: bool = False) -> Variant:
        """Return the variant with its score and verdict on the guard split; without them where it is not the precision it claims.

        Args:
            variant: a compiled variant.
            session: the session that runs it.
            runtime: its runtime.
            rough: whether it only ranks layers and never ships, see `checked`.
        """
        variant = checked(variant, runtime.inspect(session), self.onnx, rough=rough)
        if variant.why:  # the claim is false: judging it would say nothing about that precision
            return variant
        score = score_split(session.predict, self.guard, self.baseline.classes, f"judge {variant.precision}")
        if self.rule is None:
            verdict = accept_proposal(self.limits, self.baseline, score, self.confidence)
        else:
            verdict = self.rule(self.baseline, score)
        if self.train_check is not None:
            verdict = self.train_check.review(verdict, session.predict)
        return replace(variant, score=score, verdict=verdict, why="" if verdict else "; ".join(verdict.reasons))
