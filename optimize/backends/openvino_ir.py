"""An IR file that computes what was verified, whoever opens it and with whatever options.

Left alone, OpenVINO computes in bf16 wherever the CPU can: `Core().compile_model("model.xml", "CPU")` made of an f32 model another one.
The option that forbids it, INFERENCE_PRECISION_HINT, can be written into the file under `rt_info/runtime_options`, where a reader finds
it; but the CPU plugin (2026.4) takes other options from there and not this one. What it does obey is the attribute "precise" of an
operation, which OpenVINO's own passes set where a result must not be rounded. So every operation that computes has it.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

_HOLDING = {"Parameter", "Result", "Const"}
_ATTRIBUTE, _VERSION = "precise", "0"


def hold_precision(path: Path) -> None:
    """Mark every operation of the IR at `path` as one that is computed in the precision of its data."""
    tree = ElementTree.parse(path)  # noqa: S314 - written by us a moment ago
    for layer in tree.iterfind("./layers/layer"):
        if layer.get("type") in _HOLDING:
            continue
        information = layer.find("rt_info")
        if information is None:
            information = ElementTree.Element("rt_info")
            layer.insert(0 if layer.find("data") is None else 1, information)
        if all(entry.get("name") != _ATTRIBUTE for entry in information):
            ElementTree.SubElement(information, "attribute", {"name": _ATTRIBUTE, "version": _VERSION})
    tree.write(path, encoding="utf-8", xml_declaration=True)
