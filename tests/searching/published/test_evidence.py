"""What the rules are shown, against maskings and similarities done by hand."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
import torch

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import trace
from optimize.importance.correction import least_certain
from optimize.searching.published.evidence import EvidenceCollector, active_set, nearest_channels, usual_discordance
from tests.nets import Residual, cases, chain_bn, ready


def test_doubles_are_sought_among_what_stays() -> None:
    likeness = np.array([[1, 0.9, 0.5, 0.2], [0.9, 1, 0.6, 0.7], [0.5, 0.6, 1, 0.1], [0.2, 0.7, 0.1, 1]])
    assert nearest_channels(likeness, [0]) == ([1], (pytest.approx(0.1),))
    double, distances = nearest_channels(likeness, [1, 0])
    assert double == [3, 2]
    assert distances == pytest.approx((0.3, 0.5))


def test_a_silent_channel_has_no_distance() -> None:
    likeness = np.array([[nan, nan, nan], [nan, 1, 0.4], [nan, 0.4, 1]])
    double, distances = nearest_channels(likeness, [0])
    assert double == [1]
    assert isnan(distances[0])
    assert nearest_channels(likeness, [1]) == ([2], (pytest.approx(0.6),))


def test_flips_of_a_chunk_by_hand() -> None:
    net, inputs = Residual(), cases(150)
    of = Candidate(ready(net), torch.from_numpy(inputs[:1]))
    group = trace(of).groups[1]  # conv1 -> norm1 -> relu -> conv2
    aim = Reference(of, inputs)
    found = EvidenceCollector("discordance", aim, trace(of).groups)(of, group, [0, 3], 0.25)
    assert found.progress == 0.25
    x = torch.from_numpy(inputs)

    def hidden(channel: int | None) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            stem = net.stem(x)
            inner = torch.relu(net.norm1(net.conv1(stem)))
            if channel is not None:
                inner[:, channel] = 0
            out = net.head(torch.relu(stem + net.norm2(net.conv2(inner))).mean((2, 3)))
        return inner.double().numpy(), np.asarray(out.argmax(1))

    maps, truth = hidden(None)
    rows = maps.transpose(1, 0, 2, 3).reshape(6, -1)
    cosine = rows @ rows.T / np.outer(*[np.linalg.norm(rows, axis=1)] * 2)
    expected = []
    for place, channel in enumerate((0, 3)):
        near = max((1, 2, 4, 5), key=lambda other, channel=channel: cosine[channel, other])
        assert found.distances[place] == pytest.approx(1 - cosine[channel, near], abs=1e-6)
        expected += [(hidden(channel)[1] == truth).astype(int) - (hidden(near)[1] == truth).astype(int)]
    assert found.discordant.tolist() == np.concatenate(expected).tolist()
    assert set(found.discordant.tolist()) == {-1, 0, 1}


def test_no_more_is_gathered_than_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    of = Candidate(ready(chain_bn()), torch.from_numpy(cases(1)))
    aim, groups = Reference(of, cases(64)), trace(of).groups
    monkeypatch.setattr("optimize.searching.published.evidence.paired_outcomes", None)
    distances = EvidenceCollector("distances", aim, groups)(of, groups[0], [1], 0.0)
    assert (len(distances.distances), len(distances.discordant)) == (1, 0)
    monkeypatch.setattr("optimize.searching.published.evidence.cosine", None)
    assert EvidenceCollector("nothing", aim, groups)(of, groups[0], [1], 0.5).distances == ()


def test_the_active_set(monkeypatch: pytest.MonkeyPatch) -> None:
    of = Candidate(ready(chain_bn()), torch.from_numpy(cases(1)))
    aim = Reference(of, cases(96))
    monkeypatch.setattr("optimize.searching.published.evidence.least_certain", lambda outputs: least_certain(outputs, per_class=7))
    chosen = least_certain(of.predict(aim.calibration), per_class=7)
    assert np.array_equal(active_set(aim), aim.calibration[chosen])
    monkeypatch.setattr("optimize.searching.published.evidence.MOST_CASES", 5)
    few = active_set(aim)
    assert len(few) == 5
    assert {case.tobytes() for case in few} < {case.tobytes() for case in aim.calibration[chosen]}


def test_dense_outputs_have_no_active_set() -> None:
    of = Candidate(ready(torch.nn.Conv2d(3, 4, 3)), torch.from_numpy(cases(1)))
    assert np.array_equal(active_set(Reference(of, cases(20))), cases(20))


def test_the_usual_discordance_is_a_percentile_over_random_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    of = Candidate(ready(chain_bn()), torch.from_numpy(cases(1)))
    aim, asked = Reference(of, cases(10)), []

    def counted(_: object, __: object, group: object, pairs: list[tuple[int, int]], ___: object) -> list[np.ndarray]:
        """The k-th pair that is asked for flips k % 10 of 10 cases."""
        found = []
        for pair in pairs:
            found.append((np.arange(10) < len(asked) % 10).astype(np.int8))
            asked.append((group, pair))
        return found

    monkeypatch.setattr("optimize.searching.published.evidence.paired_outcomes", counted)
    assert usual_discordance(aim, trace(of).groups, cases(10)) == pytest.approx(np.percentile([k % 10 / 10 for k in range(64)], 60))
    assert len(asked) == 64
    assert all(i != j for _, (i, j) in asked)
    assert {max(pair) < group.size for group, pair in asked} == {True}
