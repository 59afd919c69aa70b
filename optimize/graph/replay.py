"""A network that is run again and again while it changes from front to back: the part that can no longer change is run once.

Repair goes layer by layer, and each layer is fitted on what the network changed so far gives it. Run from its input every time, a network
of L layers costs L^2 layers. Here the network is traced into its operations (torch.fx), and for every batch the values that are still
needed are saved in front of the first layer that may still change; the next pass starts there. So all passes together cost little more than
one.

Example: layers a, b, c, d, repaired in this order. To read what c gets, only c and d can still change, so the output of b is saved: the
pass for d starts there and runs c alone. Without saving, the four passes run 1 + 2 + 3 + 4 = 10 layers; with it, 4.

A network that cannot be traced, or whose trace computes something else than the network itself (that is checked each time), is run from its
input. Saved values are bounded by `MEMORY_BYTES`; batches beyond that start further in front.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import reduce
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from optimize.graph.layer_calls import Read, calls

T = TypeVar("T")
Values: TypeAlias = dict[fx.Node, Any]

MEMORY_BYTES = 3 << 29


class HasModule(Protocol):
    """The result of a change, with the network at the end."""

    @property
    def module(self) -> nn.Module:
        """The network at the end."""


Changed = TypeVar("Changed", bound=HasModule)


class Replay:
    """Calls of a changing network's layers on fixed inputs.

    Args:
        module: the network as it is at first; later ones differ from it in their layers only.
        batches: inputs, each (n, C, *spatial).
    """

    def __init__(self, module: nn.Module, batches: Sequence[torch.Tensor]) -> None:
        self._batches = batches
        self._nodes = _trace(module)
        with torch.inference_mode():
            module(batches[0][:1].clone())  # overwrites whatever a forward stored while it was traced
        # later places overwrite earlier ones, so what is left is the last operation that reads each value
        self._last_use = {used: place for place, node in enumerate(self._nodes) for used in node.all_input_nodes}
        self._saved: dict[int, tuple[int, Values]] = {}
        self._ahead: dict[int, tuple[int, Values]] = {}
        self._outputs_checked = False

    def check(self, module: nn.Module, names: Sequence[str]) -> None:
        """Check on one case that the trace calls the named layers as the network does; give the trace up where it does not."""
        if not self._outputs_checked:
            self.check_outputs(module)
        case = self._batches[0][:1]
        try:
            traced = self._run(module, names, 0, self._entry(case), _copied)
            alike = bool(self._nodes) and _alike(calls(module, names, case, _copied), traced)
        except Exception:  # sizes of the first network may be constants of the trace: whatever it raises, the network is run itself
            alike = False
        if not alike:
            self._give_up()

    def calls(self, module: nn.Module, names: Sequence[str], number: int, read: Read[T], changing: Collection[str]) -> list[tuple[str, T]]:
        """Return (name, `read(name, input, output)`) for every call of the named layers on one batch, in order.

        Args:
            module: the network as it is.
            names: the layers to read.
            number: number of the batch.
            read: returns what is wanted of a call.
            changing: layers that this or a later network may have changed. Empty when nothing is known; the batch is then run from its
                input.
        """
        if not self._nodes:
            return calls(module, names, self._batches[number], read)
        start, values = self._run_to_first_change(module, number, changing) if changing else (0, self._entry(self._batches[number]))
        # saved values must outlive this pass, and an operation may work in place
        return self._run(module, names, start, _cloned(values), read)

    def inputs(
        self, module: nn.Module, names: Sequence[str], number: int, read: Callable[[str, torch.Tensor], T], changing: Collection[str]
    ) -> list[tuple[str, T]]:
        """Return (name, `read(name, input)`) for every call of the named layers on one batch, in order.

        The last layer itself is not run: what it gives is not asked for, and it will mostly be changed next.

        Args:
            module: the network as it is.
            names: the layers to read.
            number: number of the batch.
            read: returns what is wanted of an input.
            changing: as in `calls`.
        """
        self._ahead.pop(number, None)
        if self._nodes:
            try:
                return self._inputs(module, names, number, read, changing)
            except Exception:  # sizes of the first network may be constants of the trace: whatever that raises, the network is run itself
                self._give_up()
        return calls(module, names, self._batches[number], lambda name, layer_input, _: read(name, layer_input))

    def narrow(self, cut: Collection[str], reader: str, gone: npt.NDArray[np.int64], axis: int, changing: Collection[str]) -> None:
        """Let the next pass start in front of `reader`, whose input was read last, without running the layers that were cut once more.

        A layer that loses some of its channels gives the others as before. So where what it gives is read by one layer only, the next pass
        can start from what that layer read, without the channels that are gone. Where more than that depends on the layers that were cut,
        nothing happens, and the next pass runs them.

        Args:
            cut: the layers that lost channels, or passed them on.
            reader: the layer that read them.
            gone: positions of the reader's input that are gone.
            axis: dimension of the reader's input that holds these positions.
            changing: the layers that may differ in later passes.

        Example: conv1 -> relu -> conv2, where conv1 loses 3 of 8 channels. What conv2 read was (n, 8, H, W); the pass that reads the layer
        behind conv2 starts from 5 channels of it, and conv1 is not run again.
        """
        later = min((place for place, node in enumerate(self._nodes) if _calls(node, changing)), default=len(self._nodes))
        made: dict[tuple[int, int], set[fx.Node]] = {}
        for number, (place, values) in self._ahead.items():
            read, part = self._nodes[place].all_input_nodes[0], (self._saved.get(number, (0, {}))[0], place)
            if self._nodes[place].target != reader or later < place:
                continue
            if part not in made:  # the same for all batches, as far as the memory holds them
                made[part] = self._made_by(cut, *part)
            if made[part] & values.keys() != {read}:
                continue
            keep = np.delete(np.arange(values[read].shape[axis]), gone)
            self._saved[number] = (place, {**values, read: values[read].index_select(axis, torch.from_numpy(keep))})
        self._ahead.clear()

    def _made_by(self, names: Collection[str], start: int, end: int) -> set[fx.Node]:
        """Return which operations between two places depend on the named layers; none where such a layer is called elsewhere."""
        if not all(start <= place < end for place, node in enumerate(self._nodes) if _calls(node, names)):
            return set()
        made: set[fx.Node] = set()
        for node in self._nodes[start:end]:
            if _calls(node, names) or not made.isdisjoint(node.all_input_nodes):
                made.add(node)
        return made

    def _inputs(
        self, module: nn.Module, names: Sequence[str], number: int, read: Callable[[str, torch.Tensor], T], changing: Collection[str]
    ) -> list[tuple[str, T]]:
        start, values = self._run_to_first_change(module, number, changing) if changing else (0, self._entry(self._batches[number]))
        values = _cloned(values)
        called = [place for place, node in enumerate(self._nodes) if _calls(node, names)]
        results = []
        for place in range(start, called[-1] + 1):
            node = self._nodes[place]
            if place in called:
                results.append((str(node.target), read(str(node.target), values[node.all_input_nodes[0]])))
            if place < called[-1]:
                self._step(module, place, values)
        # the next pass may start from these values, see `narrow`
        held = sum(_bytes(saved) for _, saved in (*self._saved.values(), *self._ahead.values()))
        if changing and len(called) == 1 and not _is_input(values) and held + _bytes(values) <= MEMORY_BYTES:
            self._ahead[number] = (called[0], values)
        return results

    def check_outputs(self, module: nn.Module) -> None:
        """Check that the trace gives the network's outputs; give the trace up where it does not.

        The first check takes two cases: a value that a layer or a hook stored when the network last ran may have become a constant of the
        trace, which is right for that case only.
        """
        for case in (self._batches[0][:1], *(() if self._outputs_checked else (self._batches[-1][-1:],))):
            try:
                values = self._entry(case)
                for place in range(len(self._nodes)):
                    self._step(module, place, values)
                with torch.inference_mode():
                    alike = bool(self._nodes) and torch.allclose(values[self._nodes[-1]], module(case.clone()), rtol=1e-4, atol=1e-5)
            except Exception:  # as above
                alike = False
            if not alike:
                self._give_up()
        self._outputs_checked = True

    @property
    def traced(self) -> bool:
        """Whether the operations of the trace are run, and not the network itself."""
        return bool(self._nodes)

    def _give_up(self) -> None:
        """Run the network itself from now on."""
        self._nodes = []
        self._saved.clear()
        self._ahead.clear()

    def outputs(self, module: nn.Module, number: int, changing: Collection[str]) -> torch.Tensor:
        """Return the network's outputs for one batch; `number` and `changing` as in `calls`."""
        if self._nodes:
            start, values = self._run_to_first_change(module, number, changing)
            values = _cloned(values)
            for place in range(start, len(self._nodes)):
                self._step(module, place, values)
            result: torch.Tensor = values[self._nodes[-1]]
            return result
        with torch.inference_mode():
            whole: torch.Tensor = module(self._batches[number].clone())
        return whole

    def _run_to_first_change(self, module: nn.Module, number: int, changing: Collection[str]) -> tuple[int, Values]:
        """Run a batch up to the first layer that may still change, and save the values that are needed from there on."""
        start, values = self._saved.get(number, (0, {})) if number in self._saved else (0, self._entry(self._batches[number]))
        # Everything in front of the first layer that may still change gives the same in every later pass: run it once, and save what is
        # read from there on.
        end = min((place for place, node in enumerate(self._nodes) if _calls(node, changing)), default=start)
        if end <= start:
            return start, values
        values = dict(values)
        for place in range(start, end):
            self._step(module, place, values)
        # too much to save: the batch keeps no entry, and its next pass starts at the input
        elsewhere = sum(_bytes(saved) for batch, (_, saved) in self._saved.items() if batch != number)
        self._saved.pop(number, None)
        if not _is_input(values) and elsewhere + _bytes(values) <= MEMORY_BYTES:
            self._saved[number] = (end, values)
        return end, values

    def _run(self, module: nn.Module, names: Collection[str], start: int, values: Values, read: Read[T]) -> list[tuple[str, T]]:
        called = {place for place, node in enumerate(self._nodes) if _calls(node, names)}
        results = []
        # what lies behind the last layer that is read is not run
        for place in range(start, max(called, default=-1) + 1):
            node = self._nodes[place]
            layer_input: torch.Tensor = values[node.all_input_nodes[0]] if place in called else torch.empty(0)
            self._step(module, place, values)
            if place in called:
                results.append((str(node.target), read(str(node.target), layer_input, values[node])))
        return results

    def _step(self, module: nn.Module, place: int, values: Values) -> None:
        """Run one operation, and drop the values that no later operation reads."""
        node = self._nodes[place]
        if node.op != "placeholder":
            args, kwargs = (fx.map_arg(part, values.__getitem__) for part in (node.args, node.kwargs))
            with torch.inference_mode():
                values[node] = _apply(module, node, args, kwargs)
        for used in node.all_input_nodes:
            if self._last_use[used] <= place:
                values.pop(used, None)

    def _entry(self, inputs: torch.Tensor) -> Values:
        return {node: inputs.clone() for node in self._nodes if node.op == "placeholder"}


class _Tracer(fx.Tracer):
    """Traces every module without children as one operation, whoever wrote it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)


def _trace(module: nn.Module) -> list[fx.Node]:
    try:
        nodes = list(_Tracer().trace(module).nodes)
    except Exception:  # tracing runs the user's forward on proxies: whatever it raises means "run the network itself"
        return []
    inputs = [node for node in nodes if node.op == "placeholder"]
    return nodes if len(inputs) == 1 else []


def _is_input(values: Values) -> bool:
    """Return whether there is nothing but the batch itself, which need not be saved a second time."""
    return all(node.op == "placeholder" for node in values)


def _calls(node: fx.Node, names: Collection[str]) -> bool:
    return node.op == "call_module" and node.target in names


def _apply(module: nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_module":
        return module.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.op == "get_attr":
        return reduce(getattr, str(node.target).split("."), module)
    return args[0] if node.op == "output" else node.target(*args, **kwargs)  # type: ignore[operator]  # what is left calls a function


def _copied(_: str, layer_input: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return layer_input.clone(), output.clone()


def _alike(first: list[tuple[str, Any]], second: list[tuple[str, Any]]) -> bool:
    if [name for name, _ in first] != [name for name, _ in second]:
        return False
    pairs = [pair for (_, values), (_, targets) in zip(first, second, strict=True) for pair in zip(values, targets, strict=True)]
    return all(value.shape == target.shape and torch.allclose(value, target, rtol=1e-4, atol=1e-5) for value, target in pairs)


def _cloned(values: Values) -> Values:
    """Return copies that may be written to; values that share memory (views) share it afterwards too."""
    memory: dict[int, torch.UntypedStorage] = {}

    def clone(value: Any) -> Any:
        if type(value) in (tuple, list):  # what splits a tensor
            return type(value)(clone(part) for part in value)
        if not isinstance(value, torch.Tensor):
            return value
        storage = value.untyped_storage()
        if storage.data_ptr() not in memory:
            memory[storage.data_ptr()] = storage.clone()  # type: ignore[no-untyped-call]
        return torch.empty(0, dtype=value.dtype).set_(memory[storage.data_ptr()], value.storage_offset(), value.shape, value.stride())

    with torch.inference_mode():
        return {node: clone(value) for node, value in values.items()}


def _bytes(value: Any) -> int:
    if isinstance(value, dict | tuple | list):
        return sum(map(_bytes, value.values() if isinstance(value, dict) else value))
    return value.nbytes if isinstance(value, torch.Tensor) else 0
