"""Requests and answers of the Open Inference Protocol put together and taken apart by hand, as its text describes them."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

HEADER = "Inference-Header-Content-Length"
Array = npt.NDArray[Any]


def as_json(name: str, datatype: str, values: Array, **more: Any) -> bytes:
    """A request whose tensor is JSON."""
    entry = {"name": name, "shape": list(values.shape), "datatype": datatype, "data": values.ravel().tolist()}
    return json.dumps({"inputs": [entry], **more}).encode()


def as_binary(name: str, datatype: str, values: Array, **more: Any) -> tuple[bytes, dict[str, str]]:
    """A request whose tensor lies behind the JSON, and its headers."""
    block = values.astype(values.dtype.newbyteorder("<")).tobytes()
    entry = {"name": name, "shape": list(values.shape), "datatype": datatype, "parameters": {"binary_data_size": len(block)}}
    head = json.dumps({"inputs": [entry], **more}).encode()
    return head + block, {HEADER: str(len(head)), "Content-Type": "application/octet-stream"}


def read(body: bytes, header_length: str | None) -> dict[str, Array]:
    """The tensors of an answer, by name; floats of JSON are rounded to 32 bits by `struct`, not by numpy."""
    split = len(body) if header_length is None else int(header_length)
    said, rest, found = json.loads(body[:split]), body[split:], {}
    for entry in said["outputs"]:
        size = entry.get("parameters", {}).get("binary_data_size")
        if size is None:
            code = {"FP32": "f", "INT64": "q", "UINT8": "B"}[entry["datatype"]]
            block = struct.pack(f"<{len(entry['data'])}{code}", *entry["data"])
        else:
            block, rest = rest[:size], rest[size:]
        kind = {"FP32": "<f4", "INT64": "<i8", "UINT8": "u1"}[entry["datatype"]]
        found[entry["name"]] = np.frombuffer(block, kind).reshape(entry["shape"])
    assert rest == b""
    return found
