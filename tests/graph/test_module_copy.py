"""A copy of a network must own what the network owns, also what hooks, lambdas and lists hold."""

from __future__ import annotations

import copy
import functools
import threading
import types
from collections.abc import Callable

import pytest
import torch
from torch import nn

from optimize.graph.module_copy import reachable_objects
from optimize.graph.surgery import copy_module, replace_module


class ByHook(nn.Module):
    """The skip connection is put aside by a hook that closes over the network."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.deep, self.leave = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.aside: dict[str, torch.Tensor] = {}
        self.enter.register_forward_hook(lambda layer, given, made: self.aside.__setitem__("skip", made))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.leave(torch.cat([self.deep(self.enter(x)), self.aside["skip"]], 1))


class ByDict(ByHook):
    """The hook closes over the dict alone, as a default argument."""

    def __init__(self) -> None:
        super().__init__()
        store = self.aside
        self.enter._forward_hooks.clear()
        self.enter.register_forward_hook(lambda layer, given, made, store=store: store.update(skip=made))


class ByMethod(ByHook):
    """A bound method of the network as the hook."""

    def __init__(self) -> None:
        super().__init__()
        self.enter._forward_hooks.clear()
        self.enter.register_forward_hook(self.put)

    def put(self, layer: nn.Module, given: object, made: torch.Tensor) -> None:
        self.aside["skip"] = made


class ByPartial(nn.Module):
    """Layers called through a lambda and through a partial of a bound method."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.first = lambda x: self.enter(x)
        self.second = functools.partial(self.scaled, by=2.0)

    def scaled(self, x: torch.Tensor, by: float) -> torch.Tensor:
        return by * self.leave(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Rebound(nn.Module):
    """A forward that was put in afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.leave = nn.Conv2d(3, 2, 1)
        self.forward = types.MethodType(lambda self, x: self.leave(x) + 1, self)  # type: ignore[method-assign]


class Locked(nn.Module):
    """A function beside a lock, which cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.leave, lock = nn.Conv2d(3, 2, 1), threading.Lock()

        def locked(x: torch.Tensor) -> torch.Tensor:
            with lock:
                return self.leave(x)

        self.call = locked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x)


NETS: tuple[Callable[[], nn.Module], ...] = (ByHook, ByDict, ByMethod, ByPartial, Rebound, Locked)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("share", [True, False])
def test_a_copy_runs_on_its_own(net: Callable[[], nn.Module], share: bool) -> None:
    torch.manual_seed(0)
    module = net().eval().requires_grad_(False)
    one, other = torch.randn(2, 2, 3, 6, 6)
    want, _ = module(one).clone(), module(other)
    copied = copy_module(module, share=share)
    assert torch.equal(copied(one), want)
    changed = copy_module(module, share=False)
    for parameter in changed.parameters():
        parameter.mul_(torch.linspace(-1, 2, parameter.numel()).view(parameter.shape))
    made = changed(one)
    assert torch.equal(module(one), want)
    assert not torch.allclose(made, want, atol=1e-2)
    module.load_state_dict(changed.state_dict())
    assert torch.equal(module(one), made)


def test_a_layer_is_replaced_wherever_it_is_known() -> None:
    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4)
            self.two, self.listed = self.one, [self.one]
            self.call = lambda x: self.one(x)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x) + 10 * self.two(x) + 100 * self.listed[0](x) + 1000 * self.call(x)

    module, x = Known().eval(), torch.randn(3, 4)
    for name in ("one", "two"):
        changed = replace_module(module, name, nn.Identity())
        torch.testing.assert_close(changed(x), 1111 * x)
    torch.testing.assert_close(module(x), 1111 * module.one(x))


def test_what_is_reached_has_a_path() -> None:
    module = ByPartial()
    hidden = nn.Linear(2, 2)
    module.more = {"some": [hidden]}  # type: ignore[assignment]
    paths = {id(value): path for path, value in reachable_objects(module)}
    assert (paths[id(hidden)], paths[id(module.enter)], paths[id(hidden.weight)]) == ("more.some.0", "enter", "more.some.0.weight")


def test_tensors_put_aside_are_not_copied() -> None:
    module = ByHook().eval().requires_grad_(False)
    module(torch.randn(1, 3, 6, 6))
    copied = copy_module(module)
    assert copied.aside is not module.aside  # type: ignore[union-attr]
    assert copied.aside["skip"] is module.aside["skip"]  # type: ignore[index]


def test_simple_layers_are_copied_as_deepcopy_does() -> None:
    """Attribute by attribute: what is shared stays shared within the copy, and only there."""

    class Marked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 3)
            self.marks, self.sizes, self.note = marks, (1, 2), "first"

    marks: list[int] = [1]
    inner = nn.Sequential(Marked(), nn.Conv2d(3, 3, 3, padding=1), nn.Sequential(nn.BatchNorm1d(3), nn.PReLU()))
    module = nn.ModuleList([inner, Marked(), inner[0], nn.Linear(3, 3)]).eval()
    module[3].weight = module[1].weight
    for share in (True, False):
        copied = copy_module(module, share=share)
        assert str(copied) == str(module)
        assert copied[2] is copied[0][0] is not module[2]  # type: ignore[index]
        assert copied[1].marks is copied[0][0].marks is not marks  # type: ignore[index, union-attr]
        assert copied[3].weight is copied[1].weight  # type: ignore[index, union-attr]
        assert (copied[3].weight is module[3].weight) is share  # type: ignore[index, union-attr]
        wanted = copy.deepcopy(module)
        for own, want in zip(copied.modules(), wanted.modules(), strict=True):
            assert (type(own), vars(own).keys(), own.training) == (type(want), vars(want).keys(), False)
        # neither a hook nor a layer of the copy is one of the original
        handle = copied[1].register_forward_hook(lambda *_: None)  # type: ignore[index, union-attr]
        assert not module[1]._forward_hooks
        handle.remove()
        copied[0].append(nn.ReLU())  # type: ignore[index, union-attr]
        assert len(module[0]) == 3


def test_a_class_that_copies_itself_is_asked() -> None:
    class Counted(nn.Linear):
        def __deepcopy__(self, memo: dict[int, object]) -> nn.Linear:
            return nn.Linear(2, 2)

    copied = copy_module(nn.Sequential(Counted(5, 5), nn.Linear(5, 5)))
    assert [type(layer) for layer in copied] == [nn.Linear, nn.Linear]  # type: ignore[arg-type]
    assert copied[0].in_features == 2  # type: ignore[index]
