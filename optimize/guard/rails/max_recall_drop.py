"""Recall@1 of retrieval by embeddings. Its judge stands in the file of the task (`optimize/guard/tasks/embedding.py`)."""

from __future__ import annotations

from optimize.guard.rails import GuardRail

RAIL = GuardRail(
    name="max_recall_drop",
    rule="drop",
    help="With embeddings: largest allowed drop of recall@1 of retrieval.",
    example="2pp",
    criterion="drop of recall@1",
    default=0.02,
    order=12,
)
