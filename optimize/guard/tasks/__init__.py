"""The kinds of task: each file of this folder is one, and says how its outputs are scored, compared and judged.

A file holds one `TaskKind`, called `TASK`. Nothing else lists the tasks. `kinds` finds the files, and these read it: the score of a split,
the comparison of two models, the guard-rails, the check of the original against a constant answer, the cases whose answer changed. What
labels look like, and which task they are of, is decided earlier (`optimize.data.label_kinds`).

The command's help reads this table, so a file imports what is heavy (torch, scipy) inside its functions only.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias

Judge: TypeAlias = Callable[[Any, float], Iterable[Any]]
"""From a comparison of two models and a limit to judged rails (`optimize.guard.rail.Rail`).

The comparison reads `Limits`, which reads the table of guard-rails, so their types cannot be named here.
"""


@dataclass(frozen=True)
class Labelled:
    """The labels of a split with what belongs to them; outputs are scored against it.

    Args:
        classes: names of the classes, labels or targets.
        patients: patient id of each item, (N,); None where patients are not known.
        groups: subgroup of each item, (N,), by the name of the subgroup column.
        meaning: whether outputs are "logits" or "probabilities".
        threshold: probability from which an output that stands alone is a yes.
    """

    classes: Sequence[str]
    patients: Any = None
    groups: Mapping[str, Any] | None = None
    meaning: Any = "logits"
    threshold: float = 0.5


@dataclass(frozen=True)
class TaskKind:
    """One kind of task.

    Args:
        name: name of the task, as a report and `--task` have it.
        order: place in lists, smallest first.
        score: turns batches of (outputs, labels) and what belongs to the labels into a score.
        compare: turns limits and two scores into a comparison, which guard-rails are judged from.
        no_information: compares the original's score with the best constant answer; from the score, the labels and the limits.
        case_figures: figure of each case, or of each patient where patients are known, (n,); larger is better.
        flips: the cases whose answer changed; from two scores, the names of the cases and the ids of their patients.
        judges: judge of each guard-rail that the task has a figure for, by the name of its limit. A guard-rail whose own file names a judge
            for the task needs no entry.
        like: name of the task whose judges hold where this one names none; "" for none.
    """

    name: str
    order: int
    score: Callable[[Iterable[tuple[Any, Any]], Labelled], Any]
    compare: Callable[[Any, Any, Any], Any]
    no_information: Callable[[Any, Any, Any], Any]
    case_figures: Callable[[Any], Any]
    flips: Callable[[Any, Any, Sequence[str], Any], list[Any]]
    judges: Mapping[str, Judge] = field(default_factory=dict)
    like: str = ""


@cache
def kinds() -> dict[str, TaskKind]:
    """Every task that has a file in this folder, by its name, in their `order`.

    >>> list(kinds())
    ['classification', 'segmentation', 'multilabel', 'ordinal', 'regression', 'embedding']
    """
    table = [_kind(module.name) for module in pkgutil.iter_modules(__path__)]
    return {kind.name: kind for kind in sorted(table, key=lambda kind: (kind.order, kind.name))}


def _kind(module: str) -> TaskKind:
    # A programmer's mistake and not a user's, hence ValueError: it shows when the new file is first read.
    kind = getattr(import_module(f"{__name__}.{module}"), "TASK", None)
    if not isinstance(kind, TaskKind) or kind.name != module:
        raise ValueError(f"guard/tasks/{module}.py must define TASK, a TaskKind of this name: a file of this folder is one task.")
    return kind
