"""A plan: it says what a run would do, writes nothing, reads no test image, and gives the exit code that it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import optimize as opt
from optimize.data.split import Split
from optimize.errors import InputError
from optimize.run.planning.machine_rates import Rates
from tests import conftest, runs
from tests.runs import command

RATES = Rates(0.001, {"onnxruntime": 2.0}, {"onnxruntime": 1.0}, 1e10, 10**9, 10**6)


@pytest.fixture
def brought(tmp_path: Path) -> Path:
    """The files that a user brings."""
    return runs.bring(tmp_path / "brought", runs.arrays(test=60))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is not measured."""
    conftest.require("onnxruntime")
    monkeypatch.setattr("optimize.run.plan.machine_rates", lambda *_: RATES)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def planned(model: Path, *flags: object, name: str = "plan", target: str = "onnxruntime") -> tuple[int, dict[str, Any]]:
    code, stdout, _ = command(name, model, "--target", target, "--json", "--out", model.parent / "out", *flags)
    return code, json.loads(stdout)


def test_nothing_is_written_and_no_test_image_is_read(brought: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Split.inputs

    def guarded(split: Split, index: Any = slice(None)) -> Any:
        # one input is made to learn its shape; it passes through no network
        assert split.name != "test" or index == slice(0, 1)
        return inputs(split, index)

    monkeypatch.setattr(Split, "inputs", guarded)
    before = contents(brought.parent)
    code, plan = planned(brought)
    assert code == plan["exit_code"] == 0
    assert contents(brought.parent) == before


def test_the_plan_says_what_would_be_done(brought: Path, quick: None) -> None:
    _, plan = planned(brought, "--strategy", "budget", "--max-class-drop", "15pp")
    assert plan["splits"] == {"train": 160, "calibration": 100, "guard": 100, "test": 240}
    assert [stage["name"] for stage in plan["stages"]] == ["prepare", "search", "compile", "measure", "judge"]
    assert "strategy budget: about 9 proposals" in plan["stages"][1]["text"]
    assert plan["precisions"] == {"onnxruntime": ["f32", "int8"]}
    assert [group["name"] for group in plan["cuts"]["groups"]] == ["0", "4"]
    assert [one["name"] for one in plan["cuts"]["left_alone"]] == ["6"]
    assert plan["cost"]["seconds"]["low"] < plan["cost"]["seconds"]["middle"] < plan["cost"]["seconds"]["high"]
    assert (plan["look"]["number"], plan["look"]["spent"]) == (1, False)


def test_a_dry_run_of_compress_is_the_same_plan(brought: Path, quick: None) -> None:
    flags = ("--max-drop", "3pp", "--no-retrain", "--seed", "1")
    plan, dry = (planned(brought, *flags, *more, name=name)[1] for name, more in (("plan", ()), ("compress", ("--dry-run",))))
    for one in (plan, dry):
        one.pop("took_s")
        one["cost"].pop("seconds")  # the time of loading is measured
    assert plan == dry
    assert not (brought.parent / "out").exists()


def test_plan_takes_what_compress_takes() -> None:
    from optimize.cli import main

    settings = {name: {parameter.name for parameter in main.commands[name].params} for name in ("plan", "compress")}
    assert settings["compress"] - settings["plan"] == {"dry_run"}
    assert settings["plan"] - settings["compress"] == {"files", "pipeline"}


def test_limits_that_the_test_split_cannot_decide_are_known(tmp_path: Path, quick: None) -> None:
    model = runs.bring(tmp_path / "few", runs.arrays(test=6))
    code, plan = planned(model)
    assert code == 3
    few = {one["name"]: one for one in plan["decidable"]["test"]}["bar"]
    assert (few["cases"], few["decidable"], few["missing"]) == (6, False, few["needed"] - 6)
    assert few["remedy"] == f"add {few['missing']} test cases of bar"
    assert "exit code 3" in plan["obstacles"][0]
    # the run itself refuses with the same exit code, and needs as many cases
    refused, _, stderr = command("compress", model, "--target", "onnxruntime", "--out", tmp_path / "out")
    assert refused == 3
    assert f"about {few['needed']} are needed" in " ".join(stderr.split())


def test_where_some_limits_can_be_decided_the_plan_is_made_and_says_what_stops_the_run(brought: Path, quick: None) -> None:
    code, plan = planned(brought, "--max-class-drop", "5pp")
    decided = {one["title"]: one["decidable"] for one in plan["decidable"]["test"]}
    assert (code, decided["overall accuracy"], decided["recall of bar"]) == (0, True, False)
    assert plan["obstacles"]
    assert not planned(brought, "--max-class-drop", "5pp", "--force")[1]["obstacles"]


def test_a_look_that_may_spend_the_whole_error_needs_fewer_cases(brought: Path, quick: None) -> None:
    first = planned(brought)[1]
    fresh = planned(brought, "--fresh-test")[1]
    needed = [next(one["needed"] for one in plan["decidable"]["test"] if one["scope"] == "overall") for plan in (fresh, first)]
    assert needed[0] < needed[1]


def test_a_folder_that_holds_a_run_is_an_obstacle_and_not_an_error(brought: Path, quick: None) -> None:
    out = brought.parent / "out"
    out.mkdir()
    (out / "report.json").write_text("{}")
    code, plan = planned(brought)
    assert code == 0
    assert "already holds a run" in plan["obstacles"][0]
    assert not planned(brought, "--overwrite")[1]["obstacles"]


@pytest.mark.parametrize(
    ("flags", "target", "expected"),
    [
        (("--data", "gone.npz"), "onnxruntime", 2),
        (("--strategy", "best"), "onnxruntime", 2),
        (("--files", "gone.png"), "onnxruntime", 2),
        (("--pipeline", "read.py:read"), "onnxruntime", 2),
        ((), "tensorrt", 4),
        ((), "abacus", 2),
    ],
)
def test_a_wrong_call_is_one_line(brought: Path, quick: None, flags: tuple[str, ...], target: str, expected: int) -> None:
    if target == "tensorrt" and opt.backend("onnxruntime") and "tensorrt" in {one.name for one in opt.doctor().targets if one.compiles}:
        pytest.skip("TensorRT compiles here")
    code, stdout, stderr = command("plan", brought, "--target", target, *flags)
    assert (code, stdout) == (expected, "")
    assert stderr.splitlines()[-1].startswith("error: ")


def test_a_terminal_shows_it_whole(brought: Path, quick: None) -> None:
    code, stdout, _ = command("plan", brought, "--target", "onnxruntime", "--max-class-drop", "5pp")
    assert code == 0
    assert max(map(len, stdout.splitlines())) <= 100
    for text in ("What would be done", "Time: ", "Memory: ", "TOO FEW", "test cases of bar", "What the guard split can decide"):
        assert text in stdout


def test_from_python_it_is_the_same(brought: Path, quick: None) -> None:
    plan = opt.plan(brought, target="onnxruntime", limits=opt.Limits(max_class_drop=0.12), out=brought.parent / "out")
    assert plan.exit_code == 0
    assert json.loads(json.dumps(plan.as_dict()))["splits"] == plan.splits
    assert str(plan) == plan.text


def test_a_network_in_memory_is_planned_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conftest.require("onnxruntime")
    conftest.hurried(monkeypatch)
    state = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setattr("optimize.run.planning.machine_rates.FORWARD_S", 0.01)
    monkeypatch.setattr("optimize.run.planning.machine_rates.WARM_BELOW_S", 0.0)
    plan = opt.plan(runs.trained(), runs.arrays(), target="onnxruntime", mean=[0.5], std=[0.25])
    assert plan.rates.image_s > 0
    assert set(plan.rates.compile_s) == {"onnxruntime"}
    assert plan.cost.seconds > 0
    assert plan.cost.memory_bytes > 10**8
    assert not state.exists()


def test_files_are_timed_from_the_disk_to_the_answer(brought: Path, quick: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (20, 24), np.uint8)).save(tmp_path / name)
    np.save(tmp_path / "c.npy", rng.random((3, 9, 9)).astype(np.float32))
    found = planned(brought, "--files", tmp_path)[1]["end_to_end"]
    assert [stage["name"] for stage in found["stages"]] == ["read", "resample", "preprocess", "network", "finish"]
    assert found["files"] == 3
    assert sum(stage["share"] for stage in found["stages"]) == pytest.approx(1)
    share = next(stage["share"] for stage in found["stages"] if stage["name"] == "network")
    assert found["speedup_of_the_whole"]["infinite"] == pytest.approx(1 / (1 - share))
    assert found["speedup_of_the_whole"]["4"] == pytest.approx(1 / (1 - share + share / 4))
    assert "3 channels" in found["notes"][0]
    assert "ONNX Runtime f32" in found["stages"][3]["how"]


def test_the_users_own_functions_take_the_place_of_the_stages(brought: Path, quick: None, tmp_path: Path) -> None:
    functions = (
        "def read(path):\n    return np.zeros((2, 1, 8, 8), np.float32)",
        "def wrong(path):\n    return np.zeros(3)",
        "def finish(outputs):\n    assert outputs.shape == (2, 4)\n    return outputs.argmax(1)",
    )
    (tmp_path / "own.py").write_text("\n\n\n".join(("import numpy as np", *functions)) + "\n")
    (tmp_path / "scan.raw").write_bytes(b"anything")
    flags = ("--files", tmp_path / "scan.raw", "--pipeline")
    found = planned(brought, *flags, f"{tmp_path / 'own.py'}:read,finish")[1]["end_to_end"]
    assert [stage["name"] for stage in found["stages"]] == ["read and prepare", "network", "finish"]
    code, said = planned(brought, *flags, f"{tmp_path / 'own.py'}:wrong")
    assert code == 2
    assert "return (N, 1, 8, 8)" in said["error"]


def test_a_pipeline_needs_files(brought: Path, quick: None) -> None:
    with pytest.raises(InputError, match="needs files"):
        opt.plan(brought, target="onnxruntime", pipeline="own.py:read")
