"""Requests and answers of the Open Inference Protocol (KServe v2), with its extension for binary tensors.

A request is JSON, or JSON followed by the bytes of tensors. In the second case the header `Inference-Header-Content-Length` says where the
JSON ends, and each such input has the parameter `binary_data_size`:

    {"id": "7", "inputs": [{"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": 256}}],
     "parameters": {"binary_data_output": true}}<256 bytes, little-endian, row by row>

Whatever a client sends ends in a tensor or in a `BadRequest` that says what is wrong; nothing of its content is repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..preprocess import Array
from .errors import BadRequest

HEADER = "Inference-Header-Content-Length"
DATATYPES: Mapping[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "INT64": np.dtype("<i8"),
    "BOOL": np.dtype("?"),
}
"""Names of the protocol -> how their elements lie in binary data."""
_LONGEST_ID = 256


@dataclass(frozen=True)
class Tensor:
    """What the protocol says about a tensor.

    Args:
        name: its name.
        datatype: type of its elements, one of `DATATYPES`.
        shape: its sizes without the batch, which is free.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def metadata(self) -> dict[str, Any]:
        """What the model's metadata says: -1 is a free size."""
        return {"name": self.name, "datatype": self.datatype, "shape": [-1, *self.shape]}

    @property
    def item_bytes(self) -> int:
        """Bytes of one item of a batch."""
        return math.prod(self.shape) * DATATYPES[self.datatype].itemsize


@dataclass(frozen=True)
class InferenceRequest:
    """A request that was understood.

    Args:
        id: identifier that the answer repeats; None where there was none.
        inputs: (N, …), as the model's input says.
        outputs: name of each output that is wanted -> whether as binary data.
    """

    id: str | None
    inputs: Array
    outputs: Mapping[str, bool]


def parse(body: bytes, header_length: str | None, given: Tensor, made: Sequence[Tensor], max_batch: int) -> InferenceRequest:
    """Return the request in the body of `POST …/infer`.

    Args:
        body: the whole body.
        header_length: value of the header `Inference-Header-Content-Length`; None where the body is JSON alone.
        given: the model's one input.
        made: the model's outputs; the first of them is returned where the request names none.
        max_batch: largest number of items.

    Raises:
        BadRequest: saying what is wrong.
    """
    split = _split(body, header_length)
    content = _json(body[:split])
    entries = content.get("inputs")
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
        raise BadRequest(f"`inputs` must be a list of one object, the tensor {given.name!r}.")
    inputs = _input(entries[0], body[split:], given, max_batch)
    return InferenceRequest(_id(content), inputs, _wanted(content, made))


def answer(
    request: InferenceRequest, model: str, version: str, outputs: Mapping[str, Array], made: Sequence[Tensor]
) -> tuple[bytes, dict[str, str]]:
    """Return the body of the answer, and its headers.

    Args:
        request: what was asked.
        model: name of the model.
        version: version of the model.
        outputs: name -> (N, …), every output that the request wants.
        made: the model's outputs.

    Raises:
        BadRequest: when outputs are not finite and are wanted as JSON, which has no form for them.
    """
    entries, blocks = [], []
    for tensor in made:
        if tensor.name not in request.outputs:
            continue
        values = np.ascontiguousarray(outputs[tensor.name], dtype=DATATYPES[tensor.datatype])
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(values.shape)}
        if request.outputs[tensor.name]:
            blocks.append(values.tobytes())
            entry["parameters"] = {"binary_data_size": len(blocks[-1])}
        else:
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise BadRequest("an output is not finite, which JSON cannot carry: ask for binary data.", 422)
            # a float of 32 bits becomes one of 64, whose shortest decimal form gives the same number back
            entry["data"] = values.ravel().tolist()
        entries.append(entry)
    said = {"model_name": model, "model_version": version, "outputs": entries, **({} if request.id is None else {"id": request.id})}
    head = json.dumps(said, allow_nan=False, separators=(",", ":")).encode()
    if not blocks:
        return head, {"Content-Type": "application/json"}
    return b"".join((head, *blocks)), {"Content-Type": "application/octet-stream", HEADER: str(len(head))}


def _split(body: bytes, header_length: str | None) -> int:
    """Return the number of bytes of the JSON."""
    if header_length is None:
        return len(body)
    # ASCII digits only: int() would also take spaces, signs and other scripts' digits
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20) or int(header_length) > len(body):
        raise BadRequest(f"header {HEADER} must be a whole number, at most the {len(body)} bytes of the body.")
    return int(header_length)


def _json(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # the parser's own text may repeat what was sent
        raise BadRequest("the body is no JSON: send an inference request, in UTF-8 and without NaN or Infinity.") from None
    if not isinstance(content, dict):
        raise BadRequest("the body is no JSON object: send an inference request.")
    return content


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _id(content: Mapping[str, Any]) -> str | None:
    value = content.get("id")
    if value is not None and not (isinstance(value, str) and len(value) <= _LONGEST_ID and _encodable(value)):
        raise BadRequest(f"`id` must be text of at most {_LONGEST_ID} characters.")
    return value


def _encodable(text: str) -> bool:
    """Return whether a text has a form in UTF-8: JSON may hold half of a surrogate pair, which has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("parameters")
    if found is not None and not isinstance(found, dict):
        raise BadRequest("`parameters` must be an object.")
    return found or {}


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"parameter `{name}` must be true or false.")
    return value


def _wanted(content: Mapping[str, Any], made: Sequence[Tensor]) -> dict[str, bool]:
    """Return name of each wanted output -> whether as binary data."""
    binary = _flag(_parameters(content), "binary_data_output", False)
    entries = content.get("outputs")
    if not isinstance(entries, list | None):
        raise BadRequest("`outputs` must be a list.")
    if not entries:
        return {made[0].name: binary}
    known, found = [tensor.name for tensor in made], dict[str, bool]()
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("name") not in known or entry["name"] in found:
            raise BadRequest(f"`outputs` must name {' and '.join(map(repr, known))}, each once at most.")
        parameters = _parameters(entry)
        if parameters.get("classification"):
            raise BadRequest("parameter `classification` is not supported: leave it out and take the largest outputs.")
        found[entry["name"]] = _flag(parameters, "binary_data", binary)
    return found


def _input(entry: Mapping[str, Any], binary: bytes, given: Tensor, max_batch: int) -> Array:
    if entry.get("name") != given.name or entry.get("datatype") != given.datatype:
        raise BadRequest(f"the input must have name {given.name!r} and datatype {given.datatype!r}.")
    shape = entry.get("shape")
    required = f"[N, {', '.join(map(str, given.shape))}], N from 1 to {max_batch}"
    if not isinstance(shape, list) or any(type(size) is not int for size in shape) or tuple(shape[1:]) != given.shape or shape[0] < 1:
        raise BadRequest(f"`shape` of {given.name!r} must be {required}.")
    if shape[0] > max_batch:
        raise BadRequest(f"`shape` of {given.name!r} must be {required}: send several requests.", 413)
    size = _parameters(entry).get("binary_data_size")
    if ("data" in entry) == (size is not None):
        raise BadRequest(f"{given.name!r} must have either `data` or the parameter `binary_data_size`.")
    if size is None and binary:
        raise BadRequest(f"{len(binary)} bytes follow the JSON, and no input has the parameter `binary_data_size`.")
    values = _from_json(entry["data"], given, shape) if size is None else _from_bytes(binary, size, given, shape[0])
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadRequest(f"{given.name!r} holds numbers that are not finite.")
    return values.reshape(shape)


def _from_bytes(binary: bytes, size: object, given: Tensor, count: int) -> Array:
    required = count * given.item_bytes
    if type(size) is not int or size != required or len(binary) != required:
        said = f"`binary_data_size` and the bytes behind the JSON ({len(binary)})"
        raise BadRequest(f"{said} must be {required} for this shape and datatype; is the header {HEADER} right?")
    return np.frombuffer(binary, dtype=DATATYPES[given.datatype])


def _from_json(data: object, given: Tensor, shape: Sequence[int]) -> Array:
    """Return numbers of JSON as the model's type: a flat list in the order of rows, or lists in lists of the tensor's shape."""
    if not isinstance(data, list):
        raise BadRequest("`data` must be a list.")
    try:
        # the type is left to numpy here: a given one would turn texts into numbers
        found = np.array(data)
    except (ValueError, TypeError, OverflowError, MemoryError):
        # numpy's word for lists of unequal lengths, or too deep ones
        raise BadRequest("`data` must be a list of numbers, flat or of the tensor's shape.") from None
    whole = given.datatype == "UINT8"
    if found.dtype.kind not in ("iu" if whole else "iuf") or found.shape not in ((math.prod(shape),), tuple(shape)):
        kind = "whole numbers from 0 to 255" if whole else "numbers"
        raise BadRequest(f"`data` must be {math.prod(shape)} {kind}, flat or of shape {list(shape)}.")
    # numpy takes true for 1 where it stands among numbers
    if _has_boolean(data):
        raise BadRequest("`data` must be numbers: send them instead of true and false.")
    if whole:
        if found.min() < 0 or found.max() > 255:
            raise BadRequest("`data` must be whole numbers from 0 to 255.")
        return found.astype(np.uint8)
    # a number beyond the largest float of 32 bits becomes infinite, which is refused afterwards
    with np.errstate(over="ignore"):
        return found.astype(DATATYPES[given.datatype])


def _has_boolean(data: Sequence[Any]) -> bool:
    """Return whether true or false stands anywhere in lists in lists, which are no deeper than the tensor has axes."""
    kinds = set(map(type, data))
    return bool in kinds or (list in kinds and any(map(_has_boolean, data)))
