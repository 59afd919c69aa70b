"""Switch off the telemetry of other libraries, before any of them is imported.

`import optimize` sets them, so every way into this package has them: the command, a program that uses the library, and the processes that
this package starts, which import it first and inherit the environment. Only the environment and one name in `sys.modules` are touched, so
the import stays fast.

- ONNX Runtime makes up a device id and keeps a database of events in the user's cache folder as soon as it is imported, and later looks up
  the host that it sends them to. `onnxruntime.disable_telemetry_events()` comes too late for all of this. `ORT_DISABLE_TELEMETRY=1` in the
  environment before the import prevents it. onnxsim imports ONNX Runtime, too.
- OpenVINO sends an event when it is imported, and keeps an id and counters in `~/intel`. It has no switch in the environment, but goes
  without where its package `openvino_telemetry` cannot be imported.
- NNCF uses the same package, and has a switch in the environment for where that package was imported already.

PyTorch, ONNX, onnxscript, scikit-learn and vl-convert report nothing, as traced.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import cast

SWITCHES = {"ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1"}
"""Environment variable -> the value that keeps its library quiet."""
BLOCKED = "openvino_telemetry"
"""A package that only reports; every library that uses it does without where it is missing."""
SENDERS = {"onnxruntime": "ORT_DISABLE_TELEMETRY", "openvino": None, "nncf": "NNCF_CI"}
"""Library -> the variable that its telemetry obeys; None where there is none.

This is no list of targets: a library may be imported by another one, and the switches must be set before any target is looked for.
"""


def go_offline() -> tuple[str, ...]:
    """Switch telemetry off in this process and in those that it starts; return the libraries for which it is too late.

    Returns:
        Names of the libraries that were imported before, with their telemetry on: nothing can be done about those any more.
    """
    late = tuple(name for name, switch in SENDERS.items() if name in sys.modules and not _was_quiet(switch))
    os.environ.update(SWITCHES)
    # None in sys.modules makes `import` raise ImportError, which the libraries that use the package are prepared for
    sys.modules.setdefault(BLOCKED, cast("ModuleType", None))
    return late


def _was_quiet(switch: str | None) -> bool:
    """Return whether the telemetry of a library that is imported already was switched off before its import."""
    blocked = BLOCKED in sys.modules and sys.modules[BLOCKED] is None
    if switch is None:
        return blocked
    switched_off = os.environ.get(switch) == SWITCHES[switch]
    return switched_off or (switch == "NNCF_CI" and blocked)


REPORTING = go_offline()
"""Libraries that a program imported before this package, with their telemetry on; empty where this package came first."""
