"""TensorRT for RTX: engines for one or several compute capabilities, compiled with or without a GPU; running them takes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optimize.backends.target_description import Description
from optimize.backends.tensorrt_common import Engines, TensorRTVariant
from optimize.hardware.compute_capability import ordered
from optimize.hardware.installed_packages import Requirement

NAME = "tensorrt-rtx"
DESCRIPTION = Description(
    "TensorRT for RTX",
    on_cpu=False,
    packages=(
        Requirement(
            "tensorrt-rtx-cu13",
            "runtime of target tensorrt-rtx",
            module="tensorrt_rtx",
            alternatives=("tensorrt-rtx", "tensorrt-rtx-cu12"),
        ),
        Requirement("onnxruntime", "int8 for target tensorrt-rtx"),
    ),
    extra="tensorrt-rtx",
    file_ending=".engine",
    aliases=("rtx", "trt-rtx", "tensorrt_rtx"),
    position=4,
)

ENGINES = Engines(
    TensorRTVariant(
        NAME,
        package=DESCRIPTION.packages[0].import_name,
        title=DESCRIPTION.title,
        elsewhere=True,
        instead=DESCRIPTION.install_command,
    )
)

preflight, unavailable_reason, version, precisions = ENGINES.preflight, ENGINES.unavailable_reason, ENGINES.version, ENGINES.precisions
convert, quantize = ENGINES.convert, ENGINES.quantize
build, inspect, time_layers = ENGINES.build, ENGINES.inspect, ENGINES.time_layers


def for_capabilities(capabilities: Sequence[str]) -> Engines:
    """Return the same backend, compiling for these compute capabilities, such as ("8.6", "12.0"), or for ("current",).

    Raises:
        InputError: when it has no kernels for one of them.
    """
    return replace(ENGINES, capabilities=ordered(capabilities))
