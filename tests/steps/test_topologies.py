"""Pruning and repair where channels hang together in unusual ways, against the same done by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.surgery import copy_module, keep_channels, with_tensors
from optimize.graph.trace import ChannelGroup, trace
from optimize.steps.merge import Merge
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths
from optimize.steps.repair import Repair
from tests.nets import INTRICATE, candidate, cases, ready, reference

Array = npt.NDArray[np.float64]
EVERY = 10**6


def widths(of: Candidate) -> dict[str, int]:
    return {group.name: group.size for group in trace(of).groups}


@pytest.mark.parametrize("name", INTRICATE)
def test_nothing_spent_changes_nothing(name: str) -> None:
    start = candidate(INTRICATE[name]())
    inputs, aim = cases(8, seed=5), reference(start, 48)
    full = PruneToWidths(tuple(widths(start).items()), rows=500)
    # too little for any channel: the groups are looked at, and nothing is cut
    for step in (Prune(0.0, rows=500), Prune(1e-12, multiple=64, rows=500), full, Merge(0.0), Repair(rows=500)):
        made = step(start, aim)
        assert widths(made) == widths(start)
        assert made.fingerprint == start.fingerprint
        assert made.lineage == (step,)
        np.testing.assert_allclose(made.predict(inputs), start.predict(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", INTRICATE)
def test_any_width_runs_and_kept_names_the_originals_channels(name: str) -> None:
    start = candidate(INTRICATE[name]())
    aim = reference(start, 48)
    least = Prune(1e9, rows=500)(start, aim)
    assert np.isfinite(least.predict(cases(2))).all()
    grouped = "grouped" in name or "several" in name  # with one input for each group left, they are depthwise, and channels of their own
    assert grouped or all(size == 1 for group, size in widths(least).items() if (name, group) != ("padded shortcut", "second"))
    assert least.parameters < start.parameters
    for layer, kept in least.kept.items():
        module = least.module.get_submodule(layer)
        names = ("out_channels", "num_features", "num_channels", "out_features")
        count = next(getattr(module, name) for name in names if hasattr(module, name))
        assert len(kept) == count
        if isinstance(module, nn.BatchNorm2d):  # cut but never refitted: what is left of it tells which channels it belongs to
            assert torch.equal(module.weight, start.module.get_submodule(layer).weight[kept])  # type: ignore[index]


@pytest.mark.parametrize("name", INTRICATE)
def test_an_exact_double_goes_at_no_error(name: str) -> None:
    """Whatever makes channel 1 of a group makes channel 0 as well: one of the two is free, wherever it is read."""
    start = candidate(INTRICATE[name]())
    group = next(group for group in trace(start).groups if group.size > 2)
    module = copy_module(start.module, share=False)
    with torch.no_grad():
        for slot in group.slots:
            layer = module.get_submodule(slot.module)
            tensors = {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}
            for key, tensor in tensors.items() if slot.side == "out" else ():
                turned = key == "weight" and getattr(layer, "transposed", False)
                if tensor.dim():
                    by_channel = tensor.transpose(0, 1) if turned else tensor
                    one, other = (row % len(by_channel) for row in slot.index[[0, 1]])
                    by_channel[other] = by_channel[one]
    doubled = Candidate(module, start.example)
    inputs = cases(8, seed=5)
    pruned = Prune(1e-5, rows=EVERY, ridge=1e-9)(doubled, reference(doubled))
    assert widths(pruned)[group.name] < group.size
    gone = np.setdiff1d(np.arange(len(start.module.get_submodule(group.name).weight)), pruned.kept[group.name])  # type: ignore[arg-type]
    assert len(np.intersect1d(gone, group.slots[0].index[[0, 1]])) >= group.slots[0].index.shape[1]
    np.testing.assert_allclose(pruned.predict(inputs), doubled.predict(inputs), rtol=1e-2, atol=2e-3)


def affine(x: Array, y: Array) -> Array:
    """What the best affine map of x makes of x."""
    ones = np.column_stack([x, np.ones(len(x))])
    fitted: Array = ones @ np.linalg.lstsq(ones, y, rcond=None)[0]
    return fitted


def at(module: nn.Module, name: str, inputs: npt.NDArray[np.float32]) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer is given and what it makes of it."""
    seen: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_hook(lambda _, given, output: seen.extend((given[0].clone(), output.clone())))
    with torch.inference_mode():
        module(torch.from_numpy(inputs))
    handle.remove()
    return seen[0], seen[1]


def patches(x: torch.Tensor, layer: nn.Conv2d) -> Array:
    """(rows, C * taps) of what a convolution reads, channel by channel."""
    rows = torch.nn.functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return rows.transpose(1, 2).flatten(0, 1).double().numpy()


def maps(y: torch.Tensor) -> Array:
    """(rows, C)."""
    return y.flatten(2).transpose(1, 2).flatten(0, 1).double().numpy()


def cut_by_hand(start: Candidate, keep: npt.NDArray[np.int64]) -> tuple[Candidate, ChannelGroup]:
    group = trace(start).groups[0]
    return Candidate(keep_channels(start.module, group, keep), start.example), group


@pytest.mark.parametrize("groups", [2, 4])
def test_a_grouped_reader_is_one_regression_for_each_group(groups: int) -> None:
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1, groups=groups)))
    aim = reference(start, 60)
    pruned = Merge(0.5, repair="least squares", rows=EVERY, ridge=1e-9)(start, aim)
    assert [pruned.module.get_submodule("2").groups, len(pruned.kept["0"])] == [groups, 4]
    layer = pruned.module.get_submodule("2")
    x, got = at(pruned.module, "2", aim.calibration)
    _, want = at(start.module, "2", aim.calibration)
    for x_part, want_part, got_part in zip(x.chunk(groups, 1), want.chunk(groups, 1), got.chunk(groups, 1), strict=True):
        np.testing.assert_allclose(maps(got_part), affine(patches(x_part, layer), maps(want_part)), atol=1e-3)  # type: ignore[arg-type]


@pytest.mark.parametrize("multiple", [1, 2])
def test_a_depthwise_layer_is_one_regression_for_each_channel(multiple: int) -> None:
    depth, point = nn.Conv2d(4, 4 * multiple, 3, groups=4), nn.Conv2d(4 * multiple, 2, 1)
    start = candidate(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), depth, point))
    aim = reference(start, 60)
    weight = start.module.get_submodule("0").get_parameter("weight")
    broken = Candidate(with_tensors(start.module, "0", weight=weight.flip(0) * 0.3 + weight), start.example)
    mended = Repair(rows=EVERY, ridge=1e-9, layers=("2",))(broken, aim)
    layer = mended.module.get_submodule("2")
    x, got = at(mended.module, "2", aim.calibration)
    _, want = at(start.module, "2", aim.calibration)
    for channel in range(4):
        own = slice(channel * multiple, (channel + 1) * multiple)
        best = affine(patches(x[:, [channel]], layer), maps(want[:, own]))  # type: ignore[arg-type]
        np.testing.assert_allclose(maps(got[:, own]), best, atol=1e-3)


@pytest.mark.parametrize(("kernel", "padding", "rest"), [(3, 1, 1), (4, 1, 0), (2, 0, 0), (5, 2, 1)])
def test_a_transposed_convolution_is_the_best_that_one_bias_for_all_phases_allows(kernel: int, padding: int, rest: int) -> None:
    """By the matrix of the layer itself: a column for what each weight alone gives, and one for the bias."""
    start = candidate(nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Tanh(), nn.ConvTranspose2d(5, 2, kernel, 2, padding, rest)))
    aim = reference(start, 100)
    weight = start.module.get_submodule("0").get_parameter("weight")
    broken = Candidate(with_tensors(start.module, "0", weight=weight.flip(0) * 0.3 + weight), start.example)
    mended = Repair(rows=EVERY, ridge=1e-9, layers=("2",))(broken, aim)
    x, got = at(mended.module, "2", aim.calibration)
    _, want = at(start.module, "2", aim.calibration)
    basis = []
    for channel in range(5):
        for tap in np.ndindex(kernel, kernel):
            probe = nn.ConvTranspose2d(5, 1, kernel, 2, padding, rest, bias=False)
            with torch.no_grad():
                probe.weight.zero_()
                probe.weight[channel, 0, *tap] = 1
                basis.append(probe(x)[:, 0])
    columns = torch.stack(basis, -1).flatten(0, 2).double().numpy()  # (N * H * W, 5 * kernel * kernel)
    np.testing.assert_allclose(maps(got), affine(columns, maps(want)), atol=1e-3)


@pytest.mark.parametrize(
    "name", ["grouped", "squeeze and excitation", "attention gate", "recurrent", "transposed, k3 s2", "transposed, k4 s2", "halves"]
)
def test_repair_leaves_less_error_than_dropping(name: str) -> None:
    start = candidate(INTRICATE[name](), seed=3)
    aim = reference(start, 200)
    want = start.predict(aim.calibration)
    plain, renewed, mended = (
        Merge(0.5, repair=repair, choose="output error", rows=4000)(start, aim) for repair in ("none", "batchnorm", "least squares")
    )
    errors = [float(np.square(each.predict(aim.calibration) - want).sum()) for each in (plain, renewed, mended)]
    assert errors[2] < 0.8 * min(errors[:2])


@st.composite
def small(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """conv -> ReLU -> one of the readers -> ReLU -> conv, over all geometries."""
    groups = draw(st.sampled_from([1, 2, 4]))
    kernel, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    if draw(st.booleans()):
        reader: nn.Module = nn.Conv2d(8, 8, kernel, stride, 2, dilation, groups)
    else:
        rest = draw(st.integers(0, max(stride, dilation) - 1))
        reader = nn.ConvTranspose2d(8, 8, kernel, stride, draw(st.integers(0, 1)), rest, groups, dilation=dilation)
    depth = nn.Conv2d(8, 8 * draw(st.integers(1, 2)), 3, padding=1, groups=8)
    torch.manual_seed(draw(st.integers(0, 99)))
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), reader, nn.ReLU(), depth, nn.Conv2d(depth.out_channels, 3, 1)), (3, 8, 8)


@settings(max_examples=15, deadline=None)
@given(small())
def test_repaired_halves_beat_dropped_ones_whatever_the_geometry(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    module, shape = case
    start = Candidate(ready(module), torch.from_numpy(cases(1, shape, seed=7)))
    aim = Reference(start, cases(60, shape))
    want = start.predict(aim.calibration)
    plain, mended = (Merge(0.5, repair=repair, rows=2000)(start, aim) for repair in ("none", "least squares"))
    assert plain.parameters <= mended.parameters < start.parameters
    dropped, repaired = (float(np.square(each.predict(aim.calibration) - want).sum()) for each in (plain, mended))
    assert repaired <= dropped


def test_layers_behind_a_norm_that_mixes_are_repaired() -> None:
    for name in ("group norm", "layer norm", "instance norm"):
        start = candidate(INTRICATE[name]())
        aim, inputs = reference(start, 200), cases(50, seed=5)
        weight = start.module.first.weight  # type: ignore[union-attr]
        broken = Candidate(with_tensors(start.module, "first", weight=weight * 1.3 + 0.1), start.example)  # type: ignore[operator]
        mended = Repair(layers=("second", "last"))(broken, aim)
        before, after = (np.square(each.predict(inputs) - start.predict(inputs)).sum() for each in (broken, mended))
        assert after < 0.8 * before


KINDS: dict[str, nn.Module] = {
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(5 * 64, 4)),
    "grouped": nn.Conv2d(5, 10, 3, groups=5),
    "dense": nn.Conv2d(5, 4, 3),
    "transposed": nn.ConvTranspose2d(5, 4, 2, 2),
    "overlapping": nn.ConvTranspose2d(5, 4, 3, 2, 1, 1),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_means_are_met_by_every_kind_of_layer(name: str, bias: bool, normed: bool) -> None:
    """In the layer's own bias, in one that it gets, or in the running mean of the norm behind it."""
    reader = KINDS[name]
    layer = reader[1] if isinstance(reader, nn.Sequential) else reader
    layer.bias = nn.Parameter(torch.zeros(layer.weight.shape[1 if getattr(layer, "transposed", False) else 0])) if bias else None
    norm = (nn.BatchNorm1d(4) if name == "linear" else nn.BatchNorm2d(layer.out_channels)) if normed else nn.Identity()
    start = candidate(nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), reader, norm))
    aim = reference(start, 300)
    weight = start.module.get_submodule("0").get_parameter("weight")
    broken = Candidate(with_tensors(start.module, "0", weight=weight + 0.3, bias=torch.ones(5)), start.example)
    mended = Repair(rows=EVERY, layers=("1.1" if name == "linear" else "1",))(broken, aim)
    got, want = (each.predict(aim.calibration) for each in (mended, start))
    axes = (0, *range(2, got.ndim))
    np.testing.assert_allclose(got.mean(axes), want.mean(axes), atol=2e-3)
    assert not np.allclose(broken.predict(aim.calibration).mean(axes), want.mean(axes), atol=2e-2)
    kept = mended.module.get_submodule("1.1" if name == "linear" else "1")
    assert (kept.bias is None) == (normed and not bias)


def test_a_depthwise_layer_on_the_way_is_refitted_before_its_readers() -> None:
    """conv -> depthwise -> pointwise, once something in front was cut: the depthwise layer is the best of what it reads by now."""
    tail = (nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *tail))
    aim = reference(start, 100)
    for step in (Prune(0.3, rows=EVERY, ridge=1e-9), Merge(0.5, repair="least squares", rows=EVERY, ridge=1e-9)):
        pruned = step(start, aim)
        kept = pruned.kept["3"]
        assert len(pruned.kept["0"]) < 8
        x, got = at(pruned.module, "3", aim.calibration)
        _, want = at(start.module, "3", aim.calibration)
        layer = pruned.module.get_submodule("3")
        for place, channel in enumerate(kept):
            best = affine(patches(x[:, [place]], layer), maps(want[:, [channel]]))  # type: ignore[arg-type]
            np.testing.assert_allclose(maps(got[:, [place]]), best, atol=1e-3)
