"""The plugin, in test suites of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require
from tests.deploy.gate import tiny
from tests.deploy.gate.tiny import Measured

pytest_plugins = ["pytester"]
PLUGIN = ("-p", "optimize.run.pytest_plugin", "-p", "no:cacheprovider")
SUITE = """
import numpy as np

def test_artifact(benchmark_artifact, benchmark):
    outputs = benchmark_artifact("new", np.ones((2, 1, 4, 4), np.float32), rounds=3)
    assert outputs.tolist() == [[8.0, 8.0]] * 2
    facts = {key: benchmark.extra_info[key] for key in ("precision", "runtime", "batch")}
    assert facts == {"precision": "f32", "runtime": "onnxruntime", "batch": 2}
"""


@pytest.fixture(autouse=True)
def _modules_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytester forgets what a suite imported. A module of ours that is then imported again would have other classes than before."""

    def restore(snapshot: object) -> None:
        for name in [name for name in sys.modules if name.startswith("test_")]:
            del sys.modules[name]

    monkeypatch.setattr("_pytest.pytester.SysModulesSnapshot.restore", restore)


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite beside a baseline and a candidate."""
    require("onnxruntime")
    for name in ("old", "new"):
        tiny.artifact(pytester.path / name)
    pytester.makepyfile(SUITE)
    return pytester


def test_an_artifact_is_timed(suite: pytest.Pytester) -> None:
    suite.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("ratio", "decided", "outcomes", "text"),
    [
        (1.0, True, {"passed": 1}, "1 passed"),
        (2.0, True, {"failed": 1}, "REGRESSION: new against old"),
        (1.0, False, {"xfailed": 1}, "the gate is inconclusive"),
    ],
)
def test_the_gate_decides_the_test(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ratio: float, decided: bool, outcomes: dict[str, int], text: str
) -> None:
    Measured(monkeypatch, ratio=ratio, decided=decided)
    result = suite.runpytest_inprocess(*PLUGIN, "-rx", "--optimize-gate-baseline", "old", "--optimize-max-slowdown", "10%")
    result.assert_outcomes(**outcomes)
    assert text in result.stdout.str()


def test_a_wrong_option_is_one_line(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    Measured(monkeypatch)
    result = suite.runpytest_inprocess(*PLUGIN, "--optimize-gate-baseline", "old", "--optimize-max-slowdown", "5pp")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*`--optimize-max-slowdown`*write it in percent*"])


def test_inputs_that_are_no_images_are_one_line(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_artifact(benchmark_artifact):\n    benchmark_artifact('new', 'abc')\n")
    # pytest-benchmark warns of a fixture that has timed nothing
    result = suite.runpytest_inprocess(*PLUGIN, "-W", "ignore")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*`inputs` (=str) must be an array*"])


def test_without_pytest_benchmark_it_says_what_to_install(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_artifact(benchmark_artifact):\n    benchmark_artifact('new')\n")
    result = suite.runpytest_inprocess(*PLUGIN, "-p", "no:benchmark")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pip install 'optimize[[]gate]'*"])


def test_every_option_is_in_the_help(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess(*PLUGIN, "--help").stdout.str()
    assert all(f"--optimize-{name}" in text for name in ("gate-baseline", "max-slowdown", "max-drop", "max-size-growth", "data"))


def test_the_start_of_pytest_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "scipy", "onnx", "onnxruntime", "openvino", "optimize.run.gate", "optimize.backends")
    script = f"import sys; import optimize.run.pytest_plugin; print(*[name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == []
