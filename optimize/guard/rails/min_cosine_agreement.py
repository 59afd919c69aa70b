"""The mean cosine of embeddings with the original's, that must be reached.

Its judge stands in the file of the task (`optimize/guard/tasks/embedding.py`).
"""

from __future__ import annotations

from optimize.guard.rails import GuardRail

RAIL = GuardRail(
    name="min_cosine_agreement",
    rule="floor",
    help="With embeddings: mean cosine with the original's embeddings that must be reached.",
    example="0.95",
    criterion="mean cosine with the original’s embeddings",
    unlimited="the agreement of embeddings with the original’s",
    order=52,
)
