"""The table of criteria: each file of this folder is one limit of `optimize gate`.

A file holds one `Criterion`, called `CRITERION`. Nothing else lists the criteria. `rows` finds the files, and these read it: the options of
`optimize gate`, those of the pytest plugin, the comparison, and the stored baseline. A new file here is a new criterion in all of them.

The command's help and the start of pytest read every row, so a file imports what is heavy (numpy, a runtime) inside its functions only.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from optimize.deploy.gate.judged import Judged, Rule

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence

Judge: TypeAlias = Callable[["Evidence", float | None], Iterable[Judged]]
"""From the evidence and the limit, None where none was asked for, to what was found; one entry for each figure."""
Record: TypeAlias = Callable[["Evidence"], Any]
"""From the evidence on a candidate to its figures for a stored baseline, as JSON; None where there is nothing to store."""


@dataclass(frozen=True)
class Criterion:
    """One row of the table: a limit that a user may set, and how it is judged.

    Args:
        name: name of the limit. The option is the same with hyphens: "max_size_growth" is `--max-size-growth`.
        rule: what is compared with the limit. "growth" is a share of the baseline's figure, such as "5%"; "drop" is a difference of two
            shares, such as "1pp".
        help: one sentence for the command's help.
        example: a value for the command's help.
        judge: compares both models.
        record: stores the candidate's figures.
        default: the limit where a user sets none; None for a figure that is shown and not judged.
        noisy: whether the figure varies from one measurement to the next, so that no measurement shows a growth of 0.
        order: place in lists, smallest first.
    """

    name: str
    rule: Rule
    help: str
    example: str
    judge: Judge
    record: Record
    default: float | None = None
    noisy: bool = True
    order: int = 100

    @property
    def option(self) -> str:
        """The command's option."""
        return f"--{self.name.replace('_', '-')}"


@cache
def rows() -> tuple[Criterion, ...]:
    """Return every criterion that has a file in this folder, in their `order`.

    >>> [row.name for row in rows()][:3]
    ['max_slowdown', 'max_drop', 'max_class_drop']
    """
    table = [_row(module.name) for module in pkgutil.iter_modules(__path__)]
    # By name within one order, since the order in which a system lists files differs from system to system.
    return tuple(sorted(table, key=lambda row: (row.order, row.name)))


def _row(module: str) -> Criterion:
    # A programmer's mistake and not a user's, hence ValueError: it shows when the new file is first read.
    row = getattr(import_module(f"{__name__}.{module}"), "CRITERION", None)
    if not isinstance(row, Criterion) or row.name != module:
        raise ValueError(f"deploy/gate/criteria/{module}.py must define CRITERION, a Criterion of the name {module!r}.")
    return row
