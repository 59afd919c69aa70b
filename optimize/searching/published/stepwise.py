"""The founding study's benefit-aware loop: many small removals over all layers, each judged, within rails and above floors.

A round ranks the channels of all open layers by one importance signal and takes the lowest quarter. Of these it proposes the most
beneficial (`benefit.py`): 5 % of the channels above the floors, at most 32. They go deepest block first, in chunks: two
channels, then four at a time. Linear layers, whose benefit is zero, have their turn when no convolution is open. A chunk is proposed when
its layer keeps enough dispersion (`dispersion.py`) and the stopping rule does not object (`stopping.py`).
Then it is judged by the rails (`rails.py`):

    not proposed         the layer is skipped until another chunk was kept
    kept                 go on; near the cumulative rail the first three of five blocks are spared for the next round
    breaks step rail     rolled back, the layer's chunks are halved, the rest of the round is skipped; a chunk of one closes the layer
    breaks both rails    handled like the step rail
    breaks only the      rolled back, and the loop ends
    cumulative rail

When no layer is open, all are opened once more, unless nothing was kept since the last time. In the end the shallow blocks are brought
towards their floors, whose widths suit the kernels, eight channels at a time.

Example: 200 channels are above the floors, so a round takes 10 (5 %): say 7 of layer "conv5" and 3 of "conv2". The proposals are 2, 4 and 1
channels of conv5, then 3 of conv2. When the 4 break the step rail, they are rolled back, conv5 proposes 2 at a time from now on, and the
next round ranks all channels again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isnan
from typing import ClassVar, Literal, TypeAlias, get_args

from optimize.candidate import Candidate
from optimize.errors import require_choice
from optimize.graph.trace import ChannelGroup
from optimize.importance.ilr import InsideLayerRanking
from optimize.importance.removal_order import refuse_silence
from optimize.importance.signal import Scores, Signal
from optimize.progress import note
from optimize.searching.published.benefit import benefit, priors
from optimize.searching.published.dispersion import MIN_DISPERSION_SHARE, DispersionCheck
from optimize.searching.published.evidence import EvidenceCollector
from optimize.searching.published.floors import FLOOR_NAMES
from optimize.searching.published.layout import feature_maps
from optimize.searching.published.rails import StudyRails
from optimize.searching.published.ranking import lowest_scores, most_beneficial, round_budget
from optimize.searching.published.scope import Scope
from optimize.searching.published.stopping import Evidence, Floor, StoppingRule
from optimize.searching.trial import ScoreSummary
from optimize.searching.walk import Walk
from optimize.steps.merge import RepairMode
from optimize.steps.remove_channels import RemoveChannels

Outcome: TypeAlias = Literal["kept", "skipped", "too bold", "over"]


@dataclass(frozen=True)
class Stepwise:
    """The strategy "stepwise".

    Args:
        importance: signal that ranks the channels. The published loop compares its ranking inside layers across layers.
        floors: set of minimum widths, "S1" to "S6", or "none".
        stopping: rule that leaves proposals out and ends the loop.
        repair: the way the readers are repaired, see `RemoveChannels`; "batchnorm" is the published one.
        rails: limits on one step and on the whole search; None for the run's limits, and half of them for a step.
        max_rounds: largest number of rounds.
        ranked_share: share of all channels that a round looks at, lowest score first.
        headroom_share: share of the channels above the floors that a round may take.
        max_per_round: largest number of channels that a round may take.
        chunk_sizes: number of channels in the first chunk of a round, and in the following ones.
        min_dispersion_share: share of its dispersion in the original that a layer must keep.
        alignment_rounds: number of rounds of the final alignment of shallow blocks.
        alignment_chunk: number of channels in one of its proposals.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> import optimize as opt
        >>> rng = np.random.default_rng(0)
        >>> splits = {name: (rng.random((60, 1, 4, 4), np.float32), np.arange(60) % 2) for name in ("val", "test")}
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
        >>> original, data, limits = opt.load_model(net, input_shape=(1, 4, 4)), opt.load_data(splits), opt.Limits(max_drop=0.9)
        >>> result = opt.search(original, data, limits, strategy=opt.Stepwise(floors="none", max_rounds=1))
        >>> result.best.parameters <= original.parameters, len(result.trials) > 0
        (True, True)
    """

    name: ClassVar[str] = "stepwise"
    settings: ClassVar[tuple[str, ...]] = ("importance", "floors", "stopping")
    few_proposals: ClassVar[bool] = False
    own_importance: ClassVar[str] = "ilr"

    importance: Signal = field(default_factory=InsideLayerRanking)
    floors: str = "S2"
    stopping: StoppingRule = field(default_factory=Floor)
    repair: RepairMode = "least squares"
    rails: StudyRails | None = None
    max_rounds: int = 75
    ranked_share: float = 0.25
    headroom_share: float = 0.05
    max_per_round: int = 32
    chunk_sizes: tuple[int, int] = (2, 4)
    min_dispersion_share: float = MIN_DISPERSION_SHARE
    alignment_rounds: int = 3
    alignment_chunk: int = 8

    def __post_init__(self) -> None:
        require_choice("floors", self.floors, FLOOR_NAMES)
        require_choice("repair", self.repair, get_args(RepairMode))

    def __call__(self, walk: Walk) -> None:
        """Run rounds until no layer is open or a limit is reached, then align the shallow blocks."""
        scope = Scope.of(walk.reference, self.floors, self.repair)
        # every layer is at its floor already
        if not any(map(scope.headroom, scope.groups)):
            return
        loop = _Loop(self, walk, scope)
        while loop.round_number < self.max_rounds and not loop.over:
            loop.run_round()
        if self.floors != "none":
            loop.align()


class _Loop:
    """State of the loop: layers closed until a round, layers skipped until something is kept, and the largest chunk of each layer."""

    def __init__(self, strategy: Stepwise, walk: Walk, scope: Scope) -> None:
        self.strategy, self.walk, self._scope = strategy, walk, scope
        self.round_number, self.over = 0, False
        self._rails = strategy.rails or StudyRails.within(walk.limits)
        self._dispersion = DispersionCheck.of(walk.reference, scope.groups, strategy.min_dispersion_share)
        self._collect = EvidenceCollector(strategy.stopping.needs, walk.reference, scope.groups)
        self._priors = priors(scope.groups, scope.blocks)
        self._room = sum(map(scope.headroom, scope.groups))
        self._evidence: list[Evidence] = []
        self._closed: dict[str, float] = {}
        self._skipped: set[str] = set()
        self._caps: dict[str, int] = {}
        self._kept_any = False
        self._traced: tuple[Candidate | None, dict[str, ChannelGroup]] = (None, {})

    def run_round(self) -> None:
        """Run one round. When no layer is open, open all of them again, once."""
        self.round_number += 1
        opened = {name: group for name, group in self._groups().items() if self._scope.headroom(group) and self._is_open(name)}
        if not opened:
            # A layer that was closed early may have room again once others were cut. Where nothing was kept since all layers were last
            # opened, nothing has changed for any of them, and the loop ends.
            self.over, self._kept_any = not self._kept_any, False
            self._closed.clear()
            self._skipped.clear()
            self._caps.clear()
            return
        # linear layers have a benefit of zero, so beside a convolution none of them would ever be taken
        convolutions = {name: group for name, group in opened.items() if name in self._scope.blocks}
        proposed = self._round_channels(convolutions or opened)
        if not proposed:  # the signal is silent about these layers, and stays so
            self._close(list(convolutions or opened), inf)
        size, following = self.strategy.chunk_sizes
        # Deepest block first, as published. Linear layers have no block and come last.
        for name in sorted(proposed, key=lambda name: -self._scope.blocks.get(name, -1)):
            waiting = proposed[name]
            while waiting:
                # a layer that was refused before proposes no more at once than half of what was refused
                count = min(size, self._caps.get(name, following))
                chunk, waiting = waiting[:count], waiting[count:]
                outcome = self._check_and_judge(name, chunk)
                if outcome == "kept":  # channels above the removed ones move down, and further chunks are larger
                    waiting, size = _renumbered(waiting, chunk), following
                elif outcome == "skipped":
                    self._skipped.add(name)
                    break
                else:
                    # The refused chunk was among the least important: the ranking is made anew before this or any other layer is asked
                    # again.
                    self.over = outcome == "over"
                    self._halve(name, len(chunk))
                    return

    def align(self) -> None:
        """Propose removals that bring the shallow blocks to their floors."""
        unaligned = list(self._scope.shallow)
        for _ in range(self.strategy.alignment_rounds):
            for name in list(unaligned):
                group = self._groups()[name]
                count = min(self.strategy.alignment_chunk, self._scope.headroom(group))
                (score,) = self._scores({name: group}).values()
                chunk = [channel for _, channel in _with_score(lowest_scores({name: score}, 1.0), {name: score})][:count]
                outcome = self._judge(name, chunk, Evidence()) if chunk and self._varies_enough(group, chunk) else "skipped"
                if outcome == "over":
                    return
                if outcome != "kept":
                    # refused or too uniform once, a shallow layer stays as it is
                    unaligned.remove(name)

    def _groups(self) -> Mapping[str, ChannelGroup]:
        """Return the groups of the best candidate as it is now."""
        # Tracing runs the network. A candidate never changes, so its groups are traced once, until another is the best.
        if self._traced[0] is not self.walk.best:
            self._traced = (self.walk.best, self._scope.current_groups(self.walk.best))
        return self._traced[1]

    def _round_channels(self, opened: Mapping[str, ChannelGroup]) -> dict[str, list[int]]:
        """Return what the round takes: group -> channels, lowest score first."""
        room = {name: self._scope.headroom(group) for name, group in opened.items()}
        module, maps = self.walk.best.module, feature_maps(self.walk.best)
        benefits = {name: benefit(module, group, maps, self._priors[name]) for name, group in opened.items()}
        scores = self._scores(opened)
        # a signal that says nothing of any layer would end the search without a word
        if self.round_number == 1:
            refuse_silence(self.strategy.importance, list(scores.values()))
        ranked = _with_score(lowest_scores(scores, self.strategy.ranked_share), scores)
        return most_beneficial(
            ranked, benefits, room, round_budget(sum(room.values()), self.strategy.headroom_share, self.strategy.max_per_round)
        )

    def _scores(self, groups: Mapping[str, ChannelGroup]) -> dict[str, Scores]:
        scores = self.strategy.importance(self.walk.best, self.walk.reference, list(groups.values()))
        return dict(zip(groups, scores, strict=True))

    def _check_and_judge(self, name: str, chunk: Sequence[int]) -> Outcome:
        """Check the dispersion, ask the stopping rule, and propose the chunk."""
        group = self._groups()[name]
        if not self._varies_enough(group, chunk):
            return "skipped"
        # progress: 0 at the start, 1 when every layer is at its floor
        left = sum(map(self._scope.headroom, self._groups().values()))
        evidence = self._collect(self.walk.best, group, chunk, 1 - left / self._room)
        decision = self.strategy.stopping([*self._evidence, evidence])
        if decision != "go on":
            note(f"{name}: the stopping rule decided {decision!r}")
            return "over" if decision == "stop" else "skipped"
        return self._judge(name, chunk, evidence)

    def _varies_enough(self, group: ChannelGroup, chunk: Sequence[int]) -> bool:
        varies = self._dispersion.holds(self.walk.best, self.walk.reference, group, chunk)
        if not varies:
            note(f"{group.name}: the remaining channels would vary too little")
        return varies

    def _judge(self, name: str, chunk: Sequence[int], evidence: Evidence) -> Outcome:
        walk, previous = self.walk, self.walk.best_score
        step = RemoveChannels(name, tuple(sorted(chunk)), self.strategy.repair)
        trial = walk.propose(step, walk.best, self._rails.judge(previous, walk.limits, walk.search.confidence))
        self._evidence.append(replace(evidence, kept=bool(trial)))
        if not trial:
            # A step that breaks both rails counts as too bold: a smaller one may break neither. Only what breaks the cumulative rail alone
            # shows that little is left to lose.
            return "too bold" if self._rails.step_problems(previous, trial.score) else "over"
        self._kept_any = True
        self._skipped.clear()
        if self._rails.nearly_used_up(ScoreSummary.of(walk.baseline_score), walk.best_score):
            # closed up to and including the next round
            self._close(self._scope.shallow, self.round_number + 1)
        return "kept"

    def _is_open(self, name: str) -> bool:
        return name not in self._skipped and self._closed.get(name, 0) < self.round_number

    def _close(self, names: Sequence[str], until: float) -> None:
        self._closed |= {name: max(until, self._closed.get(name, 0)) for name in names}

    def _halve(self, name: str, size: int) -> None:
        self._caps[name] = max(1, size // 2)
        if size == 1:
            self._close([name], inf)


def _with_score(ranked: Sequence[tuple[str, int]], scores: Mapping[str, Scores]) -> list[tuple[str, int]]:
    """Return the ranked channels about which the signal says something."""
    return [(name, channel) for name, channel in ranked if not isnan(scores[name][channel])]


def _renumbered(channels: Sequence[int], removed: Sequence[int]) -> list[int]:
    """Return the channels' numbers after others of their group were removed.

    Example: without channels 1 and 4, channels 3 and 6 of a group become 2 and 4.

        >>> _renumbered([3, 6], [1, 4])
        [2, 4]
    """
    return [channel - sum(lower < channel for lower in removed) for channel in channels]
