"""The evidence that stopping rules decide by: how unlike the staying channels a chunk is, and what masking its channels costs.

Every channel of a chunk is compared with its nearest channel: the staying channel whose activations are most similar (cosine). Cases are
the published active set: those of which the original is least sure. "Right" means what the original predicts; no label is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimize.candidate import Candidate, Floats, Reference
from optimize.graph.trace import ChannelGroup
from optimize.importance.correction import least_certain, paired_outcomes
from optimize.importance.signal import Scores
from optimize.importance.similarity import cosine
from optimize.searching.published.stopping import Evidence, Needs

RANDOM_PAIRS, USUAL_PERCENTILE = 64, 60
MOST_CASES = 3000


class EvidenceCollector:
    """Collects as much evidence as a rule needs; every kind costs forward passes.

    Args:
        needs: kind of evidence that the rule looks at.
        reference: the original, and the calibration inputs.
        groups: groups of the original. Random pairs of their channels show which rate of discordant cases is usual.
    """

    def __init__(self, needs: Needs, reference: Reference, groups: Sequence[ChannelGroup]) -> None:
        self._needs = needs
        self._reference = reference
        if needs == "discordance":
            self._cases = active_set(reference)
            self._usual = usual_discordance(reference, groups, self._cases)

    def __call__(self, candidate: Candidate, group: ChannelGroup, removed: Sequence[int], progress: float) -> Evidence:
        """Return the evidence for removing the channels `removed` of the group from the candidate."""
        if self._needs == "nothing":
            return Evidence(progress=progress)
        similarity = cosine(candidate, self._reference, [group])[0]
        nearest, distances = nearest_channels(similarity, removed)
        return self._collect(candidate, group, list(zip(removed, nearest, strict=True)), distances, progress)

    def pair(self, candidate: Candidate, group: ChannelGroup, removed: int, merge_into: int, distance: float, progress: float) -> Evidence:
        """Return the evidence for removing one channel whose readers then take `merge_into` instead, at this distance from it."""
        return self._collect(candidate, group, [(removed, merge_into)], (distance,), progress)

    def _collect(
        self, candidate: Candidate, group: ChannelGroup, pairs: Sequence[tuple[int, int]], distances: tuple[float, ...], progress: float
    ) -> Evidence:
        if self._needs != "discordance":
            return Evidence(distances, progress=progress)
        differences = np.concatenate(paired_outcomes(candidate, self._reference, group, pairs, self._cases))
        return Evidence(distances, differences, self._usual, progress)


def nearest_channels(similarity: Scores, removed: Sequence[int]) -> tuple[list[int], tuple[float, ...]]:
    """Return for every removed channel the most similar staying one, and its distance, 1 - similarity; NaN for a silent channel.

    Args:
        similarity: (size, size) between the channels of a group.
        removed: the channels that go.
    """
    keep = np.setdiff1d(np.arange(len(similarity)), removed)
    # nearest among the channels that stay: another one that goes cannot take its place
    among = similarity[np.asarray(removed)][:, keep]  # (gone, keep)
    places = np.where(np.isnan(among), -np.inf, among).argmax(1)
    distances = 1 - among[np.arange(len(among)), places]
    return [int(keep[place]) for place in places], tuple(float(distance) for distance in distances)


def active_set(reference: Reference) -> Floats:
    """Return the calibration inputs that rules look at: for a classifier the active set, else all; at most 3000."""
    outputs = reference.original.predict(reference.calibration)
    # a case that the original is sure of stays right whatever is masked, and would only dilute the rates
    chosen = least_certain(outputs) if outputs.ndim == 2 and outputs.shape[1] > 1 else np.arange(len(outputs))
    order = np.random.default_rng(reference.seed).permutation(len(chosen))
    return reference.calibration[np.sort(chosen[order[:MOST_CASES]])]


def usual_discordance(reference: Reference, groups: Sequence[ChannelGroup], cases: Floats) -> float:
    """Return the 60th percentile of the rate of discordant cases over 64 random pairs of the original's channels."""
    draw = np.random.default_rng(reference.seed)
    wide = [group for group in groups if group.size > 1]
    # a wide group has more pairs to draw from, so it is drawn in proportion to its width
    owners = draw.choice(len(wide), RANDOM_PAIRS, p=np.array([group.size for group in wide]) / sum(group.size for group in wide))
    rates: list[float] = []
    for owner in np.unique(owners):
        pairs = [tuple(draw.choice(wide[owner].size, 2, replace=False).tolist()) for _ in range((owners == owner).sum())]
        outcomes = paired_outcomes(reference.original, reference, wide[owner], pairs, cases)
        rates += [float((differences != 0).mean()) for differences in outcomes]
    return float(np.percentile(rates, USUAL_PERCENTILE))
