"""The bias of numbers: how far predictions lie off on average, in either direction, as a share of the spread of the labels.

Its judges stand in the files of the tasks that have it (`optimize/guard/tasks/`).
"""

from __future__ import annotations

from optimize.guard.rails import GuardRail

RAIL = GuardRail(
    name="max_bias",
    rule="ceiling",
    help="With numbers: largest mean error with its sign, in either direction, of the labels' spread.",
    example="5%",
    criterion="bias",
    unlimited="the bias of the numbers",
    order=44,
)
