"""Load weights into a network, whatever prefix their names have in the file; errors name what does not fit, with the remedy.

The prefix is found by counting. Every name in the file is stripped of its first parts, one after the other, and each result that is a name
of the network counts for what was stripped. With a network that has `conv.weight` and `fc.weight`:

    name in the file            what may be stripped                          counts
    module.conv.weight          "", "module.", "module.conv."                 "module."
    module.fc.weight            "", "module.", "module.fc."                   "module."
    ema.module.fc.weight        "", "ema.", "ema.module.", …                  "ema.module."
    criterion.weight            "", "criterion."                              none

Here "module." fits two names and "ema.module." one. A second prefix that fits nearly as many names (`ALMOST`) holds the same network once
more: a running average is left aside with a note, and of two others the user must choose.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from optimize.errors import InputError
from optimize.loading.checkpoint import Weights, averaged

ALMOST = 0.9
"""A second prefix that fits this share of the best one's names holds weights of the same network too."""
_COUNTER = "num_batches_tracked"
"""Files older than batch norm's step counter do not have it, and inference never reads it."""
_OF_TRAINING = re.compile(r"(criterion|loss\w*|\w*_loss|metrics?|\w*_metrics?|optimizer|scheduler|n_averaged)(\.|$)")
_HALF = (torch.float16, torch.bfloat16)
_KINDS = (
    (("weight_orig", "weight_mask"), "call torch.nn.utils.prune.remove before saving"),
    (("weight_g", "weight_v", "original0", "original1", "original"), "remove weight norm before saving, or apply it in the factory too"),
    (("_packed_params", "zero_point"), "pass the weights from before quantization"),
    (("lora_A", "lora_B"), "merge the adapters into the weights before saving"),
)
"""Last or middle parts of names that say what was done to the weights, and what to do about it."""


def fill(module: nn.Module, weights: Weights, path: Path, arch: str) -> tuple[str, ...]:
    """Load weights into a network in place, and return notes on the choices that were made.

    Args:
        module: the network; it is changed.
        weights: tensors by their names in the file.
        path: path of the file, for errors.
        arch: the factory that built the network, for errors.

    Returns:
        Sentences on the part of the file that was taken, and on what was left out of it.

    Raises:
        InputError: when the weights are those of another network, or not floats.
    """
    expected = module.state_dict()
    weights, notes = named_as(weights, expected, path)
    # tied weights are one tensor under several names, and a file may hold any one of these names
    same = _tied(expected)
    missing = [name for name in expected if not name.endswith(_COUNTER) and not same[name] & weights.keys()]
    foreign = [name for name in weights if name not in expected and _of_training(name, weights[name])]
    unexpected = [name for name in weights if name not in expected and name not in foreign]
    both = [name for name in expected if name in weights]
    reshaped = [name for name in both if weights[name].shape != expected[name].shape]
    texts = [f"{name} {_text(weights[name].shape)} for {_text(expected[name].shape)}" for name in reshaped]
    faults = [_some(missing, "missing"), _some(unexpected, "unexpected"), _some(texts, "of another shape")]
    if any(faults):
        raise InputError(
            f"`model` (={path}) does not fit `--arch` (={arch!r}): {'; '.join(filter(None, faults))}: "
            f"{_remedy(missing, unexpected, reshaped, list(expected))}."
        )
    for name in both:
        # copied into floats without a word, int8 weights would be numbers a hundred times too large
        if expected[name].is_floating_point() and not weights[name].is_floating_point():
            raise InputError(f"`model` (={path}): {name} is {weights[name].dtype}, not floats: pass the weights from before quantization.")
        for tied_name in (same[name] & weights.keys()) - {name}:
            if not torch.equal(weights[name], weights[tied_name]):
                raise InputError(
                    f"`model` (={path}): {name} and {tied_name} are one tensor in `--arch` (={arch!r}) and two in the file: "
                    "pass the factory it was trained with."
                )
    half = sorted({str(weights[name].dtype).removeprefix("torch.") for name in both if weights[name].dtype in _HALF})
    if half:
        notes = (*notes, f"the weights are stored as {' and '.join(half)}, and were read as float32")
    # not strict: batch norm's counters may be missing, and everything else was checked above
    state = OrderedDict((name, weights[name]) for name in both)
    # a layer may refuse tensors that do not say of which version of its class they are
    state._metadata = getattr(expected, "_metadata", {})  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=False)
    return (*notes, *([f"left out of the weights, as no part of the network: {_few(foreign)}"] if foreign else ()))


def named_as(weights: Weights, expected: Collection[str], path: Path) -> tuple[Weights, tuple[str, ...]]:
    """Return the weights under the network's names, without the prefix under which most of them fit, and notes on what was left out."""
    # each name votes for every prefix that makes it a name of the network, see the table above
    fits = Counter(name[:start] for name in weights if not name.endswith(_COUNTER) for start in _starts(name) if name[start:] in expected)
    if not fits:
        return _wrapped(weights, expected), ()
    full = [prefix for prefix, count in fits.items() if count >= ALMOST * max(fits.values())]
    # a running average has as many names as the network itself, and by default the network itself is meant
    plain = [prefix for prefix in full if not averaged(prefix)] or full
    best = [prefix for prefix in plain if fits[prefix] == max(fits[candidate] for candidate in plain)]
    # no prefix wins a tie: names that fit as they are need no explanation
    chosen = "" if "" in best else best[0]
    if len(best) > 1 and chosen:
        names = [prefix.rstrip(".") for prefix in best]
        raise InputError(
            f"`model` (={path}) holds several parts that fit the network ({', '.join(names[:4])}): "
            f"choose one, such as --weights {names[0]}."
        )
    inside = {name.removeprefix(chosen): tensor for name, tensor in weights.items() if name.startswith(chosen)}
    outside = [name for name in weights if not name.startswith(chosen)]
    averages = [prefix for prefix in full if prefix != chosen and averaged(prefix)]
    notes = []
    if averages:
        name = averages[0].rstrip(".")
        what = f"those under `{chosen.rstrip('.')}`" if chosen else "those without a prefix"
        notes.append(f"the weights are {what}; the file also holds `{name}`: take them with --weights {name}")
        # the averages have a note of their own; listed as "left out" too, they would hide what else was left out
        beside = tuple(averages)
        outside = [name for name in outside if not name.startswith(beside)]
        inside = {name: tensor for name, tensor in inside.items() if chosen or not name.startswith(beside)}
    if outside:
        notes.append(f"the weights are those under `{chosen.rstrip('.')}`; left out: {_few(outside)}")
    return inside, tuple(notes)


def _wrapped(weights: Weights, expected: Collection[str]) -> Weights:
    """Return the weights under the names of a network that wraps theirs, where one prefix in front makes all of them fit.

    Example: the file has `conv.weight` and `fc.weight`, the network `net.conv.weight` and `net.fc.weight`: the prefix is `net.`.
    """
    first = next(iter(weights), "")
    for name in expected:
        prefix = name.removesuffix(first)
        if first and name.endswith(f".{first}") and all(prefix + inner in expected for inner in weights):
            return {prefix + inner: tensor for inner, tensor in weights.items()}
    return weights


def _starts(name: str) -> Iterable[int]:
    """Return the positions at which a dotted name, or a rest of it, begins."""
    return (0, *(place + 1 for place, letter in enumerate(name) if letter == "."))


def _tied(expected: Weights) -> dict[str, set[str]]:
    """Return, for each name, all names of the same tensor, itself among them."""
    places: dict[tuple[object, ...], set[str]] = {}
    keys = {}
    for name, tensor in expected.items():
        # Names of one storage are tied; an empty tensor has none.
        keys[name] = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if tensor.numel() else (name,)
        places.setdefault(keys[name], set()).add(name)
    return {name: places[key] for name, key in keys.items()}


def _of_training(name: str, tensor: torch.Tensor) -> bool:
    """Return whether an entry belongs to a training script (a counter, the weights of a loss) and not to the network."""
    return _OF_TRAINING.match(name) is not None or (tensor.dim() == 0 and "." not in name)


def _remedy(missing: Sequence[str], unexpected: Sequence[str], reshaped: Sequence[str], expected: Sequence[str]) -> str:
    """Return what to do about weights that do not fit, from the kind of misfit."""
    for words, text in _KINDS:
        if any(part in words for name in unexpected for part in name.split(".")):
            return text
    if reshaped and not missing and not unexpected:
        # only the last layer has another shape: the usual case of a head for another number of classes
        last = expected[-1].rpartition(".")[0]
        if all(name.rpartition(".")[0] == last for name in reshaped):
            return "pass arch_args with as many outputs (classes) as it was trained with"
        return "pass the arch_args (widths, classes, input channels) it was trained with"
    if unexpected and not missing and not reshaped:
        return "the file holds more layers than the network: pass the factory that has them, or save the weights without them"
    if missing and not unexpected and not reshaped:
        return "the network has more layers than the file: pass the factory without them, or a file that holds them"
    return "pass the factory and arch_args it was trained with"


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", and {len(names) - 3} more" if len(names) > 3 else "")


def _some(names: Sequence[str], kind: str) -> str:
    return f"{len(names)} {kind} ({_few(names)})" if names else ""
