"""The study on a handful of small images: what it trains, measures and writes down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.studies import topologies
from benchmarks.studies.topologies import COLUMNS, WAYS, dice, rows, study, tumours


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Bright squares to be outlined."""
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 24), ("val", 6)):
        masks = np.zeros((count, 32, 32), dtype=np.uint8)
        for mask, corner in zip(masks, draw.integers(0, 16, (count, 2)), strict=True):
            mask[corner[0] : corner[0] + 16, corner[1] : corner[1] + 16] = 1
        noise = draw.integers(0, 60, (count, 32, 32, 3))
        arrays |= {f"{split}_masks": masks, f"{split}_images": (noise + 150 * masks[..., None]).astype(np.uint8)}
    np.savez(tmp_path / "scans.npz", **arrays)
    return tmp_path / "scans.npz"


def test_dice_by_hand() -> None:
    made, truth = np.array([1, 1, 1, 0]) > 0, np.array([0, 1, 1, 1]) > 0
    assert dice(made, truth) == pytest.approx(2 * 2 / 6)
    assert (dice(made, made), dice(made, ~made), dice(made & ~made, made & ~made)) == (1, 0, 1)


def test_a_study_in_small(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topologies, "WIDTHS", (6,))
    case = tumours(scans, tmp_path, epochs=40, cases=16)
    truth = np.load(scans)["val_masks"].reshape(6, 16, 2, 16, 2).mean((2, 4)) >= 0.5
    predicted = case.start.predict(case.unseen)[:, 0] > 0.5
    overlap = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    assert case.score(case.start.predict(case.unseen)) == pytest.approx(overlap)
    assert overlap > 0.6
    assert case.agreement(case.start.predict(case.unseen)) == 1
    found = study(case, (0.25, 0.5), rows=500)
    assert [(each["share"], each["way"]) for each in found] == [(share, way) for share in (0.25, 0.5) for way in WAYS]
    assert found[0]["parameters"] == found[1]["parameters"] > found[2]["parameters"] == found[3]["parameters"]
    assert all(0 <= each[key] <= 1 for each in found for key in ("score", "agreement"))
    table = rows(case, found)
    assert [len(line) for line in table] == [len(COLUMNS)] * 2
    assert table[1][:2] == ["RAAGR2-Net, brain tumours", "50 %"]
    again = tumours(scans, tmp_path, epochs=40, cases=16)
    assert again.start.fingerprint == case.start.fingerprint
    assert torch.is_grad_enabled()
