"""The founding study's local method: layer by layer, deepest first, channels that are similar enough are merged.

The features of a channel are the averages of its maps. Clusters of channels merge, most similar first (`agglomerate.py`),
until no two are as similar as .75, the floor is reached, or the stopping rule ends the layer. A merge that the rule passes over is left
out. After every 20 merges the proposal is judged: against the original by the cumulative rail, and against the beginning of the layer by
the step rail. Merges that do not hold are tried again with a fifth of them undone, three times; then the layer is left.

Example: 20 merges are refused. The next tries have 16, 12 and 9 of them (each 80 % of the one before, rounded down). When 12 hold, the 12
are kept and the layer ends, since the merges after them are less similar still.

As published, the channels of a cluster are averaged and the outgoing weights of those that go are lost (`operator="average"`,
`repair="none"`). Here the most central channel (the medoid) stays, its readers take it for all of the cluster, and are fitted to the
original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, get_args

from optimize.errors import require_choice
from optimize.graph.trace import ChannelGroup
from optimize.importance.removal_order import refuse_silence
from optimize.importance.signal import Scores, Signal
from optimize.importance.similarity import cosine
from optimize.searching.published.agglomerate import ClusterMerge, agglomerate
from optimize.searching.published.evidence import EvidenceCollector
from optimize.searching.published.floors import FLOOR_NAMES
from optimize.searching.published.rails import StudyRails
from optimize.searching.published.scope import Scope
from optimize.searching.published.stopping import Evidence, Floor, StoppingRule
from optimize.searching.trial import ScoreSummary
from optimize.searching.walk import Walk
from optimize.steps.merge import RepairMode
from optimize.steps.merging.operators import Operator
from optimize.steps.remove_channels import RemoveChannels


@dataclass(frozen=True)
class Local:
    """The strategy "local".

    Args:
        min_similarity: clusters less similar than this stay apart.
        floors: set of minimum widths, "S1" to "S6", or "none".
        stopping: rule that leaves merges out and ends a layer.
        operator: the way a cluster becomes one channel, see `MergeOperator`. "drop" changes neither the staying channel nor its readers.
        repair: the way the readers are repaired, see `RemoveChannels`.
        rails: limits on a layer and on the whole search; None for the run's limits, and half of them for a layer.
        merges_per_check: number of merges between two judgements.
        retries: number of further tries when merges do not hold.
        undo_share: share of the merges that each retry leaves out.
        importance: signal by which, of two channels that meet, the one worth more stays; None for the more central one.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> import optimize as opt
        >>> rng = np.random.default_rng(0)
        >>> splits = {name: (rng.random((60, 1, 4, 4), np.float32), np.arange(60) % 2) for name in ("val", "test")}
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
        >>> original, data, limits = opt.load_model(net, input_shape=(1, 4, 4)), opt.load_data(splits), opt.Limits(max_drop=0.9)
        >>> result = opt.search(original, data, limits, strategy=opt.Local(floors="none"))
        >>> result.best.parameters <= original.parameters, len(result.trials) > 0
        (True, True)
    """

    name: ClassVar[str] = "local"
    settings: ClassVar[tuple[str, ...]] = ("floors", "stopping", "importance")
    few_proposals: ClassVar[bool] = False

    min_similarity: float = 0.75
    floors: str = "S2"
    stopping: StoppingRule = field(default_factory=Floor)
    operator: Operator = "medoid"
    repair: RepairMode = "least squares"
    rails: StudyRails | None = None
    merges_per_check: int = 20
    retries: int = 3
    undo_share: float = 0.2
    importance: Signal | None = None

    def __post_init__(self) -> None:
        for name, choices in (("floors", FLOOR_NAMES), ("operator", get_args(Operator)), ("repair", get_args(RepairMode))):
            require_choice(name, getattr(self, name), choices)

    def __call__(self, walk: Walk) -> None:
        """Merge the channels of one layer after the other, deepest first."""
        scope = Scope.of(walk.reference, self.floors, self.repair)
        groups = [group for group in scope.groups if scope.headroom(group)]
        if self.importance is not None:
            refuse_silence(self.importance, self.importance(walk.best, walk.reference, groups))
        collect = EvidenceCollector(self.stopping.needs, walk.reference, groups) if groups else None
        # groups are in execution order, so the deepest layer comes first
        for group in reversed(groups):
            assert collect is not None
            _Layer(self, walk, scope, collect, scope.current_groups(walk.best)[group.name]).merge()


class _Layer:
    """One layer while its channels merge; channels keep the numbers they had at its beginning."""

    def __init__(self, strategy: Local, walk: Walk, scope: Scope, collect: EvidenceCollector, group: ChannelGroup) -> None:
        self._strategy, self._walk, self._collect, self._group = strategy, walk, collect, group
        self._beginning: ScoreSummary = walk.best_score
        self._rails = strategy.rails or StudyRails.within(walk.limits)
        self._room = scope.headroom(group)
        self._alive = list(range(group.size))
        self._evidence: list[Evidence] = []

    def merge(self) -> None:
        """Merge until no two clusters are similar enough, or the limits no longer hold."""
        # measured once for a layer: while it merges, its clusters are compared by sums of these cosines
        (similarity,) = cosine(self._walk.best, self._walk.reference, [self._group], pooled=True)
        left = self._allowed(agglomerate(similarity, self._strategy.min_similarity, self._worth()))
        while left:
            chunk, left = left[: self._strategy.merges_per_check], left[self._strategy.merges_per_check :]
            if not self._keep_most(chunk):
                return

    def _worth(self) -> Scores | None:
        """Return what each channel of the layer is worth; None where no signal was chosen."""
        signal = self._strategy.importance
        return None if signal is None else signal(self._walk.best, self._walk.reference, [self._group])[0]

    def _allowed(self, merges: Sequence[ClusterMerge]) -> list[ClusterMerge]:
        """Return the merges that the stopping rule lets pass, at most as many as the floor allows."""
        allowed: list[ClusterMerge] = []
        for merge in merges:
            if len(allowed) == self._room:
                break
            evidence = self._collect.pair(
                self._walk.best, self._group, merge.removed, merge.merge_into, 1 - merge.similarity, len(allowed) / self._room
            )
            decision = self._strategy.stopping([*self._evidence, evidence])
            if decision == "stop":
                break
            if decision == "go on":
                allowed.append(merge)
                # it counts as kept before it is judged, since rules that compare with earlier merges need these already
                self._evidence.append(replace(evidence, kept=True))
        return allowed

    def _keep_most(self, chunk: Sequence[ClusterMerge]) -> bool:
        """Propose the chunk, then fewer and fewer of its merges; return whether the whole chunk was kept."""
        count = len(chunk)
        for _ in range(1 + self._strategy.retries):
            if self._propose(chunk[:count]):
                return count == len(chunk)
            # always at least one fewer: int(1.6) of two merges is 1, and int(.8) of one ends the tries
            count = min(count - 1, int(count * (1 - self._strategy.undo_share)))
            if count < 1:
                break
        return False

    def _propose(self, merges: Sequence[ClusterMerge]) -> bool:
        merged: dict[int, int] = {}
        for merge in merges:
            # merges chain: after 3 -> 5 and then 5 -> 1, channel 3 has to be merged into 1 as well
            merged = {removed: merge.merge_into if staying == merge.removed else staying for removed, staying in merged.items()}
            merged[merge.removed] = merge.merge_into
        places = {channel: place for place, channel in enumerate(self._alive)}  # its number in the best candidate, where some are gone
        pairs = sorted((places[removed], places[staying]) for removed, staying in merged.items())
        step = RemoveChannels(
            self._group.name,
            tuple(removed for removed, _ in pairs),
            self._strategy.repair,
            self._strategy.operator,
            () if self._strategy.operator == "drop" else tuple(staying for _, staying in pairs),
        )
        judge = self._rails.judge(self._beginning, self._walk.limits, self._walk.search.confidence)
        kept = self._walk.propose(step, self._walk.best, judge)
        if kept:
            self._alive = [channel for channel in self._alive if channel not in merged]
        return bool(kept)
