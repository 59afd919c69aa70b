"""Memory and streams of an NVIDIA GPU, by the driver's own library: it is there wherever a GPU is, so no further package is needed.

Source: "CUDA Driver API", https://docs.nvidia.com/cuda/cuda-driver-api; names that end in _v2 are those of the library, as its header maps
the documented names to them.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from .errors import Refused
from .preprocess import Array

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""Attributes of a device: the two parts of its compute capability."""
_NAME_BYTES = 256


class Gpu:
    """The first GPU that this process sees.

    Args:
        library: the driver's library; None to load it.

    Attributes:
        name: name as its maker writes it.
        capability: compute capability, such as "8.6".
        stream: stream on which all work of this object runs.

    Raises:
        Refused: when there is no driver or no GPU.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = _loaded() if library is None else library
        self._call("cuInit", 0)
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGetName", name, _NAME_BYTES, device)
        self.name = name.value.decode(errors="replace")
        self.capability = f"{self._attribute(_CAPABILITY_MAJOR, device)}.{self._attribute(_CAPABILITY_MINOR, device)}"
        # the primary context is the one that the runtime works in
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context
        self.enter()
        self._call("cuStreamCreate", ctypes.byref(stream), 0)
        self.stream = stream.value or 0

    def enter(self) -> None:
        """Make the GPU the one that this thread works with; each thread has to ask for it once."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes of the GPU's memory."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, array: Array) -> None:
        """Copy a contiguous array into the GPU's memory, after what its stream has to do before."""
        source = ctypes.c_void_p(array.ctypes.data)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), source, ctypes.c_size_t(array.nbytes), ctypes.c_void_p(self.stream))

    def download(self, address: int, shape: tuple[int, ...]) -> Array:
        """Return float32 numbers of this shape from the GPU's memory, after all that its stream has to do is done."""
        array = np.empty(shape, dtype=np.float32)
        place = ctypes.c_void_p(array.ctypes.data)
        self._call("cuMemcpyDtoHAsync_v2", place, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes), ctypes.c_void_p(self.stream))
        self._call("cuStreamSynchronize", ctypes.c_void_p(self.stream))
        return array

    def _attribute(self, number: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise Refused(f"the NVIDIA driver fails ({name}, code {code}): check the GPU with nvidia-smi.")


def _loaded() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError:
        raise Refused(f"the bundle needs an NVIDIA GPU, and its driver ({name}) is not installed: use a machine with one.") from None
