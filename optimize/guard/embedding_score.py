"""How well embeddings find items of the same identity: recall@1 and recall@5 of retrieval by cosine similarity within a split.

Every item whose identity occurs again in the split is a *query*. All other items of the split are the *gallery*. Recall@k is the share of
the queries for which an item of their identity is among the k nearest of the gallery. An item that is alone with its identity is no query
and stays in the gallery of all others.

Example: a at 0 and 10 degrees, b at 50 and 100 degrees, and c at 60 degrees. Both a find each other. The first b is nearest to c and then
to a at 10 degrees, and the second b is nearest to c and then to the first b. So recall@1 is 2 of 4 queries, 50 %.

Queries are not independent where they show the same identity or the same patient: each mistakes the other's features. Identities that
share a patient, and patients that share an identity, are joined into one cluster (connected components).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats
from optimize.data.identities import queries
from optimize.guard.design_effect import as_numbers
from optimize.guard.score_intervals import Booleans, Doubles, Integers

NEAREST = 5
"""Number of nearest items that recall@5 looks at."""
ALL = "all identities"
"""Name of the only row of the table of classes: identities are often thousands, and no class of the network."""
SIMILARITIES_AT_ONCE = 2**24
"""Most similarities in memory."""
TINY = 1e-12
"""Length below which a vector has no direction."""


@dataclass(frozen=True, eq=False)
class EmbeddingScore:
    """A model's embeddings of one split of N items.

    Args:
        labels: identity of each item, (N,).
        vectors: embeddings of length 1, (N, D); 0 where the outputs are not finite or all 0.
        neighbours: identities of the nearest items, nearest first, (N, 5 or fewer).
        found: whether each neighbour is of the item's identity, (N, 5 or fewer).
        asked: the items that are queries, (N,).
        clusters: number of the cluster of each item, (N,), see above.
        similarity: cosine similarity of the nearest neighbour, (N,).
        groups: subgroup of each item, (N,), by the name of the subgroup column.
    """

    task: ClassVar[str] = "embedding"
    classes: ClassVar[tuple[str, ...]] = (ALL,)

    labels: Integers
    vectors: Floats = field(repr=False)
    neighbours: Integers
    found: Booleans
    asked: Booleans
    clusters: Integers
    similarity: Doubles
    groups: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def correct(self) -> Booleans:
        """Whether the nearest neighbour is of the item's identity, (N,)."""
        return np.asarray(self.found[:, 0])

    def recall(self, k: int) -> float:
        """Share of the queries that have an item of their identity among the k nearest; 0 without a query."""
        return float(self.found[self.asked, :k].any(1).mean()) if self.asked.any() else 0.0

    @property
    def overall(self) -> float:
        """Recall@1."""
        return self.recall(1)

    @property
    def figures(self) -> dict[str, float]:
        """Recall@1 of all identities."""
        return {ALL: self.overall}

    def cosines(self, original: EmbeddingScore) -> Doubles:
        """Cosine of each item's embedding with the original's, (N,)."""
        return np.asarray(np.einsum("nd,nd->n", self.vectors, original.vectors, dtype=np.float64).clip(-1.0, 1.0))

    def take(self, rows: npt.NDArray[Any]) -> EmbeddingScore:
        """The score of some of the items; their neighbours are still looked for among all items."""
        taken = {name: getattr(self, name)[rows] for name in ("labels", "vectors", "neighbours", "found", "asked", "similarity")}
        groups = {column: values[rows] for column, values in self.groups.items()}
        return replace(self, clusters=as_numbers(self.clusters[rows]), groups=groups, **taken)

    def parts(self, column: str) -> list[tuple[str, EmbeddingScore]]:
        """The subgroups of one column, in the order of their names."""
        values = self.groups[column]
        return [(str(value), self.take(values == value)) for value in sorted(set(values.tolist()))]

    def as_dict(self, original: Any = None) -> dict[str, Any]:
        """The form that a report shows.

        Args:
            original: score of the original on the same items, which the embeddings are compared with; None for the original itself.
        """
        cosines = None if original is None else self.cosines(original)
        near: dict[str, float | None] = {"cosine": None, "cosine_p5": None}
        if cosines is not None and len(cosines):
            near = {"cosine": float(cosines.mean()), "cosine_p5": float(np.percentile(cosines, 5))}
        return {
            "overall": self._recalls() | near,
            "per_class": {ALL: self._recalls()},
            "per_group": {column: {value: part._recalls() for value, part in self.parts(column)} for column in self.groups},
            "confusion": None,
        }

    def _recalls(self) -> dict[str, Any]:
        asked = int(self.asked.sum())
        return {"cases": asked, "items": len(self), "recall_at_1": self.recall(1), f"recall_at_{NEAREST}": self.recall(NEAREST)}


def score_embeddings(
    answers: Iterable[tuple[Floats, npt.NDArray[Any]]],
    patients: npt.NDArray[Any] | None = None,
    groups: Mapping[str, npt.NDArray[Any]] | None = None,
) -> EmbeddingScore:
    """Score embeddings (n, D), batch by batch, each with the identities, (n,).

    Args:
        answers: the batches.
        patients: patient id of each item over all batches, (N,); None where patients are not known.
        groups: subgroup of each item, (N,), by the name of the subgroup column.

    Example:
        >>> degrees = np.radians([0, 10, 50, 100, 60])
        >>> score = score_embeddings([(np.stack([np.cos(degrees), np.sin(degrees)], 1), np.array([0, 0, 1, 1, 2]))])
        >>> score.recall(1), score.recall(5), int(score.asked.sum())
        (0.5, 1.0, 4)
    """
    outputs, labels = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    labels = labels.astype(np.int64)
    outputs = np.where(np.isfinite(outputs).all(1, keepdims=True), np.nan_to_num(outputs), 0.0)
    lengths = np.linalg.norm(outputs, axis=1, keepdims=True)
    vectors = np.asarray(np.where(lengths > TINY, outputs / np.maximum(lengths, TINY), 0.0), dtype=np.float32)
    places, similarity = _nearest(vectors)
    neighbours = labels[places]
    # A vector without a direction is as near to all others, so its neighbours are chance.
    found = (neighbours == labels[:, None]) & (lengths > TINY)
    return EmbeddingScore(labels, vectors, neighbours, found, queries(labels), _clusters(labels, patients), similarity, dict(groups or {}))


def _nearest(vectors: Floats) -> tuple[Integers, Doubles]:
    """Places of each vector's nearest others, nearest first, (N, k), and the similarity of the first, (N,)."""
    n = len(vectors)
    k = max(1, min(NEAREST, n - 1))
    places, similarity = np.zeros((n, k), np.int64), np.zeros(n)
    # Chunk by chunk: the similarities of 200,000 items with each other would take 160 GB.
    step = max(1, SIMILARITIES_AT_ONCE // max(1, n))
    for start in range(0, n, step):
        rows = np.arange(start, min(n, start + step))
        near = vectors[rows] @ vectors.T
        near[np.arange(len(rows)), rows] = -np.inf
        top = np.argpartition(-near, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(near, top, 1)
        # Equally near ones in the order of their places, so that a run is reproducible.
        order = np.lexsort((top, -values), axis=1)
        places[rows], similarity[rows] = np.take_along_axis(top, order, 1), values.max(1)
    return places, similarity


def _clusters(labels: Integers, patients: npt.NDArray[Any] | None) -> Integers:
    """Number of the cluster of each item: its identity, joined with every identity of the same patient."""
    identities = as_numbers(labels)
    if patients is None or not len(labels):
        return identities
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    owners = as_numbers(patients) + int(identities.max()) + 1
    count = int(owners.max()) + 1
    joined = connected_components(coo_array((np.ones(len(labels)), (identities, owners)), shape=(count, count)), directed=False)[1]
    return as_numbers(joined[identities])
