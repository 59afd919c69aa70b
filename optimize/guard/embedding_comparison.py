"""Two models' embeddings of the same items: guard-rails of retrieval and of the agreement with the original are judged by this.

Recall@1 is a paired yes or no for each query, as accuracy is for each case, so its drop has the bounds of a share (`drop_of_share`): the
counts of lost and gained queries, divided by the design effect of the clusters (`optimize.guard.embedding_score`).

The agreement is the mean cosine of an item's embedding with the original's. Its bound is that of a mean over clusters, with a worst case:
one more cluster whose embeddings are unrelated to the original's, with cosine 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from optimize.guard.comparison import Comparison
from optimize.guard.embedding_score import EmbeddingScore
from optimize.guard.intervals import Estimate, drop_of_share, mean_of
from optimize.guard.limits import Relative
from optimize.guard.rails import Task

UNRELATED = 0.0
"""Cosine of the worst case."""


class EmbeddingComparison(Comparison[EmbeddingScore]):
    """Two models on the same N items."""

    task: ClassVar[Task] = "embedding"

    def parts(self, column: str) -> Iterator[tuple[str, EmbeddingComparison]]:
        """The comparison of the queries in each subgroup of a column, in the order of their names."""
        for (value, baseline), (_, candidate) in zip(self.baseline.parts(column), self.candidate.parts(column), strict=True):
            yield value, EmbeddingComparison(self.limits, baseline, candidate)

    def drop_of_recall(self, limit: float) -> tuple[Estimate, float, float]:
        """How far recall@1 fell, and both models' recall@1.

        Args:
            limit: the limit of the drop; a `Relative` one is bounded as a ratio.
        """
        asked = self.baseline.asked
        sides = self.baseline.correct[asked], self.candidate.correct[asked]
        clusters = np.unique(self.baseline.clusters[asked], return_inverse=True)[1].reshape(-1)
        estimate = drop_of_share(*sides, self.limits.confidence, clusters, relative=isinstance(limit, Relative))
        return estimate, self.baseline.overall, self.candidate.overall

    def agreement(self) -> Estimate:
        """Mean cosine of the candidate's embeddings with the baseline's."""
        cosines, clusters = self.candidate.cosines(self.baseline), self.baseline.clusters
        if not len(cosines):
            return mean_of(cosines, self.limits.confidence, UNRELATED, ends=(-1.0, 1.0))
        count, middle = int(clusters.max()) + 1, float(cosines.mean())
        # Each cluster's deviations are added up, so that one with more items weighs more, as it does in the mean over items.
        sums = middle + np.bincount(clusters, cosines - middle, count) * count / len(cosines)
        return mean_of(sums, self.limits.confidence, UNRELATED, middle, ends=(-1.0, 1.0))
