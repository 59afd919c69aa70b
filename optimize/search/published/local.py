"""The founding study's local variant: layer by layer, deepest first, channels that say the same are merged while they are alike enough.

The features of a channel are the averages of its maps. Clusters of channels merge, most alike first (`search/published/agglomerate.py`),
until none are alike by .75, the floor is reached, or the stopping rule ends the layer; a merge that the rule passes over is left out. After
every 20 merges the walk judges: against the original by the cumulative rail, and against the beginning of the layer by the step rail.
Merges that do not hold are tried again with a fifth of them undone, three times, and then the layer is left.

As published the channels of a cluster are averaged and the outgoing weights of those that go are lost (`operator="average"`,
`repair="none"`). Here the medoid stays, its readers take it for all of the cluster, and are fitted to the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

from optimize.errors import require_choice
from optimize.graph.trace import ChannelGroup
from optimize.importance.removal_order import refuse_silence
from optimize.importance.signal import Scores, Signal
from optimize.importance.similarity import cosine
from optimize.search.published.agglomerate import ClusterMerge, agglomerate
from optimize.search.published.evidence import EvidenceCollector
from optimize.search.published.floors import NAMES
from optimize.search.published.rails import Rails
from optimize.search.published.scope import Scope
from optimize.search.published.stopping import Evidence, Floor, Stopping
from optimize.search.walk import Reading, Walk
from optimize.steps.merge import RepairMode
from optimize.steps.merging.operators import Operator
from optimize.steps.remove_channels import RemoveChannels


@dataclass(frozen=True)
class Local:
    """The strategy "local".

    Args:
        likeness: below which clusters stay apart.
        floors: "S1" to "S6", or "none".
        stopping: which merges are left out, and where a layer ends.
        operator: what stands for a cluster, see `StandIn`; "drop" leaves the heir as it is and its readers too.
        repair: of the readers, see `Remove`.
        rails: None for the run's limits, and half of them for a layer.
        brake: merges between two judgements.
        retries: of merges that do not hold.
        undone: share of them that each retry leaves out.
        importance: of two channels that meet, the one worth more stays; None for the one more alike to the rest of its cluster.
    """

    likeness: float = 0.75
    floors: str = "S2"
    stopping: Stopping = field(default_factory=Floor)
    operator: Operator = "medoid"
    repair: RepairMode = "least squares"
    rails: Rails | None = None
    brake: int = 20
    retries: int = 3
    undone: float = 0.2
    importance: Signal | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("floors", NAMES), ("operator", get_args(Operator)), ("repair", get_args(RepairMode))):
            require_choice(name, getattr(self, name), kinds)

    def __call__(self, walk: Walk) -> None:
        """Walk to the end."""
        scope = Scope.of(walk.reference, self.floors, self.repair)
        groups = [group for group in scope.groups if scope.room(group)]
        if self.importance is not None:
            refuse_silence(self.importance, self.importance(walk.best, walk.reference, groups))
        gather = EvidenceCollector(self.stopping.needs, walk.reference, groups) if groups else None
        for group in reversed(groups):
            assert gather is not None
            _Layer(self, walk, scope, gather, scope.now(walk.best)[group.name]).merge()


class _Layer:
    """One layer on its way; channels are called what they were at its beginning."""

    def __init__(self, strategy: Local, walk: Walk, scope: Scope, gather: EvidenceCollector, group: ChannelGroup) -> None:
        self._strategy, self._walk, self._gather, self._group = strategy, walk, gather, group
        self._beginning: Reading = walk.best_score
        self._rails = strategy.rails or Rails.within(walk.limits)
        self._room = scope.room(group)
        self._alive = list(range(group.size))
        self._seen: list[Evidence] = []

    def merge(self) -> None:
        """Merge until nothing alike is left, or it no longer holds."""
        (likeness,) = cosine(self._walk.best, self._walk.reference, [self._group], pooled=True)
        left = self._allowed(agglomerate(likeness, self._strategy.likeness, self._worth()))
        while left:
            chunk, left = left[: self._strategy.brake], left[self._strategy.brake :]
            if not self._held(chunk):
                return

    def _worth(self) -> Scores | None:
        """What each channel of the layer is worth, where a signal was chosen."""
        signal = self._strategy.importance
        return None if signal is None else signal(self._walk.best, self._walk.reference, [self._group])[0]

    def _allowed(self, unions: Sequence[ClusterMerge]) -> list[ClusterMerge]:
        """Those that the stopping rule lets through, as many as there is room for."""
        allowed: list[ClusterMerge] = []
        for union in unions:
            if len(allowed) == self._room:
                break
            evidence = self._gather.pair(
                self._walk.best, self._group, union.gone, union.heir, 1 - union.likeness, len(allowed) / self._room
            )
            decision = self._strategy.stopping([*self._seen, evidence])
            if decision == "stop":
                break
            if decision == "go on":
                allowed.append(union)
                self._seen.append(replace(evidence, kept=True))
        return allowed

    def _held(self, chunk: Sequence[ClusterMerge]) -> bool:
        """Whether the whole chunk was kept; when not, as much of it as a few retries find."""
        count = len(chunk)
        for _ in range(1 + self._strategy.retries):
            if self._offer(chunk[:count]):
                return count == len(chunk)
            count = min(count - 1, int(count * (1 - self._strategy.undone)))
            if count < 1:
                break
        return False

    def _offer(self, unions: Sequence[ClusterMerge]) -> bool:
        heirs: dict[int, int] = {}
        for union in unions:
            # whoever was left to the one that goes now is left to its heir
            heirs = {gone: union.heir if heir == union.gone else heir for gone, heir in heirs.items()} | {union.gone: union.heir}
        places = {channel: place for place, channel in enumerate(self._alive)}
        pairs = sorted((places[gone], places[heir]) for gone, heir in heirs.items())
        step = RemoveChannels(
            self._group.name,
            tuple(gone for gone, _ in pairs),
            self._strategy.repair,
            self._strategy.operator,
            () if self._strategy.operator == "drop" else tuple(heir for _, heir in pairs),
        )
        judge = self._rails.judge(self._beginning, self._walk.limits, self._walk.search.confidence)
        kept = self._walk.propose(step, self._walk.best, judge)
        if kept:
            self._alive = [channel for channel in self._alive if channel not in heirs]
        return bool(kept)
