"""TensorRT for RTX: engines for one or several compute capabilities, compiled with or without a GPU; running them takes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optimize.backends.tensorrt_common import Engines, TensorRTVariant
from optimize.hardware.compute_capability import ordered

NAME = "tensorrt-rtx"

ENGINES = Engines(
    TensorRTVariant(
        NAME,
        package="tensorrt_rtx",
        title="TensorRT for RTX",
        elsewhere=True,
        instead="pip install 'optimize[tensorrt-rtx]'",
    )
)

preflight, unavailable_reason, version, precisions = ENGINES.preflight, ENGINES.unavailable_reason, ENGINES.version, ENGINES.precisions
convert, quantize = ENGINES.convert, ENGINES.quantize
build, inspect, time_layers = ENGINES.build, ENGINES.inspect, ENGINES.time_layers


def for_capabilities(capabilities: Sequence[str]) -> Engines:
    """The same backend, compiling for these compute capabilities, such as ("8.6", "12.0"), or for ("current",).

    Raises:
        InputError: when it has no kernels for one of them.
    """
    return replace(ENGINES, capabilities=ordered(capabilities))
