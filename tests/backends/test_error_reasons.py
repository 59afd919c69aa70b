"""Errors as the exporter and the runtimes raise them, by cause; `tests/run/test_rehearsal.py` has real ones."""

from __future__ import annotations

import pytest

from optimize.backends.error_reasons import exporter_reason, runtime_reason

OPENVINO = """Exception from src/inference/src/cpp/core.cpp:84:
Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:
FrontEnd API failed with OpConversionFailure:
Model wasn't fully converted. Failed operations detailed log:
-- Conv-18 with a message:
The input data tensor's rank has to be known (static)

-- Pad-18 with a message:
While validating ONNX node '<Node(Pad): pad>': Exception from src/frontends/onnx/frontend/src/op/pad.cpp:32:
Unsupported padding mode: [wrap]

-- ReduceMean-18 with a message:
Unsupported input type dynamic

Summary:
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (OPENVINO, "it does not take the operator Pad as it is used here (Unsupported padding mode: [wrap])"),
        (f"{OPENVINO}-- No conversion rule found for operations: Det-18\n", "it does not have the operator Det"),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Det(11) node with name 'node_det'",
            "it does not have the operator Det (node 'node_det')",
        ),
        ("In node 3 with name: sort and operator: TopK (parseNode): UNSUPPORTED_NODE", "it does not take the operator TopK (node 'sort')"),
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: input\n index: 0 Got: 1 Expected: 2",
            "the batch size is written into the model (INVALID_ARGUMENT: Got invalid dimensions for input: input)",
        ),
        ("something else.\nand more", "something else"),
        ("", "RuntimeError"),
    ],
)
def test_a_runtime_s_error_names_the_operator(text: str, words: str) -> None:
    assert runtime_reason(RuntimeError(text)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "Error when translating node %m : [num_users=1] = call_function[target=torch.ops.aten.median.dim](args = (%view, 2))",
            "the operator aten.median.dim has no ONNX form here: write that part of forward with other operators",
        ),
        ("Could not guard on data-dependent expression Eq(u0, 1) (unhinted: Eq(u0, 1))", "its forward decides in Python on tensor values"),
        ("Constraints violated (batch)! For more information", "its forward ties the batch size"),
        ("whatever", "whatever: its forward must not decide in Python on tensor values or on the batch size"),
    ],
)
def test_the_exporter_s_error_is_told_by_cause(text: str, words: str) -> None:
    assert exporter_reason(RuntimeError(text)).startswith(words)
    outer = RuntimeError("Failed to export the model")
    outer.__cause__ = RuntimeError(text)
    assert exporter_reason(outer).startswith(words)
