"""Which layers stay in float: the search against simulated harms, and against a layer planted in a real net, in real runtimes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import nn

from optimize.backends import backend
from optimize.backends.export import export_onnx
from optimize.backends.weighted_nodes import with_weights
from optimize.candidate import Candidate
from optimize.errors import TargetUnavailable
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.measure.latency import Latency
from optimize.quantization import precision_choice as module
from optimize.quantization.mixed_precision import MixResult, ResultCache, groups, mixes
from optimize.quantization.precision_choice import PrecisionContext, choose
from optimize.run.compile_artifact import float_layers_note
from tests import runs


class Simulated:
    """Every layer does some harm in int8, and all of it together must stay below a limit."""

    def __init__(self, harm: Mapping[str, float], limit: float) -> None:
        self.harm, self.limit, self.asked = harm, limit, list[tuple[frozenset[str], bool]]()

    def __call__(self, keep: frozenset[str], rough: bool) -> MixResult:
        self.asked.append((keep, rough))
        total = sum(harm for layer, harm in self.harm.items() if layer not in keep)
        return MixResult(total <= self.limit, self.limit - total, total)


@settings(max_examples=60, deadline=None)
@given(harms=st.lists(st.integers(0, 9), min_size=2, max_size=8), limit=st.integers(0, 20))
def test_the_worst_go_first_and_none_too_many(harms: list[int], limit: int) -> None:
    """With harms that add up, the fewest layers that must go are those of greatest harm, as many as it takes."""
    names = [f"layer {place}" for place in range(len(harms))]
    told = Simulated(dict(zip(names, map(float, harms), strict=True)), limit)
    found = mixes([(name,) for name in names], told)
    worst = sorted(harms, reverse=True)
    needed = next((count for count in range(1, len(harms)) if sum(worst[count:]) <= limit), None)
    assert len(told.asked) <= 3 * len(harms)
    if needed is None:
        assert found == []
    else:
        assert len(found[-1]) == needed
        assert all(told(keep, False).passes for keep in found)


def test_a_group_that_looked_bad_alone_and_is_not_needed_goes_back() -> None:
    """Its harm is nothing once the other is in float."""

    def attempt(keep: frozenset[str], rough: bool) -> MixResult:
        harm = 0.0 if "b" in keep else 5.0
        harm += 9.0 if "b" not in keep and "a" not in keep else 0.0
        alone = {"bc": 8.0, "ac": 7.0, "ab": 0.0}
        if rough:
            harm = alone["".join(sorted(keep))]
        return MixResult(harm < 1, -harm, 0.0)

    assert mixes([("a",), ("b",), ("c",)], attempt) == [frozenset("ab"), frozenset("b")]


def test_where_no_limit_moves_the_answers_decide() -> None:
    def attempt(keep: frozenset[str], rough: bool) -> MixResult:
        return MixResult("a" in keep, 0.0, 0.0 if "a" in keep else 1.0)

    assert mixes([("c",), ("b",), ("a",)], attempt) == [frozenset("a")]


def test_judgements_are_kept_for_the_same_model_alone(tmp_path: Path) -> None:
    told = Simulated({"a": 1.0, "b": 2.0}, 1.0)
    for _ in range(2):
        ask = ResultCache(tmp_path / "kept.json", "one").cached(told)
        assert ask(frozenset("a"), False) == MixResult(False, -1.0, 2.0)
        assert ask(frozenset("b"), False) == MixResult(True, 0.0, 1.0)
    assert len(told.asked) == 2
    ResultCache(tmp_path / "kept.json", "one").cached(told)(frozenset("b"), True)  # rough, another question
    ResultCache(tmp_path / "kept.json", "other").cached(told)(frozenset("b"), False)
    assert len(told.asked) == 4
    (tmp_path / "kept.json").write_text("{")
    ResultCache(tmp_path / "kept.json", "other").cached(told)(frozenset("b"), False)
    assert len(told.asked) == 5


def test_layers_that_read_the_same_tensor_form_a_group(tmp_path: Path) -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.c(self.a(x) + self.b(x)).flatten(1)
            return out

    export_onnx(Candidate(Forked().eval(), torch.zeros(1, 1, 2, 2)), tmp_path / "net.onnx")
    first, total, last = groups(tmp_path / "net.onnx")
    assert (first, last) == (("a", "b"), ("c",))
    assert len(total) == 1


def onnx_of(nodes: list[Any], path: Path) -> list[tuple[str, ...]]:
    """Groups of a file with these nodes, (kind, name, inputs, output); what begins with "w" is a constant."""
    made = [helper.make_node(kind, inputs, [output], name=name) for kind, name, inputs, output in nodes]
    constants = sorted({each for _, _, inputs, _ in nodes for each in inputs if each.startswith("w")})
    values = [helper.make_tensor(each, onnx.TensorProto.FLOAT, [1], [1.0]) for each in constants]
    ends = [[helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, None)] for each in ("x", nodes[-1][3])]
    onnx.save(helper.make_model(helper.make_graph(made, "net", *ends, values)), path)
    return groups(path)


def test_what_lies_between_layers_goes_with_what_reads_the_same(tmp_path: Path) -> None:
    gated = [
        ("Conv", "a", ["x", "w"], "a"),
        ("Relu", "relu", ["a"], "r"),
        ("Conv", "b", ["r", "w"], "b"),
        ("ReduceMean", "mean", ["b", "w"], "m"),
        ("Conv", "c", ["m", "w"], "c"),
        ("Sigmoid", "gate", ["c"], "g"),
        ("Mul", "gated", ["b", "g"], "p"),
        ("Add", "sum", ["p", "r"], "s"),
        ("MatMul", "d", ["s", "w"], "d0"),
        ("Add", "bias", ["d0", "w"], "d"),
        ("MatMul", "attend", ["d", "d"], "o"),
    ]
    # the sum reads what b reads, past the rectifier, and the product what is averaged; a bias goes with its layer
    assert onnx_of(gated, tmp_path / "net.onnx") == [("a",), ("b", "sum"), ("mean", "gated"), ("c",), ("gate",), ("d", "bias"), ("attend",)]
    assert with_weights(tmp_path / "net.onnx") == set("abcd")


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> Any:
    try:
        backend(request.param).preflight()
    except TargetUnavailable as reason:
        pytest.skip(str(reason))
    return backend(request.param)


def planted() -> nn.Module:
    """The same function as `runs.trained()`, but one hidden unit is 10,000 times as large: in int8 it leaves the others nothing."""
    net = copy.deepcopy(runs.trained())
    assert isinstance(net, nn.Sequential)
    before, after = net[4], net[6]
    assert isinstance(before, nn.Linear)
    assert isinstance(after, nn.Linear)
    with torch.no_grad():
        live = int(before(torch.ones(1, before.in_features)).argmax())
        before.weight[live] *= 1e4
        before.bias[live] *= 1e4
        after.weight[:, live] /= 1e4
    return net


def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact precisions take 2 ms and whatever comes after them 1 ms: here only the search is tested."""

    def interleave(calls: Mapping[str, Callable[[], Any]], **_: Any) -> dict[str, Latency]:
        return {place: Latency((2.0 if place == "0" else 1.0 + 0.001 * int(place),) * 30) for place in calls}

    monkeypatch.setattr(module, "interleave", interleave)


def test_the_ruinous_layer_is_found_and_runs_in_float(runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch)
    monkeypatch.setattr(runtime, "precisions", lambda: ("f32",))
    net = Candidate(planted(), torch.zeros(1, 1, 8, 8))
    split = runs.split()
    before = score_split(net.predict, split, runs.CLASSES, "")
    export_onnx(net, tmp_path / "model.onnx")
    calibration, kept_in = split.inputs(slice(0, 64)), tmp_path / "kept"
    bench = PrecisionContext(tmp_path / "model.onnx", tmp_path / "work", calibration, split, before, Limits(), 1, cache_folder=kept_in)
    best, tried = choose([runtime], bench)
    whole = tried[1]
    assert (whole.precision, bool(whole.verdict)) == ("int8", False)
    # ONNX Runtime rounds what a layer gives to 8 bits, so the layer that makes the tensor has to go as well as the one that reads it.
    kept = {"onnxruntime": ("4", "6"), "openvino": ("6",)}[runtime.NAME]
    assert (best.precision, best.kept, bool(best.verdict)) == ("int8+f32", kept, True)
    assert best.artifact is not None
    assert best.artifact.precision == "int8+f32"
    with runtime.build(best.artifact, threads=1) as session:
        ran = runtime.inspect(session)
        assert score_split(session.predict, split, runs.CLASSES, "").overall == best.score.overall  # type: ignore[union-attr]
    assert (ran["0"], ran["6"]) == ("int8", "f32")
    assert float_layers_note(best, ran) is None
    assert best.as_dict(best)["layers_in_float"] == list(kept)
    assert [path.name for path in (tmp_path / "work" / f"{runtime.NAME} mixes").iterdir() if path != best.artifact.folder] == ["f32"]
    # What was judged is kept: taken up again, nothing is quantized for the ranking.
    made = []
    quantize = runtime.quantize
    monkeypatch.setattr(runtime, "quantize", lambda *a, **k: made.append(k.get("ignored_layers")) or quantize(*a, **k))
    assert choose([runtime], replace(bench, folder=tmp_path / "again"))[0].kept == kept
    assert [keep for keep in made if keep] == [kept]
    # What was compiled too, where it still lies and is for the same model.
    assert choose([runtime], replace(bench, folder=tmp_path / "again"))[0].kept == kept
    assert [keep for keep in made if keep] == [kept]
    choose([runtime], replace(bench, folder=tmp_path / "again", calibration=split.inputs(slice(0, 63)), cache_folder=None))
    assert len([keep for keep in made if keep]) > 2


class Cancelling(nn.Module):
    """The same function as `runs.trained()`, but one layer's result is 10,000 too large, and a sum takes that off again."""

    def __init__(self) -> None:
        super().__init__()
        net = copy.deepcopy(runs.trained())
        assert isinstance(net, nn.Sequential)
        self.early, self.raised, self.late = net[:4], net[4], net[5:]
        assert isinstance(self.raised, nn.Linear)
        self.lowered = nn.Linear(self.raised.in_features, self.raised.out_features)
        with torch.no_grad():
            self.raised.bias += 1e4
            self.lowered.weight.zero_()
            self.lowered.bias.fill_(-1e4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.early(x)
        out: torch.Tensor = self.late(self.raised(seen) + self.lowered(seen))
        return out


def test_a_ruinous_sum_goes_back_to_float_too(runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch)
    monkeypatch.setattr(runtime, "precisions", lambda: ("f32",))
    net = Candidate(Cancelling().eval(), torch.zeros(1, 1, 8, 8))
    split = runs.split()
    before = score_split(net.predict, split, runs.CLASSES, "")
    assert before.overall == 1
    export_onnx(net, tmp_path / "model.onnx")
    (total,) = next(group for group in groups(tmp_path / "model.onnx") if group[0].startswith("node_add"))
    bench = PrecisionContext(tmp_path / "model.onnx", tmp_path / "work", split.inputs(slice(0, 64)), split, before, Limits(), 1)
    best, tried = choose([runtime], bench)
    assert (tried[1].precision, bool(tried[1].verdict)) == ("int8", False)
    assert (best.precision, bool(best.verdict)) == ("int8+f32", True)
    assert total in best.kept
    assert best.artifact is not None
    with runtime.build(best.artifact, threads=1) as session:
        ran = runtime.inspect(session)
        assert "int8" in ran.values()
        assert float_layers_note(best, ran) is None
