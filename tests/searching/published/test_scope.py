"""What may be touched: by repair, by floor, by depth."""

from __future__ import annotations

import pytest
from torch import nn

from optimize.candidate import Reference
from optimize.graph.trace import trace
from optimize.searching.published.scope import Scope
from optimize.steps.remove_channels import RemoveChannels
from tests.graph.test_surgery import MISFITS
from tests.nets import candidate, cases, chain_bn, reference
from tests.searching.nets import five


def test_what_cannot_be_repaired_is_left_alone_only_where_it_is_to_be_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    of = candidate(chain_bn())
    names = {repair: [group.name for group in Scope.of(reference(of), "none", repair).groups] for repair in ("least squares", "batchnorm")}  # type: ignore[arg-type]
    assert names == {"least squares": ["0", "3"], "batchnorm": ["0", "3"]}
    monkeypatch.setattr("optimize.searching.published.scope.repairable", lambda *_: ["0", "8"])  # not "3", which reads the first group
    assert [group.name for group in Scope.of(reference(of), "none", "least squares").groups] == ["3"]
    assert [group.name for group in Scope.of(reference(of), "none", "batchnorm").groups] == ["0", "3"]


@pytest.mark.parametrize("repair", ["least squares", "none"])
@pytest.mark.parametrize("name", MISFITS)
def test_what_cannot_be_cut_is_never_in_it(name: str, repair: str) -> None:
    of = candidate(MISFITS[name][0]())
    assert Scope.of(reference(of), "none", repair).groups == ()  # type: ignore[arg-type]


def test_room_is_what_lies_above_the_floor_as_things_stand() -> None:
    of = five()
    aim = Reference(of, cases(8, (3, 32, 32)))
    scope = Scope.of(aim, "S2", "none")
    assert [scope.headroom(group) for group in scope.groups] == [1, 1, 2, 6, 11]
    narrower = RemoveChannels("16", tuple(range(9)), "none")(of, aim)
    assert scope.headroom(scope.current_groups(narrower)["16"]) == 2
    assert scope.current_groups(narrower).keys() == scope.current_groups(of).keys() == {group.name for group in trace(of).groups}


@pytest.mark.parametrize(("pools", "shallow"), [(0, []), (1, ["0"]), (2, ["0"]), (3, ["3", "0"]), (4, ["6", "3", "0"])])
def test_three_of_five_blocks_are_shallow_the_deepest_first(pools: int, shallow: list[str]) -> None:
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()]
    for _ in range(pools):
        layers += [nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    of = candidate(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * (32 >> pools) ** 2, 4)), (3, 32, 32))
    assert list(Scope.of(Reference(of, cases(4, (3, 32, 32))), "S2", "none").shallow) == shallow
