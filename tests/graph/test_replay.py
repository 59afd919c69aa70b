"""A replayed network gives what the network itself gives, whatever is changed, kept, or cannot be traced."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from optimize.graph.layer_calls import calls
from optimize.graph.replay import Replay
from optimize.graph.surgery import with_tensors
from tests import nets
from tests.nets import TOPOLOGIES, cases, ready

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
Seen = list[tuple[str, tuple[torch.Tensor, torch.Tensor]]]


def copied(_: str, given: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return given.clone(), output.clone()


def batches() -> list[torch.Tensor]:
    return [torch.from_numpy(cases(4, seed=seed)) for seed in (1, 2)]


def layers(module: nn.Module) -> list[str]:
    """In execution order."""
    names = [name for name, layer in module.named_modules() if isinstance(layer, LAYERS)]
    return list(dict.fromkeys(name for name, _ in calls(module, names, batches()[0], copied)))


def scaled(module: nn.Module, name: str) -> nn.Module:
    """The network with one layer's weight turned."""
    return with_tensors(module, name, weight=module.get_submodule(name).get_parameter("weight").detach() * -0.5 + 0.1)


def traced(replay: Replay) -> bool:
    return bool(replay._nodes)


def assert_same(found: Seen, wanted: Seen) -> None:
    assert [name for name, _ in found] == [name for name, _ in wanted]
    for (_, pair), (_, want) in zip(found, wanted, strict=True):
        for one, other in zip(pair, want, strict=True):
            torch.testing.assert_close(one, other)


def by_hooks(module: nn.Module, names: Sequence[str], inputs: torch.Tensor) -> Seen:
    """The whole network, with plain hooks: nothing of the package takes part."""
    seen: Seen = []
    handles = [
        module.get_submodule(name).register_forward_hook(
            lambda _, given, output, name=name: seen.append((name, (given[0].clone(), output.clone())))
        )
        for name in names
    ]
    with torch.inference_mode():
        module(inputs.clone())
    for handle in handles:
        handle.remove()
    return seen


def assert_follows(module: nn.Module, names: Sequence[str], replay: Replay, inputs: Sequence[torch.Tensor]) -> None:
    """Change layer after layer from the front to the back, and read what is still to be changed each time."""
    for turn in range(len(names)):
        changing, asked = names[turn:], names[turn:]
        for number, batch in enumerate(inputs):
            for _ in range(2):  # the second pass starts from what the first kept
                assert_same(replay.calls(module, asked, number, copied, changing), by_hooks(module, asked, batch))
            with torch.inference_mode():
                torch.testing.assert_close(replay.outputs(module, number, changing), module(batch.clone()))
        module = scaled(module, names[turn])


@pytest.mark.parametrize("memory", [2 << 30, 0])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_network_is_followed_while_it_changes(name: str, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.graph.replay.MEMORY_BYTES", memory)
    module = ready(TOPOLOGIES[name]())
    names, inputs = layers(module), batches()
    given = [batch.clone() for batch in inputs]
    replay = Replay(module, inputs)
    replay.check(module, names)
    replay.check_outputs(module)
    assert traced(replay)
    assert_follows(module, names, replay, inputs)
    assert bool(replay._saved) == bool(memory)
    assert all(torch.equal(one, other) for one, other in zip(inputs, given, strict=True))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_without_knowing_what_changes_the_batch_is_run_from_its_input(name: str) -> None:
    module = ready(TOPOLOGIES[name]())
    names, inputs = layers(module), batches()
    replay = Replay(module, inputs)
    for at in (module, scaled(module, names[0])):
        assert_same(replay.calls(at, names, 1, copied, ()), calls(at, names, inputs[1], copied))
        assert_same(calls(at, names, inputs[1], copied), by_hooks(at, names, inputs[1]))


class Overwriting(nn.Module):
    """Works in place on its input, on what a layer read, and on what it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        x = self.first(x)
        y = self.second(x)
        x.add_(1)
        y += x
        return self.third(torch.relu_(y)).neg_()


class Splitting(nn.Module):
    """One half of a split is overwritten behind a layer that reads the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halves = self.first(x).chunk(2, 1)
        y = self.second(halves[0])
        return self.third(y + halves[1].mul_(3))


@pytest.mark.parametrize("build", [Overwriting, Splitting])
def test_work_in_place_spoils_neither_inputs_nor_what_is_kept(build: type[nn.Module]) -> None:
    module, inputs = ready(build()), batches()
    given = [batch.clone() for batch in inputs]
    replay = Replay(module, inputs)
    replay.check(module, layers(module))
    assert traced(replay)
    assert_follows(module, layers(module), replay, inputs)
    assert all(torch.equal(one, other) for one, other in zip(inputs, given, strict=True))


def test_a_settled_front_is_not_run_again() -> None:
    """Without this nothing would be gained: the first layer is called once for each batch, in all passes together."""
    module, inputs = ready(nets.chain()), batches()
    replay, count = Replay(module, inputs), 0

    def counting(*_: object) -> None:
        nonlocal count
        count += 1

    module.get_submodule("0").register_forward_hook(counting)
    for _ in range(3):
        for number in range(2):
            replay.calls(module, ["6"], number, copied, ["2", "6"])
    assert count == 2


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the values of one batch of 4 x 8 x 8 x 8 float32, not for two."""
    monkeypatch.setattr("optimize.graph.replay.MEMORY_BYTES", 12_000)
    module = ready(nets.chain())
    replay = Replay(module, batches())
    for number in range(2):
        replay.calls(module, ["2"], number, copied, ["2"])
    assert list(replay._saved) == [0]


class Branching(nn.Module):
    """Looks at values: it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x if x.mean() > 0 else -x)


class Counting(nn.Module):
    """Multiplies by how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.sizes = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), [1.0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(self.sizes[-1] + 1)
        return self.second(self.first(x) * self.sizes[-1])


class Moody(nn.Module):
    """The sizes of another batch stand in the path that is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x if isinstance(x, torch.Tensor) else x.view(2, 4, 36, 1))


def assert_falls_back(module: nn.Module, replay: Replay) -> None:
    names = ["first", "second"]
    assert not traced(replay)
    changing: Collection[str]
    for changing in ((), names):
        for number, batch in enumerate(batches()):
            assert_same(replay.calls(module, names, number, copied, changing), by_hooks(module, names, batch))
            with torch.inference_mode():
                torch.testing.assert_close(replay.outputs(module, number, changing), module(batch.clone()))


def test_what_cannot_be_traced_is_run_whole() -> None:
    module = ready(Branching())
    assert_falls_back(module, Replay(module, batches()))


@pytest.mark.parametrize("what", ["calls", "outputs"])
def test_a_trace_with_fixed_sizes_is_given_up(what: str) -> None:
    module = ready(Moody())
    replay = Replay(module, batches())
    assert traced(replay)
    if what == "calls":
        replay.check(module, ["first", "second"])
    else:
        replay.check_outputs(module)
    assert_falls_back(module, replay)


def test_a_trace_that_reads_otherwise_than_the_network_is_given_up() -> None:
    """What Python counts while it runs is a constant in the trace."""
    module = ready(Counting())
    replay = Replay(module, batches())
    assert traced(replay)
    replay.check(module, ["first", "second"])
    assert not traced(replay)


def test_outputs_are_the_networks() -> None:
    module, inputs = ready(nets.Transposed()), batches()
    replay = Replay(module, inputs)
    found = replay.outputs(module, 1, ["down"]).numpy()
    with torch.inference_mode():
        np.testing.assert_allclose(found, module(inputs[1].clone()).numpy(), rtol=1e-5, atol=1e-6)


class WritesThroughAView(nn.Module):
    """Half of what the first layer gives is doubled through a view, behind a layer that reads it undoubled."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = self.first(x)
        half = whole[:, 2:]
        read = self.second(whole)
        half.mul_(2)
        made: torch.Tensor = self.third(whole) + read
        return made


def test_a_view_that_is_kept_still_shows_what_it_is_a_view_of() -> None:
    net = ready(WritesThroughAView())
    replay = Replay(net, batches())
    replay.check_outputs(net)
    assert traced(replay)
    for module in (net, scaled(net, "second")):
        for _ in range(2):
            torch.testing.assert_close(replay.outputs(module, 0, {"second"}), module(batches()[0]))


class PutAside(nn.Module):
    """What a hook on a layer puts aside is added to a later one's output: in a trace it would be the tensor of the last run."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.aside: dict[str, torch.Tensor] = {}
        self.first.register_forward_hook(lambda layer, given, made: self.aside.update(skip=made))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)) + self.aside["skip"]


@pytest.mark.parametrize("what", ["calls", "outputs"])
@pytest.mark.parametrize("hooked", [True, False])
def test_what_is_put_aside_is_no_constant(what: str, hooked: bool) -> None:
    module = ready(PutAside() if hooked else Tapped())
    with torch.inference_mode():
        module(batches()[0][:1])  # the very case that a trace is tried on
    replay = Replay(module, batches())
    if what == "calls":
        replay.check(module, ["first", "second"])
    else:
        replay.check_outputs(module)
    assert_falls_back(module, replay)


class Tap(nn.Module):
    """A layer that puts aside what it is given."""

    def __init__(self, aside: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.aside = aside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.aside["skip"] = x
        return x


class Tapped(PutAside):
    def __init__(self) -> None:
        super().__init__()
        self.first._forward_hooks.clear()
        self.tap = Tap(self.aside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.tap(self.first(x))) + self.aside["skip"]


class Cell(nn.Module):
    """A unit of two layers that puts its output aside; a trace passes through it."""

    def __init__(self, aside: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.aside = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), aside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.aside["skip"] = self.two(self.one(x))
        return self.aside["skip"]


def test_tracing_leaves_nothing_in_the_network() -> None:
    aside: dict[str, torch.Tensor] = {}
    module = ready(nn.Sequential(Cell(aside), nn.Conv2d(4, 2, 1)))
    assert traced(Replay(module, batches()))
    assert isinstance(aside["skip"], torch.Tensor)
