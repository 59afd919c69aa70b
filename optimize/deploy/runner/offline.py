"""Switch off what the runtimes report to their makers, before one is imported: a bundle sends nothing.

- ONNX Runtime keeps an id and a database of events in the user's folder as soon as it is imported, and later looks up the host that it
  sends them to. Only the variable in the environment prevents all of it.
- OpenVINO sends an event when it is imported. It goes without where its package `openvino_telemetry` cannot be imported.
"""

from __future__ import annotations

import os
import sys
from typing import Any, cast

_VARIABLE, _REPORTER = "ORT_DISABLE_TELEMETRY", "openvino_telemetry"


def go_offline() -> None:
    """Switch telemetry off in this process; a runtime that a program imported before keeps its own."""
    os.environ[_VARIABLE] = "1"
    # None in sys.modules makes `import` raise ImportError, for which OpenVINO is prepared
    sys.modules.setdefault(_REPORTER, cast("Any", None))
