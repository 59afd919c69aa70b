"""Which layers stay in float when int8 of the whole network loses too much: found by the guard-rails, not by distances of tensors.

Layers are those with weights, and the sums, products, averages and the like between them, which int8 quantizes too and which may do all the
harm. Those that read the same tensor form a group, since it is quantized for all of them or for none.

1. Each group alone is quantized, everything else stays in float, and the guard is asked how close to its tightest limit that comes. The
   groups are ranked by that; where no limit moves, by how far the answers moved.
2. From int8 everywhere, the worst groups go back to float one after another until the guard lets the mix pass.
3. Of these, every one but the last is quantized again, the mildest first, and stays so if the guard still lets it pass: a group may have
   looked bad alone, and not matter once a worse one is gone.

Every mix is quantized by the target's own tool, and what is judged is the compiled model. There are at most three mixes for a group.
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

PAIRING = ("Add", "Sub", "Mul", "Div")
"""With a constant they belong to the layer before them: a bias, or a scale."""
BETWEEN = (*PAIRING, "MatMul", "AveragePool", "GlobalAveragePool", "ReduceMean", "Sigmoid", "HardSigmoid", "HardSwish", "Gelu", "Softmax")
"""Kinds of nodes without weights that int8 quantizes as well, in one runtime or the other."""


@dataclass(frozen=True)
class Tried:
    """One mix, judged on the guard split.

    Args:
        passes: whether the guard lets it pass.
        slack: how far its tightest limit is; negative when it is missed.
        moved: how far the answers are from the original's, in nats.
    """

    passes: bool
    slack: float
    moved: float


Try = Callable[[frozenset[str], bool], Tried]
"""Quantize all but these layers and judge; true asks for a rough answer, good enough to rank by."""


def groups(onnx: Path) -> list[tuple[str, ...]]:
    """Names of the ONNX file's nodes that int8 quantizes, those that read the same tensor together, in the order of the file."""
    import onnx as onnx_format

    graph = onnx_format.load(onnx, load_external_data=False).graph
    constant = constants(graph)
    makers_read: dict[str, set[str]] = {}  # what a layer with weights makes -> what it reads
    group_of: dict[str, int] = {}  # tensor -> who reads it
    readers: list[tuple[str, str]] = []
    for node in graph.node:
        varying = {name for name in node.input if name and name not in constant}
        if weight_of(node, constant) is not None:
            read = makers_read[node.output[0]] = {name for name in node.input[:2] if name not in constant}
        elif node.op_type in PAIRING and len(varying) == 1:
            read = makers_read.get(min(varying), varying)
        elif node.op_type in BETWEEN and varying:
            read = varying
        else:
            continue
        joined, new = {group_of[name] for name in read if name in group_of}, len(readers)
        group_of = {name: new if number in joined else number for name, number in group_of.items()} | dict.fromkeys(read, new)
        readers.append((node.name, min(read)))
    found: dict[int, list[str]] = {}
    for name, tensor in readers:
        found.setdefault(group_of[tensor], []).append(name)
    return [tuple(names) for names in found.values()]


def mixes(found: Sequence[tuple[str, ...]], attempt: Try) -> list[frozenset[str]]:
    """Sets of layers to keep in float with which the guard lets the rest pass in int8; the smallest last, none where there is none.

    Args:
        found: the groups.
        attempt: quantizes and judges.
    """
    everything = frozenset(name for group in found for name in group)
    alone = {group: attempt(everything - set(group), True) for group in track(list(found), "int8 of one layer alone")}
    ranked = sorted(found, key=lambda group: (alone[group].slack, -alone[group].moved))
    passing: list[frozenset[str]] = []
    back: list[tuple[str, ...]] = []
    for group in track(ranked[:-1], "layers back to float"):
        back.append(group)
        if attempt(_layers(back), False).passes:
            passing.append(_layers(back))
            break
    if not passing:
        note("int8: no mix with float layers holds the guard-rails")
        return []
    for group in track(list(reversed(back[:-1])), "layers to int8 again"):
        fewer = [each for each in back if each != group]
        if attempt(_layers(fewer), False).passes:
            back = fewer
            passing.append(_layers(back))
    note(f"int8 with {', '.join(sorted(passing[-1]))} in float holds the guard-rails")
    return passing


def _layers(chosen: Sequence[tuple[str, ...]]) -> frozenset[str]:
    return frozenset(name for group in chosen for name in group)


@dataclass(frozen=True)
class Kept:
    """Judgements on disk, so that an interrupted search goes on where it stopped.

    Args:
        path: a JSON file; made when the first judgement is kept.
        made_for: what the judgements depend on besides the layers.
    """

    path: Path
    made_for: str

    def remembering(self, attempt: Try) -> Try:
        """The same, asked at most once for the same layers, over all runs."""
        known = dict(self._read())

        def ask(keep: frozenset[str], rough: bool) -> Tried:
            key = ("rough: " if rough else "") + ", ".join(sorted(keep))
            if key not in known:
                known[key] = attempt(keep, rough)
                self._write(known)
            return known[key]

        return ask

    def _read(self) -> Iterator[tuple[str, Tried]]:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["made_for"] == self.made_for:
                yield from [(str(key), _tried(each)) for key, each in stored["tried"].items()]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return

    def _write(self, known: Mapping[str, Tried]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"made_for": self.made_for, "tried": {key: asdict(each) for key, each in known.items()}}
        write_atomically(self.path, json.dumps(content, indent=1) + "\n")


def _tried(stored: Mapping[str, Any]) -> Tried:
    return Tried(bool(stored["passes"]), float(stored["slack"]), float(stored["moved"]))
