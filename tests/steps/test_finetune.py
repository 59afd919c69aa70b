"""Recovery training: what it recovers, what it may never make worse, and that it gives the same bytes however it was interrupted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch import nn

from optimize.candidate import Candidate, Floats, Labelled, Reference
from optimize.errors import InputError
from optimize.graph.surgery import copy_module
from optimize.steps.finetune import Finetune
from optimize.training.batches import hold_out
from tests import nets
from tests.nets import candidate, cases

BRISK = Finetune(epochs=4, learning_rate=5e-3, batch=16, patience=4)


def damaged(original: Candidate, strength: float = 0.5) -> Candidate:
    """Every weight moved at random."""
    module, draw = copy_module(original.module, share=False), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter += strength * parameter.std() * torch.randn(parameter.shape, generator=draw)
    return Candidate(module, original.example)


def taught(inputs: Floats, labels: np.ndarray, patients: np.ndarray | None = None) -> Labelled:
    return Labelled(lambda rows: inputs[rows], labels, patients)


def task(build: Callable[[], nn.Module] = nets.chain_bn, count: int = 160, scratch: Path | None = None) -> tuple[Candidate, Reference]:
    """A damaged network, and an original that is never wrong: the labels are its own answers."""
    original, inputs = candidate(build()), cases(count)
    train = taught(inputs, original.predict(inputs).argmax(1))
    return damaged(original), Reference(original, inputs[:4], 0, train, scratch)


def held_out_loss(step: Finetune, made: Candidate, aim: Reference) -> float:
    """The loss of classes on the held-out tenth, in numpy and scipy."""
    assert aim.train is not None
    held = hold_out(aim.train, aim.seed)[1]
    inputs, labels = aim.train.inputs(held), aim.train.labels[held]
    ours, theirs = (each.predict(inputs).astype(np.float64) for each in (made, aim.original))
    near = entropy(softmax(theirs / step.temperature, axis=1), softmax(ours / step.temperature, axis=1), axis=1).mean()
    fit = -log_softmax(ours, axis=1)[np.arange(len(held)), labels].mean()
    return float(step.distillation * step.temperature**2 * near + (1 - step.distillation) * fit)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said while training."""
    said: list[str] = []
    monkeypatch.setattr("optimize.steps.finetune.note", said.append)
    return said


def epochs_noted(notes: list[str]) -> list[float]:
    """The held-out loss of every epoch."""
    found = [re.fullmatch(r"epoch \d+ of \d+: loss [\d.na]+, held out ([\d.]+|inf)(, the best so far)?", line) for line in notes]
    return [float(match[1]) for match in found if match]


@pytest.mark.parametrize("build", [nets.chain, nets.chain_bn, nets.Residual, nets.Reused], ids=lambda build: build.__name__)
@pytest.mark.parametrize(
    "step", [BRISK, replace(BRISK, optimizer="sgd", learning_rate=0.02, horizontal_flip=True)], ids=["adamw", "sgd and mirrored"]
)
def test_a_damaged_network_recovers_and_the_input_stays(build: Callable[[], nn.Module], step: Finetune) -> None:
    start, aim = task(build, 320)
    before = start.fingerprint, aim.original.fingerprint
    made = step(start, aim)
    assert (start.fingerprint, aim.original.fingerprint) == before
    assert made.lineage == (step,)
    assert made.parameters == start.parameters
    assert not any(layer.training for layer in made.module.modules())
    assert not any(parameter.requires_grad for parameter in made.module.parameters())
    # the original itself has a loss: its answers are not certain
    floor, before_it, after_it = (held_out_loss(step, each, aim) for each in (aim.original, start, made))
    assert after_it - floor < 0.6 * (before_it - floor)


@pytest.mark.parametrize("way", [0.5, 0.125])
def test_weights_on_the_way_lie_between_and_are_not_trained_for(way: float, notes: list[str]) -> None:
    start, aim = task()
    end = BRISK(start, aim)
    trained = len(epochs_noted(notes))
    middle = replace(BRISK, interpolation=way)(start, aim)
    assert trained == len(epochs_noted(notes)) > 0
    assert middle.lineage == (replace(BRISK, interpolation=way),)
    first, last = start.module.state_dict(), end.module.state_dict()
    for name, found in middle.module.state_dict().items():
        wanted = (1 - way) * first[name] + way * last[name] if found.is_floating_point() else last[name]
        assert torch.allclose(found, wanted, atol=1e-6), name
    assert BRISK(start, aim).fingerprint == end.fingerprint
    assert len(epochs_noted(notes)) == trained


def test_the_way_of_another_training_is_not_taken(notes: list[str]) -> None:
    start, aim = task()
    BRISK(start, aim)
    trained = len(epochs_noted(notes))
    found = replace(BRISK, interpolation=0.5)(damaged(start, 0.1), aim)
    assert len(epochs_noted(notes)) > trained
    assert found.fingerprint == replace(BRISK, interpolation=0.5)(damaged(start, 0.1), task()[1]).fingerprint


def test_nothing_of_the_copy_is_shared_with_the_input() -> None:
    start, aim = task()
    made = BRISK(start, aim)
    theirs = {tensor.data_ptr() for tensor in start.module.state_dict().values()}
    assert not theirs & {tensor.data_ptr() for tensor in made.module.state_dict().values()}


@pytest.mark.parametrize(
    ("build", "labels"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1)), lambda logits: logits[:, 0] > 0),
        (nets.Transposed, lambda logits: logits.argmax(1)),
        (nets.Transposed, lambda logits: logits > 0),
    ],
    ids=["one output", "classes", "masks that may overlap"],
)
def test_masks_are_learned_too(build: Callable[[], nn.Module], labels: Callable[[Floats], np.ndarray]) -> None:
    original, inputs, fresh = candidate(build()), cases(160), cases(50, seed=9)
    masks = labels(original.predict(inputs)).astype(np.uint8)
    start = damaged(original)
    made = BRISK(start, Reference(original, inputs[:4], 0, taught(inputs, masks)))
    wrong = [(labels(each.predict(fresh)) != labels(original.predict(fresh))).mean() for each in (start, made)]
    assert wrong[1] < 0.8 * wrong[0]


class Dropped(nn.Module):
    """Batch norm and dropout: everything that draws or remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others() -> None:
    start, aim = task(Dropped)
    step = replace(BRISK, horizontal_flip=True)
    torch.manual_seed(1)
    made = step(start, aim)
    torch.manual_seed(2)
    assert step(start, aim).fingerprint == made.fingerprint
    assert step(start, replace(aim, seed=1)).fingerprint != made.fingerprint


class Stopped(Exception):
    pass


def interrupted(step: Finetune, start: Candidate, aim: Reference, epoch: int) -> None:
    """Train until the end of an epoch, and no further."""

    def stop(text: str) -> None:
        if text.startswith(f"epoch {epoch} "):
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.steps.finetune.note", stop)
        with pytest.raises(Stopped):
            step(start, aim)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_an_interrupted_training_ends_with_the_same_bytes(optimizer: Any, epoch: int, tmp_path: Path, notes: list[str]) -> None:
    start, aim = task(Dropped, scratch=tmp_path / "scratch")
    step = replace(BRISK, horizontal_flip=True, optimizer=optimizer)
    expected = step(start, replace(aim, scratch=None)).fingerprint
    assert not (tmp_path / "scratch").exists()
    interrupted(step, start, aim, epoch)
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    notes.clear()
    assert step(start, aim).fingerprint == expected
    assert notes[0] == f"recovery training goes on after epoch {epoch}"
    assert len(epochs_noted(notes)) == 4 - epoch
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_training_that_lost_its_patience_stays_ended(tmp_path: Path, notes: list[str]) -> None:
    """Interrupted between the last epoch it was allowed and its end."""
    start, aim = task(scratch=tmp_path)
    ruinous = replace(BRISK, learning_rate=1e3, optimizer="sgd", patience=1)
    expected = ruinous(start, replace(aim, scratch=None)).fingerprint
    last = len(epochs_noted(notes))
    interrupted(ruinous, start, aim, last)
    notes.clear()
    assert ruinous(start, aim).fingerprint == expected
    assert epochs_noted(notes) == []


def test_what_another_training_left_is_not_used(tmp_path: Path, notes: list[str]) -> None:
    start, aim = task(scratch=tmp_path)
    interrupted(BRISK, start, aim, 2)
    assert aim.train is not None
    relabelled = taught(aim.train.inputs(np.arange(160)), np.roll(aim.train.labels, 1))
    others = (
        (replace(BRISK, temperature=3.0), start, aim),
        (BRISK, start, replace(aim, seed=1)),
        (BRISK, damaged(aim.original, 0.4), aim),
        (BRISK, start, replace(aim, original=start)),
        (BRISK, start, replace(aim, train=relabelled)),
    )
    for step, begin, other in others:
        notes.clear()
        step(begin, other)
        assert not any("goes on" in line for line in notes)
        assert len(epochs_noted(notes)) == 4


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_no_reason_to_stop(content: bytes, tmp_path: Path) -> None:
    start, aim = task(scratch=tmp_path)
    expected = BRISK(start, replace(aim, scratch=None)).fingerprint
    interrupted(BRISK, start, aim, 2)
    next(tmp_path.iterdir()).write_bytes(content)
    assert BRISK(start, aim).fingerprint == expected


def test_what_another_version_left_is_not_used(tmp_path: Path) -> None:
    start, aim = task(scratch=tmp_path)
    expected = BRISK(start, replace(aim, scratch=None)).fingerprint
    interrupted(BRISK, start, aim, 2)
    left = next(tmp_path.iterdir())
    found = torch.load(left, weights_only=True)
    del found["held"]
    torch.save({**found, "done": 2}, left)
    assert BRISK(start, aim).fingerprint == expected


def test_the_best_epoch_is_returned(notes: list[str]) -> None:
    """At this rate it gets worse again before it ends."""
    start, aim = task()
    step = replace(BRISK, epochs=12, learning_rate=0.03, patience=2, distillation=0.0)
    made = step(start, aim)
    found = epochs_noted(notes)
    best = int(np.argmin(found))
    assert len(found) == best + 1 + 2 < 12
    assert held_out_loss(step, made, aim) == pytest.approx(found[best], abs=6e-5)
    assert notes[best].endswith(", the best so far")
    assert held_out_loss(step, made, aim) < held_out_loss(step, start, aim)


def mastered() -> tuple[Candidate, Reference]:
    """A network that is taught its own answers, and cannot get better."""
    original, inputs = candidate(nets.chain()), cases(80)
    return original, Reference(original, inputs[:4], 0, taught(inputs, original.predict(inputs).argmax(1)))


def test_training_that_ends_in_what_is_no_number_is_undone(notes: list[str]) -> None:
    original, aim = mastered()
    step = Finetune(epochs=6, learning_rate=1e30, optimizer="sgd", batch=16, distillation=1.0, patience=2)
    made = step(original, aim)
    assert made.fingerprint == original.fingerprint
    assert made.lineage == (step,)
    assert len(epochs_noted(notes)) == 1


def test_a_network_that_is_hard_to_beat_is_trained_all_the_same(notes: list[str]) -> None:
    """No epoch is better than the original itself, but later ones than the first: the guard says whether that is enough."""
    original, aim = mastered()
    step = Finetune(epochs=8, learning_rate=0.01, batch=16, distillation=1.0, patience=3)
    made = step(original, aim)
    found = epochs_noted(notes)
    assert len(found) == 8
    assert int(np.argmin(found)) >= step.effective_patience
    assert held_out_loss(step, made, aim) == pytest.approx(min(found), abs=6e-5)
    assert min(found) > held_out_loss(step, original, aim)


def test_no_epochs_are_the_identity() -> None:
    start, aim = task()
    made = Finetune(epochs=0)(start, aim)
    assert made.fingerprint == start.fingerprint
    assert made.lineage == (Finetune(epochs=0),)


def test_channels_that_were_kept_are_remembered() -> None:
    start, aim = task()
    kept = {"0": np.arange(8)}
    assert BRISK(replace(start, kept=kept), aim).kept == kept


@pytest.mark.parametrize(
    ("count", "items"), [(3, 3), (100, 8), (767, 8), (768, 16), (810, 16), (1535, 16), (3072, 64), (50_000, 64)]
)
def test_few_items_are_trained_on_in_small_batches(count: int, items: int) -> None:
    """Enough updates in an epoch, 48, where batches of 8 make so many; 64 at most."""
    assert Finetune().items(count) == items
    assert items in (count, 8, 64) or 48 <= count // items < 96
    assert Finetune().peak(items) == pytest.approx(1e-3 * (items / 64) ** 0.5)
    assert Finetune(learning_rate=0.01).peak(items) == 0.01
    assert Finetune(batch=32).items(count) == min(32, count)
    assert Finetune().items(count, processes=8) == min(count, max(items, 16)), "two for each process at least"


def test_batch_norms_learn_their_statistics_unless_they_are_frozen() -> None:
    class Frozen(Dropped):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self.norm.eval()
            return self

    for build, moves in ((Dropped, True), (Frozen, False)):
        start, aim = task(build)
        made = BRISK(start, aim)
        same = torch.equal(made.module.get_buffer("norm.running_mean"), start.module.get_buffer("norm.running_mean"))
        assert same is not moves
        assert not torch.equal(made.module.get_parameter("norm.weight"), start.module.get_parameter("norm.weight"))


class OnlyEvaluates(Dropped):
    """As an exported program: it has no mode for training."""

    def train(self, mode: bool = True) -> OnlyEvaluates:
        if mode:
            raise NotImplementedError("Calling train() is not supported yet.")
        for layer in self.children():
            layer.eval()
        self.training = False
        return self


def test_a_network_that_only_evaluates_is_trained_as_it_evaluates() -> None:
    start, aim = task(OnlyEvaluates)
    made = BRISK(start, aim)
    assert held_out_loss(BRISK, made, aim) < held_out_loss(BRISK, start, aim)
    assert torch.equal(made.module.get_buffer("norm.running_mean"), start.module.get_buffer("norm.running_mean"))


def test_one_item_left_over_does_not_reach_a_batch_norm() -> None:
    """81 of 90 are trained on, by 16: a batch of one would have no variance."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    start, aim = task(lambda: net, 90)
    assert aim.train is not None
    assert len(hold_out(aim.train, 0)[0]) % 16 == 1
    assert BRISK(start, aim).fingerprint != start.fingerprint


def test_patients_of_the_held_out_part_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.steps.finetune.ANSWERS_BYTES", 0)  # nobody looks at all items beforehand
    start, aim = task(count=100)
    assert aim.train is not None
    inputs, patients = cases(100), np.repeat(np.arange(20), 5)
    updates: list[int] = []
    evaluates: list[int] = []

    def looked_at(rows: np.ndarray) -> Floats:
        (updates if torch.is_grad_enabled() else evaluates).extend(rows.tolist())
        return inputs[rows]

    train = Labelled(looked_at, aim.train.labels, patients)
    Finetune(epochs=2, batch=8, horizontal_flip=True)(start, replace(aim, train=train))
    assert len({patients[row] for row in evaluates}) == 2
    assert not {patients[row] for row in updates} & {patients[row] for row in evaluates}
    assert len({patients[row] for row in updates}) == 18


def test_what_the_original_says_is_asked_for_once_where_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    start, aim = task(nets.chain)
    counts = []
    answers_bytes = 160 * 4 * candidate(nets.chain()).predict(cases(1)).shape[1]
    for step, room in ((BRISK, answers_bytes), (replace(BRISK, horizontal_flip=True), 2 * answers_bytes), (BRISK, answers_bytes - 1)):
        seen = 0

        class Counting(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                nonlocal seen
                seen += len(x)
                return self.inner(x)

        original = Candidate(Counting(aim.original.module).eval(), aim.original.example)
        monkeypatch.setattr("optimize.steps.finetune.copy_module", lambda module, share: module)
        monkeypatch.setattr("optimize.steps.finetune.ANSWERS_BYTES", room)
        step(start, replace(aim, original=original))
        monkeypatch.undo()
        counts.append(seen)
    fit, held = 144, 16
    # and once more, to see how it may lie in memory
    assert counts == [1 + each for each in (fit + held, 2 * (fit + held), 4 * (fit + held))]


@pytest.mark.parametrize("masks", [False, True], ids=["classes", "masks"])
def test_remembered_answers_teach_what_those_asked_anew_teach(masks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the mirror too: an answer for the wrong side would pull elsewhere."""
    original, inputs = candidate(nets.Transposed() if masks else nets.chain()), cases(96)
    start, train = damaged(original), taught(inputs, original.predict(inputs).argmax(1))
    step = replace(BRISK, horizontal_flip=True, distillation=1.0, precision="float32")
    made = []
    for room in (1 << 30, 0):
        monkeypatch.setattr("optimize.steps.finetune.ANSWERS_BYTES", room)
        made.append(step(start, Reference(original, inputs[:4], 0, train)).predict(inputs))
    np.testing.assert_allclose(made[0], made[1], atol=1e-3 * np.abs(made[1]).max())
    assert not np.allclose(made[0], start.predict(inputs), atol=1e-2)


@pytest.mark.parametrize(("epochs", "patience", "endured"), [(5, None, 3), (40, None, 10), (40, 2, 2)])
def test_patience_grows_with_the_epochs(epochs: int, patience: int | None, endured: int) -> None:
    assert Finetune(epochs=epochs, patience=patience).effective_patience == endured


def test_bfloat16_trains_too() -> None:
    start, aim = task()
    step = replace(BRISK, precision="bfloat16")
    made = step(start, aim)
    assert {tensor.dtype for tensor in made.module.parameters()} == {torch.float32}
    assert held_out_loss(step, made, aim) < 0.7 * held_out_loss(step, start, aim)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": -1}, r"`epochs` \(=-1\) must be 0 or more\."),
        ({"learning_rate": 0.0}, r"`learning_rate` \(=0.0\) must be a number above 0, or None\."),
        ({"learning_rate": float("nan")}, "`learning_rate`"),
        ({"optimizer": "adam"}, r"`optimizer` \(='adam'\) must be one of adamw, sgd\."),
        ({"weight_decay": -0.1}, "`weight_decay`"),
        ({"batch": 1}, r"`batch` \(=1\) must be 2 or more"),
        ({"temperature": 0.0}, "`temperature`"),
        ({"distillation": 1.5}, r"`distillation` \(=1.5\) must be between 0 and 1\."),
        ({"patience": 0}, "`patience`"),
        ({"interpolation": 0.0}, r"`interpolation` \(=0.0\) must be above 0, and 1 at most\."),
        ({"interpolation": 1.5}, r"`interpolation` \(=1.5\) must be above 0, and 1 at most\."),
        ({"precision": "int8"}, r"`precision` \(='int8'\) must be one of auto, float32, bfloat16\."),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Finetune(**settings)


def test_data_that_cannot_be_trained_on_are_refused() -> None:
    start, aim = task()
    with pytest.raises(InputError, match="`train` is missing: recovery training needs labelled items"):
        BRISK(start, replace(aim, train=None))
    with pytest.raises(InputError, match=r"`labels` of shape \(160, 8\) do not fit the network's outputs \(1, 4\)"):
        BRISK(start, replace(aim, train=taught(cases(160), np.zeros((160, 8), np.int64))))
    with pytest.raises(InputError, match=r"`train` \(2 item\(s\)\) is too small"):
        BRISK(start, replace(aim, train=taught(cases(2), np.zeros(2, np.int64))))
