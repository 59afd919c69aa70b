"""A new guard-rail is one new file: the recipe, the command, the verdict, the report and its schema know it without another change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from optimize.report.change_control import fixed
from optimize.report.limitations import limitations
from tests.guard.rails.made_up import run
from tests.guard.rails.test_table import SCHEMA
from tests.report.sample import masks, passing

SCRIPT = """
import json
from pathlib import Path
from click.testing import CliRunner
from optimize.cli import main
from optimize.errors import InputError
from optimize.guard.limits import Limits
from optimize.guard.verdict import judge
from optimize.run.setting_checks import require_figures
from optimize.run.recipe import resolve, to_toml
from tests.guard.made import two

here = Path(FOLDER)
help = CliRunner().invoke(main, ["compress", "--help"]).output
(here / "optimize.toml").write_text("[limits]\\nmax_changed = '8%'\\n")
recipe = resolve(here / "m.pt", target="openvino", overrides={"out": "o"})
flagged = resolve(here / "m.pt", target="openvino", overrides={"out": "o", "max_changed": "3%"})
(here / "recipe.lock.toml").write_text(to_toml(recipe))
errors = []
for refused in (lambda: require_figures(recipe.limits, "segmentation"), lambda: Limits(max_changed=2), lambda: Limits(max_changed=0)):
    try:
        refused()
    except InputError as problem:
        errors.append(str(problem))
verdict = judge(recipe.limits, two((500, 500), (500, 500)), two((400, 500), (500, 500)))
print(json.dumps({
    "help": help,
    "limits": [recipe.limits.max_changed, flagged.limits.max_changed, Limits().max_changed],
    "same": resolve(recipe_file=here / "recipe.lock.toml") == recipe,
    "errors": errors,
    "rail": verdict.rails[-1].as_dict(),
    "reasons": verdict.reasons,
    "asked": recipe.limits.as_dict(),
    "unasked": Limits().as_dict(),
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rails")
    (folder / "data").mkdir()
    printed = run(folder, SCRIPT.replace("FOLDER", repr(str(folder / "data"))))
    return dict(json.loads(printed.splitlines()[-1]))


def test_the_recipe_and_the_command_know_it(found: dict[str, Any]) -> None:
    assert "--max-changed 8%" in found["help"]
    assert "Largest allowed share of decisions that change." in " ".join(found["help"].split())
    assert found["limits"] == [0.08, 0.03, None]
    assert found["same"]


def test_it_is_checked_like_every_limit(found: dict[str, Any]) -> None:
    assert found["errors"] == [
        "`max_changed` (=0.08) is for classes or grades, and this model gives masks: leave it out.",
        "`max_changed` (=2) must lie between 0 and 1: write 0.02 or '2pp' for two percentage points.",
        "`max_changed` (=0) can be shown by no number of cases: allow a little, or ask for --verdict point.",
    ]


def test_it_is_judged(found: dict[str, Any]) -> None:
    rail = found["rail"]
    assert (rail["figure"], rail["value"], rail["outcome"], rail["stated"]) == ("share of changed decisions", 0.1, "fail", "8 %")
    assert found["reasons"][-1].startswith("share of changed decisions is 10.00 % on 1000 cases")


def report(found: dict[str, Any], limits: str, sample: dict[str, Any]) -> dict[str, Any]:
    """A report of a run that had the guard-rail."""
    return sample | {"limits": sample["limits"] | {"further": found[limits]["further"]}, "rails": [*sample["rails"], found["rail"]]}


def test_the_report_shows_it(found: dict[str, Any], tmp_path: Path) -> None:
    asked = report(found, "asked", passing())
    jsonschema.validate(asked, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert ("Share of decisions that change", "at most 8 %") in fixed(asked)
    assert "the share of decisions that change" not in " ".join(limitations(asked, "OpenVINO"))
    unasked = report(found, "unasked", passing())
    assert "and the share of decisions that change." in " ".join(limitations(unasked, "OpenVINO"))
    assert "the share of decisions" not in " ".join(limitations(report(found, "unasked", masks()), "OpenVINO"))
    from optimize.report.render import render

    assert "Share of changed decisions" in render(asked)


@pytest.mark.parametrize(
    "change", [{"name": "changed"}, {"limit": 2}, {"rule": "ratio"}, {"tasks": ["detection"]}, {"criterion": ""}, {"more": 1}]
)
def test_the_schema_holds_it_to_a_form(found: dict[str, Any], change: dict[str, Any]) -> None:
    broken = report(found, "asked", passing())
    broken["limits"]["further"] = [{**broken["limits"]["further"][0], **change}]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA, cls=jsonschema.Draft202012Validator)


def test_a_report_without_it_has_no_trace_of_it(found: dict[str, Any]) -> None:
    assert "max_changed" not in [limit["name"] for limit in passing()["limits"].get("further", ())]
    assert "max_changed" in [limit["name"] for limit in found["asked"]["further"]]
