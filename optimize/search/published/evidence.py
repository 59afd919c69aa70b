"""What the stopping rules go by, gathered before a chunk is proposed: how unlike the rest its channels are, and what masking them costs.

Every channel i of a chunk is compared with its double, the staying channel j whose activations it resembles most (cosine). Cases are the
published active set: those of which the original is least sure. "Right" means what the original says; no label is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimize.candidate import Candidate, Floats, Reference
from optimize.graph.trace import ChannelGroup
from optimize.importance.correction import least_certain, paired_outcomes
from optimize.importance.signal import Scores
from optimize.importance.similarity import cosine
from optimize.search.published.stopping import Evidence, Needs

PAIRS, PERCENTILE = 64, 60
MOST_CASES = 3000


class EvidenceCollector:
    """Gathers as much evidence as a rule needs.

    Args:
        needs: of the rule.
        reference: the original, and the calibration inputs.
        groups: of the original, from which pairs are drawn to see how usual flips are.
    """

    def __init__(self, needs: Needs, reference: Reference, groups: Sequence[ChannelGroup]) -> None:
        self._needs = needs
        self._reference = reference
        if needs == "flips":
            self._cases = active(reference)
            self._usual = usual_flips(reference, groups, self._cases)

    def __call__(self, candidate: Candidate, group: ChannelGroup, gone: Sequence[int], progress: float) -> Evidence:
        """The evidence for removing the channels `gone` of the group from the candidate."""
        if self._needs == "nothing":
            return Evidence(progress=progress)
        likeness = cosine(candidate, self._reference, [group])[0]
        double, distances = doubles(likeness, gone)
        return self._of(candidate, group, list(zip(gone, double, strict=True)), distances, progress)

    def pair(self, candidate: Candidate, group: ChannelGroup, gone: int, heir: int, distance: float, progress: float) -> Evidence:
        """The evidence for letting one channel stand for another, so far from it."""
        return self._of(candidate, group, [(gone, heir)], (distance,), progress)

    def _of(
        self, candidate: Candidate, group: ChannelGroup, pairs: Sequence[tuple[int, int]], distances: tuple[float, ...], progress: float
    ) -> Evidence:
        if self._needs != "flips":
            return Evidence(distances, progress=progress)
        found = np.concatenate(paired_outcomes(candidate, self._reference, group, pairs, self._cases))
        return Evidence(distances, found, self._usual, progress)


def doubles(likeness: Scores, gone: Sequence[int]) -> tuple[list[int], tuple[float, ...]]:
    """Of every channel that goes, the staying one it resembles most, and 1 - that similarity; NaN where nothing can be said."""
    keep = np.setdiff1d(np.arange(len(likeness)), gone)
    among = likeness[np.asarray(gone)][:, keep]  # (gone, keep)
    places = np.where(np.isnan(among), -np.inf, among).argmax(1)
    distances = 1 - among[np.arange(len(among)), places]
    return [int(keep[place]) for place in places], tuple(float(each) for each in distances)


def active(reference: Reference) -> Floats:
    """The calibration inputs that rules look at: for a classifier the active set, else all; at most 3000 of them."""
    outputs = reference.original.predict(reference.calibration)
    chosen = least_certain(outputs) if outputs.ndim == 2 and outputs.shape[1] > 1 else np.arange(len(outputs))
    order = np.random.default_rng(reference.seed).permutation(len(chosen))
    return reference.calibration[np.sort(chosen[order[:MOST_CASES]])]


def usual_flips(reference: Reference, groups: Sequence[ChannelGroup], cases: Floats) -> float:
    """The 60th percentile of the flip rate over 64 pairs of the original's channels, drawn by the reference's seed."""
    draw = np.random.default_rng(reference.seed)
    wide = [group for group in groups if group.size > 1]
    owners = draw.choice(len(wide), PAIRS, p=np.array([group.size for group in wide]) / sum(group.size for group in wide))
    rates: list[float] = []
    for owner in np.unique(owners):
        pairs = [tuple(draw.choice(wide[owner].size, 2, replace=False).tolist()) for _ in range((owners == owner).sum())]
        rates += [float((each != 0).mean()) for each in paired_outcomes(reference.original, reference, wide[owner], pairs, cases)]
    return float(np.percentile(rates, PERCENTILE))
