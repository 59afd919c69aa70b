"""Moments against numpy.cov of rows gathered another way (`unfold`, or by slicing)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.graph.layer_calls import calls
from optimize.graph.surgery import with_tensors
from optimize.reconstruction import moments
from optimize.reconstruction.moments import Moments, OriginalOutputs
from tests.nets import Reused, cases, chain, chain_inplace, ready

EVERY = 10**6


def through(layers: list[nn.Module], inputs: npt.NDArray[np.float32]) -> torch.Tensor:
    with torch.inference_mode():
        x = torch.from_numpy(inputs)
        for layer in layers:
            x = layer(x)
        return x.clone()


def unfolded(layer: nn.Conv2d, inputs: torch.Tensor) -> npt.NDArray[np.float64]:
    patches = functional.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return patches.transpose(1, 2).flatten(0, 1).double().numpy()


def flat(outputs: torch.Tensor) -> npt.NDArray[np.float64]:
    return outputs.flatten(2).transpose(1, 2).flatten(0, 1).double().numpy()


def agree(found: Moments, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> None:
    joint = np.cov(x, y, rowvar=False, bias=True)
    p = x.shape[1]
    assert found.rows == len(x)
    np.testing.assert_allclose(found.gram.numpy(), joint[:p, :p], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.cross.numpy(), joint[:p, p:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.energy.numpy(), np.diag(joint[p:, p:]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.mean_in.numpy(), x.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.mean_out.numpy(), y.mean(0), rtol=1e-4, atol=1e-5)


def disturbed(module: nn.Module, name: str) -> nn.Module:
    """The same network with other weights in one layer."""
    weight = module.get_submodule(name).get_parameter("weight")
    return with_tensors(module, name, weight=weight + 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("batch", [128, 7])
def test_convolution_between_two_networks(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "BATCH", batch)
    original = ready(chain())
    now, inputs = disturbed(original, "0"), cases(20)
    found = OriginalOutputs(original, inputs, ["0", "2", "6"], rows=EVERY, seed=0).moments(now, ["2"])["2"]
    x = unfolded(original[2], through([now[0], now[1]], inputs))  # type: ignore[index,arg-type]
    agree(found, x, flat(through([original[0], original[1], original[2]], inputs)))  # type: ignore[index]


def test_linear_between_two_networks() -> None:
    original = ready(chain())
    now, inputs = disturbed(original, "0"), cases(50)
    found = OriginalOutputs(original, inputs, ["0", "2", "6"], rows=EVERY, seed=0).moments(now, ["6"])["6"]
    y = through(list(original), inputs).double().numpy()  # type: ignore[call-overload]
    agree(found, through(list(now)[:-1], inputs).double().numpy(), y)  # type: ignore[call-overload]


def test_operations_in_place_do_not_reach_what_was_read() -> None:
    """A ReLU in place overwrites the very tensor that the convolution before it returned."""
    original, inputs = ready(chain_inplace()), cases(20)
    found = OriginalOutputs(original, inputs, ["0", "2", "4"], rows=EVERY, seed=0).moments(original, ["2"])["2"]
    first = torch.relu(original[0](torch.from_numpy(inputs))).detach()  # type: ignore[index]
    second = original[2](first).detach()  # type: ignore[index]
    assert float(second.min()) < 0
    agree(found, unfolded(original[2], first), flat(second))  # type: ignore[index,arg-type]


class Doubling(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2.0)


def test_a_network_that_works_in_place_on_its_input_sees_it_fresh_each_time() -> None:
    original, inputs = ready(nn.Sequential(Doubling(), nn.Conv2d(3, 4, 3))), cases(20)
    before = inputs.copy()
    targets = OriginalOutputs(original, inputs, ["1"], rows=EVERY, seed=0)
    twice = [targets.moments(original, ["1"])["1"] for _ in range(2)]
    assert np.array_equal(inputs, before)
    assert torch.equal(twice[0].gram, twice[1].gram)
    doubled = torch.from_numpy(before * 2)
    agree(twice[1], unfolded(original[1], doubled), flat(original[1](doubled).detach()))  # type: ignore[index,arg-type]


def test_a_layer_called_three_times_gives_the_rows_of_all_calls() -> None:
    original, inputs = ready(Reused()), cases(10)
    found = OriginalOutputs(original, inputs, ["enter", "again", "head"], rows=EVERY, seed=0).moments(original, ["again"])["again"]
    x: list[npt.NDArray[np.float64]] = []
    y: list[npt.NDArray[np.float64]] = []
    with torch.inference_mode():
        state = torch.relu(original.enter(torch.from_numpy(inputs)))  # type: ignore[operator]
        for _ in range(3):
            made = original.again(state)  # type: ignore[operator]
            x.append(unfolded(original.again, state))  # type: ignore[arg-type]
            y.append(flat(made))
            state = torch.relu(made)
    agree(found, np.concatenate(x), np.concatenate(y))


class Named(nn.Module):
    """Calls its layers with keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(input=torch.relu(self.first(input=x)))


def test_keyword_arguments_are_read_too() -> None:
    original, inputs = ready(Named()), cases(10)
    found = OriginalOutputs(original, inputs, ["first", "second"], rows=EVERY, seed=0).moments(original, ["first"])["first"]
    x = torch.from_numpy(inputs)
    agree(found, unfolded(original.first, x), flat(original.first(x).detach()))  # type: ignore[arg-type,operator]


@pytest.mark.parametrize("rows", [40, 300, 2000])
def test_sampled_rows_are_read_at_the_same_places_in_both_networks(rows: int) -> None:
    """For an unchanged layer y = x W + b row by row, so cross = gram W whatever was sampled; at other places it would not be."""
    original, inputs = ready(chain()), cases(200)
    found = OriginalOutputs(original, inputs, ["0", "2", "6"], rows=rows, seed=3).moments(original, ["0", "2"])
    for name in ("0", "2"):
        weight = original.get_submodule(name).get_parameter("weight").detach().double().flatten(1).T
        torch.testing.assert_close(found[name].cross, found[name].gram @ weight, rtol=1e-4, atol=1e-5)
    assert rows <= found["0"].rows < 200 * 64


def test_nothing_depends_on_how_much_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    original, inputs, layers = ready(chain()), cases(40), ["0", "2", "6"]
    roomy = OriginalOutputs(original, inputs, layers, rows=500, seed=0).moments(original, ["0", "6"])
    monkeypatch.setattr(moments, "MEMORY_BYTES", 0)
    tight = OriginalOutputs(original, inputs, layers, rows=500, seed=0)
    for names in (["0", "6"], ["6", "0"], ["2"], ["0", "6"]):
        found = tight.moments(original, names)
        for name in set(names) & set(roomy):
            assert torch.equal(found[name].gram, roomy[name].gram)
            assert torch.equal(found[name].cross, roomy[name].cross)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_float_types(dtype: torch.dtype) -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.to(dtype)).float()

    original, inputs = ready(Cast()).to(dtype), cases(400, (6,))
    found = OriginalOutputs(original, inputs, ["layer"], rows=EVERY, seed=0).moments(original, ["layer"])["layer"]
    assert found.gram.dtype == torch.float64
    given = torch.from_numpy(inputs).to(dtype).double().numpy()
    np.testing.assert_allclose(found.gram.numpy(), np.cov(given, rowvar=False, bias=True), rtol=1e-5, atol=1e-5)


def test_a_constant_output_has_no_energy() -> None:
    module = ready(nn.Sequential(nn.Linear(3, 2)))
    module = with_tensors(module, "0", weight=torch.zeros(2, 3), bias=torch.tensor([5.0, -1.0]))
    found = OriginalOutputs(module, cases(30, (3,)), ["0"], rows=EVERY, seed=0).moments(module, ["0"])["0"]
    assert found.energy.tolist() == [0, 0]
    assert found.mean_out.tolist() == [5, -1]


def test_the_network_is_left_after_the_last_call() -> None:
    ran: list[str] = []

    def seen(name: str) -> Callable[..., None]:
        return lambda *_: ran.append(name)

    module = ready(chain())
    for name in ("0", "2", "6"):
        module.get_submodule(name).register_forward_pre_hook(seen(name))
    got = calls(module, ["0", "2"], torch.from_numpy(cases(3)), lambda name, given, output: tuple(given.shape))
    assert got == [("0", (3, 3, 8, 8)), ("2", (3, 8, 8, 8))]
    assert ran.count("0") == ran.count("2") == 2
    assert ran.count("6") == 1  # on the single case that calls are counted on
    assert not any(layer._forward_hooks for layer in module.modules())
