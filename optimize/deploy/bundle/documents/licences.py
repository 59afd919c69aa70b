"""LICENSES.md: licences of what is in the bundle and of what it needs, as the packages state them, and what a user must add."""

from __future__ import annotations

import importlib.metadata

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.markdown import bullets, document, escaped, table
from optimize.deploy.bundle.needed_packages import PURPOSES, needed

NAME = "LICENSES.md"
LAST = True
OWN, OWN_LICENCE = "optimize", "Apache-2.0"
_PURPOSE = {"run": "to run the model", "sign": "to check the signature, optional", "serve": "to answer over the network, optional"}
_STATED = "not stated in its metadata: ask its maker"


def render(run: BundledRun) -> str:
    """Return the licence notes."""
    packages = {package.name: (purpose, package) for purpose in reversed(PURPOSES) for package in needed(run, purpose)}
    rows = [
        (package.name, package.version, package.licence or _STATED, ", ".join(package.licence_files) or "–", _PURPOSE[purpose])
        for _, (purpose, package) in sorted(packages.items())
    ]
    has_wheels = any(path.startswith("wheels/") for path in run.files)
    where = "Their wheels are in `wheels/`; each holds its licence files." if has_wheels else "They are not in this bundle."
    return document(
        "# Licences",
        "This page lists what the packages state about themselves. It is no legal advice.",
        "## The model and the data",
        table(
            ("what", "licence"),
            (
                (f"the model {run.name} and what was compiled from it", run.model_licence or _missing("--model-licence")),
                ("the data that it was made and tested with (not in this bundle)", run.data_licence or _missing("--data-licence")),
            ),
        ),
        "## The runner",
        f"The files in `bundle/` are part of {OWN} {escaped(run.report['versions'].get(OWN) or '')}, under {escaped(OWN_LICENCE)}.",
        "## Packages that the runner needs",
        f"{where} Names of licence files are those inside the installed package.",
        table(("package", "version", "licence as stated", "licence files", "needed"), rows),
        "## Before you pass this bundle on",
        bullets(
            (
                "The licence of the model decides whether the model may be passed on.",
                "Runtimes bring libraries of others; the licence files of the runtime's wheel list them.",
                "A wheel that is passed on must keep its licence files.",
            )
        ),
        _own_text(),
    )


def _missing(option: str) -> str:
    return f"Not stated: add it, with optimize bundle {option}."


def _own_text() -> str:
    """Return the text of the runner's licence, which must go with its files; empty where the installation has none."""
    try:
        files = importlib.metadata.files(OWN) or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    # `licenses/LICENSE` in the dist-info of wheels of today, `LICENSE` there in older ones
    found = [file for file in files if file.name == "LICENSE" and any(part.endswith(".dist-info") for part in file.parts)]
    if not found:
        return ""
    # four spaces in front of each line: Markdown shows it as it is
    lines = "\n".join(f"    {line}".rstrip() for line in found[0].read_text(encoding="utf-8").splitlines())
    return f"## Text of the runner's licence\n\n{lines}"
