"""Structured pruning to given widths: which channels stay, and how their readers go on, is found as in `Prune`.

In the end the layer that answers is fitted to the original's answers (`answer.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimize.candidate import Candidate, Reference
from optimize.graph import ChannelGroup, Index
from optimize.importance.output_error import eliminate
from optimize.steps.answer import PULL, Answer
from optimize.steps.prune import Reader, cut
from optimize.steps.repair import RIDGE, ROWS


@dataclass(frozen=True)
class Narrow:
    """Give groups of channels the widths that were chosen for them, and repair what reads them.

    Args:
        widths: (group, channels to keep) by the group's name, the first layer that makes its channels; a group that is not named, or is
            no wider than asked, keeps all it has.
        rows: sampled positions each layer is fitted on.
        ridge: see `Repair`.
        pull: see `Answer`.
    """

    widths: tuple[tuple[str, int], ...]
    rows: int = ROWS
    ridge: float = RIDGE
    pull: float = PULL

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the narrowed and repaired candidate."""
        wanted = dict(self.widths)

        def choose(group: ChannelGroup, readers: Sequence[Reader]) -> Index:
            width = wanted.get(group.name, group.size)
            if width >= group.size:
                return np.array([], dtype=np.int64)
            return eliminate(readers, least=max(1, width)).order

        made = cut(self, candidate, reference, choose, "narrow")
        return candidate.after(self, Answer(self.rows, self.pull)(made, reference).module, made.kept)
