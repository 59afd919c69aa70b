"""Any bytes end in a tensor of the model's shape or in one line of refusal; what is right comes through bit for bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.deploy.runner.server.errors import BadRequest
from optimize.deploy.runner.server.protocol import InferenceRequest, Tensor, answer, parse
from tests.deploy.runner.server import requests_by_hand as by_hand

GIVEN = Tensor("input", "FP32", (1, 2, 2))
STORED = Tensor("images", "UINT8", (2, 2, 1))
MADE = (Tensor("output", "FP32", (3,)), Tensor("decision", "INT64", ()))
VALUES = np.array([[[[0.1, -2.5], [3e-39, 1e20]]], [[[1, 2], [3, 4]]]], np.float32)
ENTRY: dict[str, Any] = {"name": "input", "shape": [1, 1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4.5]}


def parsed(body: bytes, length: str | None = None, tensor: Tensor = GIVEN, max_batch: int = 4) -> InferenceRequest:
    return parse(body, length, tensor, MADE, max_batch)


def request(entry: dict[str, Any] | None = None, **more: Any) -> bytes:
    return json.dumps({"inputs": [{**ENTRY, **(entry or {})}], **more}).encode()


def test_tensors_come_through_bit_for_bit() -> None:
    body, headers = by_hand.as_binary("input", "FP32", VALUES)
    for found in (parsed(by_hand.as_json("input", "FP32", VALUES)), parsed(body, headers[by_hand.HEADER])):
        assert found.inputs.tobytes() == VALUES.tobytes()
        assert found.inputs.shape == VALUES.shape
        assert found.outputs == {"output": False}
    stored = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1) * 20
    assert (parsed(by_hand.as_json("images", "UINT8", stored), tensor=STORED).inputs == stored).all()
    nested = parsed(request({"data": [[[[1, 2], [3, 4.5]]]]}, id="7"))
    assert (nested.inputs.ravel().tolist(), nested.id) == ([1, 2, 3, 4.5], "7")


@pytest.mark.parametrize("binary", [False, True])
def test_answers_come_through_bit_for_bit(binary: bool) -> None:
    outputs = {"output": np.array([[0.1, 1 / 3, -0.0], [1e-45, 3.4e38, 7]], np.float32), "decision": np.array([1, 2])}
    asked = parsed(request(outputs=[{"name": "decision"}, {"name": "output", "parameters": {"binary_data": binary}}], id="a"))
    body, headers = answer(asked, "cells", "1", outputs, MADE)
    found = by_hand.read(body, headers.get(by_hand.HEADER))
    assert {name: values.tobytes() for name, values in found.items()} == {name: values.tobytes() for name, values in outputs.items()}
    assert headers["Content-Type"] == ("application/octet-stream" if binary else "application/json")
    said = json.loads(body[: int(headers.get(by_hand.HEADER, len(body)))])
    assert (said["id"], said["model_name"], said["model_version"]) == ("a", "cells", "1")


def test_one_output_overrides_what_is_said_for_all() -> None:
    asked = parsed(request(parameters={"binary_data_output": True}, outputs=[{"name": "output", "parameters": {"binary_data": False}}]))
    assert asked.outputs == {"output": False}
    assert parsed(request(parameters={"binary_data_output": True})).outputs == {"output": True}


def test_what_json_cannot_carry_is_said() -> None:
    with pytest.raises(BadRequest, match="not finite"):
        answer(parsed(request()), "m", "1", {"output": np.array([[np.nan] * 3])}, MADE)


@pytest.mark.parametrize(
    ("body", "length", "status", "text"),
    [
        (b"", None, 400, "no JSON"),
        (b"[]", None, 400, "no JSON object"),
        (b"\xff", None, 400, "no JSON"),
        (b'{"inputs": [NaN]}', None, 400, "no JSON"),
        (b"[" * 100_000, None, 400, "no JSON"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", None, 400, "no JSON"),
        (b"{}", None, 400, "`inputs` must be a list of one"),
        (b'{"inputs": [{}, {}]}', None, 400, "`inputs` must be a list of one"),
        (request(), "-1", 400, "header Inference-Header-Content-Length must be"),
        (request(), "²", 400, "must be a whole number"),
        (request(), "99999", 400, "at most the"),
        (request() + b"1234", str(len(request())), 400, "4 bytes follow the JSON"),
        (request({"name": "x"}), None, 400, "must have name 'input'"),
        (request({"datatype": "FP64"}), None, 400, "datatype 'FP32'"),
        (request({"shape": [1, 1, 2, 3]}), None, 400, r"must be \[N, 1, 2, 2\], N from 1 to 4"),
        (request({"shape": [0, 1, 2, 2]}), None, 400, "N from 1"),
        (request({"shape": [True, 1, 2, 2]}), None, 400, "`shape`"),
        (request({"shape": [5, 1, 2, 2]}), None, 413, "send several"),
        (request({"data": [1, 2, 3]}), None, 400, "must be 4 numbers"),
        (request({"data": ["1", "2", "3", "4"]}), None, 400, "must be 4 numbers"),
        (request({"data": [[1, 2], [3]]}), None, 400, "list of numbers"),
        (request({"data": [1, None, 3, 4]}), None, 400, "must be 4 numbers"),
        (request({"data": [1, 1e39, 3, 4]}), None, 400, "not finite"),
        (request({"data": {"a": 1}}), None, 400, "must be a list"),
        (request({"parameters": {"binary_data_size": 16}}), None, 400, "either `data` or"),
        (request({"parameters": []}), None, 400, "`parameters` must be an object"),
        (request(id=7), None, 400, "`id` must be text"),
        (request(id="\ud800"), None, 400, "`id` must be text"),
        (request(outputs={}), None, 400, "`outputs` must be a list"),
        (request(outputs=[{"name": "x"}]), None, 400, "must name 'output' and 'decision'"),
        (request(outputs=[{"name": "output", "parameters": {"classification": 3}}]), None, 400, "not supported"),
        (request(parameters={"binary_data_output": 1}), None, 400, "true or false"),
    ],
)
def test_each_fault_is_named(body: bytes, length: str | None, status: int, text: str) -> None:
    with pytest.raises(BadRequest, match=text) as caught:
        parsed(body, length)
    assert caught.value.status == status
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("data", "text"), [([1, 2, 3, 256], "0 to 255"), ([1, 2, 3, -1], "0 to 255"), ([1, 2, 3, 4.0], "whole numbers")])
def test_bytes_are_whole_numbers(data: list[float], text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        parsed(request({"name": "images", "datatype": "UINT8", "shape": [1, 2, 2, 1], "data": data}), tensor=STORED)


@pytest.mark.parametrize("data", [[1, True, 3, 4], [[[[1], [2]], [[3], [False]]]], [True] * 4])
def test_true_is_no_number(data: list[Any]) -> None:
    for name, kind, shape, tensor in (("images", "UINT8", [1, 2, 2, 1], STORED), ("input", "FP32", [1, 1, 2, 2], GIVEN)):
        nested = data if len(data) == 4 else np.array(data, dtype=object).reshape(shape).tolist()
        with pytest.raises(BadRequest, match="`data` must be"):
            parsed(request({"name": name, "datatype": kind, "shape": shape, "data": nested}), tensor=tensor)


def test_what_was_sent_is_not_repeated() -> None:
    for body in (request({"name": "SECRET"}), b'{"SECRET', request({"data": ["SECRET"]}), request(outputs=[{"name": "SECRET"}])):
        with pytest.raises(BadRequest) as caught:
            parsed(body)
        assert "SECRET" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "shape", "data", "x"]), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    entry=st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), JSON, max_size=3),
    more=st.dictionaries(st.sampled_from(["id", "outputs", "parameters", "inputs"]), JSON, max_size=2),
    rest=st.binary(max_size=20),
    length=st.none() | st.text(max_size=4) | st.integers(-3, 400).map(str),
)
def test_anything_ends_in_a_tensor_or_a_refusal(entry: dict[str, Any], more: dict[str, Any], rest: bytes, length: str | None) -> None:
    body = json.dumps({"inputs": [{**ENTRY, **entry}], **more}).encode("utf-8", "surrogatepass") + rest
    try:
        found = parsed(body, length)
    except BadRequest:
        return
    assert found.inputs.dtype == np.float32
    assert found.inputs.shape[1:] == GIVEN.shape
    assert 1 <= len(found.inputs) <= 4
    assert np.isfinite(found.inputs).all()
    assert set(found.outputs) <= {"output", "decision"}
    # whatever was accepted can be answered
    answer(found, "m", "1", {"output": np.zeros((1, 3), np.float32), "decision": np.zeros(1, np.int64)}, MADE)


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 210).map(str))
def test_any_bytes_are_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(BadRequest):
        parsed(body, length)
