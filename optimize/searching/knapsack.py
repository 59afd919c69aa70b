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
        # A sweep asks for thousands of prices, so each group knows the few layers that make or read its channels, and the groups that may
        # hand its channels on because their own layer may be removed.
        self._items_of = {name: list[Item]() for name in self._curves}
        for item in items:
            for name in dict.fromkeys(group for group, _ in (*item.read_groups, *item.made_groups) if group in self._items_of):
                self._items_of[name].append(item)
        self._removable_behind = {name: list[str]() for name in self._curves}
        for name, maker in self._maker.items():
            for group in dict.fromkeys(group for group, _ in maker.read_groups if group in self._removable_behind):
                self._removable_behind[group].append(name)

    def widths(self, trade_off: float) -> dict[str, int]:
        """Return the widths for a trade-off, in nats per unit of price; 0 leaves everything as wide as it is."""
        chosen = {name: curve.widths[0] for name, curve in self._curves.items()}
        for _ in range(MAX_SWEEPS):
            previous = dict(chosen)
            for name, curve in self._curves.items():
                # only the layers that this group touches are added up: the rest of the sum is the same for every width
                items, costs = self._affected_items(name, chosen), list[float]()
                for width, harm in zip(curve.widths, curve.harm, strict=True):
                    chosen[name] = width
                    costs.append(harm + trade_off * self._cost(items, chosen))
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

    def _affected_items(self, name: str, widths: Mapping[str, int]) -> list[Item]:
        """Return the layers whose price the width of a group changes: that make it, read it, or read it where layers are removed.

        Example: a chain of layers a, b, c, in which b is removed. The width of a's group changes the price of a, and of c, which reads it.
        """
        waiting, found, affected = [name], {name}, dict[int, Item]()
        for group in waiting:
            affected |= {id(item): item for item in self._items_of[group]}
            # a layer that is removed hands on what it reads, under the name of its own group
            behind = [reader for reader in self._removable_behind[group] if not widths[reader] and reader not in found]
            found.update(behind)
            waiting += behind
        return list(affected.values())

    def _cost(self, items: Iterable[Item], widths: Mapping[str, int]) -> float:
        # a layer that makes a group of width 0 is removed, and costs nothing
        makers = {id(self._maker[group]) for item in items for group, _ in item.made_groups if widths.get(group) == 0}
        present = [item for item in items if id(item) not in makers]
        removed = self._removed((group for item in present for group, _ in (*item.read_groups, *item.made_groups)), widths)
        return sum(item.cost(removed) for item in present)

    def _removed(self, groups: Iterable[str], widths: Mapping[str, int]) -> dict[str, int]:
        """Return how many units these groups have lost, and those in front of them that the answer depends on."""
        removed = dict[str, int]()
        waiting = [group for group in groups if group in self._curves]
        while waiting:
            name = waiting.pop()
            if name in removed:
                continue
            width = widths[name]
            if not width:
                # without its layer a group is as wide as what that layer read, which is found first
                reads = [group for group, _ in self._maker[name].read_groups if group in self._curves and group not in removed]
                if reads:
                    waiting += [name, *reads]
                    continue
                width = self._maker[name].channels_read(removed)
            # negative where the bypassed layer read more channels than it made: its readers then become wider than they are now
            removed[name] = self._curves[name].widths[0] - width
        return removed


def groups_by_layer(graph: Graph, groups: Sequence[ChannelGroup]) -> dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]]]]:
    """Return layer -> (groups it reads, groups it makes), each as (group, channels that go with one unit of the group's width)."""
    by_layer: dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]]]] = {}
    for group in groups:
        for slot in group.slots:
            reads, makes = by_layer.setdefault(slot.module, ([], []))
            (reads if slot.side == "in" else makes).append((group.name, slot.index.shape[1]))
    return by_layer
