"""preprocess.json: how a stored image becomes the network's input, as data."""

from __future__ import annotations

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.manifest import readable_json

NAME = "preprocess.json"


def render(run: BundledRun) -> str:
    """Return the preprocessing that the artifact states, with the shape and the layout of the result."""
    said = run.use["input"]
    return readable_json({**said["preprocessing"], **{key: said[key] for key in ("layout", "shape", "dtype")}})
