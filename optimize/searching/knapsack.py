"""Widths for all groups together: the least harm for what a layer's widths cost.

A layer's price depends on what it reads and on what it makes, and so on two groups or more. For a trade-off t the widths minimize

    sum over groups of harm(width)  +  t * sum over layers of price(channels read, channels made)

by coordinate descent: group after group takes its best width while the others hold theirs, until none moves. Starting from the widest, each
move lowers the sum, so it ends. A group of width 0 has lost its layer, which then costs nothing, and its readers read what that one read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from optimize.graph.trace import ChannelGroup, Graph
from optimize.searching.scan import Curve

Price = Callable[[int, int], float]
SWEEPS = 50
HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Item:
    """A layer in the knapsack.

    Args:
        price: what it costs, given how many channels it reads and makes.
        reads: how many channels it reads now.
        makes: how many it makes now.
        read_groups: (group, channels per unit of its width) of the groups among what it reads.
        made_groups: likewise among what it makes.
    """

    price: Price
    reads: int
    makes: int
    read_groups: tuple[tuple[str, int], ...]
    made_groups: tuple[tuple[str, int], ...]

    def read(self, removed: Mapping[str, int]) -> int:
        """How many channels it reads when each group has lost so many of its units."""
        return self.reads - sum(removed.get(group, 0) * each for group, each in self.read_groups)

    def cost(self, removed: Mapping[str, int]) -> float:
        """The price when each group has lost so many of its units."""
        makes = self.makes - sum(removed.get(group, 0) * each for group, each in self.made_groups)
        return self.price(self.read(removed), makes)


class Knapsack:
    """Which width each group gets.

    Args:
        curves: harm against width, in execution order.
        items: the layers.
    """

    def __init__(self, curves: Sequence[Curve], items: Sequence[Item]) -> None:
        self._curves = {curve.group: curve for curve in curves}
        self._items = list(items)
        self._maker = {
            name: next(item for item in items if any(group == name for group, _ in item.made_groups))
            for name, curve in self._curves.items()
            if not curve.widths[-1]
        }
        through, self._of = self._through(), {name: list[Item]() for name in self._curves}
        for item in items:
            felt = {name for group, _ in item.read_groups for name in through.get(group, ())}
            for name in felt.union(group for group, _ in item.made_groups) & self._of.keys():
                self._of[name].append(item)

    def widths(self, trade_off: float) -> dict[str, int]:
        """The widths for a trade-off, nats per unit of price; 0 leaves everything as wide as it is."""
        chosen = {name: curve.widths[0] for name, curve in self._curves.items()}
        for _ in range(SWEEPS):
            before = dict(chosen)
            for name, curve in self._curves.items():
                costs = [
                    harm + trade_off * self._price(name, {**chosen, name: width})
                    for width, harm in zip(curve.widths, curve.harm, strict=True)
                ]
                chosen[name] = curve.widths[costs.index(min(costs))]
            if chosen == before:
                break
        return chosen

    def within(self, harm: float) -> dict[str, int]:
        """The boldest widths whose harms add up to no more than `harm`, by bisection of the trade-off."""
        low, high = 0.0, 1.0
        while self.harm(self.widths(high)) <= harm and high < 1e12:
            low, high = high, 2 * high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.harm(self.widths(middle)) <= harm:
                low = middle
            else:
                high = middle
        return self.widths(low)

    def harm(self, widths: Mapping[str, int]) -> float:
        """What the groups' harms add up to."""
        return sum(curve.harm[curve.widths.index(widths[name])] for name, curve in self._curves.items())

    def price(self, widths: Mapping[str, int]) -> float:
        """What all layers cost together."""
        return self._cost(self._items, widths)

    def _price(self, name: str, widths: Mapping[str, int]) -> float:
        return self._cost(self._of[name], widths)

    def _cost(self, items: Iterable[Item], widths: Mapping[str, int]) -> float:
        removed = dict[str, int]()
        for name, curve in self._curves.items():
            # without its layer a group is as wide as what that one read, which was made before and is known by now
            width = widths[name] or self._maker[name].read(removed)
            removed[name] = curve.widths[0] - width
        idle = {id(self._maker[name]) for name, width in widths.items() if not width}
        return sum(item.cost(removed) for item in items if id(item) not in idle)

    def _through(self) -> dict[str, set[str]]:
        """The groups that a reader of each may come to read: itself, and what lies in front where its layer may go."""
        found: dict[str, set[str]] = {}
        for name in self._curves:
            before = self._maker[name].read_groups if name in self._maker else ()
            found[name] = {name}.union(*(found.get(group, set()) for group, _ in before))
        return found


def sides(graph: Graph, groups: Sequence[ChannelGroup]) -> dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]]]]:
    """Layer -> which of the groups it reads and which it makes, each with how many of its channels go with one unit of the group."""
    found: dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]]]] = {}
    for group in groups:
        for slot in group.slots:
            reads, makes = found.setdefault(slot.module, ([], []))
            (reads if slot.side == "in" else makes).append((group.name, slot.index.shape[1]))
    return found
