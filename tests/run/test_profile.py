"""The library's function and its command, on the smallest of models; what takes long has a stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from optimize.backends import backend
from optimize.errors import InputError
from optimize.measure import benchmark
from optimize.measure.benchmark import Contender, Plan
from optimize.measure.warmup import warm_up
from optimize.run import open_models, profile
from optimize.run.profile import side_by_side as profiled
from tests.measure import small
from tests.runs import command


@pytest.fixture(scope="module")
def compiled(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    return backend(any_target).convert(small.write(folder / "m.onnx"), folder / "model", "f32").folder


@pytest.fixture
def asked(any_target: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Contender], Plan, Contender | None]]:
    """Nothing is measured: what was asked for is kept."""
    seen: list[tuple[list[Contender], Plan, Contender | None]] = []

    def stand_in(found: list[Contender], plan: Plan, *, background_model: Contender | None) -> dict[str, Any]:
        seen.append((found, plan, background_model))
        return {"format": 1}

    monkeypatch.setattr(profile, "benchmark", stand_in)
    monkeypatch.setattr(open_models, "onnx_target_names", lambda: (any_target,))
    return seen


def test_texts_become_a_plan(asked: list[Any], compiled: Path, tmp_path: Path) -> None:
    rival = small.write(tmp_path / "rival.onnx", "N", 3, "H", 4)
    flags = {"batches": "1,8", "threads": "2", "seconds": "0.5", "seed": "7", "contend": "3", "memory_limit": "2GB"}
    profiled([compiled, compiled], **flags, contend_with=rival, input_shape="3,5,4", arch=None)
    found, plan, other = asked[0]
    assert plan == Plan((1, 8), (2,), 0.5, 7, 3, 2_000_000_000)
    assert [each.name.partition(" ")[2] for each in found] == [found[0].name.partition(" ")[2], found[0].name.partition(" ")[2] + " #2"]
    assert other is not None
    assert (other.input_shape, other.name.partition(" ")[0]) == ((3, 5, 4), str(rival))


def test_ranges_and_all_become_numbers(asked: list[Any], compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "machine", lambda: {"logical_cores": 3})
    profiled([compiled], batches="1-3,8", threads="2-4")
    profiled([compiled], threads="all")
    assert [(plan.batches, plan.threads) for _, plan, _ in asked] == [((1, 2, 3, 8), (2, 3, 4)), ((1,), (1, 2, 3))]


@pytest.mark.parametrize(("cores", "counts"), [(1, (1,)), (8, (1, 2, 3, 4, 5, 6, 7, 8)), (12, (1, 2, 4, 8, 12)), (16, (1, 2, 4, 8, 16))])
def test_all_threads_of_many_cores_are_the_powers_of_two_and_the_last(cores: int, counts: tuple[int, ...]) -> None:
    assert profile.every_count(cores) == counts


def test_what_is_not_said_is_the_plan_of_the_library(asked: list[Any], compiled: Path) -> None:
    profiled([str(compiled)])
    assert asked[0][1:] == (Plan(), None)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"batches": "0"}, r"`--batches` \(='0'\) must be a whole number, at least 1"),
        ({"batches": "1,1"}, r"`--batches` \(=1,1\) must hold at least one number, and none twice"),
        ({"threads": "many"}, r"`--threads` \(='many'\) must be a whole number"),
        ({"seconds": "-1"}, r"`--seconds` \(='-1'\) must be above 0"),
        ({"contend": "x"}, r"`--contend` \(='x'\) must be a whole number, at least 0"),
        ({"memory_limit": "lots"}, r"`--memory-limit` \(='lots'\) must be a number of bytes such as '2GB'"),
        ({"gpu_memory_limit": "1GB"}, r"`--gpu-memory-limit` \(=1GB\) is of background processes: pass --contend N"),
        ({"gpu_memory_limit": "1GB", "contend": "1"}, r"\(=1GB\) is for models on a GPU, which .* is not: leave it out"),
        ({"contend_with": "m.onnx"}, r"`--contend-with` \(=m.onnx\) needs the number of background processes: pass --contend N"),
        ({"input_shape": "3,x"}, r"`--input` \(='x'\) must be a whole number"),
        ({"out": "nowhere/r.json"}, r"`--out` \(=nowhere/r.json\) cannot be written: name a file in a folder that is there"),
        ({"out": "."}, r"`--out` \(=\.\) cannot be written"),
    ],
)
def test_wrong_use_takes_one_line(flags: dict[str, str], text: str, asked: list[Any], compiled: Path) -> None:
    with pytest.raises(InputError, match=text):
        profiled([compiled], **flags)
    assert asked == []


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"input_shape": "3,32,32"}, r"`--input` \(=3,32,32\) is no model's \(.* takes 3,4,4\): leave it out"),
        ({"arch": "no.py:x"}, r"`--arch` \(=no.py:x\) is for torch models, and none is named: leave it out"),
        ({"trust_pickle": True}, r"`--trust-pickle` \(=True\) is for torch models, and none is named: leave it out"),
    ],
)
def test_what_no_model_takes_is_refused(flags: dict[str, Any], text: str, asked: list[Any], compiled: Path) -> None:
    with pytest.raises(InputError, match=text):
        profiled([compiled], **flags)
    assert asked == []


def test_what_one_model_takes_is_not_refused(asked: list[Any], compiled: Path, brought: Path, tmp_path: Path) -> None:
    """Whichever it is, the background's too."""
    profiled([compiled, brought], arch=f"{brought.parent / 'net.py'}:net", input_shape="1,8,8")
    profiled([compiled], input_shape="3,5,4", contend="1", contend_with=small.write(tmp_path / "rival.onnx", "N", 3, "H", 4))
    profiled([compiled], input_shape="3,4,4")
    assert len(asked) == 3


def test_a_limit_of_address_space_is_refused_for_a_gpu(asked: list[Any], compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "runs_on_cpu", lambda _: False)
    with pytest.raises(InputError, match=r"`--memory-limit` \(=2GB\) is of address space, of which CUDA .* leave it out") as no:
        profiled([compiled], memory_limit="2GB")
    assert "\n" not in str(no.value)
    assert asked == []


def test_no_models_are_an_error() -> None:
    with pytest.raises(InputError, match="`model` is missing: name at least one"):
        profiled([])


def test_the_command_measures_and_writes(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only shortened: one cold start, few rounds."""
    monkeypatch.setattr(benchmark, "COLD_STARTS", 1)
    monkeypatch.setattr(benchmark, "MIN_ROUNDS", 5)
    monkeypatch.setattr(benchmark, "warm_up", partial(warm_up, window_s=0, most_windows=2))
    monkeypatch.setattr("optimize.measure.latency._RESAMPLES", 100)
    flags = [
        "--batches",
        "2",
        "--threads",
        "1",
        "--seconds",
        "0.05",
        "--contend",
        "1",
        "--contend-with",
        compiled,
        "--out",
        tmp_path / "r.json",
    ]
    code, stdout, stderr = command("profile", compiled, compiled, *flags, "--json")
    assert (code, stderr) == (0, "")
    found = json.loads(stdout)
    assert found == json.loads((tmp_path / "r.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    first, second = found["contenders"]
    assert second == f"{first} #2"
    cold, memory = found["contenders"][first]["cold_start"], found["contenders"][first]["memory"]
    assert min(cold["open_s"], cold["first_s"]) > 0
    assert memory["imports_bytes"] < memory["opened_bytes"] <= memory["peak_bytes"]["2"]
    (measured,) = found["measurements"]
    assert len(measured["latency_ms"][first]["samples"]) == measured["latency_ms"][second]["n"] >= 5
    assert measured["comparison"][second]["against"] == first
    assert set(measured["under_load"]) == {first, second}


def test_the_command_prints_lines(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.run.profile.side_by_side", lambda models, **_: {"models": len(models)})
    monkeypatch.setattr("optimize.measure.text_report.lines", lambda result: [f"{result['models']} models", "so"])
    assert command("profile", compiled, compiled) == (0, "2 models\nso\n", "")


def test_the_command_says_what_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.run.profile.side_by_side", lambda *_, **__: {})
    monkeypatch.setattr("optimize.measure.text_report.lines", lambda _: ["so"])
    assert command("profile", "a", "--out", "r.json") == (0, "so\nwritten: r.json, with every sample\n", "")
    assert command("profile", "a", "--out", "r.json", "--json") == (0, "{}\n", "")


def test_the_first_contender_stays_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.run.profile.side_by_side", lambda *_, **__: {"contenders": {"z": 1, "a": 2}})
    assert command("profile", "z", "a", "--json")[1] == '{"contenders": {"z": 1, "a": 2}}\n'


def test_compiled_models_need_no_torch(compiled: Path) -> None:
    """It would cost seconds, and its threads would be there while others are timed."""
    script = (
        "import sys; from pathlib import Path; from optimize.run import profile; from optimize.measure import text_report;"
        "profile.contest = lambda found, *_, **__: {'open': found[0].open(1)};"
        f"profile.side_by_side([{str(compiled)!r}]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_exit_codes(compiled: Path, tmp_path: Path) -> None:
    code, stdout, stderr = command("profile", tmp_path / "no.pt")
    assert (code, stdout, len(stderr.splitlines())) == (2, "", 1)
    manifest = json.loads((compiled / "artifact.json").read_text())
    for file in compiled.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "artifact.json").write_text(json.dumps(manifest | {"target": "tensorrt"}))
    code, _, stderr = command("profile", tmp_path)
    assert code == 4
    assert stderr.startswith("error: target 'tensorrt' cannot run here: ")
    assert command("profile")[0] == 2


def test_a_file_that_cannot_be_replaced_is_left_whole(
    asked: list[Any], compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "r.json").write_text("before")
    monkeypatch.setattr(profile.os, "replace", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\): name another file"):
        profiled([compiled], out=tmp_path / "r.json")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("r.json", "before")]
