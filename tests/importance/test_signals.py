"""Signals are found by their files, selected by name, and each decides which channels `Prune` takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import optimize.importance
from optimize.candidate import Candidate, Reference
from optimize.errors import InputError
from optimize.files import called_dataclasses
from optimize.graph.trace import trace
from optimize.importance import name_of, signal_named, signals
from optimize.importance.batchnorm import BatchNormScale
from optimize.importance.loss import total_loss
from optimize.importance.magnitude import Magnitude
from optimize.importance.output_error import OutputError
from optimize.importance.removal_order import removal_orders
from optimize.importance.taylor import Taylor
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths
from tests import nets
from tests.nets import INTRICATE, TOPOLOGIES, candidate, cases, reference

NAMES = ["batchnorm", "ilr", "magnitude", "output_error", "rank", "redundancy", "snip", "taylor"]

NEW = '''
from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Position:
    """The first channel of a group is worth least."""

    def __call__(self, candidate, reference, groups):
        return [np.arange(group.size, dtype=float) for group in groups]
'''


@pytest.fixture
def new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A signal in one new file, as if it lay in `optimize/importance/`."""
    (tmp_path / "position.py").write_text(NEW)
    monkeypatch.setattr(optimize.importance, "__path__", [*optimize.importance.__path__, str(tmp_path)])
    yield
    sys.modules.pop("optimize.importance.position", None)
    vars(optimize.importance).pop("position", None)


def test_the_signals_there_are() -> None:
    assert set(NAMES) <= set(signals())
    assert all(name_of(signal_named(name)) == name for name in signals())
    assert list(signals()) == sorted(signals())
    assert all(len(classes) == 1 for classes in called_dataclasses("optimize.importance", "candidate", "reference", "groups").values())
    assert signal_named("output_error") == OutputError()


def test_one_new_file_is_enough(new_file: None) -> None:
    assert "position" in signals()
    start = candidate(nets.chain_bn())
    made = PruneToWidths((("0", 3),), importance=signal_named("position"))(start, reference(start))
    assert made.kept["0"].tolist() == [5, 6, 7]


@pytest.mark.parametrize(("name", "near"), [("magnitud", "magnitude"), ("output-error", "output_error"), ("Taylor", "taylor")])
def test_a_wrong_name_is_refused_in_one_line_with_the_near_miss(name: str, near: str) -> None:
    text = rf"^`importance` \(='{name}'\) is not known \(did you mean '{near}'\?\): write one of .*'snip'"
    with pytest.raises(InputError, match=text) as raised:
        signal_named(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", list(signals()))
@pytest.mark.parametrize("build", [nets.chain_bn, nets.Residual, nets.Concat], ids=lambda build: build.__name__)
def test_every_signal_runs_through_prune(name: str, build: type[nn.Module]) -> None:
    start = candidate(build())
    aim, before = reference(start), start.fingerprint
    made = Prune(0.3, rows=500, importance=signal_named(name))(start, aim)
    if name != "batchnorm" or build is not nets.Concat:
        assert made.parameters < start.parameters
    assert np.isfinite(made.predict(cases(2))).all()
    assert start.fingerprint == before
    assert made.fingerprint == Prune(0.3, rows=500, importance=signal_named(name))(start, aim).fingerprint


@pytest.mark.parametrize("name", [*TOPOLOGIES, *INTRICATE])
def test_a_signal_runs_on_every_topology(name: str) -> None:
    start = candidate((TOPOLOGIES | INTRICATE)[name]())
    made = Prune(1e9, rows=200, importance=Magnitude())(start, reference(start, 48))
    assert made.parameters < start.parameters


def test_the_signal_decides_which_channels_go_and_output_error_how_many() -> None:
    start = candidate(nets.chain_bn())
    aim = reference(start)
    group = trace(start).groups[0]
    made = Prune(0.3, importance=Magnitude())(start, aim)
    weakest = np.argsort(Magnitude()(start, aim, [group])[0])
    kept = made.kept["0"]
    assert sorted(set(range(group.size)) - set(kept.tolist())) == sorted(weakest[: group.size - len(kept)].tolist())
    assert len(Prune(0.3)(start, aim).kept["0"]) <= len(kept)  # no other order spends less output error


def test_output_error_as_a_signal_removes_in_the_order_of_the_default() -> None:
    start = candidate(nets.chain_bn())
    aim = reference(start)
    order = removal_orders(OutputError(), start, aim, trace(start).groups)["0"]
    kept = PruneToWidths((("0", 4),))(start, aim).kept["0"]
    assert sorted(order[:4].tolist()) == sorted(set(range(8)) - set(kept.tolist()))


def test_what_a_signal_is_silent_about_stays_and_a_silent_signal_is_refused() -> None:
    start = candidate(nets.chain())  # without any norm
    text = r"`importance` \(='batchnorm'\) says nothing about any channel of this network: take 'output_error'"
    with pytest.raises(InputError, match=text):
        Prune(0.3, importance=BatchNormScale())(start, reference(start))


def test_a_single_logit_has_the_loss_of_the_same_decision_between_two_classes() -> None:
    single = torch.tensor([[2.0], [-1.0]])
    both = torch.cat([torch.zeros_like(single), single], 1)
    classes = torch.tensor([1, 1])
    assert torch.allclose(total_loss(single, classes), total_loss(both, classes))
    # by hand: log(1 + exp(-2)) + log(1 + exp(1))
    assert abs(float(total_loss(single, classes)) - 1.4402) < 1e-3
    net = Candidate(nets.ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))), torch.from_numpy(cases(1)))
    assert Prune(0.3, importance=Taylor())(net, Reference(net, cases(8))).kept["0"].size < 4
