"""Full TensorRT: engines for the NVIDIA GPU of this machine, which it needs already to compile."""

from __future__ import annotations

from optimize.backends.tensorrt_common import Engines, TensorRTVariant

NAME = "tensorrt"

ENGINES = Engines(
    TensorRTVariant(
        NAME,
        package="tensorrt",
        title="TensorRT",
        elsewhere=False,
        instead="use target tensorrt-rtx to compile without a GPU, or openvino or onnxruntime",
    )
)

preflight, unavailable_reason, version, precisions = ENGINES.preflight, ENGINES.unavailable_reason, ENGINES.version, ENGINES.precisions
convert, quantize = ENGINES.convert, ENGINES.quantize
build, inspect, time_layers = ENGINES.build, ENGINES.inspect, ENGINES.time_layers
