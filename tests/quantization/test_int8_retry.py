"""Int8 of milder candidates. The runtime is a stand-in throughout: what each candidate's int8 gets wrong and how long it takes is scripted,
so what is tested is who is asked and what follows; a whole run with real runtimes is in `test_compress.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimize.backends.artifact import Artifact
from optimize.backends.session import Session
from optimize.candidate import Candidate, Floats
from optimize.guard.verdict import Verdict
from optimize.measure.latency import Latency
from optimize.quantization import int8_retry as module
from optimize.quantization.int8_retry import MAX_CANDIDATES, retry_int8, runtimes_with_faster_int8
from optimize.quantization.precision_choice import PrecisionContext
from optimize.quantization.variant import Variant
from tests import nets
from tests.quantization.test_precision_choice import StandIn, answers, bench

CANDIDATES = [nets.candidate(nets.chain()) for _ in range(5)]
GOOD, BAD = Verdict("pass", ("held",)), Verdict("fail", ("recall fell",))


class Scripted(StandIn):
    """Int8 by the name of the folder that the ONNX file lies in: how many cases it gets wrong, or that it cannot be made."""

    def __init__(self, wrong: Mapping[str, int | None]) -> None:
        super().__init__({"f32": 0})
        self.script, self.asked = wrong, list[str]()

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
        name = onnx.parent.name
        self.asked.append(name)
        if self.script[name] is None:
            raise RuntimeError("no scale\nfor this")
        folder.mkdir(parents=True)
        (folder / "model").write_text(name)
        return Artifact.save(folder, target=self.NAME, precision="int8", input_shape=(1, 8, 8), runtime="1", files=("model",))

    def build(self, artifact: Artifact, *, threads: int | None = None) -> Session:
        wrong = self.script[(artifact.folder / "model").read_text()]
        assert wrong is not None
        self.open += 1
        return Session(artifact.input_shape, lambda inputs: answers(inputs, wrong), artifact.precision, self._closed)


def asked(
    wrong: Mapping[str, int | None], ms: float, folder: Path, patch: pytest.MonkeyPatch, candidates: list[Candidate] = CANDIDATES
) -> tuple[Candidate | None, list[Variant], list[str]]:
    """Ask the candidates, called by their places, for int8; what would ship takes 2 ms."""
    runtime = Scripted(wrong)

    def timed(calls: Mapping[str, Callable[[], Any]], **_: object) -> dict[str, Latency]:
        assert all(call().shape == (1, 4) for call in calls.values())
        return {"ships": Latency((2.0,) * 30), "int8": Latency((ms,) * 30)}

    def own(candidate: Candidate) -> PrecisionContext:
        home = folder / str(CANDIDATES.index(candidate))
        return bench(home)

    patch.setattr(module, "interleave", timed)
    chosen = Variant("bf16", latency=Latency((2.0,) * 30), verdict=GOOD, target=runtime.NAME)
    shipping = Session((1, 8, 8), lambda inputs: answers(inputs, 0), "bf16", lambda: None)
    instead, tried = retry_int8([runtime], chosen, shipping, candidates, own)
    assert runtime.open == 0
    return instead, tried, runtime.asked


def test_stand_in_the_boldest_whose_int8_holds_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead, tried, names = asked({"4": 99, "3": 0, "2": 0}, 1.0, tmp_path, monkeypatch)
    assert instead is CANDIDATES[3]
    assert names == ["4", "3"], "those before could only be slower"
    assert [bool(each.verdict) for each in tried] == [False, True]
    parameters = f"of a milder candidate, with {CANDIDATES[3].parameters:,} parameters: "
    assert tried[0].why.startswith(parameters + "overall accuracy fell")
    assert tried[1].why == parameters + "2.00x the speed of bf16 (95 % interval 2.00 to 2.00)"
    assert tried[1].latency is not None
    assert tried[1].latency.p50 == 1.0


@pytest.mark.parametrize("ms", [2.0, 3.0])
def test_stand_in_what_is_not_faster_does_not_ship_and_ends_it(ms: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead, tried, names = asked({"4": 0, "3": 0}, ms, tmp_path, monkeypatch)
    assert instead is None
    assert names == ["4"]
    assert "not measurably faster" in tried[0].why


def test_stand_in_no_more_than_a_few_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead, tried, names = asked({"4": None, "3": 99, "2": None, "1": 0}, 1.0, tmp_path, monkeypatch)
    assert instead is None
    assert names == ["4", "3", "2"]
    assert len(tried) == MAX_CANDIDATES == 3
    assert "could not be made: RuntimeError: no scale for this" in tried[0].why
    assert asked({}, 1.0, tmp_path, monkeypatch, [])[1:] == ([], [])


def test_int8_is_wanted_where_it_is_faster_and_does_not_hold() -> None:
    runtime = StandIn({"f32": 0})
    ships = Variant("f32", latency=Latency((2.0,) * 30), verdict=GOOD, target=runtime.NAME)
    refused = Variant("int8", latency=Latency((1.0,) * 30), verdict=BAD, target=runtime.NAME)
    assert runtimes_with_faster_int8([runtime], ships, [ships, refused]) == [runtime]
    for other in (
        replace(refused, verdict=GOOD),
        replace(refused, latency=Latency((2.0,) * 30)),
        replace(refused, latency=None),
        replace(refused, verdict=None),
        replace(refused, precision="int8+f32", kept=("a",)),
        replace(refused, target="another"),
    ):
        assert runtimes_with_faster_int8([runtime], ships, [ships, other]) == []
    assert runtimes_with_faster_int8([runtime], replace(ships, verdict=BAD), [ships, refused]) == []
    assert runtimes_with_faster_int8([runtime], replace(ships, latency=None), [ships, refused]) == []
