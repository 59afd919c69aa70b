"""Which precision ships. The runtime is a stand-in throughout: it answers what the test wrote and its latencies are scripted, so what is
tested is the choice alone; real runtimes are in `test_compress.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.backends import int8_name
from optimize.backends.artifact import Artifact
from optimize.backends.session import Session
from optimize.candidate import Floats
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.measure.latency import Latency
from optimize.progress import shown
from optimize.quantization import precision_choice as module
from optimize.quantization.precision_choice import PrecisionContext, choose
from optimize.quantization.variant import Variant
from optimize.run.compile_artifact import float_layers_note
from optimize.searching.train_check import TrainCheck
from tests import runs

GUARD = runs.split()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to warm up, and nobody disturbs."""
    monkeypatch.setattr(module, "warm_up", lambda calls, **_: None)
    monkeypatch.setattr(module, "watch_foreign_load", lambda: lambda: 0.0)


def answers(inputs: Floats, wrong: int) -> Floats:
    """Right for all but the first `wrong` cases of the guard split, which are told apart by their pixels."""
    places = {case.tobytes(): place for place, case in enumerate(GUARD.inputs())}
    order = np.array([places[case.tobytes()] for case in inputs])
    return np.asarray(np.eye(4, dtype=np.float32)[(GUARD.labels[order] + (order < wrong)) % 4])


BEFORE = score_split(lambda inputs: answers(inputs, 0), GUARD, runs.CLASSES, "")


class StandIn:
    """A runtime by script: per precision how many cases it gets wrong; one that is named in `raising` fails where it says."""

    NAME = "stand-in"

    def __init__(self, wrong: Mapping[str, int], raising: Mapping[str, str] | None = None) -> None:
        self.wrong, self.raising, self.open = wrong, raising or {}, 0

    def preflight(self) -> None: ...

    def unavailable_reason(self) -> None: ...

    def version(self) -> str:
        return "1"

    def precisions(self) -> tuple[str, ...]:
        return tuple(name for name in self.wrong if not name.startswith("int8"))

    def convert(self, onnx: Path, folder: Path, precision: str) -> Artifact:
        if self.raising.get(precision) == "make":
            raise RuntimeError("no kernel\nfor this")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model").write_text(precision)
        return Artifact.save(folder, target=self.NAME, precision=precision, input_shape=(1, 8, 8), runtime="1", files=("model",))

    def quantize(
        self,
        onnx: Path,
        folder: Path,
        calibration: Floats,
        *,
        ignored_layers: Collection[str] = (),
        float_precision: str = "f32",
        cpu_level: str | None = None,
    ) -> Artifact:
        return self.convert(onnx, folder, int8_name(ignored_layers, float_precision))

    def build(self, artifact: Artifact, *, threads: int | None = None) -> Session:
        if self.raising.get(artifact.precision) == "build":
            raise RuntimeError("no kernel\nfor this")
        self.open += 1
        return Session(artifact.input_shape, self._run(artifact.precision), artifact.precision, self._closed)

    def inspect(self, session: Session) -> dict[str, str]:
        return {}

    def _run(self, precision: str) -> Callable[[Floats], Floats]:
        def run(inputs: Floats) -> Floats:
            if self.raising.get(precision) == "run":
                raise RuntimeError("no kernel\nfor this")
            return answers(inputs, self.wrong[precision])

        return run

    def _closed(self) -> None:
        self.open -= 1


def bench(folder: Path, **more: Any) -> PrecisionContext:
    return PrecisionContext(folder / "model.onnx", folder, GUARD.inputs(slice(0, 8)), GUARD, BEFORE, Limits(), **more)


def chosen(runtime: StandIn, folder: Path, patch: pytest.MonkeyPatch, **milliseconds: float) -> tuple[Variant, dict[str, Variant]]:
    """Compile and choose, with these latencies; 30 rounds without noise, so that the interval has no width."""
    timed: list[str] = []

    def scripted(calls: Mapping[str, Callable[[], Any]], **_: object) -> dict[str, Latency]:
        assert runtime.open > 0
        for call in calls.values():
            assert call().shape == (1, 4)
        timed.extend(list(runtime.wrong)[int(place)] for place in calls)
        places = list(runtime.wrong)
        return {place: Latency((milliseconds[places[int(place)]],) * 30) for place in calls}

    patch.setattr(module, "interleave", scripted)
    best, measured = choose([runtime], bench(folder))
    assert runtime.open == 0
    assert [variant.precision for variant in measured] == list(runtime.wrong)
    assert set(timed) == {variant.precision for variant in measured if variant.latency is not None}
    assert [variant.as_dict(best)["kept"] for variant in measured].count(True) == 1
    assert all(variant.why for variant in measured)
    return best, {variant.precision: variant for variant in measured}


def test_stand_in_int8_that_is_faster_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, measured = chosen(StandIn({"f32": 0, "int8": 0}), tmp_path, monkeypatch, f32=2.0, int8=1.0)
    assert best.precision == "int8"
    assert best.why == "2.00x the speed of f32 (95 % interval 2.00 to 2.00)"
    assert measured["f32"].why == "int8 is faster and holds the guard-rails"
    assert best.artifact is not None
    assert (best.artifact.folder, best.artifact.main.read_text()) == (tmp_path / "stand-in" / "int8", "int8")
    assert best.as_dict(best) == {
        "target": "stand-in",
        "precision": "int8",
        "layers_in_float": [],
        "kept": True,
        "why": best.why,
        "latency_ms_p50": 1.0,
        "verdict": "pass",
        "size_bytes": 4,
    }


def test_stand_in_int8_that_a_second_opinion_objects_to_does_not_hold(tmp_path: Path) -> None:
    """The guard stands in for train, where other cases of it count."""
    limits = Limits(0.02, 0.5, verdict="point")
    artifact = StandIn({"int8": 4}).quantize(tmp_path, tmp_path / "int8", GUARD.inputs(slice(0, 1)))
    verdicts = []
    for rows in (slice(0, None), slice(100, None), slice(0, 100)):
        part = GUARD.take(rows)
        before = score_split(lambda inputs: answers(inputs, 0), part, runs.CLASSES, "")
        check = TrainCheck(part, runs.CLASSES, limits, 0.9, before)
        asked = replace(bench(tmp_path, train_check=check), limits=replace(limits, max_drop=0.1))
        runtime = StandIn({"int8": 4})
        with runtime.build(artifact) as session:
            verdicts.append(asked.judged(Variant("int8", artifact=artifact), session, runtime))
    assert [bool(each.verdict) for each in verdicts] == [False, True, False]
    assert "on training images, overall accuracy fell by 4 pp on 100 cases" in verdicts[2].why


@pytest.mark.parametrize("int8", [2.0, 2.5])
def test_stand_in_int8_that_is_not_faster_does_not_ship(int8: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, measured = chosen(StandIn({"f32": 0, "int8": 0}), tmp_path, monkeypatch, f32=2.0, int8=int8)
    assert best.precision == "f32"
    assert best.why == "the exact precision; nothing else that holds the guard-rails is measurably faster"
    gain = f"{2 / int8:.2f}"
    assert measured["int8"].why == f"not measurably faster: {gain}x the speed of f32 (95 % interval {gain} to {gain})"


def test_stand_in_faster_on_average_but_not_for_sure_does_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = StandIn({"f32": 0, "int8": 0})
    noise = np.random.default_rng(0).uniform(0.2, 5, (2, 30))
    pair = {"0": Latency(tuple(noise[0] * 1.02)), "1": Latency(tuple(noise[1]))}
    if pair["0"].p50 < pair["1"].p50:
        pair = {"0": Latency(tuple(noise[1] * 1.02)), "1": Latency(tuple(noise[0]))}
    monkeypatch.setattr(module, "interleave", lambda *_, **__: pair)
    best, measured = choose([runtime], bench(tmp_path))
    assert pair["1"].p50 < pair["0"].p50
    assert best.precision == "f32"
    assert measured[1].why.startswith("not measurably faster")


def test_stand_in_int8_that_the_guard_refuses_and_that_is_no_faster_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mix is looked for: the stand-in has no model file to take layers from."""
    best, measured = chosen(StandIn({"f32": 0, "int8": 10}), tmp_path, monkeypatch, f32=2.0, int8=2.0)
    assert best.precision == "f32"
    int8 = measured["int8"]
    assert int8.verdict is not None
    assert int8.verdict.outcome == "fail"
    assert "overall accuracy fell by 5 pp on 200 cases" in int8.why
    assert int8.as_dict(best)["verdict"] == "fail"


@pytest.mark.parametrize("where", ["make", "build", "run"])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_stand_in_failure_costs_that_precision_alone(where: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = StandIn({"f32": 0, "bf16": 0, "int8": 0}, {precision: where})
    best, measured = chosen(runtime, tmp_path, monkeypatch, f32=2.0, bf16=1.0, int8=1.0)
    assert best.precision == ({"bf16", "int8"} - {precision}).pop()
    word = "made" if where == "make" else "run"
    assert measured[precision].why == f"could not be {word}: RuntimeError: no kernel for this"
    assert measured[precision].as_dict(best) == {
        "target": "stand-in",
        "precision": precision,
        "layers_in_float": [],
        "kept": False,
        "why": measured[precision].why,
        "latency_ms_p50": None,
        "verdict": None,
        "size_bytes": None,
    }


@pytest.mark.parametrize("where", ["make", "build", "run"])
def test_stand_in_failure_of_the_exact_precision_is_raised(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="no kernel"):
        chosen(StandIn({"f32": 0, "int8": 0}, {"f32": where}), tmp_path, monkeypatch, f32=2.0, int8=1.0)


def test_stand_in_fastest_of_three_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, measured = chosen(StandIn({"f32": 0, "bf16": 0, "int8": 0}), tmp_path, monkeypatch, f32=4.0, bf16=2.0, int8=1.0)
    assert best.precision == "int8"
    assert best.why.startswith("2.00x the speed of bf16")
    assert measured["f32"].why == "bf16 is faster and holds the guard-rails"


def test_stand_in_exact_precision_ships_when_everything_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict on the test split will refuse it, with its figures."""
    best, _ = chosen(StandIn({"f32": 50, "int8": 60}), tmp_path, monkeypatch, f32=2.0, int8=1.0)
    assert best.precision == "f32"
    assert best.latency is not None
    assert not best.verdict
    assert best.why.startswith("overall accuracy fell by 25 pp")


def test_stand_in_what_holds_ships_before_an_exact_precision_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, measured = chosen(StandIn({"f32": 50, "bf16": 0, "int8": 60}), tmp_path, monkeypatch, f32=2.0, bf16=2.0, int8=3.0)
    assert best.precision == "bf16"
    assert measured["f32"].why.startswith("overall accuracy fell by 25 pp")


def test_stand_in_bf16_ships_where_int8_costs_too_much_and_buys_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, measured = chosen(StandIn({"f32": 0, "bf16": 0, "int8": 10}), tmp_path, monkeypatch, f32=2.0, bf16=1.0, int8=1.0)
    assert best.precision == "bf16"
    assert "overall accuracy fell by 5 pp" in measured["int8"].why


def test_stand_in_is_warmed_up_and_what_disturbed_its_timing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order: all that is timed until it stands still, then the watch, which lasts as long as the rounds."""
    events: list[str] = []
    monkeypatch.setattr(module, "warm_up", lambda calls, *, most_s: events.append(f"warm up {','.join(calls)} for {most_s:.0f} s"))

    def taken() -> float:
        events.append("end")
        return 42.5

    def watch() -> Callable[[], float]:
        events.append("watch")
        return taken

    def timed(calls: Mapping[str, object], **_: object) -> dict[str, Latency]:
        events.append("time")
        return {place: Latency((2.0,) * 30) for place in calls}

    monkeypatch.setattr(module, "watch_foreign_load", watch)
    monkeypatch.setattr(module, "interleave", timed)
    _, measured = choose([StandIn({"f32": 0, "bf16": 50, "int8": 0})], bench(tmp_path))
    assert events == ["warm up 0,2 for 3 s", "watch", "time", "end"]
    assert [each.load_percent for each in measured] == [42.5, None, 42.5]


def test_stand_in_the_faster_of_two_runtimes_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named where there are two; the exact precision of the first is the one to beat."""
    first, second = StandIn({"f32": 0, "int8": 0}), StandIn({"f32": 0, "int8": 0})
    second.NAME = "other"
    taken = (4.0, 3.0, 2.0, 1.0)
    monkeypatch.setattr(module, "interleave", lambda calls, **_: {place: Latency((taken[int(place)],) * 30) for place in calls})
    best, measured = choose([first, second], bench(tmp_path))
    assert (best.target, best.precision) == ("other", "int8")
    assert best.why.startswith("2.00x the speed of other f32")
    assert [(each.target, each.precision) for each in measured] == [
        ("stand-in", "f32"),
        ("stand-in", "int8"),
        ("other", "f32"),
        ("other", "int8"),
    ]


class Mixed(StandIn):
    """Where one of two layers stays in float it holds; with `failing` in float it fails where it says."""

    def __init__(self, failing: Collection[str], where: str) -> None:
        super().__init__({"f32": 0, "int8": 10, "int8+f32": 0})
        self.failing, self.where, self.kept = failing, where, dict[Path, str]()

    def quantize(  # type: ignore[override]
        self, onnx: Path, folder: Path, calibration: Floats, *, ignored_layers: Collection[str] = (), **more: Any
    ) -> Artifact:
        self.kept[folder] = "".join(ignored_layers)
        self._raise_for(folder)
        return super().quantize(onnx, folder, calibration, ignored_layers=ignored_layers, **more)

    def build(self, artifact: Artifact, *, threads: int | None = None) -> Session:
        self._raise_for(artifact.folder)
        return super().build(artifact, threads=threads)

    def _raise_for(self, folder: Path) -> None:
        self.raising = {"int8+f32": self.where} if self.kept.get(folder, "other") in self.failing else {}


@pytest.mark.parametrize("where", ["make", "build", "run"])
@pytest.mark.parametrize(("failing", "ships"), [("a", ("b",)), ("ab", ())])
def test_stand_in_mix_that_fails_costs_that_mix_alone(
    where: str, failing: str, ships: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = Mixed(failing, where)
    (tmp_path / "model.onnx").write_bytes(b"")
    monkeypatch.setattr(module, "groups", lambda _: [("a",), ("b",)])
    monkeypatch.setattr(module, "interleave", lambda calls, **_: {place: Latency((2.0 - (place != "0"),) * 30) for place in calls})
    with shown():
        best, measured = choose([runtime], bench(tmp_path))
    assert best.kept == ships
    assert [each.precision for each in measured] == ["f32", "int8", *(["int8+f32"] if ships else [])]
    assert runtime.open == 0
    word = "made" if where == "make" else "run"
    assert f"int8+f32 with a in float could not be {word}: RuntimeError: no kernel for this" in capsys.readouterr().err
    left = {path.name for path in (tmp_path / "stand-in mixes").iterdir() if path.is_dir()}
    assert len(left - {"f32", "rough"}) == len(ships)


def test_layers_that_ran_in_float_unasked_are_named() -> None:
    ran = {"a": "int8", "b": "f32", "c": "f32", "d": "int8"}
    assert float_layers_note(Variant("int8"), ran) == "2 of 4 layers of the int8 artifact ran in float: b, c"
    assert float_layers_note(Variant("int8+f32", kept=("b",)), ran) == "1 of 4 layers of the int8+f32 artifact ran in float: c"
    assert float_layers_note(Variant("int8+f32", kept=("b", "c")), ran) is None
    assert float_layers_note(Variant("f32"), ran) is None
    many = float_layers_note(Variant("int8"), {str(layer): "f32" for layer in range(9)})
    assert many == "9 of 9 layers of the int8 artifact ran in float: 0, 1, 2, 3, 4, 5 and 3 more"
