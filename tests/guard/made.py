"""Answers made up for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from optimize.guard.classification_score import ClassificationScore, answers

CELLS = ("basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte", "monocyte", "neutrophil", "platelet")
# Published for eight kinds of blood cell: the original, and the same network cut by stochastic gates.
ORIGINAL = [
    [243, 0, 0, 0, 0, 0, 1, 0],
    [0, 623, 0, 1, 0, 0, 0, 0],
    [0, 0, 303, 3, 2, 3, 0, 0],
    [0, 1, 4, 559, 1, 2, 12, 0],
    [0, 0, 1, 2, 238, 2, 0, 0],
    [1, 0, 0, 5, 1, 276, 1, 0],
    [0, 0, 0, 9, 0, 0, 657, 0],
    [0, 0, 0, 0, 0, 0, 0, 470],
]
GATED = [
    [192, 0, 0, 12, 10, 15, 15, 0],
    [0, 604, 5, 10, 2, 1, 2, 0],
    [4, 2, 297, 3, 2, 3, 0, 0],
    [12, 10, 15, 500, 15, 12, 15, 0],
    [10, 2, 5, 10, 212, 2, 2, 0],
    [15, 1, 2, 15, 10, 239, 2, 0],
    [15, 2, 2, 12, 2, 1, 632, 0],
    [0, 0, 0, 2, 0, 0, 1, 467],
]


def said(decided: np.ndarray, count: int) -> np.ndarray:
    """Outputs whose largest entry is the given class."""
    return np.asarray(np.eye(count, dtype=np.float32)[decided])


def table(rows: Sequence[Sequence[int]], classes: Sequence[str] = CELLS) -> ClassificationScore:
    """Answers with this confusion matrix; a class's right ones come first, so that two tables differ in as few cases as can be."""
    labels = np.repeat(np.arange(len(rows)), np.sum(rows, axis=1))
    others = [[k, *(j for j in range(len(rows)) if j != k)] for k in range(len(rows))]
    decided = np.concatenate([np.repeat(order, np.array(row)[order]) for row, order in zip(rows, others, strict=True)])
    return answers(said(decided.astype(int), len(rows)), labels, classes)


def two(right: tuple[int, int], of: tuple[int, int] = (100, 100)) -> ClassificationScore:
    """Two classes by how many cases of each are right."""
    return table([[right[0], of[0] - right[0]], [of[1] - right[1], right[1]]], "ab")


def moved(
    lost: int,
    gained: int,
    right: int,
    wrong: int = 0,
    *,
    patients: Sequence[object] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> tuple[ClassificationScore, ClassificationScore]:
    """Class "a" before and after: so many cases lost, gained, right in both, wrong in both, in this order; and 1,000 of "b", all right."""
    old = np.repeat([0, 1, 0, 1], [lost, gained, right, wrong])
    new = np.repeat([1, 0, 0, 1], [lost, gained, right, wrong])
    labels = np.concatenate([np.zeros(len(old), int), np.ones(1000, int)])
    whose = None if patients is None else np.array([*patients, *(f"b{k}" for k in range(1000))])
    columns = {name: np.array([*values, *["b"] * 1000]) for name, values in (groups or {}).items()}
    sides = (np.concatenate([each, np.ones(1000, int)]) for each in (old, new))
    before, after = (answers(said(each, 2), labels, "ab", whose, columns) for each in sides)
    return before, after
