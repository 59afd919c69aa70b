"""The mean absolute error of numbers and of grades, as a share of the original's or of the spread of the labels.

Its judges stand in the files of the tasks that have it (`optimize/guard/tasks/`).
"""

from __future__ import annotations

from optimize.guard.rails import GuardRail

RAIL = GuardRail(
    name="max_mae_rise",
    rule="rise",
    help="With numbers or grades: largest rise of the mean absolute error, of the labels' spread; 5% is of the original's.",
    example="2pp",
    criterion="rise of the mean absolute error",
    default=0.02,
    relative=True,
    order=36,
)
