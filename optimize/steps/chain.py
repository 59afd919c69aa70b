"""Several steps as one proposal: none of them is judged before the last is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from optimize.candidate import Candidate, Reference, Step


@dataclass(frozen=True)
class Chain:
    """Take the steps one after the other; each enters the lineage under its own name.

    Args:
        steps: the steps, in the order they are made.
    """

    TRAINS: ClassVar[bool] = False

    steps: tuple[Step, ...]

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return what the last step made."""
        for step in self.steps:
            candidate = step(candidate, reference)
        return candidate
