"""Full TensorRT: engines for the NVIDIA GPU of this machine, which it needs already to compile."""

from __future__ import annotations

from optimize.backends.target_description import Description
from optimize.backends.tensorrt_common import Engines, TensorRTVariant
from optimize.hardware.installed_packages import Requirement

NAME = "tensorrt"
DESCRIPTION = Description(
    "TensorRT",
    on_cpu=False,
    packages=(
        Requirement("tensorrt", "runtime of target tensorrt", alternatives=("tensorrt-cu13", "tensorrt-cu12"), only_with_gpu=True),
        Requirement("onnxruntime", "int8 for target tensorrt"),
    ),
    extra="tensorrt",
    file_ending=".engine",
    aliases=("trt", "gpu", "cuda", "nvidia"),
    position=3,
)

ENGINES = Engines(
    TensorRTVariant(
        NAME,
        package=DESCRIPTION.packages[0].import_name,
        title=DESCRIPTION.title,
        elsewhere=False,
        instead="use target tensorrt-rtx to compile without a GPU, or openvino or onnxruntime",
    )
)

preflight, unavailable_reason, version, precisions = ENGINES.preflight, ENGINES.unavailable_reason, ENGINES.version, ENGINES.precisions
convert, quantize = ENGINES.convert, ENGINES.quantize
build, inspect, time_layers = ENGINES.build, ENGINES.inspect, ENGINES.time_layers
