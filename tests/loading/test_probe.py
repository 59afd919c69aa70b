"""What a network is asked before any work: every question is seen to be answered both ways."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.candidate import Candidate
from optimize.errors import InputError
from optimize.loading.load import load_model
from optimize.loading.probe import check, finite_inputs, noise, on_images, some

SHAPE = (1, 8, 8)
Turn = Callable[["Net", torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """Two layers, and anything between them."""

    def __init__(self, turn: Turn = lambda net, x: x, prepare: Callable[[Net], None] = lambda net: None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)
        self.drop, self.norm, self.turn = nn.Dropout(0.2), nn.BatchNorm2d(4, track_running_stats=False), turn
        prepare(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.turn(self, torch.relu(self.first(x))).mean((2, 3)))


def probed(module: nn.Module) -> Candidate:
    """As loading does it."""
    module = module.eval().requires_grad_(False)
    with torch.no_grad():
        inputs = finite_inputs(module, SHAPE, lambda inputs: module(inputs.clone()))
    candidate = Candidate(module, inputs[:1])
    check(candidate, inputs.numpy())
    return candidate


def dropping(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.drop.train()
    return net.drop(x)


def counting(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.calls = getattr(net, "calls", 0) + 1  # type: ignore[assignment]
    return x * net.calls  # type: ignore[operator]


def stale(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.aside, before = x, getattr(net, "aside", x)  # type: ignore[assignment]
    return x + before


def put_aside(net: Net) -> None:
    """A hook that knows the network by a weak reference, which a copy cannot turn to itself."""
    owner, net.aside = weakref.ref(net), {}  # type: ignore[assignment]
    net.first.register_forward_hook(lambda layer, given, made: owner().aside.update(skip=made))  # type: ignore[union-attr, operator]


def listed(net: Net) -> None:
    net.more = [nn.Conv2d(4, 4, 1)]  # type: ignore[assignment]


def loose(net: Net) -> None:
    net.scale = [nn.Parameter(torch.ones(1))]  # type: ignore[assignment]


def locked(net: Net) -> None:
    net.lock = threading.Lock()  # type: ignore[assignment]


def graded(net: Net) -> None:
    net.cache = net.first.weight * 2  # type: ignore[assignment]


NETS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout": (lambda: Net(lambda net, x: functional.dropout(x, 0.5)), "two calls on the same image differ: dropout is at work in the f"),
    "faint dropout": (lambda: Net(lambda net, x: functional.dropout2d(x, 0.01)), "two calls on the same image differ: dropout"),
    "dropout of its own": (lambda: Net(dropping), r"two calls .* dropout is at work in `drop` \(Dropout\) .* stay in eval mode"),
    "noise": (lambda: Net(lambda net, x: x + torch.randn_like(x)), "two calls .* randn_like draws at random in the forward of Net"),
    "another generator": (lambda: Net(lambda net, x: x + random.random()), "two calls .* draws from numpy.random or random"),
    "memory": (lambda: Net(counting), "two calls on the same image differ: it keeps something from one call to the next"),
    "leftover": (lambda: Net(stale), "two calls on the same image differ: it keeps something from one call to the next"),
    "batch spread": (lambda: Net(lambda net, x: x / x.std()), r"mixes the inputs of a batch .* across it\.$"),
    "batch maximum": (lambda: Net(lambda net, x: x / x.max()), "mixes the inputs of a batch"),
    "batch norm": (lambda: Net(lambda net, x: net.norm(x)), "mixes the inputs of a batch.* layer `norm` normalises by the batch: give it"),
    "squeezed": (lambda: nn.Sequential(Net(), Squeeze()), r"gives shape \(2, 3\) for two inputs, not \(2,\): .*x.squeeze\(\)\)\.$"),
    "not registered": (lambda: Net(lambda net, x: net.more[0](x), listed), r"weights that are not registered \(`more.0`.*nn.ModuleList"),
    "loose parameter": (lambda: Net(lambda net, x: net.scale[0] * x, loose), r"weights that are not registered \(`scale.0`"),
    "weak reference": (lambda: Net(lambda net, x: net.aside["skip"], put_aside), "outside the module .probably the hook on `first`"),
    "lock": (lambda: Net(prepare=locked), "cannot be copied .TypeError: .*lock.*: keep locks"),
    "graph": (lambda: Net(prepare=graded), "cannot be copied: an attribute holds a tensor that was computed from weights"),
    "never finite": (lambda: Net(lambda net, x: x / 0 * 0), r"not finite on noise of `input` \(=1,8,8\), neither standard normal"),
}


class Squeeze(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.squeeze()


@pytest.mark.parametrize("name", NETS)
def test_what_cannot_be_worked_with_is_said_in_one_line(name: str) -> None:
    make, words = NETS[name]
    with pytest.raises(InputError, match=words) as caught:
        probed(make())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 450


RUNS: dict[str, Callable[[], nn.Module]] = {
    "standardizes itself": lambda: nn.Sequential(Standardized(), Net()),
    "divides by its maximum": lambda: Net(lambda net, x: x / (x.amax((1, 2, 3), keepdim=True) + 1e-6)),
    "logarithm": lambda: nn.Sequential(Log(), Net()),
    "instance norm": lambda: nn.Sequential(Net(lambda net, x: functional.instance_norm(x))),
    "hook": lambda: Net(lambda net, x: net.aside["skip"], hooked),
    "lambda": lambda: Net(lambda net, x: net.more(x), called),
    "list of registered layers": lambda: Net(lambda net, x: net.more[0](x[:, :1]), known),
    "draws without effect": lambda: Net(lambda net, x: x + 0 * torch.rand_like(x)),
    "hidden and unused": lambda: Net(prepare=listed),
    "cache of a constant": lambda: Net(cached),
}


class Standardized(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)


class Log(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(x + 1e-3)


def hooked(net: Net) -> None:
    net.aside = {}  # type: ignore[assignment]
    net.first.register_forward_hook(lambda layer, given, made: net.aside.update(skip=made))  # type: ignore[operator]


def called(net: Net) -> None:
    net.more = lambda x: x * net.first.weight.sum()  # type: ignore[assignment]


def known(net: Net) -> None:
    net.more = [net.first]  # type: ignore[assignment]


def cached(net: Net, x: torch.Tensor) -> torch.Tensor:
    if not hasattr(net, "ramp"):
        net.ramp = torch.linspace(0, 1, x.shape[-1])  # type: ignore[assignment]
    return x * net.ramp  # type: ignore[operator]


@pytest.mark.parametrize("name", RUNS)
def test_what_can_be_worked_with_passes(name: str) -> None:
    candidate = probed(RUNS[name]())
    before = candidate.fingerprint
    assert np.isfinite(candidate.predict(candidate.example.numpy())).all()
    probed(candidate.module)
    assert candidate.fingerprint == before


def test_noise_is_positive_where_it_has_to_be() -> None:
    assert float(probed(nn.Sequential(Log(), Net())).example.min()) >= 0
    assert float(probed(Net()).example.min()) < 0
    one, other = noise(SHAPE)
    assert abs(float(other.std()) - float(one.std())) > 0.5


def test_the_example_becomes_the_image_that_varies_most() -> None:
    candidate = probed(nn.Sequential(Standardized(), Net()))
    images = np.zeros((50, *SHAPE), np.float32)
    images[10], images[49] = np.random.default_rng(0).random((2, *SHAPE)) * np.array([1, 9]).reshape(2, 1, 1, 1)
    real = on_images(candidate, images)
    assert np.array_equal(real.example[0].numpy(), images[49])
    assert (real.module, real.fingerprint) == (candidate.module, candidate.fingerprint)
    assert some(5).tolist() == [0, 1, 2, 3, 4]
    assert (len(some(10_000)), some(10_000)[-1]) == (32, 9_999)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(Log(), Net()), r"on calibration images is not finite \(first in `0`, Log\): check that mean, std"),
        (nn.Sequential(Net(lambda net, x: x if x.max() < 50 else x / x.std())), "mixes the inputs of a batch"),
        (nn.Sequential(Net(lambda net, x: functional.dropout(x, 0.5, x.max().item() > 50))), "two calls on the same image differ"),
    ],
)
def test_images_are_asked_too(module: nn.Module, words: str) -> None:
    candidate = probed(module)
    images = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float32) * np.array([1e3, 2e3, 1]).reshape(3, 1, 1, 1)
    with pytest.raises(InputError, match=words):
        on_images(candidate, images.astype(np.float32))


class InSingle(nn.Module):
    """Gives a batch other outputs than its inputs alone, in single precision or in both."""

    def __init__(self, *kinds: torch.dtype) -> None:
        super().__init__()
        self.layer, self.kinds = nn.Linear(16, 3), kinds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1)) + 0.1 * (x.dtype in self.kinds and len(x) > 1)


def test_what_only_single_precision_mixes_is_rounding() -> None:
    pair = noise((1, 4, 4))
    check(Candidate(InSingle(torch.float32).eval(), pair[:1].clone()), pair.numpy())
    with pytest.raises(InputError, match="mixes the inputs of a batch"):
        check(Candidate(InSingle(torch.float32, torch.float64).eval(), pair[:1].clone()), pair.numpy())


class Second(nn.Module):
    """Returns the second input's outputs for both."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(x.flatten(1))
        return made[[1, 1]]


def test_a_network_that_does_not_run_on_one_input_is_named() -> None:
    with pytest.raises(InputError, match=r"runs on two inputs but not on one \(index 1 is out of bounds"):
        load_model(Second().eval(), input_shape=(1, 6, 6))
