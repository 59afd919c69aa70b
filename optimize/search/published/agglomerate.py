"""Agglomerative clustering of a layer's channels by centroid linkage, as the sequence of merges it makes.

Clusters are as alike as the cosine between the means of their channels' features, each scaled to length 1. With the cosines c of channels
that is, for clusters A and B,

    likeness(A, B) = sum_AB c / sqrt( sum_AA c * sum_BB c )

so the (size, size) matrix is all that is needed. A cluster is represented by one of its channels: of the two representatives that meet, the
one more alike, on average, to the other members of the new cluster stays; or, where a signal says what channels are worth, the one worth
more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimize.graph.trace import Index
from optimize.importance.signal import Scores


@dataclass(frozen=True)
class ClusterMerge:
    """One merge of two clusters: the channel that goes, the one that stays for both, and how alike the clusters were."""

    gone: int
    heir: int
    likeness: float


def agglomerate(cosine: Scores, least: float, worth: Scores | None = None) -> list[ClusterMerge]:
    """Merge the two most alike clusters until none are as alike as `least`.

    Args:
        cosine: (size, size) between channels; one that is NaN on the diagonal is like no other.
        least: likeness below which clusters stay apart.
        worth: (size,) what each channel is worth, NaN where that is not known; None to go by the cosines throughout.
    """
    alive = np.flatnonzero(~np.isnan(cosine.diagonal()))
    sums = np.nan_to_num(cosine)[alive][:, alive]  # of the cosines between the members of two clusters
    members: list[Index] = [np.array([channel]) for channel in alive]
    heads: list[int] = alive.tolist()
    unions: list[ClusterMerge] = []
    while len(members) > 1:
        length = np.sqrt(np.maximum(sums.diagonal(), 1e-300))
        likeness = sums / np.outer(length, length)
        np.fill_diagonal(likeness, -np.inf)
        first, second = divmod(int(np.round(likeness, 12).argmax()), len(members))
        if likeness[first, second] < least:
            break
        together = np.concatenate([members[first], members[second]])
        heir, gone = _by_worth(worth, heads[first], heads[second]) or _by_centrality(cosine, together, heads[first], heads[second])
        unions.append(ClusterMerge(gone, heir, float(likeness[first, second])))
        sums[first] += sums[second]
        sums[:, first] += sums[:, second]
        sums = np.delete(np.delete(sums, second, 0), second, 1)
        members[first], heads[first] = together, heir
        del members[second], heads[second]
    return unions


def _by_worth(worth: Scores | None, first: int, second: int) -> tuple[int, int] | None:
    """The two representatives, the one that stays before the one that goes; None where nothing tells them apart."""
    if worth is None or np.isnan(worth[[first, second]]).any() or worth[first] == worth[second]:
        return None
    return (first, second) if worth[first] > worth[second] else (second, first)


def _by_centrality(cosine: Scores, members: Index, first: int, second: int) -> tuple[int, int]:
    """The two representatives, the one that stays before the one that goes; the first where neither is more central."""
    central = [float(np.round(cosine[channel, members[members != channel]].mean(), 12)) for channel in (first, second)]
    return (first, second) if central[0] >= central[1] else (second, first)
