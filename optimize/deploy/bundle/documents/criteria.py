"""criteria.json: the limits and settings that were fixed before the run, and the test cases that it was judged on."""

from __future__ import annotations

from typing import Any

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.manifest import readable_json

NAME = "criteria.json"
_SECTIONS = ("search", "retrain", "profile")
"""Sections of recipe.lock.toml that hold no path of the machine that ran it."""


def render(run: BundledRun) -> str:
    """Return the criteria; nothing that the run measured is among them."""
    report, recipe = run.report, run.recipe
    settings: dict[str, Any] = {name: recipe[name] for name in _SECTIONS if name in recipe}
    test = report["data"].get("test") or {}
    return readable_json(
        {
            "target": run.artifact.target,
            "seed": report["seed"],
            "limits": report["limits"],
            "settings": settings,
            "model": {key: report["model"].get(key) for key in ("name", "sha256")},
            # the cases by their hash: no case is named in a bundle
            "test_split": {key: test.get(key) for key in ("cases", "patients", "per_class", "sha256")},
            "look": _look(report.get("looks")),
        }
    )


def _look(looks: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return which look at the test split this was, and the share of its error rate that the look might use (docs/guard.md)."""
    return None if looks is None else {key: looks.get(key) for key in ("number", "share", "confidence")}
