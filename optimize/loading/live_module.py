"""A network of this process instead of a file: it is copied, so that the caller's own network is never changed."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from optimize.errors import InputError
from optimize.graph.module_copy import deep_copy


def require_no_file_settings(**settings: object) -> None:
    """Check that nothing is set that is about a file of weights.

    Raises:
        InputError: naming the first setting that is.
    """
    for name, value in settings.items():
        if value:
            raise InputError(f"`{name}` (={value!r}) is for a file of weights, and `model` is a network: leave it out.")


def own_copy(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a deep copy of a network in eval mode, and a note where it was in training mode.

    Raises:
        InputError: when it does not lie on the CPU, or cannot be copied.
    """
    tensors = [tensor for tensor in (*module.parameters(), *module.buffers()) if not is_lazy(tensor)]
    if elsewhere := next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), None):
        remedy = "build it with weights first" if elsewhere.type == "meta" else "pass model.cpu(), as everything is compared on the CPU"
        raise InputError(f"`model` (={type(module).__name__}) lies on device {str(elsewhere)!r}: {remedy}.")
    training = any(layer.training for layer in module.modules())
    try:
        copy = deep_copy(module, share=False, instead={}).eval()
    except Exception as problem:  # whatever an attribute of the user's network raises
        words, name = " ".join(str(problem).split())[:200], type(module).__name__
        raise InputError(f"`model` (={name}) cannot be copied ({words}): save its state_dict, and pass the file.") from problem
    note = f"the network ({type(module).__name__}) was in training mode: it is judged in eval mode"
    return copy, (note,) if training else ()
