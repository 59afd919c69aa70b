"""Turns templates into self-contained pages: one style, one script, and a content security policy that permits no other script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from optimize.files import write_all_atomically
from optimize.report import wording

FOLDER = Path(__file__).parent
_TARGETS = FOLDER.parent / "backends" / "targets"
_NAME_AND_TITLE = re.compile(r'^NAME = "([^"]+)"$.*?^DESCRIPTION = Description\(\s*"([^"]+)"', re.MULTILINE | re.DOTALL)
RUNTIMES = dict(found for file in sorted(_TARGETS.glob("*.py")) for found in _NAME_AND_TITLE.findall(file.read_text(encoding="utf-8")))
"""Target -> the name of its runtime, as its module states it. Read from the text, since a report imports no backend."""
OUTCOMES = {"pass": "Accepted", "fail": "Rejected", "inconclusive": "Inconclusive"}


def page(template: str, **shown: Any) -> str:
    """The text of a page.

    Args:
        template: file name of a template of this folder.
        shown: values for the template; every text among them is escaped.
    """
    loader = FileSystemLoader(FOLDER)
    # `StrictUndefined` makes a misspelt name in a template an error; by default it would be an empty cell.
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(wording.FILTERS)
    script = (FOLDER / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The policy names the script by its hash, so a script that came in with a class name would not run even if escaping failed.
    # `Markup` turns escaping off for this file alone: it belongs to this package, and escaped it would be no script.
    return environment.get_template(template).render(script=Markup(script), script_hash=f"sha256-{digest}", DASH=wording.DASH, **shown)  # noqa: S704


def as_json(value: Any) -> str:
    """JSON as this tool writes it.

    Raises:
        ValueError: when a number is NaN or infinite, which JSON cannot hold and no reader should have to guess about.
    """
    # Sorted keys: the same report always gives the same bytes, so two files can be compared by their hashes.
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_all(folder: Path, texts: Mapping[str, str]) -> None:
    """Write texts by name into `folder`; whatever fails, the files that were there before stay whole."""
    folder.mkdir(parents=True, exist_ok=True)
    write_all_atomically({folder / name: text for name, text in texts.items()})
