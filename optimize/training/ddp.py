"""Recovery training in several processes at once, by torch's own DistributedDataParallel; torchrun starts them.

Process 0 runs the whole job. The others wait until it trains something, build that network from its tensors and the original, train in
lockstep on their share of every batch, and wait again until the job has ended. What travels are settings, tensors and arrays; never code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from optimize.candidate import Candidate, Reference, Step
from optimize.errors import InputError
from optimize.graph.trace import Index
from optimize.progress.deadline import not_enforced

T = TypeVar("T")
Rebuild: TypeAlias = Callable[[nn.Module, dict[str, torch.Tensor], dict[str, Index]], nn.Module]
WAIT = timedelta(days=30)
"""Longest time that a process may wait for something to train: a search may take days."""


@dataclass(eq=False)
class _Process:
    """This process among those that train together; `busy` while the others take part in a step and wait for no other message."""

    rank: int
    size: int
    busy: bool = False


_current: ContextVar[_Process | None] = ContextVar("process", default=None)


def rank() -> int:
    """Return the number of this process; 0 leads."""
    me = _current.get()
    return 0 if me is None else me.rank


def size() -> int:
    """Return the number of processes that train together."""
    me = _current.get()
    return 1 if me is None else me.size


def broadcast(value: T) -> T:
    """Return the leader's value, in every process."""
    if size() == 1:
        return value
    # only settings, tensors and arrays of our own processes travel here; torch pickles them
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def parallel(module: nn.Module, where: torch.device) -> nn.Module:
    """Return the network as training calls it: gradients are averaged over processes; batch norms see their own process's share."""
    if size() == 1:
        return module
    # a network may hold weights that its forward does not use
    return DistributedDataParallel(module, device_ids=[where] if where.type == "cuda" else None, find_unused_parameters=True)


@contextmanager
def process_group(original: Callable[[], Candidate], rebuild: Rebuild) -> Iterator[bool]:
    """Join the processes that torchrun started, if it did.

    Args:
        original: loads the model; called in the processes that do not lead, when there is something to train.
        rebuild: function from the original's module, a candidate's tensors and its kept channels to the candidate's module.

    Yields:
        True in the process that leads, and wherever there is only one; False in the others, once they are no longer needed.

    Raises:
        InputError: when there are more processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    me = _join()
    token = _current.set(me)
    try:
        if me.rank:
            _serve(original, rebuild)
        yield me.rank == 0
    finally:
        # None ends the others' loop. Where the leader failed while they train, they wait for gradients and not for a message.
        if me.rank == 0 and not me.busy:
            broadcast(None)
        _current.reset(token)
        dist.destroy_process_group()


@contextmanager
def mirrored_step(step: Step, candidate: Candidate, reference: Reference) -> Iterator[None]:
    """Have every other process call `step` on the same candidate while the block runs; does nothing where there is none."""
    me = _current.get()
    if me is None or me.rank:
        yield
        return
    me.busy = True
    # the kept channels tell which layers were taken out; what the outputs mean was found on data that the others did not read
    made = dict(candidate.module.state_dict()), dict(candidate.kept), candidate.outputs
    broadcast((step, *made, reference.train, reference.seed))
    # a deadline that ended the step in this process alone would leave the others waiting in the middle of it
    with not_enforced():
        yield
    # not reached after an exception: the others are then somewhere inside, and end when this process does
    me.busy = False


def _join() -> _Process:
    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if gpus and local >= gpus:
        raise InputError(f"`--nproc-per-node` (={local + 1} or more) is above the {gpus} GPU(s) here: start one process for each.")
    if gpus:
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=WAIT)
    return _Process(dist.get_rank(), dist.get_world_size())


def _serve(original: Callable[[], Candidate], rebuild: Rebuild) -> None:
    known: Candidate | None = None
    while (work := _next_task()) is not None:
        step, tensors, kept, outputs, train, seed = work
        # loaded once, when there is first something to train
        known = replace(known or original(), outputs=outputs)
        candidate = replace(known, module=rebuild(known.module, tensors, kept), kept=kept)
        step(candidate, Reference(known, known.example.numpy(), seed, train))


def _next_task() -> Any:
    """Return what the leader sends next: something to train, or None at the end."""
    return broadcast(None)
