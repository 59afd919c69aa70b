"""Embeddings: vectors whose directions are near for items of the same identity. Judged by retrieval, and by agreement with the original."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from optimize.guard.tasks import Labelled, TaskKind

if TYPE_CHECKING:
    from optimize.guard.embedding_comparison import EmbeddingComparison
    from optimize.guard.rail import Rail

RECALL = "recall@1"


def _score(answers: Iterable[tuple[Any, Any]], labelled: Labelled) -> Any:
    from optimize.guard.embedding_score import score_embeddings

    return score_embeddings(answers, labelled.patients, labelled.groups)


def _compare(limits: Any, baseline: Any, candidate: Any) -> Any:
    from optimize.guard.embedding_comparison import EmbeddingComparison

    return EmbeddingComparison(limits, baseline, candidate)


def _no_information(score: Any, labels: Any, limits: Any) -> Any:
    """The best constant answer names the identity that the most items show."""
    import numpy as np

    from optimize.guard.intervals import drop_of_share
    from optimize.guard.no_information import CONFIDENCE, SKILL, NoInformation

    asked, clusters = score.asked, np.unique(score.clusters[score.asked], return_inverse=True)[1].reshape(-1)
    shown, counts = np.unique(score.labels[asked], return_counts=True)
    usual = score.labels[asked] == (shown[counts.argmax()] if len(shown) else 0)
    rate = float(usual.mean()) if len(usual) else 0.0
    gain = drop_of_share(score.correct[asked], usual, CONFIDENCE, clusters)
    # The large-sample bound, as for all tasks whose cases come in clusters.
    better = gain.for_search.low > 0 and score.overall - rate >= SKILL * (1 - rate)
    same = len(score) > 1 and float(np.ptp(score.vectors, axis=0).max()) < 1e-4
    words = "always naming the commonest identity"
    return NoInformation(RECALL, score.overall, rate, words, better and not same, same, len(usual), "cases")


def _case_figures(score: Any) -> Any:
    from optimize.guard.memorization import by_patient

    return by_patient(score.correct[score.asked], score.clusters[score.asked])


def _flips(baseline: Any, candidate: Any, names: Sequence[str], patients: Any) -> list[Any]:
    """Queries whose nearest neighbour is no longer of their identity, or is so now."""
    import numpy as np

    from optimize.guard.flips import Flip, whose

    words, changed = ("another identity", "the same identity"), []
    for case in np.flatnonzero(baseline.asked & (baseline.correct != candidate.correct)).tolist():
        patient, groups = whose(case, patients, baseline.groups)
        old, new = int(baseline.correct[case]), int(candidate.correct[case])
        kind = "regressed" if old else "fixed"
        sure = [float(np.clip(score.similarity[case], 0.0, 1.0)) for score in (baseline, candidate)]
        changed.append(Flip(str(names[case]), patient, groups, kind, words[1], words[old], words[new], sure[0], sure[1]))
    return changed


def _recall(compared: EmbeddingComparison, limit: float) -> Iterator[Rail]:
    yield compared.rail("drop", limit, RECALL, *compared.drop_of_recall(limit))


def _groups(compared: EmbeddingComparison, limit: float) -> Iterator[Rail]:
    for column in compared.baseline.groups:
        for value, part in compared.parts(column):
            yield part.rail("drop", limit, RECALL, *part.drop_of_recall(limit), scope="group", name=value, column=column)


def _agreement(compared: EmbeddingComparison, limit: float) -> Iterator[Rail]:
    from dataclasses import replace

    estimate = compared.agreement()
    rail = compared.rail("floor", limit, "cosine", estimate, None, estimate.value)
    yield replace(rail, title="mean cosine with the original’s embeddings")


TASK = TaskKind(
    "embedding",
    5,
    _score,
    _compare,
    _no_information,
    _case_figures,
    _flips,
    judges={"max_recall_drop": _recall, "max_group_drop": _groups, "min_cosine_agreement": _agreement},
)
