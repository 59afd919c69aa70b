"""Merges against clusters of explicit features, one mean at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.searching.published.agglomerate import ClusterMerge, agglomerate


def cosines(features: np.ndarray) -> np.ndarray:
    """(channels, cases) -> (channels, channels)."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


def by_means(features: np.ndarray, least: float) -> list[tuple[set[int], set[int], float]]:
    """The same by keeping the mean of every cluster: who met whom, and how alike they were."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    clusters = [[channel] for channel in range(len(unit))]
    met = []
    while len(clusters) > 1:
        means = np.stack([unit[cluster].mean(0) for cluster in clusters])
        alike = cosines(means)
        np.fill_diagonal(alike, -np.inf)
        i, j = np.unravel_index(alike.argmax(), alike.shape)
        if alike[i, j] < least:
            break
        met.append((set(clusters[i]), set(clusters[j]), float(alike[i, j])))
        clusters[i] = clusters[i] + clusters[j]
        del clusters[j]
    return met


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.sampled_from([-1.0, 0.3, 0.75]))
def test_clusters_are_those_of_the_means(seed: int, channels: int, least: float) -> None:
    features = np.random.default_rng(seed).normal(size=(channels, 4))
    expected = by_means(features, least)
    unions = agglomerate(cosines(features), least)
    of = {channel: {channel} for channel in range(channels)}
    assert len(unions) == len(expected)
    for union, (one, other, alike) in zip(unions, expected, strict=True):
        assert {frozenset(of[union.removed]), frozenset(of[union.merge_into])} == {frozenset(one), frozenset(other)}
        assert union.similarity == pytest.approx(alike)
        of[union.merge_into] = of[union.merge_into] | of.pop(union.removed)


def test_the_more_central_representative_stays() -> None:
    # 0 and 1 meet first, where neither is more central; 2 is nearer to 1 than to 0, but 1 has gone by then
    cosine = np.array([[1.0, 0.95, 0.7], [0.95, 1.0, 0.9], [0.7, 0.9, 1.0]])
    first, second = agglomerate(cosine, 0.75)
    assert first == ClusterMerge(removed=1, merge_into=0, similarity=pytest.approx(0.95))
    # (.7 + .9) / sqrt(2 + 2 * .95); of the two that are left 0 lies nearer to the other two on average: .825 against .8
    assert second == ClusterMerge(removed=2, merge_into=0, similarity=pytest.approx(1.6 / np.sqrt(3.9)))
    later = agglomerate(np.array([[1.0, 0.95, 0.7], [0.95, 1.0, 0.99], [0.7, 0.99, 1.0]]), 0.75)
    assert [(union.removed, union.merge_into) for union in later] == [(2, 1), (0, 1)]


def test_likeness_decides_where_it_ends() -> None:
    cosine = np.array([[1.0, 0.75, 0.0], [0.75, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert len(agglomerate(cosine, 0.75)) == 1
    assert agglomerate(cosine, 0.7500001) == []


def test_a_silent_channel_is_like_no_other() -> None:
    cosine = np.array([[1.0, np.nan, 0.9], [np.nan, np.nan, np.nan], [0.9, np.nan, 1.0]])
    assert [(union.removed, union.merge_into) for union in agglomerate(cosine, -1.0)] == [(2, 0)]
    assert agglomerate(np.full((2, 2), np.nan), -1.0) == []


def test_where_a_signal_says_what_channels_are_worth_the_one_worth_more_stays() -> None:
    cosine = np.array([[1.0, 0.95, 0.7], [0.95, 1.0, 0.9], [0.7, 0.9, 1.0]])
    pairs = [(union.removed, union.merge_into) for union in agglomerate(cosine, 0.75, np.array([1.0, 2.0, 3.0]))]
    assert pairs == [(0, 1), (1, 2)]
    for silent in (np.full(3, np.nan), np.zeros(3)):  # nothing tells them apart: as without a signal
        assert agglomerate(cosine, 0.75, silent) == agglomerate(cosine, 0.75)
