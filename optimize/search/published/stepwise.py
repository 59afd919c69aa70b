"""The founding study's benefit-aware loop: many small removals over all layers, each judged, between rails and above floors.

A round ranks the channels of all layers that are open by one importance signal and takes the lowest quarter; of these the most beneficial
(`search/published/benefit.py`), 5 % of what lies above the floors, at most 32. They go deepest block first, in chunks: two channels, then
four at a time. Linear layers, whose benefit counts nothing, are taken up when no convolution is open. A chunk is proposed when its layer
stays healthy (`search/published/dispersion.py`) and the stopping rule does not object (`search/published/stopping.py`), and judged between
the rails (`search/published/rails.py`):

    not proposed         the layer is skipped until another chunk was kept
    kept                 go on; near the cumulative rail the first three of five blocks are spared for the next round
    step rail            rolled back, the layer's chunks are halved, the rest of the round is skipped; a chunk of one closes the layer
    cumulative rail      rolled back, and the loop is over

When no layer is open, all are opened once more, unless nothing was kept since the last time. In the end the shallow blocks are brought
towards their floors, whose widths suit the kernels, eight channels at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isnan
from typing import Literal, TypeAlias, get_args

from optimize.candidate import Candidate
from optimize.errors import require_choice
from optimize.graph.trace import ChannelGroup
from optimize.importance.ilr import InsideLayerRanking
from optimize.importance.removal_order import refuse_silence
from optimize.importance.signal import Scores, Signal
from optimize.progress import note
from optimize.search.published.benefit import benefit, priors
from optimize.search.published.dispersion import LEAST, Health
from optimize.search.published.evidence import EvidenceCollector
from optimize.search.published.floors import NAMES
from optimize.search.published.layout import layout
from optimize.search.published.rails import Rails
from optimize.search.published.ranking import budget, chosen, lowest
from optimize.search.published.scope import Scope
from optimize.search.published.stopping import Evidence, Floor, Stopping
from optimize.search.walk import Reading, Walk
from optimize.steps.merge import RepairMode
from optimize.steps.remove_channels import RemoveChannels

Outcome: TypeAlias = Literal["kept", "skipped", "bold", "over"]


@dataclass(frozen=True)
class Stepwise:
    """The strategy "stepwise".

    Args:
        signal: what a channel is worth; the published loop compares its ranking inside layers across layers.
        floors: "S1" to "S6", or "none".
        stopping: which proposals are left out, and when the loop stops by itself.
        repair: of the readers, see `Remove`; "batchnorm" is the published one.
        rails: None for the run's limits, and half of them for a step.
        rounds: at most.
        share: of all channels that a round looks at.
        portion: of the channels above the floors that a round may take.
        most: channels that a round may take.
        chunks: channels in the first chunk of a round, and in the following ones.
        health: share of its dispersion that a layer must keep.
        alignments: rounds of the final sweep.
        aligned: channels that one of its proposals takes.
    """

    importance: Signal = field(default_factory=InsideLayerRanking)
    floors: str = "S2"
    stopping: Stopping = field(default_factory=Floor)
    repair: RepairMode = "least squares"
    rails: Rails | None = None
    rounds: int = 75
    share: float = 0.25
    portion: float = 0.05
    most: int = 32
    chunks: tuple[int, int] = (2, 4)
    health: float = LEAST
    alignments: int = 3
    aligned: int = 8

    def __post_init__(self) -> None:
        require_choice("floors", self.floors, NAMES)
        require_choice("repair", self.repair, get_args(RepairMode))

    def __call__(self, walk: Walk) -> None:
        """Walk to the end."""
        scope = Scope.of(walk.reference, self.floors, self.repair)
        if not any(map(scope.room, scope.groups)):
            return
        loop = _Loop(self, walk, scope)
        while loop.turn < self.rounds and not loop.over:
            loop.round()
        if self.floors != "none":
            loop.align()


class _Loop:
    """Where the loop stands: which layers are closed until which round or skipped until something is kept, and how large chunks may be."""

    def __init__(self, strategy: Stepwise, walk: Walk, scope: Scope) -> None:
        self.strategy, self.walk, self._scope = strategy, walk, scope
        self.turn, self.over = 0, False
        self._rails = strategy.rails or Rails.within(walk.limits)
        self._health = Health.of(walk.reference, scope.groups, strategy.health)
        self._gather = EvidenceCollector(strategy.stopping.needs, walk.reference, scope.groups)
        self._priors = priors(scope.groups, scope.blocks)
        self._room = sum(map(scope.room, scope.groups))
        self._seen: list[Evidence] = []
        self._closed: dict[str, float] = {}
        self._skipped: set[str] = set()
        self._caps: dict[str, int] = {}
        self._gained = False
        self._traced: tuple[Candidate | None, dict[str, ChannelGroup]] = (None, {})

    def round(self) -> None:
        """One round; when no layer is open, open them again, once."""
        self.turn += 1
        opened = {name: group for name, group in self._groups().items() if self._scope.room(group) and self._is_open(name)}
        if not opened:
            self.over, self._gained = not self._gained, False
            self._closed.clear()
            self._skipped.clear()
            self._caps.clear()
            return
        convolutions = {name: group for name, group in opened.items() if name in self._scope.blocks}
        taken = self._taken(convolutions or opened)
        if not taken:  # the signal is silent about these layers, and will stay so
            self._close(list(convolutions or opened), inf)
        size, following = self.strategy.chunks
        for name in sorted(taken, key=lambda name: -self._scope.blocks.get(name, -1)):
            rest = taken[name]
            while rest:
                count = min(size, self._caps.get(name, following))
                chunk, rest = rest[:count], rest[count:]
                outcome = self._propose(name, chunk)
                if outcome == "kept":
                    rest, size = _renumbered(rest, chunk), following
                elif outcome == "skipped":
                    self._skipped.add(name)
                    break
                else:
                    self.over = outcome == "over"
                    self._halve(name, len(chunk))
                    return

    def align(self) -> None:
        """Bring the shallow blocks towards their floors."""
        left = list(self._scope.shallow)
        for _ in range(self.strategy.alignments):
            for name in list(left):
                group = self._groups()[name]
                count = min(self.strategy.aligned, self._scope.room(group))
                (score,) = self._scores({name: group}).values()
                chunk = [channel for _, channel in _with_score(lowest({name: score}, 1.0), {name: score})][:count]
                outcome = self._offer(name, chunk, Evidence()) if chunk and self._healthy(group, chunk) else "skipped"
                if outcome == "over":
                    return
                if outcome != "kept":
                    left.remove(name)

    def _groups(self) -> Mapping[str, ChannelGroup]:
        """The groups of the best candidate as it stands."""
        if self._traced[0] is not self.walk.best:
            self._traced = (self.walk.best, self._scope.now(self.walk.best))
        return self._traced[1]

    def _taken(self, opened: Mapping[str, ChannelGroup]) -> dict[str, list[int]]:
        """What the round takes: group -> channels, lowest score first."""
        room = {name: self._scope.room(group) for name, group in opened.items()}
        module, maps = self.walk.best.module, layout(self.walk.best)
        benefits = {name: benefit(module, group, maps, self._priors[name]) for name, group in opened.items()}
        scores = self._scores(opened)
        if self.turn == 1:
            refuse_silence(self.strategy.importance, list(scores.values()))
        ranked = _with_score(lowest(scores, self.strategy.share), scores)
        return chosen(ranked, benefits, room, budget(sum(room.values()), self.strategy.portion, self.strategy.most))

    def _scores(self, groups: Mapping[str, ChannelGroup]) -> dict[str, Scores]:
        found = self.strategy.importance(self.walk.best, self.walk.reference, list(groups.values()))
        return dict(zip(groups, found, strict=True))

    def _propose(self, name: str, chunk: Sequence[int]) -> Outcome:
        """Check health, ask the stopping rule, and offer."""
        group = self._groups()[name]
        if not self._healthy(group, chunk):
            return "skipped"
        left = sum(map(self._scope.room, self._groups().values()))
        evidence = self._gather(self.walk.best, group, chunk, 1 - left / self._room)
        decision = self.strategy.stopping([*self._seen, evidence])
        if decision != "go on":
            note(f"{name}: the stopping rule says {decision!r}")
            return "over" if decision == "stop" else "skipped"
        return self._offer(name, chunk, evidence)

    def _healthy(self, group: ChannelGroup, chunk: Sequence[int]) -> bool:
        holds = self._health.holds(self.walk.best, self.walk.reference, group, chunk)
        if not holds:
            note(f"{group.name}: what stays would vary too little")
        return holds

    def _offer(self, name: str, chunk: Sequence[int], evidence: Evidence) -> Outcome:
        walk, before = self.walk, self.walk.best_score
        step = RemoveChannels(name, tuple(sorted(chunk)), self.strategy.repair)
        trial = walk.propose(step, walk.best, self._rails.judge(before, walk.limits, walk.search.confidence))
        self._seen.append(replace(evidence, kept=bool(trial)))
        if not trial:
            return "bold" if self._rails.bold(before, trial.reading) else "over"
        self._gained = True
        self._skipped.clear()
        if self._rails.warns(Reading.of(walk.before), walk.best_score):
            self._close(self._scope.shallow, self.turn + 1)
        return "kept"

    def _is_open(self, name: str) -> bool:
        return name not in self._skipped and self._closed.get(name, 0) < self.turn

    def _close(self, names: Sequence[str], until: float) -> None:
        self._closed |= {name: max(until, self._closed.get(name, 0)) for name in names}

    def _halve(self, name: str, size: int) -> None:
        self._caps[name] = max(1, size // 2)
        if size == 1:
            self._close([name], inf)


def _with_score(ranked: Sequence[tuple[str, int]], scores: Mapping[str, Scores]) -> list[tuple[str, int]]:
    """Those channels about which the signal says something."""
    return [(name, channel) for name, channel in ranked if not isnan(scores[name][channel])]


def _renumbered(channels: Sequence[int], gone: Sequence[int]) -> list[int]:
    """What the channels are called once others of their group are gone."""
    return [channel - sum(other < channel for other in gone) for channel in channels]
