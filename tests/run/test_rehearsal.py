"""The original on the way to every runtime, before the search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.backends import Backend, backend
from optimize.candidate import Candidate
from optimize.errors import InputError
from optimize.run.rehearsal import rehearse
from tests import runs
from tests.conftest import require

IMAGES = np.random.default_rng(0).standard_normal((6, 1, 12, 12), dtype=np.float32)


class Net(nn.Module):
    """A convolution, an operation, the largest values."""

    def __init__(self, operation: Callable[[torch.Tensor], torch.Tensor], padding: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.head, self.operation = nn.Conv2d(1, 4, 3, padding=padding), nn.Linear(4, 3), operation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.operation(torch.relu(self.enter(x))).amax((2, 3)))


def circular(x: torch.Tensor) -> torch.Tensor:
    return functional.pad(x, (1, 1, 1, 1), mode="circular")


def antialiased(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, size=(7, 7), mode="bicubic", antialias=True) ** 2


def median(x: torch.Tensor) -> torch.Tensor:
    return x - x.flatten(2).median(2)[0][..., None, None]


def both() -> list[Backend]:
    return [backend(require(name)) for name in ("openvino", "onnxruntime")]


def candidate(operation: Callable[[torch.Tensor], torch.Tensor], padding: int = 1) -> Candidate:
    return Candidate(Net(operation, padding).eval(), torch.from_numpy(IMAGES[:1]))


def test_a_network_that_every_runtime_takes() -> None:
    able, notes = rehearse(candidate(torch.nn.Identity()), both(), IMAGES, 1)
    assert [each.NAME for each in able] == ["openvino", "onnxruntime"]
    assert notes == ()


@pytest.mark.parametrize(
    ("operation", "words"),
    [(circular, r"the operator Pad .*\[wrap\]"), (antialiased, "its outputs differ from torch's by"), (torch.linalg.det, "operator Det")],
)
def test_a_runtime_that_cannot_is_dropped_or_named(operation: Callable[[torch.Tensor], torch.Tensor], words: str) -> None:
    def applied(x: torch.Tensor) -> torch.Tensor:
        found = operation(x)
        return found if found.dim() == 4 else found[..., None, None]

    able, notes = rehearse(candidate(applied), both(), IMAGES, 1)
    assert [each.NAME for each in able] == ["onnxruntime"]
    assert len(notes) == 1
    with pytest.raises(InputError, match=rf"^`model`: openvino cannot run this network: .*{words}.*take another --target") as caught:
        rehearse(candidate(applied), both()[:1], IMAGES, 1)
    assert "\n" not in str(caught.value)


def test_a_blank_image_before_an_instance_norm_is_no_obstacle() -> None:
    """On it rounding alone decides, and every runtime rounds in its own way."""

    def standardized(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1e-12)

    images = IMAGES.copy()
    images[::2] = 0.3
    able, notes = rehearse(candidate(standardized, padding=0), both(), images, 1)
    assert (len(able), notes) == (2, ())


def test_the_exporter_s_obstacle_is_named() -> None:
    with pytest.raises(InputError, match=r"^`model` cannot be exported to ONNX: the operator aten\.median"):
        rehearse(candidate(median), both()[1:], IMAGES, 1)


def test_a_run_on_cpu_goes_on_with_the_runtime_that_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is found out before anything is written."""
    from optimize.run.prepare import prepare
    from optimize.run.recipe import resolve

    both()
    model = runs.bring(tmp_path)
    source = "from torch.nn import functional\n" + runs.NET.replace("nn.Conv2d(1, width, 3, padding=1)", "Circular(width)") + CIRCULAR
    (tmp_path / "net.py").write_text(source)
    state = torch.load(model)
    torch.save({key.replace("0.", "0.convolution.", 1) if key.startswith("0.") else key: value for key, value in state.items()}, model)
    job = prepare(resolve(model, target="cpu", overrides={"out": tmp_path / "out"}), resume=False, overwrite=False)
    assert [each.NAME for each in job.runtimes] == ["onnxruntime"]
    assert job.notes[0].startswith("openvino cannot run this network: it does not take the operator Pad")
    with pytest.raises(InputError, match="take another --target"):
        prepare(resolve(model, target="openvino", overrides={"out": tmp_path / "other"}), resume=False, overwrite=False)
    assert not (tmp_path / "other").exists()


CIRCULAR = '''

class Circular(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.convolution = nn.Conv2d(1, width, 3)

    def forward(self, x):
        return self.convolution(functional.pad(x, (1, 1, 1, 1), mode="circular"))
'''
