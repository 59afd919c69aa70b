"""Embeddings: retrieval against a search by hand and a brute force, bounds against those of a share and of a mean, and their data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from scipy.stats import t
from sklearn.neighbors import NearestNeighbors

from optimize.data.dataset import load_data
from optimize.data.identities import perfect_embeddings, with_identities_whole
from optimize.data.missing_splits import with_missing_splits
from optimize.data.output_meaning import embedded, logits
from optimize.deploy.runner.decisions import read as decisions_of
from optimize.errors import InputError
from optimize.guard.embedding_comparison import EmbeddingComparison
from optimize.guard.embedding_score import EmbeddingScore, score_embeddings
from optimize.guard.flips import flips
from optimize.guard.intervals import drop_of_share
from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import Limits
from optimize.guard.no_information import no_information
from optimize.training.distillation import objective


def angles(degrees: list[float]) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)


def sampled(noise: float, n: int = 300, seed: int = 0, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of n identities with three items each, with this noise around a centre."""
    made = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n), 3)
    return (made.normal(size=(n, size))[labels] + noise * made.normal(size=(3 * n, size))).astype(np.float32), labels


def test_recall_is_that_by_hand_and_items_alone_are_no_queries() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    score = score_embeddings([(angles([0, 10, 50])[:2], labels[:2]), (5 * angles([50, 100, 60]), labels[2:])])
    assert score.asked.tolist() == [True, True, True, True, False]
    assert (score.correct[:4].tolist(), score.recall(1), score.recall(5)) == ([True, True, False, False], 0.5, 1.0)
    shown = score.as_dict()
    assert (shown["overall"]["cases"], shown["overall"]["items"], shown["overall"]["cosine"]) == (4, 5, None)


def test_neighbours_are_those_of_a_brute_force_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, labels = sampled(0.7)
    monkeypatch.setattr("optimize.guard.embedding_score.SIMILARITIES_AT_ONCE", 7 * len(labels))
    score = score_embeddings([(outputs, labels)])
    places = NearestNeighbors(n_neighbors=6, metric="cosine", algorithm="brute").fit(outputs).kneighbors()[1][:, :5]
    assert np.array_equal(score.neighbours, labels[places])
    assert score.recall(5) == pytest.approx((labels[places] == labels[:, None]).any(1).mean())


def test_outputs_without_a_direction_find_nothing() -> None:
    outputs = angles([0, 1, 90, 91])
    outputs[0], outputs[2] = np.nan, 0
    score = score_embeddings([(outputs, np.array([0, 0, 1, 1]))])
    assert not score.correct[0]
    assert not score.correct[2]
    assert np.isfinite(score.vectors).all()


def pair(noise: float = 0.3, patients: np.ndarray | None = None, groups: Mapping[str, Any] | None = None) -> list[EmbeddingScore]:
    outputs, labels = sampled(0.5)
    moved = outputs + noise * np.random.default_rng(1).normal(size=outputs.shape).astype(np.float32)
    return [score_embeddings([(vectors, labels)], patients, groups) for vectors in (outputs, moved)]


def test_the_drop_has_the_bound_of_a_share_whose_cases_come_by_identity() -> None:
    baseline, candidate = pair()
    estimate, old, new = EmbeddingComparison(Limits(), baseline, candidate).drop_of_recall(0.02)
    expected = drop_of_share(baseline.correct, candidate.correct, 0.95, np.repeat(np.arange(300), 3))
    assert (estimate.low, estimate.high) == (expected.low, expected.high)
    assert estimate.value == pytest.approx(old - new)
    assert estimate.high > drop_of_share(baseline.correct, candidate.correct, 0.95).high
    # a patient of three identities joins them, and every identity that they share
    owners = np.repeat(np.arange(100), 9)
    assert np.array_equal(pair(patients=owners)[0].clusters, owners)
    chained = score_embeddings([(angles([0, 1, 2, 3]), np.array([0, 0, 1, 2]))], np.array(["a", "b", "b", "c"]))
    assert chained.clusters.tolist() == [0, 0, 0, 1]


def test_the_agreement_is_a_mean_cosine_over_identities_with_a_worst_case() -> None:
    baseline, candidate = pair()
    estimate = EmbeddingComparison(Limits(), baseline, candidate).agreement()
    cosines = torch.nn.functional.cosine_similarity(*(torch.from_numpy(score.vectors) for score in (baseline, candidate))).numpy()
    means = cosines.reshape(300, 3).mean(1)
    assert estimate.value == pytest.approx(cosines.mean(), abs=1e-6)
    student = means.mean() - t.ppf(0.95, 299) * means.std(ddof=1) / 300**0.5
    assert estimate.low <= student + 1e-6
    assert student - estimate.low < 3 / 300
    schema = json.loads((files("optimize.report") / "schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(candidate.as_dict(baseline), {"$ref": "#/$defs/columns", "$defs": schema["$defs"]})
    assert candidate.as_dict(baseline)["overall"]["cosine_p5"] == pytest.approx(np.percentile(cosines, 5), abs=1e-6)


def test_the_rails_fire() -> None:
    groups = {"site": np.tile(["a", "b", "b"], 300)}
    limits = Limits(max_recall_drop=0.03, max_group_drop=0.06, min_cosine_agreement=0.9)
    for noise, outcome in ((0.01, "pass"), (1.5, "fail")):
        rails = judged_rails(limits, *pair(noise, groups=groups))
        assert [rail.outcome for rail in rails] == [outcome] * 4
        titles = ["recall@1", "recall@1 where site is a", "recall@1 where site is b", "mean cosine with the original’s embeddings"]
        assert [rail.title for rail in rails] == titles


def test_turned_embeddings_find_as_well_and_agree_with_nothing() -> None:
    outputs, labels = sampled(0.5)
    turned = outputs @ np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0].astype(np.float32)
    rails = judged_rails(Limits(min_cosine_agreement=0.9), *(score_embeddings([(vectors, labels)]) for vectors in (outputs, turned)))
    assert [(rail.outcome, rail.name) for rail in rails] == [("pass", None), ("fail", None)]


def test_flips_are_queries_whose_neighbour_became_another() -> None:
    baseline = score_embeddings([(angles([0, 10, 50, 60]), np.array([0, 0, 1, 1]))])
    candidate = score_embeddings([(angles([0, 40, 50, 58]), np.array([0, 0, 1, 1]))])
    (flip,) = flips(baseline, candidate, list("abcd"))
    assert (flip.case, flip.kind, flip.baseline, flip.candidate) == ("b", "regressed", "the same identity", "another identity")
    assert flip.confidence_after == pytest.approx(np.cos(np.radians(10)))
    assert flips(candidate, baseline, list("abcd"))[0].kind == "fixed"


def test_embeddings_of_chance_or_all_the_same_are_no_better_than_a_constant() -> None:
    outputs, labels = sampled(0.5)
    assert no_information(score_embeddings([(outputs, labels)]), labels, Limits())
    assert no_information(score_embeddings([(perfect_embeddings(labels), labels)]), labels, Limits()).original == 1
    for useless in (np.random.default_rng(3).normal(size=outputs.shape), np.ones_like(outputs)):
        assert not no_information(score_embeddings([(useless, labels)]), labels, Limits())


def arrays(labels: np.ndarray, splits: tuple[str, ...] = ("train", "val", "test")) -> dict[str, np.ndarray]:
    made = np.random.default_rng(0)
    whole: dict[str, np.ndarray] = {}
    for name in splits:
        whole |= {f"{name}_images": made.integers(0, 256, (len(labels), 4, 4), np.uint8), f"{name}_labels": labels}
    return whole


def test_identities_stay_whole_in_calibration_guard_and_in_splits_that_are_cut() -> None:
    labels = np.repeat(np.char.add("dog", np.arange(20).astype(str)), 4)
    data = load_data(arrays(labels), input_shape=(1, 4, 4), task="embedding")
    assert (data.test.task, data.classes, data.test.class_counts(data.classes)) == (
        *("embedding", ("all identities",)),
        {"all identities": 80},
    )
    assert not set(data.guard.labels.tolist()) & set(data.calibration.labels.tolist())
    assert data.guard.patients is None
    whole, notes = with_identities_whole(with_missing_splits, arrays(labels, ("train",)))
    sides = [set(whole[f"{name}_labels"].tolist()) for name in ("train", "val", "test")]
    assert sum(map(len, sides)) == 20
    assert len(set.union(*sides)) == 20
    assert not any(key.endswith("_patient") for key in whole)
    assert "was cut" in notes[0]


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.arange(8), (), r"`val_labels` has no identity of two items: .*: add some"),
        (np.linspace(0, 1, 8), (), r"`val_labels` is float64: identities of embeddings must be whole numbers or text"),
        (np.zeros((8, 2), int), (), r"`val_labels` has shape \(8, 2\): identities of embeddings must be \(N,\)"),
        (np.arange(8) // 2, ("a",), r"`classes` \(=a\) is for classes, and an embedding has identities: leave it out"),
    ],
)
def test_other_labels_are_refused(labels: np.ndarray, classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data(arrays(labels, ("val", "test")), input_shape=(1, 4, 4), task="embedding", classes=classes)


def test_the_distance_of_two_embeddings_is_that_of_their_directions() -> None:
    outputs = angles([0, 30]) * [[2.0], [7.0]]
    meaning = embedded(outputs)
    assert meaning == "values"
    vectors = torch.from_numpy(outputs.astype(np.float32))
    z = logits(vectors, meaning, exclusive=False)
    assert float((z[0] - z[1]).square().mean()) == pytest.approx(2 - 2 * np.cos(np.radians(30)), abs=1e-6)
    loss = objective((2, 2), np.array([5, 9]), 1.0, 0.25, meaning)
    assert float(loss(vectors, 3 * vectors, torch.tensor([5, 9]))) == pytest.approx(0, abs=1e-6)
    assert float(loss(vectors, vectors.flip(0), torch.tensor([5, 9]))) == pytest.approx(2 - 2 * np.cos(np.radians(30)), abs=1e-6)


def test_the_runner_gives_the_vector() -> None:
    said = "the outputs are an embedding: compare them by cosine"
    stated = {"task": "embedding", "decision": said, "classes": [], "threshold": None, "meaning": "values", "shape": ["N", 2]}
    decisions = decisions_of(stated)
    assert np.asarray(decisions(angles([90]))).shape == (1, 2)
    assert np.array_equal(decisions.probabilities(angles([90])), angles([90]))


def test_scores_of_other_items_are_not_compared() -> None:
    baseline, candidate = pair()
    with pytest.raises(InputError, match="900 and 3 cases"):
        judged_rails(Limits(), baseline, replace(candidate).take(np.arange(3)))
