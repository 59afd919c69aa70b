from __future__ import annotations

import pytest

from optimize.backends import description
from optimize.backends.target_description import Description
from optimize.errors import TargetUnavailable
from optimize.hardware.installed_packages import Requirement
from tests.hardware.test_installed_packages import has


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("openvino", "pip install 'optimize[openvino]'"),
        ("onnxruntime", None),
        ("tensorrt", "pip install 'optimize[tensorrt]'"),
        ("tensorrt-rtx", None),
        ("unheard of", None),
    ],
)
def test_remedy_of_a_target(target: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, {"openvino": "1", "onnxruntime": "1", "tensorrt-rtx": "1"})
    assert description(target).remedy == expected


def test_missing_modules_are_named_with_the_remedy() -> None:
    there, absent = Requirement("numpy", "x"), (Requirement("no-such-a", "x"), Requirement("b", "x", module="no_such_b"))
    Description("Some", on_cpu=True, packages=(there,)).require_packages("some")
    with pytest.raises(TargetUnavailable, match=r"^target 'some' cannot run here: no-such-a and b not installed; pip install 'numpy' 'no"):
        Description("Some", on_cpu=True, packages=(there, *absent)).require_packages("some")
    with pytest.raises(TargetUnavailable, match=r"not installed; pip install 'optimize\[some\]'\.$"):
        Description("Some", on_cpu=True, packages=absent, extra="some").require_packages("some")
