"""One output of several: which is taken by default and by name, and what the rest of the package makes of it."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import optimize as opt
from optimize.backends.export import export_onnx
from optimize.errors import InputError
from optimize.graph.trace import trace

Named = namedtuple("Named", ["features", "logits"])


class Several(nn.Module):
    """Two heads on one trunk, returned as `wrap` says."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head, self.aux, self.wrap = nn.Conv2d(1, 8, 3), nn.Linear(8, 3), nn.Linear(8, 2), wrap

    def forward(self, x: torch.Tensor) -> Any:
        made = torch.relu(self.trunk(x)).mean((2, 3))
        return self.wrap(self.head(made), self.aux(made))


WRAPS = {
    "dict": lambda main, aux: {"aux": aux, "out": main},
    "tuple": lambda main, aux: (main, aux),
    "list with a text": lambda main, aux: ["a text", main, aux],
    "named tuple": lambda main, aux: Named(aux, main),
    "object": lambda main, aux: SimpleNamespace(loss=None, logits=main, hidden=aux),
    "dict of one": lambda main, aux: {"anything": main},
}


@pytest.mark.parametrize("case", WRAPS)
def test_the_usual_one_is_taken(case: str) -> None:
    net = Several(WRAPS[case]).eval()
    candidate = opt.load_model(net, input_shape=(1, 6, 6))
    inputs = np.random.default_rng(0).standard_normal((4, 1, 6, 6), np.float32)
    expected = net.head(torch.relu(net.trunk(torch.from_numpy(inputs))).mean((2, 3))).detach().numpy()
    np.testing.assert_allclose(candidate.predict(inputs), expected, atol=1e-6)
    assert [group.size for group in trace(candidate).groups] == [8]
    said = [note for note in candidate.notes if "is taken; --output" in note]
    assert len(said) == (0 if case == "dict of one" else 1)


class Number(nn.Module):
    """One number an input, without an axis for it."""

    def __init__(self, squeeze: Any) -> None:
        super().__init__()
        self.layer, self.squeeze = nn.Linear(36, 1), squeeze

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.squeeze(self.layer(x.flatten(1)))
        return made


@pytest.mark.parametrize("squeeze", [lambda made: made.squeeze(1), lambda made: made.squeeze(), lambda made: made[:, 0]])
def test_a_number_without_an_axis_gets_one(squeeze: Any, tmp_path: Path) -> None:
    net = Number(squeeze).eval()
    candidate = opt.load_model(net, input_shape=(1, 6, 6))
    inputs = np.random.default_rng(0).standard_normal((4, 1, 6, 6), np.float32)
    expected = net.layer(torch.from_numpy(inputs).flatten(1)).detach().numpy()
    np.testing.assert_allclose(candidate.predict(inputs), expected, atol=1e-6)
    np.testing.assert_allclose(candidate.predict(inputs[:1]), expected[:1], atol=1e-6)
    assert candidate.notes == ("the network returns one number an input, (N,): it is taken as (N, 1)",)
    assert export_onnx(candidate, tmp_path / "net.onnx", inputs).max_abs_diff < 1e-5


@pytest.mark.parametrize(("case", "asked"), [("dict", "aux"), ("tuple", "1"), ("named tuple", "features"), ("object", "hidden")])
def test_another_is_taken_by_name_or_position(case: str, asked: str) -> None:
    candidate = opt.load_model(Several(WRAPS[case]).eval(), input_shape=(1, 6, 6), output=asked)
    assert candidate.predict(np.zeros((2, 1, 6, 6), np.float32)).shape == (2, 2)
    assert not [note for note in candidate.notes if "--output" in note]


@pytest.mark.parametrize(
    ("wrap", "asked", "words"),
    [
        (WRAPS["dict"], "auz", r"`--output` \(=auz\) is none of the network's outputs \(aux, out\)"),
        (WRAPS["tuple"], "2", r"`--output` \(=2\) is none of the network's outputs \(0, 1\)"),
        (lambda main, aux: main, "0", r"`--output` \(=0\): the network returns a single tensor: leave it out"),
        (lambda main, aux: {"n": 3}, None, "the network returns a dict without a tensor of floats"),
        (
            lambda main, aux: [{"boxes": main, "scores": aux}],
            None,
            "a detector that returns lists of boxes, whose number depends on the image",
        ),
        (lambda main, aux: None, None, "the network returns a NoneType without a tensor of floats"),
    ],
)
def test_mistakes_are_said_in_a_line(wrap: Any, asked: str | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        opt.load_model(Several(wrap).eval(), input_shape=(1, 6, 6), output=asked)
