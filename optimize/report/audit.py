"""The page and the file of an audit (`optimize audit`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.report.page import as_json, page, write_all

JSON, PAGE = "audit.json", "audit.html"


def write(audit: Mapping[str, Any], folder: Path) -> None:
    """Write `audit.json` and `audit.html`; both appear whole or not at all.

    Args:
        audit: what was found, as plain JSON of format 1.
        folder: folder for the files; it is made.

    Raises:
        OSError: when the folder cannot be written.
    """
    advice = {each["layer"]: each for each in audit["playbook"]}
    rows = [{**layer, "advice": advice[layer["name"]]} for layer in audit["layers"]]
    fidelity = [{**each, **_worst(audit["classes"], each["recall"])} for each in audit["fidelity"]]
    shown = page("audit.html", audit=audit, rows=rows, fidelity=fidelity)
    write_all(folder, {PAGE: shown, JSON: as_json(dict(audit))})


def _worst(classes: Sequence[str], recall: Sequence[float | None]) -> dict[str, Any]:
    """Return the class of the lowest recall, and that; a class without cases has none."""
    low, name = min((value, name) for name, value in zip(classes, recall, strict=True) if value is not None)
    return {"worst": name, "worst_recall": low}
