"""The layers of an engine, from what its inspector tells in JSON.

An engine built with detailed verbosity tells of each layer its name, its kind, the ONNX nodes fused into it and the format of its tensors.
That text is for people and changes from version to version: "Half", "Row major linear FP16 format" and so on are read by the word they
hold, and a layer that cannot be read is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The first word found counts: "BFloat16" holds "Float" too.
_WORDS = (("bf16", r"bfloat16|bf16"), ("f16", r"half|fp16"), ("int8", r"int8"), ("f32", r"float|fp32"))
# Kinds of layers that move, convert or hold numbers instead of computing them.
_MOVERS = {"reformat", "noop", "constant", "shuffle", "identity", "copy", "cast", "signal", "wait", "memset", "quantize", "dequantize"}
_ONNX = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_MARKS = ("_QuantizeLinear", "_DequantizeLinear")


@dataclass(frozen=True)
class EngineLayer:
    """One layer that computes.

    Args:
        name: name of the ONNX node that it was made of, the first where several were fused; the engine's own name where it tells none.
        precision: "f32", "f16", "bf16" or "int8", of its first input.
    """

    name: str
    precision: str


def layers(information: str) -> dict[str, EngineLayer]:
    """Return the engine's name of each layer -> what it computes; empty when the text is not what was expected."""
    try:
        entries = json.loads(information)["Layers"]
        return {str(entry["Name"]): layer for entry in entries if isinstance(entry, Mapping) and (layer := _layer(entry)) is not None}
    except (ValueError, TypeError, KeyError):
        return {}


def _layer(entry: Mapping[str, Any]) -> EngineLayer | None:
    kind = str(entry.get("LayerType", "")).lower()
    precision = next(filter(None, map(_precision, [*entry.get("Inputs", []), *entry.get("Outputs", [])])), None)
    if kind in _MOVERS or precision is None:
        return None
    nodes = _ONNX.findall(str(entry.get("Metadata", "")))
    # of the nodes fused into a layer, Q/DQ and the Casts put in by `typed.py` are not layers of the model
    own = [node for node in nodes if not node.endswith(_MARKS) and not node.startswith("cast_")]
    return EngineLayer((own or nodes or [str(entry["Name"])])[0], precision)


def _precision(tensor: Any) -> str | None:
    """Return the precision in a tensor's "Format/Datatype", or whatever key of that kind there is; None for indices and the like."""
    if not isinstance(tensor, Mapping):
        return None
    words = " ".join(str(value) for key, value in tensor.items() if re.search("format|datatype", str(key), re.IGNORECASE)).lower()
    return next((precision for precision, word in _WORDS if re.search(word, words)), None)
