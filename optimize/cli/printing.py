"""The few lines that a command prints at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from optimize.progress import folded


def print_summary(report: Mapping[str, Any], folder: Path) -> None:
    """Print the summary of a report, and where its page is."""
    from optimize.report.summary import summary

    for line in summary(dict(report)):
        click.echo("\n".join(folded(line)))
    click.echo(f"report: {folder / 'report.html'}")
