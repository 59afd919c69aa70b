"""Write the draft of a protocol: facts of the model, the data and the settings are filled in, what a person must decide is empty.

An empty text is refused when the protocol is read, so a draft does not pass for a protocol.
"""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path

import tomli_w

from optimize.errors import InputError
from optimize.files import sha256
from optimize.guard.rails import rows
from optimize.progress import note
from optimize.run.prepare import loaded
from optimize.run.protocol import FORMAT, LISTS, MEANING, OPTIONAL_TEXTS, TEXTS, require_writable, write_beside
from optimize.run.recipe import Recipe, to_toml

HEAD = """# The protocol of a change. Fill in every empty text, then sign the file before the run:
#     optimize protocol {name} --sign-key key.pem
# Sections that may be left out: [practices] and [impact].

"""


def write_draft(recipe: Recipe, file: Path) -> Path:
    """Write the draft of the protocol of a run, and return its file.

    Args:
        recipe: the resolved settings of the run; its model and its data are loaded and checked.
        file: TOML file to write; it must not exist.

    Raises:
        InputError: when the file exists or cannot be written, or the model, the data or a setting is wrong.
    """
    if file.exists():
        raise InputError(f"`protocol` (={file}) exists: name another file, or remove it.")
    if file.suffix.lower() != ".toml":
        raise InputError(f"`protocol` (={file}) must end in .toml: a draft has comments, which JSON does not have.")
    require_writable(file)
    data = loaded(recipe, lambda space: None).data
    write_beside(file, draft(recipe, data.test.sha256, len(data.test), name=file.name))
    note(f"the test split has {len(data.test)} cases, sha256 {data.test.sha256[:12]}…")
    return file


def draft(recipe: Recipe, test_sha256: str, cases: int, *, name: str) -> str:
    """Return the text of a draft.

    Args:
        recipe: the resolved settings of the run.
        test_sha256: hash of the test split.
        cases: number of cases of the test split.
        name: name of the protocol's file, for the comment at its head.
    """
    criteria = _criteria(recipe)
    empty = {section: dict.fromkeys(keys, "") for section, keys in TEXTS.items()}
    content = {
        "format": FORMAT,
        "title": "",
        "date": date.today(),
        "responsible": "",
        "modification": {**empty["modification"], **({"reason": recipe.reason} if recipe.reason else {})},
        "criteria": criteria,
        "justification": {name: "" for name in criteria if name not in MEANING},
        "statistics": empty["statistics"],
        "test_data": {"sha256": test_sha256, "description": ""},
        "consequences": empty["consequences"],
        "run": {"target": recipe.target, "retrain": recipe.retrain, "seed": recipe.seed},
        "model": {"sha256": sha256(recipe.model)},
        "practices": dict.fromkeys(OPTIONAL_TEXTS["practices"], ""),
        "impact": {key: [] for key in LISTS["impact"]},
    }
    # a line on the number of cases helps whoever writes the statistical plan
    return HEAD.format(name=name) + f"# The test split has {cases} cases.\n\n" + tomli_w.dumps(content)


def _criteria(recipe: Recipe) -> dict[str, object]:
    """Return the limits that the run asks for, as its lock file has them."""
    limits = tomllib.loads(to_toml(recipe))["limits"]
    asked = {row.name for row in rows() if row.asks(getattr(recipe.limits, row.name))}
    return {name: value for name, value in limits.items() if name in asked or (name in MEANING and value not in ("none", []))}
