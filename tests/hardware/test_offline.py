"""Nothing is sent and nothing is left behind: whole commands under strace, and the switches that keep other libraries quiet."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.hardware import offline
from optimize.hardware.offline import BLOCKED, SWITCHES, go_offline
from tests import runs
from tests.conftest import CPU_TARGETS, require

ROOT = Path(__file__).parents[2]
CALLS = "network,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat"
HIDDEN = {*SWITCHES, "CI", "TF_BUILD", "JENKINS_URL", "NNCF_DEV", "PYTEST_CURRENT_TEST", "XDG_CACHE_HOME"}

COMMANDS = """
import gc, sys
from functools import cache, partial
from optimize.cli import main
assert not {"onnxruntime", "openvino", "nncf"} & set(sys.modules)

import optimize.quantization.precision_choice, optimize.run.compress, optimize.run.baselines
import optimize.measure.benchmark, optimize.measure.roofline_report, optimize.measure.retake
from optimize.measure.memory import Memory
from optimize.measure.peaks import Peaks
from optimize.measure.warmup import warm_up

from torch.onnx._internal.exporter import _registration as registration

# As brief as can be: what is looked at is what the commands touch, not how long it takes.
registration.ONNXRegistry.from_torchlib = staticmethod(cache(registration.ONNXRegistry.from_torchlib))
gc.disable()  # else there is a collection before every timing
optimize.run.compress.makes_few_proposals = lambda _: False
optimize.measure.roofline_report.SECONDS = 0.02
for module in (optimize.quantization.precision_choice, optimize.run.baselines, optimize.measure.benchmark):
    module.SECONDS = 0.02
    module.warm_up = partial(warm_up, window_s=0, window_rounds=1, most_windows=2)
optimize.measure.benchmark.COLD_STARTS = 1
optimize.measure.retake.TRIES = 1
optimize.run.baselines.peak_memory = lambda *_, **__: Memory(2_000, 1_000)  # `profile` measures it in processes of their own
rates = dict.fromkeys(("f32", "bf16", "f16", "int8"), 1e9)
optimize.measure.roofline_report.peaks = lambda targets, threads: Peaks(dict.fromkeys(targets, rates), 1e15, threads)

model, out = sys.argv[1:]
for command in (
    ["compress", model, "--target", "cpu", "--out", out, "--strategy", "budget"],
    ["verify", out],
    ["profile", out, "--seconds", "0.01", "--background-load", "1", "--out", f"{out}/profile.json"],
    ["doctor"],
    ["report", out],
):
    try:
        main(command, prog_name="optimize")
    except SystemExit as ended:
        assert not ended.code, (command, ended.code)
assert {"onnxruntime", "openvino", "nncf"} <= set(sys.modules)
"""

TALKS = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 9))
"""


def traced(folder: Path, *command: str, environment: dict[str, str] | None = None) -> list[str]:
    """The calls that `python COMMAND` and its children made, with a home, a folder for scratch and a working folder of its own."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    if subprocess.run([program, "-f", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace processes here")
    for name in ("home", "scratch", "here"):
        (folder / name).mkdir()
    base = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "scratch"), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    trace = folder / "trace"
    done = subprocess.run(
        [program, "-f", "--seccomp-bpf", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace), sys.executable, *command],
        cwd=folder / "here",
        env=base | own | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return trace.read_text(errors="replace").splitlines()


def written(trace: list[str], here: Path) -> Iterator[Path]:
    """Every path that was made, written, renamed or removed; what failed is left out."""
    for line in trace:
        call, _, arguments = line.partition("(")
        call = call.split()[-1] if call.split() else ""
        if call not in CALLS.split(",") or " = -1 " in line:
            continue
        if call.startswith("open") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", arguments):
            continue
        folder = here
        for at, name in re.findall(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"([^"]*)"', arguments):
            folder = Path(at) if at else here
            yield folder / name


def sockets(trace: list[str]) -> list[str]:
    """Calls that have to do with the Internet: sockets, connections, packets with an address."""
    return [line for line in trace if "AF_INET" in line]


def outside(trace: list[str], here: Path, allowed: tuple[Path, ...]) -> set[Path]:
    """What was touched outside of the allowed folders; the folders that these lie in may be made."""
    roots = (*allowed, Path("/dev"), Path("/proc"))
    touched = set(written(trace, here))
    return {path for path in touched if not any(path.is_relative_to(root) or root.is_relative_to(path) for root in roots)}


def test_no_command_sends_anything_or_writes_elsewhere(tmp_path: Path) -> None:
    for target in CPU_TARGETS:
        require(target)
    model, out = runs.bring(tmp_path / "brought"), tmp_path / "out"
    trace = traced(tmp_path, "-c", COMMANDS, str(model), str(out))
    assert sockets(trace) == []
    cache = tmp_path / "home" / ".cache" / "optimize"
    record = model.parent / "data.npz.looks.jsonl"  # the one file beside the data, see docs/guard.md
    assert outside(trace, tmp_path / "here", (out, tmp_path / "scratch", cache, record)) == set()
    assert {out / "profile.json", out / "report.html", out / "model"} <= set(written(trace, tmp_path / "here"))
    assert not list((tmp_path / "scratch").iterdir())


def test_what_onnxruntime_leaves_behind_by_itself_is_seen(tmp_path: Path) -> None:
    """The trace is no proof unless it shows what it is there to show."""
    require("onnxruntime")
    trace = traced(tmp_path, "-c", "import onnxruntime")
    found = outside(trace, tmp_path / "here", (tmp_path / "scratch", tmp_path / "home" / ".cache" / "optimize"))
    assert any("onnxruntime" in path.name for path in found)


def test_a_packet_is_seen(tmp_path: Path) -> None:
    assert sockets(traced(tmp_path, "-c", TALKS))


@pytest.mark.parametrize("package", ["onnxruntime", "openvino", "nncf"])
def test_a_library_is_quiet_wherever_it_is_imported_after_this_one(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    trace = traced(tmp_path, "-c", f"import optimize, {package}; assert optimize.REPORTING == ()")
    assert sockets(trace) == []
    assert outside(trace, tmp_path / "here", (tmp_path / "scratch",)) == set()


def test_children_inherit_the_switches() -> None:
    script = "import subprocess, sys, optimize; subprocess.run([sys.executable, '-c', 'import os; print(*sorted(os.environ.items()))'])"
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN} | {"ORT_DISABLE_TELEMETRY": "0"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "('ORT_DISABLE_TELEMETRY', '1')" in done.stdout
    assert "('NNCF_CI', '1')" in done.stdout


@pytest.mark.parametrize(
    ("imported", "environment", "late"),
    [
        ((), {}, ()),
        (("onnxruntime",), {}, ("onnxruntime",)),
        (("onnxruntime",), {"ORT_DISABLE_TELEMETRY": "0"}, ("onnxruntime",)),
        (("onnxruntime",), {"ORT_DISABLE_TELEMETRY": "1"}, ()),
        (("openvino", "nncf"), {}, ("openvino", "nncf")),
        (("openvino", "nncf"), {"NNCF_CI": "1"}, ("openvino",)),
    ],
)
def test_what_came_first_is_named(
    imported: tuple[str, ...], environment: dict[str, str], late: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    modules: dict[str, object] = dict.fromkeys(imported, object())
    monkeypatch.setattr(offline.sys, "modules", modules)
    monkeypatch.setattr(offline.os, "environ", environment)
    assert go_offline() == late
    assert environment == SWITCHES
    assert modules[BLOCKED] is None
    assert go_offline() == ()
