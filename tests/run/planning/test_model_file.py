"""What a file of weights holds, and the functions beside it; nothing beside it is run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from optimize.errors import InputError
from optimize.run.planning.model_file import factories_beside, inspect_model

SOURCE = '''
from pathlib import Path
from torch import nn
import torch.nn as net
Path(__file__).with_name("was_run").touch()

class Block(nn.Module):
    def __init__(self, width, depth=2, *, rate):
        super().__init__()

class Head(net.Sequential):
    pass

class Settings:
    pass

def make(classes: int = 8) -> nn.Module:
    return nn.Sequential()

def small(width):
    return Block(width, rate=0.1)

def stated() -> "Block":
    ...

def train(model, epochs):
    for _ in range(epochs):
        model()

def number() -> int:
    return len(nn.Sequential())

def _private():
    return nn.Sequential()
'''


def saved(folder: Path, module: object) -> Path:
    torch.save(module, folder / "model.pt")
    return folder / "model.pt"


def test_factories_are_found_by_reading_and_nothing_is_run(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe\x00")
    found = factories_beside(tmp_path / "model.pt")
    assert {one.spec: (one.signature, one.required) for one in found} == {
        "net.py:Block": ("(self, width, depth=2, *, rate)", ("width", "rate")),
        "net.py:Head": ("()", ()),
        "net.py:make": ("(classes: int=8)", ()),
        "net.py:small": ("(width)", ("width",)),
        "net.py:stated": ("()", ()),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.py", "bytes.py", "net.py"]


def test_weights_by_name_are_counted(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 7))
    held = inspect_model(saved(tmp_path, net.state_dict()))
    assert (held.first, held.last) == (("0.weight", (8, 3, 5, 5)), ("3.weight", (7, 8)))
    assert (held.fits((3, 28, 28)), held.fits((1, 28, 28)), held.fits((3, 8, 28, 28)), held.whole_module) == (True, False, False, False)
    assert held.tensors == len(net.state_dict())
    assert held.parameters == sum(tensor.numel() for tensor in net.state_dict().values() if tensor.is_floating_point())


def test_a_network_of_linear_layers_fits_any_image(tmp_path: Path) -> None:
    assert inspect_model(saved(tmp_path, nn.Linear(4, 2).state_dict())).fits((1, 2, 2))


def test_the_order_of_a_file_is_not_taken_for_the_order_of_the_layers(tmp_path: Path) -> None:
    # safetensors sorts by name: the decoder, which reads 64 channels, stands before the encoder, which reads the image
    save_file({"decoder.weight": torch.zeros(8, 64, 3, 3), "encoder.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "model.safetensors")
    assert inspect_model(tmp_path / "model.safetensors").fits((3, 28, 28))


def test_a_whole_pickled_network_is_named_and_not_loaded(tmp_path: Path) -> None:
    held = inspect_model(saved(tmp_path, nn.Linear(4, 2)))
    assert held.whole_module
    assert "--trust-pickle" in held.why_unread
    assert held.tensors == 0


def test_several_sets_of_weights_are_the_users_choice(tmp_path: Path) -> None:
    held = inspect_model(saved(tmp_path, {"a": nn.Linear(4, 2).state_dict(), "b": nn.Linear(4, 2).state_dict()}))
    assert "--weights" in held.why_unread
    assert not held.whole_module


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match="model"):
        inspect_model(tmp_path / "model.pt")
    with pytest.raises(InputError, match="model"):
        inspect_model(tmp_path / "gone.pt")
