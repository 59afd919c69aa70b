"""Recovery training: a short, supervised fine-tuning towards the original's answers and the labels.

A copy of the candidate is trained on nine tenths of the train split and judged after every epoch on the last tenth. What is returned is
the best of its epochs. Whether that is better than the candidate as it came is for the guard to say: the held-out items cannot, since a
repair was fitted to the original's answers to them too, which the original may have memorized. Weights between the candidate's and the
trained ones, which `interpolation` asks for, may hold what neither does.

All that an epoch draws at random depends on the seed and the epoch's number alone, so an interrupted training goes on from what was
written after the last whole epoch, and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import pickle
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf, isfinite, sqrt
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Labelled, Reference
from optimize.errors import InputError
from optimize.files import write_atomically
from optimize.graph.surgery import copy_module
from optimize.progress import note, track
from optimize.training import ddp
from optimize.training.batches import Batch, epoch_batches, hold_out, unmirrored
from optimize.training.device import PRECISIONS, Precision, autocast, channels_last, device, reproducible
from optimize.training.distillation import objective
from optimize.training.optimizer import MAX_GRADIENT_NORM, OPTIMIZERS, learning_rate_factor, optimizer, trainable_copy

WRITTEN = {"over", "best", "held", "weights", "optimizer"}
"""Keys of the file that an interrupted training continues from; a file with other keys is not read."""
MAX_TARGETS_BYTES = 1 << 30
"""Largest memory for the original's outputs; where they need more, the original runs again in every epoch."""
MIN_UPDATES, MIN_BATCH, MAX_BATCH = 48, 8, 64
"""Updates that an epoch should have, and the bounds of the batch size that this leads to, where no batch size is set."""
_TRAINED = "the last training"
"""Key in the reference's memory under which the last training lies: what identifies it, and its best weights."""


@dataclass(frozen=True)
class Finetune:
    """Train a network to recover what compressing it cost.

    Args:
        epochs: largest number of epochs; 0 trains nothing.
        learning_rate: peak of the learning rate, or None for one that fits the optimizer and the batch: that of 64 items times the square
            root of batch / 64, since the gradient of a smaller batch is noisier (Malladi et al., NeurIPS 2022, for AdamW's kind; here for
            SGD too). A batch of 16 has half the peak of one of 64.
        optimizer: "adamw", or "sgd" with Nesterov's momentum.
        weight_decay: decay of the weights; norms and biases have none.
        batch: items in each update, over all processes; None for 64, or fewer where an epoch would have less than 48 updates, 8 at least:
            forty epochs of a hundred images in batches of 64 are no training.
        temperature: temperature of the distillation, see `training/distillation.py`.
        distillation: share of the distillation in the loss; the rest is for the labels.
        patience: number of epochs in a row without improvement after which training ends; None for a quarter of all, 3 at least:
            while the learning rate is high the held-out loss goes up and down.
        horizontal_flip: mirror every second input along its last axis; only where left and right mean the same.
        precision: "float32", "bfloat16", or "auto": bfloat16 where the machine has instructions for it.
        interpolation: weight of the trained tensors in a mean with those of the candidate as it came, in (0, 1] (Wortsman et al., "Robust
            fine-tuning of zero-shot models", CVPR 2022): 1 takes the trained ones, .5 the midpoint. The training itself is the same, and is
            not done again for another value.

    Raises:
        InputError: when a setting is out of range.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> images = np.random.default_rng(0).random((64, 4), np.float32)
        >>> train = Labelled(lambda rows: images[rows], np.arange(64) % 2)
        >>> reference = opt.Reference(original, calibration=images, train=train)
        >>> trained = opt.Finetune(epochs=1, learning_rate=0.01)(original, reference)
        >>> trained.parameters == original.parameters, trained.fingerprint == original.fingerprint
        (True, False)
    """

    TRAINS: ClassVar[bool] = True

    epochs: int = 5
    learning_rate: float | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.01
    batch: int | None = None
    temperature: float = 2.0
    distillation: float = 0.9
    patience: int | None = None
    horizontal_flip: bool = False
    precision: Precision = "auto"
    interpolation: float = 1.0

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("epochs", self.epochs >= 0, "0 or more"),
            ("learning_rate", self.learning_rate is None or 0 < self.learning_rate < inf, "a number above 0, or None"),
            ("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            ("weight_decay", 0 <= self.weight_decay < inf, "0 or more"),
            ("batch", self.batch is None or self.batch >= 2, "2 or more, or None: batch norms measure batches"),
            ("temperature", 0 < self.temperature < inf, "a number above 0"),
            ("distillation", 0 <= self.distillation <= 1, "between 0 and 1"),
            ("patience", self.patience is None or self.patience >= 1, "1 or more, or None"),
            ("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            ("interpolation", 0 < self.interpolation <= 1, "above 0, and 1 at most"),
        ):
            if not holds:
                raise InputError(f"`{name}` (={getattr(self, name)!r}) must be {rule}.")

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the trained candidate, on the CPU.

        Raises:
            InputError: when there is no train split, or it does not fit the network or the number of processes.
        """
        if reference.train is None:
            raise InputError("`train` is missing: recovery training needs labelled items to train on: add a train split.")
        if not self.epochs:
            return candidate.after(self, candidate.module)
        # Another `interpolation` of the same training only mixes its result in other shares, so the training is found under a key without
        # it. One training is remembered: `allocate` proposes all its interpolations one after the other.
        whole = replace(self, interpolation=1.0)
        key, known = _key(whole, candidate, reference, reference.train), reference.memory.get(_TRAINED)
        if known is None or known[0] != key:
            training = _Training(whole, candidate, reference, reference.train, key)
            with ddp.mirrored_step(whole, candidate, reference), reproducible(training.device):
                known = reference.memory[_TRAINED] = key, training.run()
        module = copy_module(candidate.module, share=False)
        # .5 of the way: every weight is the mean of the repaired one and the trained one
        module.load_state_dict(_interpolate(module.state_dict(), known[1], self.interpolation))
        return candidate.after(self, module.requires_grad_(False))

    @property
    def effective_patience(self) -> int:
        """Number of epochs without improvement after which training ends."""
        return max(3, self.epochs // 4) if self.patience is None else self.patience

    def batch_size(self, count: int, processes: int = 1) -> int:
        """Return the number of items in each update, of `count` to train on."""
        return min(count, max(_batch(count), 2 * processes) if self.batch is None else self.batch)

    def peak_learning_rate(self, items: int) -> float:
        """Return the peak of the learning rate for this number of items in each update."""
        if self.learning_rate is not None:
            return self.learning_rate
        return OPTIMIZERS[self.optimizer][0] * sqrt(min(1.0, items / MAX_BATCH))


class _Training:
    """A copy of a network on its way through the epochs.

    Its `state` is all that it needs, beside weights and optimizer, to go on later: the held-out loss of every epoch so far, whether these
    are enough, and the weights that did best, before the first those that came.
    """

    def __init__(self, step: Finetune, candidate: Candidate, reference: Reference, train: Labelled, key: str) -> None:
        self.step, self.train, self.seed, self.device = step, train, reference.seed, device()
        outputs = candidate.predict(candidate.example.numpy()).shape
        self.loss = objective(outputs, train.labels, step.temperature, step.distillation, candidate.outputs)
        self.fit, self.held = hold_out(train, self.seed)
        self.batch = step.batch_size(len(self.fit), ddp.size())
        if self.batch < 2 * ddp.size():
            raise InputError(f"`batch` (={self.batch}) must hold two items for each of the {ddp.size()} processes: start fewer of them.")
        example = candidate.example.to(self.device)
        self.original = channels_last(copy_module(reference.original.module, share=False).to(self.device), example)
        self.network = self.called = channels_last(trainable_copy(candidate.module).to(self.device), example)
        self.peak = step.peak_learning_rate(self.batch)
        self.optimizer = optimizer(step.optimizer, self.network, self.peak, step.weight_decay)
        # One pass over the inputs, and one in the mirror, instead of one in each epoch.
        self.sides = (False, True) if step.horizontal_flip else (False,)
        # 4 bytes for each logit in float32
        self.remembers = 4 * len(self.sides) * len(train) * int(np.prod(outputs[1:])) <= MAX_TARGETS_BYTES
        self.answers: torch.Tensor | None = None
        self.file = None if reference.scratch is None else reference.scratch / f"finetune-{key}.pt"
        self.state: dict[str, Any] = {}

    def run(self) -> dict[str, torch.Tensor]:
        """Train to the end; the weights of the best epoch."""
        self.called = ddp.parallel(self.network, self.device)
        self.answers = self._ask() if self.remembers else None
        self._begin()
        updates = len(self.fit) // self.batch
        # The number of the update determines everything: the epoch, the batch, the learning rate. So a training that goes on starts at the
        # first update that was not made.
        last = 0 if self.state["over"] else self.step.epochs * updates
        batches: list[Batch] = []
        losses: list[float] = []
        for update in track(range(self._done * updates, last), "recovery training"):
            if update % updates == 0:
                batches, losses = self._epoch(update // updates), []
            losses.append(self._update(batches[update % updates], self.peak * learning_rate_factor(update, last)))
            if update % updates == updates - 1 and self._over(float(np.mean(losses))):
                break
        if self.file is not None:
            self.file.unlink(missing_ok=True)
        best: dict[str, torch.Tensor] = self.state["best"]
        return best

    def _begin(self) -> None:
        """Go on from what was written, or from the candidate as it came."""
        written = ddp.broadcast(_read(self.file))
        if written is None:
            self.state = {"over": False, "best": _tensors(self.network), "held": []}
            return
        # weights and the optimizer's moments as they were after the epoch: the next update is the one that would have come
        self.network.load_state_dict(written.pop("weights"))
        self.optimizer.load_state_dict(written.pop("optimizer"))
        self.state = written
        note(f"recovery training goes on after epoch {self._done}")

    @property
    def _done(self) -> int:
        """Epochs that are done."""
        return len(self.state["held"])

    def _epoch(self, number: int) -> list[Batch]:
        """Get ready for an epoch, from 0: its batches."""
        with suppress(NotImplementedError):  # a network that only evaluates is trained as it evaluates
            self.network.train()
        # for dropout, which must differ between the processes
        # From the seed, the epoch and the process alone, not from what was drawn before: an epoch draws the same whether or not the
        # training was interrupted in front of it.
        torch.manual_seed(int(np.random.default_rng((self.seed, number, ddp.rank())).integers(2**62)))
        return epoch_batches(self.fit, self.batch, horizontal_flip=self.step.horizontal_flip, seed=(self.seed, number))

    def _update(self, batch: Batch, learning_rate: float) -> float:
        """Take one step of the optimizer, and return the loss of this process's part of the batch."""
        part = batch.part(ddp.rank(), ddp.size())
        loss = self._loss(self.called, part, self.step.precision)
        self.optimizer.zero_grad()
        # DDP averages the gradients of its processes; the share makes that the mean over the whole batch, also where the parts are unequal
        torch.autograd.backward(loss * part.share)
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        return loss.item()

    def _over(self, loss: float) -> bool:
        """Judge the epoch that has just ended, keep it if it is the best, and write all down; true when it was the last."""
        held, state = self._judge(), self.state
        epochs: list[float] = state["held"]
        better = held < min(epochs, default=inf)
        epochs.append(held)
        if better:
            state["best"] = _tensors(self.network)
        # Example, patience 3: held-out losses .5, .4, .42, .41, .43. The best is the second of five, and three epochs since brought
        # nothing.
        state["over"] = not isfinite(held) or len(epochs) - 1 - epochs.index(min(epochs)) >= self.step.effective_patience
        if self.file is not None:
            _write(self.file, {**state, "weights": self.network.state_dict(), "optimizer": self.optimizer.state_dict()})
        best = ", the best so far" if better else ""
        note(f"epoch {len(epochs)} of {self.step.epochs}: loss {loss:.4f}, held out {held:.4f}{best}")
        return bool(state["over"])

    def _judge(self) -> float:
        """Return the leader's loss on the held-out items, infinite where it is not a number."""
        # One process decides for all, since rounding may differ between them: else some would stop and the others would wait for them.
        if ddp.rank():
            return ddp.broadcast(inf)
        self.network.eval()
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(self.held), self.batch):
                part = unmirrored(self.held[start : start + self.batch])
                # Not in the training's precision: what it rounds off is more than an epoch of a small network gains.
                total += len(part.rows) * self._loss(self.network, part, "float32").item()
        return ddp.broadcast(total / len(self.held) if isfinite(total) else inf)

    def _loss(self, network: nn.Module, batch: Batch, precision: Precision) -> torch.Tensor:
        inputs = batch.inputs(self.train).to(self.device)
        if self.answers is None:
            aims = self._aims(inputs.clone())
        else:
            # row 0 holds the answers to the inputs as they are, row 1 those to the mirrored ones
            aims = self.answers[torch.from_numpy(batch.mirrored.astype(np.int64)), torch.from_numpy(batch.rows)].to(self.device)
        with autocast(self.device, precision):
            outputs = network(inputs)
        return self.loss(outputs.float(), aims, batch.labels(self.train).to(self.device))

    def _ask(self) -> torch.Tensor:
        """Return the original's logits for every item, and for every mirrored one where the step mirrors: (1 or 2, N, K, *spatial)."""
        rows = np.split(np.arange(len(self.train)), range(self.batch, len(self.train), self.batch))
        batches = [Batch(part, np.full(len(part), side)) for side in self.sides for part in rows]
        parts = [self._aims(batch.inputs(self.train).to(self.device)).cpu() for batch in track(batches, "ask the original")]
        whole = torch.cat(parts)
        return whole.reshape(len(self.sides), len(self.train), *whole.shape[1:])

    def _aims(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), autocast(self.device, self.step.precision):
            outputs: torch.Tensor = self.original(inputs)
        return outputs.float()


def _batch(count: int) -> int:
    """Return the largest power of two that makes enough updates of so many items, within bounds."""
    return int(np.clip(1 << max(0, (count // MIN_UPDATES).bit_length() - 1), MIN_BATCH, MAX_BATCH))


def _tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the network's tensors as they are now, on the CPU."""
    return {name: tensor.detach().clone().cpu() for name, tensor in network.state_dict().items()}


def _interpolate(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Return (1 - share) start + share end of every tensor; counters, which are whole numbers, are those of the end."""
    return {name: start[name].lerp(last, share) if share < 1 and last.is_floating_point() else last for name, last in end.items()}


def _key(step: Finetune, candidate: Candidate, reference: Reference, train: Labelled) -> str:
    """Return a hash of all that decides the result of a training."""
    whole = hashlib.sha256(f"{step}{reference.seed}{candidate.fingerprint}{reference.original.fingerprint}".encode())
    whole.update(np.ascontiguousarray(train.labels).tobytes())
    return whole.hexdigest()[:16]


def _write(file: Path, state: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda draft: torch.save(state, draft))


def _read(file: Path | None) -> dict[str, Any] | None:
    """Return the state that an interrupted training wrote; None where there is none that can be read: training then starts anew."""
    if file is None or not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        return None
    return state if state.keys() == WRITTEN else None
