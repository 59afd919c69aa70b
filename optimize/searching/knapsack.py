"""Widths for all groups together: the least harm for the price of the layers.

A layer's price depends on the channels it reads and on those it makes, and so on two groups or more. For a trade-off t the widths minimize

    sum over groups of harm(width)  +  t * sum over layers of price(channels read, channels made)

by coordinate descent: one group after the other takes its best width while the others keep theirs, until no width changes. Starting from
the widest, every change lowers the sum, so it ends. A group of width 0 has lost its layer, which then costs nothing, and its readers read
what that layer read.

Why coordinate descent and not the textbook dynamic programme: prices are not a sum over groups. In a chain of layers a -> b -> c, what
narrowing a saves in b depends on how wide b is.

Example: layer "a" reads 3 channels and makes group A, layer "b" reads A and makes 4 channels. The price of a layer is reads * makes / 1000.
Width 8 of A costs a harm of 0, width 4 a harm of .01; the prices are (3 * 8 + 8 * 4) / 1000 = .056 and (3 * 4 + 4 * 4) / 1000 = .028. So
from t = .01 / .028 = .357 on, width 4 is the better one:

    >>> price = lambda reads, makes: reads * makes / 1000
    >>> a, b = Item(price, 3, 8, (), (("A", 1),)), Item(price, 8, 4, (("A", 1),), ())
    >>> knapsack = Knapsack([Curve("A", (8, 4), (0.0, 0.01))], [a, b])
    >>> knapsack.widths(0.35), knapsack.widths(0.36)
    ({'A': 8}, {'A': 4})
    >>> knapsack.within(0.005), knapsack.within(0.02)
    ({'A': 8}, {'A': 4})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from optimize.graph.trace import ChannelGroup, Graph
from optimize.searching.scan import Curve

Price = Callable[[int, int], float]
MAX_SWEEPS = 50
BISECTIONS = 40


@dataclass(frozen=True, eq=False)
class Item:
    """A layer in the knapsack.

    Args:
        price: (channels read, channels made) -> price of the layer.
        in_channels: number of channels it reads now.
        out_channels: number of channels it makes now.
        read_groups: (group, channels per unit of the group's width) for every group among the channels it reads.
        made_groups: (group, channels per unit of the group's width) for every group among the channels it makes.
    """

    price: Price
    in_channels: int
    out_channels: int
    read_groups: tuple[tuple[str, int], ...]
    made_groups: tuple[tuple[str, int], ...]

    def channels_read(self, removed: Mapping[str, int]) -> int:
        """Return how many channels it reads when each group has lost this many of its units."""
        return self.in_channels - sum(removed.get(group, 0) * channels for group, channels in self.read_groups)

    def cost(self, removed: Mapping[str, int]) -> float:
        """Return its price when each group has lost this many of its units."""
        channels_made = self.out_channels - sum(removed.get(group, 0) * channels for group, channels in self.made_groups)
        return self.price(self.channels_read(removed), channels_made)


class Knapsack:
    """Chooses the width of each group.

    Args:
        curves: harm against width of every group, in execution order.
        items: the layers.
    """

    def __init__(self, curves: Sequence[Curve], items: Sequence[Item]) -> None:
        self._curves = {curve.group: curve for curve in curves}
        self._items = list(items)
        self._maker = {
            name: next(item for item in items if any(group == name for group, _ in item.made_groups))
            for name, curve in self._curves.items()
            if not curve.widths[-1]  # only a group whose layer may be removed needs to know its layer
        }
        # A sweep asks for thousands of prices, so each group knows the few layers whose price its width can change: those that make its
        # channels, those that read them, and those that come to read them where the layers in between are removed.
        through, self._items_of = self._groups_behind(), {name: list[Item]() for name in self._curves}
        for item in items:
            affected = {name for group, _ in item.read_groups for name in through.get(group, ())}
            for name in affected.union(group for group, _ in item.made_groups) & self._items_of.keys():
                self._items_of[name].append(item)

    def widths(self, trade_off: float) -> dict[str, int]:
        """Return the widths for a trade-off, in nats per unit of price; 0 leaves everything as wide as it is."""
        chosen = {name: curve.widths[0] for name, curve in self._curves.items()}
        for _ in range(MAX_SWEEPS):
            previous = dict(chosen)
            for name, curve in self._curves.items():
                # Only the layers that this group touches are added up: the rest of the sum is the same for every width, and drops out of
                # the comparison.
                costs = [
                    harm + trade_off * self._price(name, {**chosen, name: width})
                    for width, harm in zip(curve.widths, curve.harm, strict=True)
                ]
                # widths fall, so of two equal costs the first is the wider one: nothing is narrowed for no gain
                chosen[name] = curve.widths[costs.index(min(costs))]
            if chosen == previous:
                break
        return chosen

    def within(self, harm: float) -> dict[str, int]:
        """Return the boldest widths whose harms add up to at most `harm`, by bisection of the trade-off."""
        # a larger trade-off never asks for wider layers, so the harm grows with it: double until it is too much, then bisect
        # Example: harms of 0 / .01 at trade-offs below / above .357 (the module's example) and `harm` = .02. Doubling never gets beyond
        # .02, so it ends at 1e12 with the boldest widths there are. With `harm` = .005 the bisection of (0, 1) ends just below .357.
        low, high = 0.0, 1.0
        while self.harm(self.widths(high)) <= harm and high < 1e12:
            low, high = high, 2 * high
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self.harm(self.widths(middle)) <= harm:
                low = middle
            else:
                high = middle
        # `low` is always within the limit; `high` is beyond it, unless the doubling ended at 1e12
        return self.widths(low)

    def harm(self, widths: Mapping[str, int]) -> float:
        """Return the sum of the groups' harms."""
        return sum(curve.harm[curve.widths.index(widths[name])] for name, curve in self._curves.items())

    def price(self, widths: Mapping[str, int]) -> float:
        """Return the price of all layers together."""
        return self._cost(self._items, widths)

    def _price(self, name: str, widths: Mapping[str, int]) -> float:
        return self._cost(self._items_of[name], widths)

    def _cost(self, items: Iterable[Item], widths: Mapping[str, int]) -> float:
        removed = dict[str, int]()
        for name, curve in self._curves.items():
            # Without its layer a group is as wide as what that layer read. That was made in front of it, and curves are in execution
            # order, so `removed` already knows it.
            width = widths[name] or self._maker[name].channels_read(removed)
            # negative where the bypassed layer read more channels than it made: its readers then become wider than they are now
            removed[name] = curve.widths[0] - width
        without_layer = {id(self._maker[name]) for name, width in widths.items() if not width}
        return sum(item.cost(removed) for item in items if id(item) not in without_layer)

    def _groups_behind(self) -> dict[str, set[str]]:
        """Return for each group those its readers may come to read: itself and, where its layer may go, the groups in front of it."""
        reachable: dict[str, set[str]] = {}
        for name in self._curves:
            # only groups with a width of 0 have a maker here; curves are in execution order, so the groups in front are already known
            front = self._maker[name].read_groups if name in self._maker else ()
            reachable[name] = {name}.union(*(reachable.get(group, set()) for group, _ in front))
        return reachable


def groups_by_layer(graph: Graph, groups: Sequence[ChannelGroup]) -> dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]]]]:
    """Return layer -> (groups it reads, groups it makes), each as (group, channels that go with one unit of the group's width)."""
    by_layer: dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]]]] = {}
    for group in groups:
        for slot in group.slots:
            reads, makes = by_layer.setdefault(slot.module, ([], []))
            (reads if slot.side == "in" else makes).append((group.name, slot.index.shape[1]))
    return by_layer
