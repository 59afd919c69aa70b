"""Agglomerative clustering of a layer's channels by centroid linkage, as the sequence of merges it makes.

The similarity of two clusters is the cosine between the means of their channels' features, each feature vector scaled to length 1. With the
cosines c of channels, for clusters A and B,

    similarity(A, B) = sum_AB c / sqrt( sum_AA c * sum_BB c )

so the (size, size) matrix of cosines is all that is needed: no feature is looked at again. When two clusters merge, their rows and columns
of the matrix of sums are added.

Each cluster is represented by one of its channels. When two clusters merge, the representative that is more similar, on average, to the
other members of the new cluster stays.

Example: channels 0 and 1 have cosine .9, channel 2 has .6 with both. With 0 and 1 merged, sum_AA = 1 + .9 + .9 + 1 = 3.8 and
sum_AB = 1.2, so the similarity of {0, 1} and {2} is 1.2 / sqrt(3.8) = .62:

    >>> cosine = np.array([[1.0, 0.9, 0.6], [0.9, 1.0, 0.6], [0.6, 0.6, 1.0]])
    >>> [(merge.removed, merge.merge_into, round(merge.similarity, 2)) for merge in agglomerate(cosine, 0.6)]
    [(1, 0, 0.9), (2, 0, 0.62)]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimize.graph.trace import Index
from optimize.importance.signal import Scores


@dataclass(frozen=True)
class ClusterMerge:
    """One merge of two clusters.

    Args:
        removed: the channel that goes.
        merge_into: the channel that represents both clusters from now on.
        similarity: similarity of the two clusters, at most 1.
    """

    removed: int
    merge_into: int
    similarity: float


def agglomerate(cosine: Scores, min_similarity: float, worth: Scores | None = None) -> list[ClusterMerge]:
    """Return the merges, in order: always the two most similar clusters, until no two are as similar as `min_similarity`.

    Args:
        cosine: (size, size) cosines between channels. A channel that is NaN on the diagonal (a silent one) is never merged.
        min_similarity: clusters less similar than this stay apart.
        worth: (size,) what each channel is worth, NaN where that is not known. Of two representatives, the one worth more stays; None to
            keep the more central one throughout.
    """
    alive = np.flatnonzero(~np.isnan(cosine.diagonal()))
    sums = np.nan_to_num(cosine)[alive][:, alive]  # of the cosines between the members of two clusters
    members: list[Index] = [np.array([channel]) for channel in alive]
    representatives: list[int] = alive.tolist()
    merges: list[ClusterMerge] = []
    while len(members) > 1:
        # the diagonal holds sum_AA c, the squared length of the sum of a cluster's unit vectors
        length = np.sqrt(np.maximum(sums.diagonal(), 1e-300))
        similarity = sums / np.outer(length, length)
        np.fill_diagonal(similarity, -np.inf)
        # rounding makes equal similarities tie on every machine; argmax then takes the first pair
        first, second = divmod(int(np.round(similarity, 12).argmax()), len(members))
        if similarity[first, second] < min_similarity:
            break
        joined = np.concatenate([members[first], members[second]])
        pair = representatives[first], representatives[second]
        staying, leaving = _by_worth(worth, *pair) or _by_centrality(cosine, joined, *pair)
        merges.append(ClusterMerge(leaving, staying, float(similarity[first, second])))
        # the sums of cosines of the joined cluster are those of its parts added, as rows and as columns; then the second one goes
        sums[first] += sums[second]
        sums[:, first] += sums[:, second]
        sums = np.delete(np.delete(sums, second, 0), second, 1)
        members[first], representatives[first] = joined, staying
        del members[second], representatives[second]
    return merges


def _by_worth(worth: Scores | None, first: int, second: int) -> tuple[int, int] | None:
    """Return (the representative that stays, the one that goes); None where their worth is not known or equal."""
    if worth is None or np.isnan(worth[[first, second]]).any() or worth[first] == worth[second]:
        return None
    return (first, second) if worth[first] > worth[second] else (second, first)


def _by_centrality(cosine: Scores, members: Index, first: int, second: int) -> tuple[int, int]:
    """Return (the representative that stays, the one that goes); the first stays where neither is more central."""
    central = [float(np.round(cosine[channel, members[members != channel]].mean(), 12)) for channel in (first, second)]
    return (first, second) if central[0] >= central[1] else (second, first)
