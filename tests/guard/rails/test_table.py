"""The table of guard-rails: one file is one row, and everything else follows from it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from optimize.guard.limits import Limits, stated
from optimize.guard.rails import GuardRail, rows
from optimize.report import render
from tests.guard.rails.made_up import SOURCE, run

SCHEMA = json.loads((Path(render.__file__).parent / "schema.json").read_text(encoding="utf-8"))
FOLDER = Path(render.__file__).parents[1] / "guard" / "rails"


def judge(compared: Any, limit: float) -> list[Any]:
    return []


def test_each_file_is_one_row_in_the_order_of_the_report() -> None:
    """A guard-rail that came after format 2 of the report needs no entry here."""
    assert [row.name for row in rows() if row.in_format_2] == [
        "max_drop",
        "max_class_drop",
        "max_group_drop",
        "min_class_f1",
        "min_class_recall",
        "min_agreement",
        "max_sensitivity_drop",
        "max_specificity_drop",
        "max_ece_rise",
        "max_regressed",
    ]
    assert {row.name for row in rows()} == {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("row", [row for row in rows() if row.in_format_2], ids=lambda row: row.name)
def test_format_2_names_every_shipped_limit_with_the_words_of_its_row(row: GuardRail) -> None:
    limits = SCHEMA["properties"]["limits"]
    words = limits["properties"][row.name]
    assert row.name in limits["required"]
    assert (words["title"], words["x-rule"], words["x-unlimited"]) == (row.criterion, row.rule, row.unlimited)
    assert words["x-tasks"] == list(row.tasks)
    assert words["$ref"] == ("#/$defs/share" if row.default is not None else "#/$defs/share_or_null")
    assert row.name in limits["properties"]["relative"]["items"]["enum"]


def test_the_schema_names_no_limit_that_has_no_row() -> None:
    named = SCHEMA["properties"]["limits"]["properties"]
    assert [name for name, words in named.items() if "x-rule" in words] == [row.name for row in rows() if row.in_format_2]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("m*.py")), ids=lambda path: path.stem)
def test_the_command_can_read_a_row_without_anything_heavy(path: Path) -> None:
    """What stands at the top of a file is imported for every help text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {node.module for node in top if isinstance(node, ast.ImportFrom)} <= {
        "__future__",
        "collections.abc",
        "typing",
        "optimize.guard.rails",
    }
    assert not [node for node in top if isinstance(node, ast.Import)]


@pytest.mark.parametrize(
    ("name", "rule"),
    [("max_f1", "floor"), ("min_f1", "drop"), ("max_f1", "drop"), ("f1", "ceiling"), ("max_F1", "rise"), ("max-f1", "rise")],
)
def test_a_name_says_what_is_limited(name: str, rule: Any) -> None:
    with pytest.raises(ValueError, match="must be min_… for a floor, max_…_drop for a drop, else max_…"):
        GuardRail(name, rule, "", "", "", classification=judge)


def test_a_row_is_judged_for_some_task() -> None:
    with pytest.raises(ValueError, match="'max_x' must be judged for at least one task"):
        GuardRail("max_x", "rise", "", "", "")
    assert GuardRail("max_x", "rise", "", "", "", segmentation=judge).tasks == ("segmentation",)


@pytest.mark.parametrize(("rule", "name", "nothing"), [("floor", "min_x", 0.0), ("ceiling", "max_x", None), ("drop", "max_drop", None)])
def test_what_asks_for_nothing(rule: Any, name: str, nothing: float | None) -> None:
    row = GuardRail(name, rule, "", "", "", classification=judge)
    assert not row.asks(None)
    assert row.asks(0.0) == (rule != "floor")
    assert not row.asks(nothing)
    assert row.asks(0.5)


def test_a_fallback_holds_where_nothing_is_set() -> None:
    group = next(row for row in rows() if row.fallback)
    assert (Limits(max_class_drop=0.1).of(group), Limits(max_class_drop=0.1, max_group_drop=0.2).of(group)) == (0.1, 0.2)


@pytest.mark.parametrize(("source", "said"), [("RAIL = 3\n", "must define RAIL"), (SOURCE.replace("max_changed", "max_drop"), "two files")])
def test_a_file_that_is_no_row_is_refused(tmp_path: Path, source: str, said: str) -> None:
    script = "try:\n    table.rows()\nexcept ValueError as problem:\n    print(problem)"
    assert said in run(tmp_path, script, source.replace('"ceiling"', '"drop"', 1))


def test_a_limit_is_stated_in_the_unit_of_its_rule() -> None:
    assert [stated(0.05, rule) for rule in ("drop", "rise", "ceiling", "floor")] == ["5 pp", "5 pp", "5 %", "5.00 %"]
