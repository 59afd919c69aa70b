"""A wrong `--input`: what the first convolution reads says how to mend it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optimize.loading.input_advice import batch_remedy, input_remedy


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((28, 28, 3), "looks like channels last: pass --input 3,28,28"),
        ((28, 28), "the channels are missing: pass --input 3,28,28"),
        ((1, 3, 28, 28), "the number of images is no part of --input: pass --input 3,28,28"),
        ((1, 28, 28), "pass --input 3,28,28, or the arch_args that it was trained with"),
        ((3,), "pass --input with 3 numbers, such as 3,64,64"),
        ((3, 28, 28), "check --input and --arch"),
    ],
)
def test_of_images(shape: tuple[int, ...], said: str) -> None:
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 2, 1))
    assert input_remedy(net, shape).endswith(said)


def test_of_volumes_and_of_nets_that_do_not_say() -> None:
    assert input_remedy(nn.Conv3d(1, 4, 3), (16, 16, 16)).endswith("pass --input 1,16,16,16")
    assert input_remedy(nn.Linear(3, 4), (28, 28)) == "check --input and --arch"
    assert input_remedy(nn.LazyConv2d(4, 3), (28, 28)) == "check --input and --arch"


class Written(nn.Module):
    """Has a batch size in its forward."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch, self.first, self.head = batch, nn.Conv2d(1, 2, 3), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.first(x).reshape(self.batch, -1))
        return out


@pytest.mark.parametrize(("batch", "images"), [(1, "one image"), (32, "32 images")])
def test_of_a_batch_size_in_the_forward(batch: int, images: str) -> None:
    said = batch_remedy(Written(batch), (1, 4, 4))
    assert said is not None
    assert said.startswith(f"it runs on {images} at once and not on two, so its forward has the batch size written in")
    assert batch_remedy(Written(batch), (3, 4, 4)) is None
    assert batch_remedy(Written(batch), (1, 5, 5)) is None
