"""int8 as TensorRT reads it: a Q/DQ graph with int8 on both sides, every zero point 0, and biases in float.

Only what a layer with weights reads is quantized, its input and its weights, the latter with one scale for each output channel: that is
where TensorRT looks for Q/DQ pairs when it fuses a layer with what follows it. Whoever else reads such an input, as a residual sum does,
reads it quantized too. A uint8 zero point is accepted with a warning and then computed wrongly, and a quantized bias does not parse;
neither is written. The scale of a tensor is max |x| / 127, over all of calibration. Biases are not corrected
(`backends/bias_correction.py`): what layers give stays in float until it is read, and the correction gained nothing where it was measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.backends.quiet import quiet
from optimize.backends.session import require_inputs
from optimize.errors import InputError

if TYPE_CHECKING:
    from optimize.candidate import Floats

_QUANTIZED = ["Conv", "Gemm", "MatMul"]
_BATCH = 8


def quantize(onnx: Path, calibration: Floats, ignored_layers: Collection[str] = ()) -> Any:
    """Return the Q/DQ form of a float ONNX file.

    Args:
        onnx: the float model.
        calibration: (N, C, *spatial), all of it gives the ranges of activations.
        ignored_layers: layers that stay in float, by their names in the ONNX file.

    Raises:
        InputError: when `calibration` does not have the model's input shape, or `ignored_layers` names a layer that is not there.
    """
    import onnx as onnx_format
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx_format.load(onnx)
    first = model.graph.input[0]
    require_inputs(calibration, tuple(size.dim_value for size in first.type.tensor_type.shape.dim[1:]))
    if unknown := set(ignored_layers) - {node.name for node in model.graph.node}:
        raise InputError(f"`ignored_layers` (={min(unknown)!r}) is no layer of the model: name nodes of the ONNX file.")
    batches = _batches(first.name, calibration)
    # Made here because its base class is known only once the runtime is imported.
    reader = type("Reader", (CalibrationDataReader,), {"get_next": lambda _: next(batches, None)})()
    with tempfile.TemporaryDirectory() as scratch, quiet(""):
        prepared, quantized = Path(scratch) / "prepared.onnx", Path(scratch) / "quantized.onnx"
        quant_pre_process(onnx, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=sorted(ignored_layers),
            # symmetric: zero point 0; no quantized bias; and no Q/DQ pair behind a layer, so that TensorRT fuses it with what follows
            extra_options={"ActivationSymmetric": True, "QuantizeBias": False, "OpTypesToExcludeOutputQuantization": _QUANTIZED},
        )
        return onnx_format.load(quantized)


def _batches(name: str, calibration: Floats) -> Iterator[dict[str, Floats]]:
    for start in range(0, len(calibration), _BATCH):
        yield {name: np.ascontiguousarray(calibration[start : start + _BATCH], dtype=np.float32)}
