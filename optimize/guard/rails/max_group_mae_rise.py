"""The mean absolute error of numbers within every subgroup, of every column of subgroups that the data names.

Its judges stand in the files of the tasks that have it (`optimize/guard/tasks/`).
"""

from __future__ import annotations

from optimize.guard.rails import GuardRail

RAIL = GuardRail(
    name="max_group_mae_rise",
    rule="rise",
    help="With numbers: largest rise of the mean absolute error within any subgroup.",
    example="6pp",
    criterion="rise of the mean absolute error in any subgroup",
    default=0.06,
    relative=True,
    order=38,
)
