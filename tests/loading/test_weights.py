"""Which weights of a file are taken, under which names, what is said of the rest, and what of those that do not fit."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_model
from torch import nn
from torch.optim.swa_utils import AveragedModel

from optimize.candidate import Candidate
from optimize.errors import InputError
from optimize.loading.checkpoint import averaged
from optimize.loading.load import load_model

ARCH = """
from torch import nn

def net(classes=3):
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, classes))

class Tied(nn.Module):
    def __init__(self, tie=True):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        if tie:
            self.two.weight = self.one.weight
    def forward(self, x):
        return self.two(self.one(x.flatten(1)))

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = net()
    def forward(self, x):
        return self.model(x)
"""


def weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return OrderedDict(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).state_dict())


RAW, EMA = weights(1), weights(2)


def under(prefix: str, of: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in of.items()}


def loaded(folder: Path, value: object, factory: str = "net", **more: Any) -> Candidate:
    (folder / "arch.py").write_text(ARCH, encoding="utf-8")
    path = folder / "m.pt"
    if isinstance(value, Path):
        path = value
    else:
        torch.save(value, path)
    return load_model(path, arch=f"{folder}/arch.py:{factory}", input_shape=more.pop("input_shape", (2, 4)), **more)


def first(of: Candidate) -> torch.Tensor:
    return next(iter(of.module.state_dict().values()))


SEVERAL: dict[str, tuple[object, str]] = {
    "timm": ({"epoch": 3, "state_dict": RAW, "state_dict_ema": EMA}, "state_dict_ema"),
    "model_ema": ({"model": RAW, "model_ema": EMA, "optimizer": {"state": {}, "param_groups": []}}, "model_ema"),
    "nested": ({"model": RAW, "ema": {"module": EMA, "updates": 7}}, "ema"),
    "inside": ({"checkpoint": {"net": RAW, "ema_state_dict": EMA}}, "ema_state_dict"),
    "one of two": ({"net": RAW, "netEMA": EMA}, "netEMA"),
    "prefixes": ({**under("model", RAW), **under("ema_model", EMA)}, "ema_model"),
    "prefixes in a set": ({"state_dict": {**under("model", RAW), **under("model_ema.module", EMA)}}, "model_ema"),
    "beside bare names": ({**RAW, **under("ema", EMA)}, "ema"),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_the_weights_themselves_are_taken_and_the_average_is_offered(kind: str, tmp_path: Path) -> None:
    value, name = SEVERAL[kind]
    raw = loaded(tmp_path, value)
    assert torch.equal(first(raw), RAW["0.weight"])
    assert name in " ".join(raw.notes)
    offered = raw.notes[0].rpartition("--weights ")[2]
    for chosen in (name, offered):
        asked = loaded(tmp_path, value, weights=chosen)
        assert torch.equal(first(asked), EMA["0.weight"])
        assert not asked.notes


def test_one_set_alone_needs_no_word(tmp_path: Path) -> None:
    for value in (RAW, {"state_dict": RAW}, {"ema": RAW}, under("module", RAW), under("_orig_mod.module", RAW)):
        taken = loaded(tmp_path, value)
        assert (first(taken).tolist(), taken.notes) == (RAW["0.weight"].tolist(), ())


def test_two_of_a_kind_are_chosen_by_name(tmp_path: Path) -> None:
    value = {"generator": RAW, "critic": EMA}
    with pytest.raises(InputError, match=r"several sets of weights \(generator, critic\): choose one, such as --weights generator"):
        loaded(tmp_path, value)
    assert torch.equal(first(loaded(tmp_path, value, weights="critic")), EMA["0.weight"])
    with pytest.raises(InputError, match=r"`--weights` \(=crtic\) is nothing in `model` .*: it holds generator, critic\."):
        loaded(tmp_path, value, weights="crtic")
    with pytest.raises(InputError, match=r"several parts that fit the network \(one, two\): choose one, such as --weights one"):
        loaded(tmp_path, {**under("one", RAW), **under("two", EMA)})
    assert torch.equal(first(loaded(tmp_path, {**under("one", RAW), **under("two", EMA)}, weights="two")), EMA["0.weight"])


def test_an_average_without_names_is_told_of(tmp_path: Path) -> None:
    taken = loaded(tmp_path, {"model": RAW, "ema": {"decay": 0.99, "shadow_params": list(EMA.values())}})
    assert "`ema.shadow_params` holds averaged weights without names: to take those, copy them into the model" in taken.notes[0]
    assert torch.equal(first(taken), RAW["0.weight"])


def test_what_is_no_part_of_the_network_is_left_out_and_named(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    module.load_state_dict(RAW)
    average = AveragedModel(module).state_dict()
    assert "n_averaged" in average
    files: dict[str, dict[str, object]] = {
        "n_averaged": average,
        "criterion.weight": {"state_dict": {**under("model", RAW), "criterion.weight": torch.ones(3)}},
        "loss.pos_weight": {"state_dict": {**under("net", RAW), "loss.pos_weight": torch.ones(3), "epoch": torch.tensor(3)}},
        "epoch": {**RAW, "epoch": torch.tensor(3), "criterion.weight": torch.ones(3)},
        "head.bias": {**under("backbone", RAW), "head.bias": torch.ones(3)},
    }
    for name, value in files.items():
        taken = loaded(tmp_path, value)
        assert torch.equal(first(taken), RAW["0.weight"])
        assert name in taken.notes[0]
        assert "left out" in taken.notes[0]


def test_a_network_that_the_factory_wraps(tmp_path: Path) -> None:
    assert torch.equal(first(loaded(tmp_path, RAW, "Wrapped")), RAW["0.weight"])


def test_tied_weights_are_saved_once(tmp_path: Path) -> None:
    scope: dict[str, Any] = {}
    exec(ARCH, scope)
    tied = scope["Tied"]()
    save_model(tied, str(tmp_path / "m.safetensors"))
    for shape, factory, args in (((4, 1), "Tied", {}), ((4, 1), "Tied", {"tie": False})):
        taken = loaded(tmp_path, tmp_path / "m.safetensors", factory, arch_args=args, input_shape=shape)
        assert torch.equal(taken.module.get_parameter("two.weight"), tied.one.weight)
        assert torch.equal(taken.module.get_parameter("one.weight"), tied.one.weight)
    once = {name: tensor for name, tensor in tied.state_dict().items() if name != "two.weight"}
    assert torch.equal(loaded(tmp_path, once, "Tied", input_shape=(4, 1)).module.get_parameter("two.weight"), tied.one.weight)
    with pytest.raises(InputError, match=r"1 missing \(two.weight\): the network has more layers than the file"):
        loaded(tmp_path, once, "Tied", arch_args={"tie": False}, input_shape=(4, 1))
    apart = {**tied.state_dict(), "two.weight": torch.ones(4, 4)}
    with pytest.raises(InputError, match=r"(one.weight and two.weight|two.weight and one.weight) are one tensor in `--arch` .* two in the"):
        loaded(tmp_path, apart, "Tied", input_shape=(4, 1))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({**RAW, "4.weight": torch.ones(2, 2)}, r"1 unexpected \(4.weight\): the file holds more layers than the network"),
        ({name: tensor for name, tensor in RAW.items() if name != "2.bias"}, r"1 missing \(2.bias\): the network has more layers than"),
        ({**RAW, "2.weight": torch.ones(7, 5), "2.bias": torch.ones(7)}, "2.bias 7 for 3.: pass arch_args with as many outputs"),
        ({**RAW, "0.weight": torch.ones(5, 6)}, r"1 of another shape \(0.weight 5x6 for 5x4\): pass the arch_args \(widths"),
        ({"other.weight": torch.ones(2)}, "4 missing .*; 1 unexpected .*: pass the factory and arch_args it was trained with"),
        ({**under("0", {"weight_orig": torch.ones(5, 4), "weight_mask": torch.ones(5, 4)}), "2.bias": RAW["2.bias"]}, "prune.remove"),
        ({**RAW, "0.weight_g": torch.ones(5)}, "weight norm"),
        ({**RAW, "0.lora_A": torch.ones(5)}, "merge the adapters"),
    ],
)
def test_what_does_not_fit_has_its_remedy(value: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        loaded(tmp_path, value)
    assert "\n" not in str(caught.value)


def test_names_of_averages() -> None:
    assert all(map(averaged, ("ema", "EMA", "state_dict_ema", "ema_state_dict", "model_ema", "netEMA", "swa_model", "shadow", "avg.model")))
    assert not any(map(averaged, ("schema", "model", "state_dict", "swan", "remap", "average_pool_net".replace("average", "avgs"))))


def test_half_precision_is_read_as_single_and_said(tmp_path: Path) -> None:
    candidate = loaded(tmp_path, {name: tensor.half() for name, tensor in RAW.items()})
    assert first(candidate).dtype == torch.float32
    assert torch.equal(first(candidate), RAW["0.weight"].half().float())
    assert candidate.notes == ("the weights are stored as float16, and were read as float32",)
