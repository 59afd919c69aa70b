"""The things an engine is bound to: TensorRT's version, the compute capabilities, the driver. A mismatch is found before opening it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optimize.hardware.gpu import gpu

NONE = "none"


@dataclass(frozen=True)
class Device:
    """The GPU that engines are compiled for and run on.

    Args:
        name: name as its maker writes it.
        capability: compute capability, such as "8.6".
        driver: version of the driver.
    """

    name: str
    capability: str
    driver: str


def device() -> Device | None:
    """Return the first GPU that this process sees; None where there is none."""
    devices = gpu().devices
    if not devices:
        return None
    first = Device(*(str(devices[0][key]) for key in ("name", "compute_capability", "driver")))
    import torch  # late: only where there is a GPU

    if not torch.cuda.is_available():
        return first
    # nvidia-smi lists every GPU of the machine, also those that CUDA_VISIBLE_DEVICES hides.
    properties = torch.cuda.get_device_properties(0)
    return Device(str(properties.name), f"{properties.major}.{properties.minor}", first.driver)


def built_on(target: str, version: str, capabilities: Sequence[str], here: Device | None) -> dict[str, str]:
    """Return what an artifact's manifest says about the machine that compiled it."""
    return {
        "flavour": target,
        "version": version,
        "compute_capabilities": ", ".join(capabilities),
        "driver": NONE if here is None else here.driver,
        "gpu": NONE if here is None else here.name,
    }


def mismatches(built: Mapping[str, str], version: str, here: Device) -> tuple[str, ...]:
    """Return why an engine does not fit this machine, one line for each reason; none when it fits.

    A driver older than the one it was built under does not fit. One built without a GPU knows of no driver, and fits them all.
    """
    reasons = []
    if built.get("version") != version:
        reasons.append(f"the engine was built by version {built.get('version', NONE)}, here is {version}")
    capabilities = [capability.strip() for capability in built.get("compute_capabilities", "").split(",")]
    if here.capability not in capabilities:
        reasons.append(f"the engine is for compute capability {', '.join(capabilities) or NONE}, here is {here.capability} ({here.name})")
    driver = built.get("driver", NONE)
    # numbers and not text: "580.9" is older than "580.65", though its text sorts behind it
    if driver != NONE and _numbers(driver) > _numbers(here.driver):
        reasons.append(f"the engine was built under driver {driver}, here is the older {here.driver}")
    return tuple(reasons)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
