"""Choose layers that stay in float where int8 of the whole network loses too much, by the guard-rails and not by distances of tensors.

Layers are those with weights, and the sums, products, averages and the like between them, which int8 quantizes too and which may do all the
harm. Layers that read the same tensor form a group, since the tensor is quantized for all of them or for none.

1. Each group alone is quantized while everything else stays in float, and the margin to its tightest limit is measured. The groups are
   ranked by that margin; where no limit moves, by the distance that the outputs have moved.
2. From int8 everywhere, the worst groups go back to float one after another until the mix holds the guard-rails.
3. Of these, all but the last are quantized again, the mildest first, and stay so if the mix still holds: a group may look bad alone, and
   not matter once a worse one is in float.

Every mix is quantized by the target's own tool, and the compiled model is judged. There are at most three mixes for a group.

Example with groups a, b, c, d and margins -3, -1, 0 and +1 points when quantized alone. int8 everywhere fails; a in float fails; a and b in
float hold. Then a is tried in int8 again, with only b in float, and fails. The result: a and b in float, c and d in int8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optimize.backends.weighted_nodes import constants, weight_of
from optimize.files import write_atomically
from optimize.progress import note, track

WITH_CONSTANT = ("Add", "Sub", "Mul", "Div")
"""With a constant operand these belong to the layer before them: a bias, or a scale."""
WEIGHTLESS = (
    *WITH_CONSTANT,
    "MatMul",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Gelu",
    "Softmax",
)
"""Kinds of nodes without weights that int8 quantizes too, in at least one runtime."""


@dataclass(frozen=True)
class MixResult:
    """One mix, judged on the guard split.

    Args:
        passes: whether it holds the guard-rails.
        margin: distance to its tightest limit; negative when the limit is missed.
        divergence: distance of its outputs from those in float, in nats.
    """

    passes: bool
    margin: float
    divergence: float


Attempt = Callable[[frozenset[str], bool], MixResult]
"""(layers to keep in float, rough) -> result of that mix; a rough result is quick and good enough to rank by."""


def groups(onnx: Path) -> list[tuple[str, ...]]:
    """Return the names of the ONNX file's nodes that int8 quantizes, those that read the same tensor together, in the order of the file.

    Example: x -> conv1 -> conv2, and the sum x + conv2. The tensor x is read by conv1 and by the sum, so these two form one group; conv2,
    which alone reads the output of conv1, is another.
    """
    import onnx as onnx_format

    graph = onnx_format.load(onnx, load_external_data=False).graph
    constant = constants(graph)
    makers_read: dict[str, set[str]] = {}  # output tensor of a layer with weights -> tensors it reads
    group_of: dict[str, int] = {}  # tensor -> number of the group that reads it
    readers: list[tuple[str, str]] = []
    for node in graph.node:
        varying = {name for name in node.input if name and name not in constant}
        if weight_of(node, constant) is not None:
            # the first two inputs are data and weights, in a product on either side; only what varies is read. A third one is the bias.
            read = makers_read[node.output[0]] = {name for name in node.input[:2] if name not in constant}
        elif node.op_type in WITH_CONSTANT and len(varying) == 1:
            # conv -> Add(bias): the sum belongs to the convolution, and joins the readers of the convolution's input
            read = makers_read.get(min(varying), varying)
        elif node.op_type in WEIGHTLESS and varying:
            read = varying
        else:
            continue
        # whoever reads one of these tensors joins this node's group: the tensor is quantized once, for all its readers
        joined, new = {group_of[name] for name in read if name in group_of}, len(readers)
        group_of = {name: new if number in joined else number for name, number in group_of.items()} | dict.fromkeys(read, new)
        readers.append((node.name, min(read)))
    names_of: dict[int, list[str]] = {}
    for name, tensor in readers:
        names_of.setdefault(group_of[tensor], []).append(name)
    return [tuple(names) for names in names_of.values()]


def mixes(layer_groups: Sequence[tuple[str, ...]], attempt: Attempt) -> list[frozenset[str]]:
    """Return the sets of layers in float with which the rest holds the guard-rails in int8, the smallest last; empty where there are none.

    Args:
        layer_groups: groups of layers, from `groups`.
        attempt: quantizes and judges one mix.
    """
    everything = frozenset(name for group in layer_groups for name in group)
    # One group in int8 at a time shows what that group costs. Quantizing all but one would show little: the others' errors hide it.
    alone_in_int8 = {group: attempt(everything - set(group), True) for group in track(list(layer_groups), "int8 of one layer alone")}
    ranked = sorted(layer_groups, key=lambda group: (alone_in_int8[group].margin, -alone_in_int8[group].divergence))  # the worst first
    passing: list[frozenset[str]] = []
    in_float: list[tuple[str, ...]] = []
    # the last group stays in int8: with all of them in float there is no mix
    for group in track(ranked[:-1], "layers back to float"):
        in_float.append(group)
        if attempt(_layers(in_float), False).passes:
            passing.append(_layers(in_float))
            break
    if not passing:
        note("int8: no mix with float layers holds the guard-rails")
        return []
    # the last one that went back to float was needed, since the mix did not hold without it
    for group in track(list(reversed(in_float[:-1])), "layers to int8 again"):
        fewer = [kept for kept in in_float if kept != group]
        if attempt(_layers(fewer), False).passes:
            in_float = fewer
            passing.append(_layers(in_float))
    note(f"int8 with {', '.join(sorted(passing[-1]))} in float holds the guard-rails")
    return passing


def _layers(chosen: Sequence[tuple[str, ...]]) -> frozenset[str]:
    return frozenset(name for group in chosen for name in group)


@dataclass(frozen=True)
class ResultCache:
    """Results of mixes on disk, so that an interrupted search continues where it stopped.

    Args:
        path: path of a JSON file, which is written with the first result.
        made_for: hash of everything that a result depends on besides the layers.
    """

    path: Path
    made_for: str

    def cached(self, attempt: Attempt) -> Attempt:
        """Return a function that calls `attempt` at most once for the same layers, over all runs."""
        known = dict(self._read())

        def ask(keep: frozenset[str], rough: bool) -> MixResult:
            key = ("rough: " if rough else "") + ", ".join(sorted(keep))
            if key not in known:
                known[key] = attempt(keep, rough)
                self._write(known)
            return known[key]

        return ask

    def _read(self) -> Iterator[tuple[str, MixResult]]:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["made_for"] == self.made_for:
                yield from [(str(key), _result(entry)) for key, entry in stored["tried"].items()]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return

    def _write(self, known: Mapping[str, MixResult]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"made_for": self.made_for, "tried": {key: asdict(result) for key, result in known.items()}}
        write_atomically(self.path, json.dumps(content, indent=1) + "\n")


def _result(stored: Mapping[str, Any]) -> MixResult:
    return MixResult(bool(stored["passes"]), float(stored["margin"]), float(stored["divergence"]))
