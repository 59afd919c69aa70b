"""schema.json: what goes into the network and what comes out, for whoever writes a program around it."""

from __future__ import annotations

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.manifest import readable_json

NAME = "schema.json"
_INPUT = ("name", "dtype", "shape", "layout", "range")
_OUTPUT = ("name", "dtype", "shape", "task", "meaning", "decision", "threshold", "classes")


def render(run: BundledRun) -> str:
    """Return inputs and outputs, one entry each; "N" in a shape is the number of images, which is free."""
    given, answered = run.use["input"], run.use["output"]
    return readable_json(
        {
            "inputs": [{**{key: given[key] for key in _INPUT}, "meaning": "images after the steps of preprocess.json"}],
            "outputs": [{key: answered[key] for key in _OUTPUT}],
        }
    )
