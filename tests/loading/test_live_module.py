"""A network in memory becomes a candidate: a copy, in eval mode; the network itself stays as it was."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from optimize.errors import InputError
from optimize.loading.load import load_model
from tests import runs


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 3))


def test_the_network_is_copied_and_left_as_it_was() -> None:
    module = net().train().double()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    candidate = load_model(module, input_shape=(1, 8, 8))
    assert all(layer.training for layer in module.modules())
    assert all(parameter.requires_grad and parameter.dtype == torch.float64 for parameter in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert candidate.notes == ("the network (Sequential) was in training mode: it is judged in eval mode",)
    own = candidate.module.state_dict()
    assert not any(layer.training for layer in candidate.module.modules())
    assert all(tensor.data_ptr() != module.state_dict()[name].data_ptr() for name, tensor in own.items())
    with torch.no_grad():
        expected = net().eval()(candidate.example)
    assert torch.allclose(torch.from_numpy(candidate.predict(candidate.example.numpy())), expected)


def test_it_is_the_candidate_that_its_file_gives(brought: Any) -> None:
    filed = load_model(brought, arch=f"{brought.parent / 'net.py'}:net", input_shape=(1, 8, 8))
    live = load_model(runs.trained(), input_shape=(1, 8, 8))
    assert live.fingerprint == filed.fingerprint
    assert live.notes == ()


class Uncopied(nn.Module):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def __deepcopy__(self, memo: object) -> Uncopied:
        raise TypeError("a lock is\nheld")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(inputs)
        return out


def with_nan() -> nn.Module:
    module = net()
    nn.init.constant_(module.get_parameter("4.bias"), float("nan"))
    return module


@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        (net().to("meta"), {}, r"`model` \(=Sequential\) lies on device 'meta': build it with weights first"),
        (Uncopied(), {}, r"`model` \(=Uncopied\) cannot be copied \(a lock is held\): save its state_dict, and pass the file"),
        (with_nan(), {}, r"`model` \(=Sequential\): 4.bias has 3 values that are not finite"),
        (net(), {"input_shape": ()}, r"`input` is missing"),
        (net(), {"input_shape": (3, 8, 8)}, r"`input` \(=3,8,8\) makes the network fail"),
        (net(), {"arch": "net.py:net"}, r"`arch` \(='net.py:net'\) is for a file of weights, and `model` is a network: leave it out"),
        (net(), {"trust_pickle": True}, r"`trust_pickle` \(=True\) is for a file of weights"),
        (net(), {"weights": "ema"}, r"`weights` \(='ema'\) is for a file of weights"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(module: nn.Module, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        load_model(module, **{"input_shape": (1, 8, 8), **settings})
    assert "\n" not in str(refusal.value)


def test_a_torchscript_module_is_rebuilt() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with warnings.catch_warnings(action="ignore"):
        scripted = torch.jit.script(net)
    candidate = load_model(scripted, input_shape=(1, 8, 8))
    inputs = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(torch.from_numpy(candidate.predict(inputs.numpy())), net(inputs).detach())
    assert candidate.parameters == 195
