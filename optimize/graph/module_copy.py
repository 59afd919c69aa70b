"""Everything a network holds, also outside its registered layers, and a copy of all of it.

`copy.deepcopy` copies containers, objects and bound methods, but not functions: a hook or a lambda that closes over the network, or over a
dict in which it stores tensors, would continue to work on the original. Here such a function is copied with what it closes over, so that
the copy of a network owns what the network owns.

Example: with `layer.register_forward_hook(lambda *_: stored.append(layer))`, a deep copy of the network still appends the *original* layer
to the *original* list. The copy made here appends its own layer to a list of its own.

`copy.deepcopy` takes its time, and a step that goes through a network layer by layer copies it once a layer. Most layers hold nothing but
tensors, plain values and such layers themselves. These are copied by hand, several times as fast, and are neither searched nor given to
`deepcopy`.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

_CONTAINERS = (dict, list, tuple, set, frozenset)
_OWN = frozenset(vars(nn.Module()))
"""Attributes that every module has: its tensors, its layers and its hooks."""
_OWN_CONTAINERS = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, _CONTAINERS))
_REGISTERED = ("_parameters", "_buffers", "_modules")
_ATOMS = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device)
"""Types of values that are never changed and hold nothing."""
_PLAIN = (str, bytes, int, float, complex, torch.dtype, torch.device, type, ModuleType, type(None))
"""Types of values that hold nothing to be copied."""


def reachable_objects(module: nn.Module, passed: Collection[int] = ()) -> Iterator[tuple[str, object]]:
    """Yield every object that the network's attributes lead to, once, with its path; plain values are left out.

    Args:
        module: the network.
        passed: ids of objects that are left out with all that is reached through them alone.
    """
    visited = set(passed)
    waiting: list[tuple[str, object]] = [("", module)]
    while waiting:
        path, value = waiting.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        yield path, value
        start = f"{path}." if path else ""
        waiting += [(start + name, part) for name, part in reversed(_parts(value)) if not (isinstance(part, _PLAIN) or _bare(part))]


def deep_copy(module: nn.Module, *, share: bool, instead: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Return a deep copy of the network, its functions included.

    Args:
        module: the network.
        share: whether the copy uses the same tensors.
        instead: layers -> their replacements in the copy, wherever they are referred to.
    """
    # a copy is thousands of small containers, and the collector would look through all that exist again and again meanwhile
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _deep_copy(module, share=share, instead=instead)
    finally:
        if collecting:
            gc.enable()


def _deep_copy(module: nn.Module, *, share: bool, instead: Mapping[nn.Module, nn.Module]) -> nn.Module:
    # deepcopy looks up `memo` first: what is entered there by its id is used in place of a copy. So tensors are shared, layers are
    # replaced, and functions are copied empty, to be filled when all they may refer to exists.
    memo: dict[int, Any] = {id(old): new for old, new in instead.items()}
    simple = _simple_layers(module, memo)
    objects = [value for _, value in reachable_objects(module, simple)]
    if share:
        memo |= {id(value): value for value in objects if isinstance(value, torch.Tensor)}
    for layer in simple.values():
        _copy_simple(layer, memo, share=share)
    functions = [value for value in objects if isinstance(value, FunctionType) and _holds(value, set())]
    fresh = [_empty(function) for function in functions]
    memo.update({id(old): new for old, new in zip(functions, fresh, strict=True)})
    made: nn.Module = copy.deepcopy(module, memo)
    for old, new in zip(functions, fresh, strict=True):
        new.__defaults__ = _mapped(old.__defaults__, memo)
        new.__kwdefaults__ = _mapped(old.__kwdefaults__, memo)
        new.__dict__.update(_mapped(vars(old), memo))
        for source, cell in zip(old.__closure__ or (), new.__closure__ or (), strict=True):
            if _filled(source):
                cell.cell_contents = _mapped(source.cell_contents, memo)
    return made


def _simple_layers(module: nn.Module, replaced: Collection[int]) -> dict[int, nn.Module]:
    """Return by their ids the layers that hold tensors, plain values and such layers only, without those that are replaced."""
    simple: dict[int, bool] = dict.fromkeys(replaced, True)
    found: dict[int, nn.Module] = {}
    classes: dict[type, bool] = {}

    def look(layer: nn.Module) -> bool:
        if id(layer) not in simple:
            # until it is known: a layer that holds itself is none
            simple[id(layer)] = False
            kind = type(layer)
            if kind not in classes:
                classes[kind] = _copied_by_attributes(kind)
            inside = [look(child) for child in layer._modules.values() if child is not None]
            if classes[kind] and all(inside) and _holds_plain_values(layer):
                simple[id(layer)] = True
                found[id(layer)] = layer
        return simple[id(layer)]

    look(module)
    return found


def _copied_by_attributes(kind: type) -> bool:
    """Return whether `copy.deepcopy` copies modules of a class attribute by attribute, as it does unless the class says otherwise."""
    usual = all(getattr(kind, name, None) is getattr(nn.Module, name, None) for name in ("__reduce_ex__", "__getstate__"))
    # those of torch's own layers give attributes to layers from old files, and leave all others as they are
    usual &= getattr(getattr(kind, "__setstate__", None), "__module__", "").startswith("torch.nn.modules.")
    return usual and not hasattr(kind, "__deepcopy__") and not any("__slots__" in vars(parent) for parent in kind.__mro__)


def _holds_plain_values(layer: nn.Module) -> bool:
    """Return whether all attributes but the registered tensors and layers are plain values or lists of them, and there is no hook."""
    values = vars(layer)
    if not values.keys() >= _OWN:
        return False  # from an old file; `deepcopy` adds what is missing
    for name, value in values.items():
        if name in _REGISTERED or type(value) in _ATOMS:
            continue
        if type(value) in (tuple, list) and all(type(part) in _ATOMS for part in value):
            continue
        if not (name in _OWN and _bare(value)):
            return False
    return True


def _copy_simple(layer: nn.Module, memo: dict[int, Any], *, share: bool) -> None:
    """Copy a simple layer, whose own layers were copied before, and enter the copy in `memo`."""
    new = layer.__new__(type(layer))
    attributes = vars(new)
    attributes |= vars(layer)
    for name in _OWN_CONTAINERS:
        attributes[name] = attributes[name].copy()
    # by `deepcopy`, which knows a list that several layers share, and a tensor too
    lists = [(name, value) for name, value in attributes.items() if type(value) is list]
    attributes.update((name, copy.deepcopy(value, memo)) for name, value in lists)
    attributes["_modules"].update((name, memo[id(child)]) for name, child in layer._modules.items() if child is not None)
    if not share:
        for registered in ("_parameters", "_buffers"):
            attributes[registered].update((name, copy.deepcopy(tensor, memo)) for name, tensor in vars(layer)[registered].items())
    memo[id(layer)] = new


def _parts(value: object) -> list[tuple[str, object]]:
    """Return what an object refers to, by name."""
    if isinstance(value, torch.Tensor):
        return []
    if isinstance(value, nn.Module):
        # parameters, buffers and layers under their own names, without the dicts that register them
        registered: list[dict[str, Any]] = [value._parameters, value._buffers, value._modules]
        inside = [(name, part) for parts in registered for name, part in parts.items()]
        return inside + [(name, part) for name, part in vars(value).items() if not any(part is parts for parts in registered)]
    if isinstance(value, dict):
        return [(str(key), part) for key, part in value.items()]
    if isinstance(value, _CONTAINERS):
        return [(str(place), part) for place, part in enumerate(value)]
    if isinstance(value, partial):
        return [("func", value.func), ("args", value.args), ("keywords", value.keywords)]
    if isinstance(value, MethodType):
        return [("__self__", value.__self__), ("__func__", value.__func__)]
    if isinstance(value, FunctionType):
        return _closed_over(value)
    return [(name, part) for name, part in getattr(value, "__dict__", {}).items() if isinstance(name, str)]


def _bare(value: object) -> bool:
    """Return whether a value is an empty container, as most of a module's are."""
    return isinstance(value, _CONTAINERS) and not value


def _closed_over(function: FunctionType) -> list[tuple[str, object]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    values = [(name, cell.cell_contents) for name, cell in cells if _filled(cell)]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return values + [(f"default {place}", value) for place, value in enumerate(defaults)]


def _holds(function: FunctionType, passed: set[int]) -> bool:
    """Return whether a function closes over anything that a copy must own."""
    if id(function) in passed:
        return False
    passed.add(id(function))
    values = [value for _, value in _closed_over(function)]
    # anything that may hold a tensor or be written to; a function that closes over numbers alone can be shared
    if any(isinstance(value, torch.Tensor | partial | MethodType | dict | list | set) for value in values):
        return True
    objects = [value for value in values if not isinstance(value, _PLAIN) and hasattr(value, "__dict__")]
    return any(not isinstance(value, FunctionType) or _holds(value, passed) for value in objects)


def _empty(function: FunctionType) -> FunctionType:
    """Return a copy of the function without defaults and with empty cells."""
    # empty cells first: a function may close over the network that closes over it, and each needs the other's copy to exist
    cells = tuple(CellType() for _ in function.__closure__ or ())
    new = FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    new.__qualname__, new.__module__, new.__doc__ = function.__qualname__, function.__module__, function.__doc__
    return new


def _mapped(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # a lock, a file, an imported module: what cannot be copied does not belong to the network
        return value


def _filled(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
