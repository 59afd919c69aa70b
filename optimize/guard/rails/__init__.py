"""The table of guard-rails: each file of this folder is one row.

A guard-rail is a figure that must stay within a limit, such as "recall of any class may drop by 6 pp at most". A file holds one
`GuardRail`, called `RAIL`: the limit's name and words, and for each task a function that turns a comparison of two models into judged
rails.

Nothing else lists the guard-rails. `rows` finds the files, and these read it: `Limits`, the [limits] settings of a recipe, the options of
`optimize compress`, the check that a task has the figure, the verdict, the report and its section of limitations. A new file here is a new
guard-rail in all of them (`docs/extending/guard_rail.md`).

The command's help reads every row, so a file imports what is heavy (torch, scipy) inside its functions only.
"""

from __future__ import annotations

import pkgutil
import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal, TypeAlias

from optimize.guard.tasks import Judge, kinds

Task: TypeAlias = str
"""Name of a task, one of `optimize.guard.tasks.kinds()`."""
Rule: TypeAlias = Literal["drop", "rise", "floor", "ceiling"]
"""What is compared with the limit: baseline - candidate, candidate - baseline, or (floor, ceiling) the candidate's own figure."""
_NAME = {"floor": re.compile(r"min_[a-z][a-z0-9_]*"), "drop": re.compile(r"max_([a-z][a-z0-9_]*_)?drop")}
_OTHER_NAME = re.compile(r"max_[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class GuardRail:
    """One row of the table: a limit that a user may set, and how it is judged.

    Args:
        name: name of the limit in recipes, in `Limits` and in reports. The option is the same with hyphens: "max_ece_rise" is
            `--max-ece-rise`. A floor's name starts with "min_", all others with "max_", and a drop's name ends in "drop".
        rule: what is compared with the limit. It also decides the unit, and what a user may write: a drop "2pp" (percentage points) or
            "2%" (a share of the baseline's figure); a rise "2pp"; a ceiling "5%"; a floor "0.85" or "85%".
        help: one sentence for the command's help.
        example: a value for the command's help, such as "2pp".
        criterion: words of the limit in the report's list of criteria, such as "drop of sensitivity". It may hold {overall}, {metric},
            {class_metric} and {f1}, which the report replaces by the figure that this run's limits are about.
        unlimited: the figure's name in the report's sentence about figures that had no limit; "" to leave it out of that sentence.
        classification: turns a comparison of two classifiers and the limit into judged rails; None where classes have no such figure.
        segmentation: turns a comparison of two segmentations and the limit into judged rails; None where masks have no such figure. The
            judges of all other tasks stand in the task's file (`optimize/guard/tasks/`).
        default: the limit where a user sets none; None for no limit.
        fallback: name of the limit that holds in this one's place where a user sets none; "" for no such limit.
        needs_threshold: whether the figure exists only at the operating point that `threshold` sets.
        on_training_images: whether the search's check on training images (`optimize.searching.train_check`) asks for it too. Not for a
            figure to be reached, nor for confidence: the original remembers these images, and is better and surer there than elsewhere.
        in_format_2: whether format 2 of report.json has the limit under its own key. A rail that came later stands in `limits.further`.
        relative: whether the limit of a rise may be a share of the original's figure, "5%"; that of a drop always may.
        order: place in lists and reports, smallest first. Rails of rows with the same order are listed class by class.
    """

    name: str
    rule: Rule
    help: str
    example: str
    criterion: str
    unlimited: str = ""
    classification: Judge | None = None
    segmentation: Judge | None = None
    default: float | None = None
    fallback: str = ""
    needs_threshold: bool = False
    on_training_images: bool = True
    in_format_2: bool = False
    relative: bool = False
    order: int = 100

    def __post_init__(self) -> None:
        # The name alone tells a reader of a recipe which way the limit works, so the two may not disagree.
        if not _NAME.get(self.rule, _OTHER_NAME).fullmatch(self.name):
            raise ValueError(f"`name` (={self.name!r}) of a {self.rule} must be min_… for a floor, max_…_drop for a drop, else max_….")
        if not self.tasks:
            raise ValueError(f"guard-rail {self.name!r} must be judged for at least one task: give `classification` or `segmentation`.")

    @property
    def option(self) -> str:
        """The command's option."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that have the figure."""
        return tuple(task for task in kinds() if self.judge(task) is not None)

    def judge(self, task: Task) -> Judge | None:
        """The function that judges this rail in a task; None where the task has no such figure."""
        kind = kinds()[task]
        own = {"classification": self.classification, "segmentation": self.segmentation}.get(task) or kind.judges.get(self.name)
        return self.judge(kind.like) if own is None and kind.like else own

    def asks(self, limit: float | None) -> bool:
        """Whether a limit asks for anything: None does not, nor does a floor of 0."""
        return limit is not None and (self.rule != "floor" or limit > 0)


@cache
def rows() -> tuple[GuardRail, ...]:
    """Every guard-rail that has a file in this folder, in their `order`.

    >>> [row.name for row in rows()][:3]
    ['max_drop', 'max_recall_drop', 'max_class_drop']
    """
    table = [_row(module.name) for module in pkgutil.iter_modules(__path__)]
    names = [row.name for row in table]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two files of guard/rails/ define the guard-rail {twice[0]!r}: rename one of them.")
    # By name within one order, since the order in which a system lists files differs from system to system.
    return tuple(sorted(table, key=lambda row: (row.order, row.name)))


def _row(module: str) -> GuardRail:
    # A programmer's mistake and not a user's, hence ValueError: it shows when the new file is first read.
    row = getattr(import_module(f"{__name__}.{module}"), "RAIL", None)
    if not isinstance(row, GuardRail):
        raise ValueError(f"guard/rails/{module}.py must define RAIL, a GuardRail: a file of this folder is one guard-rail.")
    return row
