from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from optimize.errors import InputError, OptimizeError
from optimize.measure import peaks as module
from optimize.measure.layers import LayerShape
from optimize.measure.peaks import Peaks, best_of, measure_peaks, peaks
from optimize.progress import shown
from tests.conftest import require

FOUND = Peaks({"torch": {"f32": 2e9}, "fake": {"f32": 3e9, "int8": 8e9}}, 1e10, 2, 1.5)
SHAPES = (LayerShape("conv", 4, 4, (5, 5), (3, 3), (1, 1), (1, 1), (1, 1)), LayerShape("linear", 8, 6, (3,)))


class Measure:
    """Gives the same peaks each time, and remembers what it was asked."""

    def __init__(self, found: Peaks = FOUND) -> None:
        self.found, self.asked = found, list[tuple[tuple[str, ...], int | None]]()

    def __call__(self, targets: Sequence[str], threads: int | None) -> Peaks:
        self.asked.append((tuple(targets), threads))
        return self.found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "peaks.json"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_SHAPES": SHAPES, "_SIDES": (4, 8), "_COPY_BYTES": 64, "_SECONDS": 0.0, "_ROUNDS": 1, "REPEATS": 2}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "foreign_load", lambda: 12.5)


def ticks(*seconds: float) -> Callable[[], float]:
    told: Iterator[float] = iter(seconds)
    return lambda: next(told)


def test_rates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._multiplied([torch.ones(10, 10), torch.ones(2, 2)], ticks(3.0, 3.5, 4.0, 5.0)) == 1000 / 0.5
    monkeypatch.setattr(module, "_PARTS", 2)
    source, target = torch.arange(50.0), torch.zeros(50)
    assert module._copied(source, target, ticks(1.0, 1.25, 2.0, 2.5)) == 2 * 100 / 0.25
    assert torch.equal(source, target)


def test_contenders_take_turns_and_the_best_counts() -> None:
    order: list[str] = []

    def contender(name: str, *rates: float) -> Callable[[], float]:
        told = iter(rates)

        def run() -> float:
            order.append(name)
            return next(told)

        return run

    best = best_of({("a", "f32"): contender("a", 1, 3, 2), ("b", "f32"): contender("b", 9, 7, 8)}, 3)
    assert best == {("a", "f32"): 3, ("b", "f32"): 9}
    assert order == ["a", "b"] * 3


def test_peaks_are_measured_once(path: Path) -> None:
    measure = Measure()
    assert peaks(["fake"], 2, path, measure=measure) == peaks(["fake"], 2, path, measure=measure) == FOUND
    assert measure.asked == [(("fake",), 2)]


@pytest.mark.parametrize("change", ["targets", "threads", "versions", "cpu", "level"])
def test_other_circumstances_are_measured_anew(change: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Measure()
    peaks(["fake"], 2, path, measure=measure)
    if change == "versions":
        monkeypatch.setattr(module, "versions", lambda: {"torch": "0"})
    if change == "cpu":
        monkeypatch.setattr(module, "machine", lambda: {"cpu": "another"})
    if change == "level":
        monkeypatch.setattr(module, "effective_level", lambda target: {"fake": "avx2"}[target])
    peaks(["other"] if change == "targets" else ["fake"], 3 if change == "threads" else 2, path, measure=measure)
    assert len(measure.asked) == 2


def test_a_level_that_openvino_is_kept_to_has_peaks_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.hardware.machine.instruction_sets", lambda: ("avx2", "avx512f", "avx512_vnni"))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    measure = Measure()
    for target in ("openvino", "onnxruntime"):
        peaks([target], 2, path.with_name(target), measure=measure)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    for target in ("openvino", "onnxruntime"):
        peaks([target], 2, path.with_name(target), measure=measure)
    assert [asked for asked, _ in measure.asked] == [("openvino",), ("onnxruntime",), ("openvino",)]


def test_what_does_not_matter_is_not_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Measure()
    peaks(["a", "b"], 2, path, measure=measure)
    here = module.machine() | {"memory_bytes": 1, "python": "9.9"}
    monkeypatch.setattr(module, "machine", lambda: here)
    peaks(["b", "a"], 2, path, measure=measure)
    assert len(measure.asked) == 1


@pytest.mark.parametrize("damage", ["", "[]", "{", "format", "negative", "infinite", "no rates"])
def test_a_damaged_file_is_written_anew(damage: str, path: Path) -> None:
    peaks(["fake"], 2, path, measure=Measure())
    stored = json.loads(path.read_text())
    if damage == "format":
        stored["format"] = 99
    if damage == "negative":
        stored["peaks"]["macs_per_s"]["fake"]["f32"] = -1
    if damage == "infinite":
        stored["peaks"]["bandwidth_bytes_per_s"] = float("inf")
    if damage == "no rates":
        del stored["peaks"]["macs_per_s"]
    path.write_text(json.dumps(stored) if len(damage) > 2 else damage)
    measure = Measure()
    assert peaks(["fake"], 2, path, measure=measure) == FOUND
    assert len(measure.asked) == 1
    assert peaks(["fake"], 2, path, measure=measure) == FOUND
    assert len(measure.asked) == 1


def test_peaks_of_a_busy_machine_are_not_kept(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        peaks([], None, path, measure=Measure(Peaks({}, 1e9, None, 40.0)))
    assert "The peaks are not kept: other processes used 40 % of the machine." in capsys.readouterr().err
    assert not path.exists()


def test_without_a_place_to_keep_them_peaks_are_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with shown():
        assert peaks([], 2, tmp_path / "file" / "peaks.json", measure=Measure()) == FOUND
    assert "The peaks are not kept: " in capsys.readouterr().err


def test_by_default_they_lie_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    peaks(measure=Measure())
    (kept,) = (tmp_path / "optimize" / "peaks").iterdir()
    assert json.loads(kept.read_text())["peaks"] == FOUND.as_dict()


def test_a_peak_that_was_not_measured_is_said_to_be() -> None:
    assert FOUND.rate("fake", "int8") == 8e9
    with pytest.raises(InputError, match=r"no measured peak of torch in int8 on this machine; measured: torch f32, fake f32, fake int8\."):
        FOUND.rate("torch", "int8")
    with pytest.raises(InputError, match=r"measured: none\."):
        Peaks({}, 1.0).rate("torch", "f32")


class Runtime:
    """Tells scripted milliseconds for the nodes of the cells, and which precision each runs in."""

    NAME = "fake"

    def __init__(self, taken: Sequence[dict[str, float]], ran: dict[str, str]) -> None:
        self.taken, self.ran, self.batches = iter(taken), ran, list[int]()

    def unavailable_reason(self) -> None: ...

    def version(self) -> str:
        return "1.2"

    def precisions(self) -> tuple[str, ...]:
        return ("f32",)

    def convert(self, onnx: Path, folder: Path, precision: str) -> str:
        assert onnx.is_file()
        return precision

    def quantize(self, onnx: Path, folder: Path, calibration: Any) -> str:
        assert len(calibration) == 2
        return "int8"

    def build(self, artifact: str, *, threads: int | None) -> Any:
        return nullcontext(artifact)

    def inspect(self, session: str) -> dict[str, str]:
        return {name: session if ran == "all" else ran for name, ran in self.ran.items()}

    def time_layers(self, artifact: str, inputs: Any, **settings: Any) -> dict[str, float]:
        assert inputs.dtype == np.float32
        self.batches.append(len(inputs))
        return next(self.taken)


CONV, LINEAR = SHAPES[0].macs, SHAPES[1].macs


def test_the_faster_layer_of_the_best_round_is_the_peak(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of f32 and int8 in turn; the linear layer is two nodes, and its int8 form runs in float, so it does not count."""
    assert (CONV, LINEAR) == (4 * 4 * 9 * 25, 8 * 6 * 3)
    taken = [
        {"cell0": 2.0, "cell1": 0.5, "cell1.add": 0.5},
        {"cell0": 1.0, "cell1": 1e-6},
        {"cell0": 4.0, "cell1": 0.01, "cell1.add": 0.01},
        {"cell0": 0.5, "cell1": 1e-6},
    ]
    runtime = Runtime(taken, {"cell0": "all", "cell1": "f32", "cell1.add": "f32"})
    monkeypatch.setattr(module, "backend", {"fake": runtime}.__getitem__)
    before = torch.get_num_threads()
    found = measure_peaks(["fake"], 8)
    assert torch.get_num_threads() == before
    assert runtime.batches == [4] * 4  # four inputs for eight cores
    assert found.rates["fake"] == {"f32": pytest.approx(4 * LINEAR / 0.02e-3), "int8": pytest.approx(4 * CONV / 0.5e-3)}
    assert (found.threads, found.load_percent) == (8, 12.5)


def test_a_precision_that_nothing_runs_in_has_no_peak(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime([{"cell0": 1.0}] * 2, {"cell0": "f32"})
    monkeypatch.setattr(module, "backend", {"fake": runtime}.__getitem__)
    assert list(measure_peaks(["fake"], 1).rates["fake"]) == ["f32"]


def test_a_profiler_without_names_is_an_error(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backend", {"fake": Runtime([{"x": 1.0}], {"cell0": "f32"})}.__getitem__)
    with pytest.raises(OptimizeError, match=r"^the profiler of fake 1\.2 names no layer"):
        measure_peaks(["fake"], 1)


@pytest.mark.parametrize(
    ("isa", "precisions"), [((), ["f32"]), (("avx2",), ["f32"]), (("amx_bf16",), ["f32", "bf16"]), (("bf16",), ["f32", "bf16"])]
)
def test_torch_is_asked_for_bf16_only_where_it_is_native(
    isa: tuple[str, ...], precisions: list[str], tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "instruction_sets", lambda: isa)
    found = measure_peaks([], 1)
    assert list(found.rates) == ["torch"]
    assert list(found.rates["torch"]) == precisions
    assert all(rate > 0 for rate in (found.bandwidth, *found.rates["torch"].values()))


def test_a_real_runtime_has_a_peak_in_every_precision(tiny: None) -> None:
    found = measure_peaks([require("onnxruntime")], 1)
    assert set(found.rates["onnxruntime"]) == {"f32", "int8"}
    assert all(rate > 0 for rate in found.rates["onnxruntime"].values())


def test_as_json_has_it() -> None:
    assert json.loads(json.dumps(FOUND.as_dict())) == {
        "macs_per_s": {"torch": {"f32": 2e9}, "fake": {"f32": 3e9, "int8": 8e9}},
        "bandwidth_bytes_per_s": 1e10,
        "threads": 2,
        "load_percent": 1.5,
    }


def test_a_machine_is_described_by_what_matters() -> None:
    made_for = module._fingerprint(["b", "a"], None)
    assert list(made_for["levels"]) == ["a", "b"]
    assert set(made_for["machine"]) == {"cpu", "physical_cores", "logical_cores", "isa", "os"}
    assert SimpleNamespace(**made_for).versions["torch"] == torch.__version__
