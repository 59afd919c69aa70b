"""The self-test that travels with an artifact: sixteen inputs, and the model's outputs on the machine that verified it.

An artifact that is copied to another machine computes with other kernels there. Most of them give the same numbers, apart from rounding.
Those that do not (8-bit products that overflow, `hardware/cpu_level.py`) raise no error; only a comparison of numbers shows it.

The inputs are no patient's images. Each channel of each has the amplitude spectrum of `MIXED` calibration images together, the root of the
mean square at every frequency, and random phases: it excites a network as images do, and holds no shape of any of them. The spectrum of a
single image would not do: where an image has a large empty border, its phases can be computed from it (Fienup 1982).
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optimize.backends import backend, runs_on_cpu
from optimize.backends.artifact import Artifact
from optimize.backends.cpu_limit import effective_level
from optimize.backends.tensorrt_common.binding import device
from optimize.errors import InputError
from optimize.hardware.cpu_level import in_words

if TYPE_CHECKING:
    from optimize.candidate import Floats

FILE = "golden.npz"
CASES = 16
MIXED = 8
LARGEST_BYTES = 16 << 20
"""Largest size of all inputs together: of volumes there are fewer inputs, at least two."""
HEADER = 1 << 12
"""Bytes that the header of an array takes at most."""
ISA, GPU = "isa", "verified_on"
"""Keys of `Artifact.built` for the level of `hardware.cpu_level`, or the GPU, that an artifact was verified on."""
MADE_FOR = "made_for"
"""Key of `Artifact.built` for the level that an artifact was made for, where one was asked for."""


TOLERANCES = {"f32": (1e-4, 1e-3), "f16": (5e-3, 1e-2), "bf16": (1e-2, 3e-2), "int8": (1e-2, 2e-2)}
"""Precision -> largest difference on a machine like the one that verified it, and on another, as shares of the outputs' range.

Measured on a VGG16 and a U-Net in ONNX Runtime and OpenVINO, with one thread and two, in batches of 1, 5 and 16: no bit differs on the same
machine. Under AVX2 instead of AVX-512 VNNI f32 differs by at most 1.3e-7, int8 whose weights keep to 7 bits by nothing, and bf16, which is
emulated there, by 1.6e-2; int8 whose weights overflow by 4.4e-2 and 1.9e-1 (`docs/verify.md`). An int8 step is 4e-3 of its tensor's range.
"""


@dataclass(frozen=True)
class Check:
    """Result of a self-test; true when the artifact computes here what it computed where it was verified.

    Args:
        cases: number of inputs compared.
        difference: largest difference of an output, as a share of the range of the recorded outputs.
        allowed: largest difference that passes.
        changed: number of changed decisions, near ties not counted.
        alike: whether this machine computes as the one that verified it.
        tells: whether the test can show a fault; false where all inputs, or all recorded outputs, are the same, since a broken model may
            give such outputs too.
    """

    cases: int
    difference: float
    allowed: float
    changed: int
    alike: bool
    tells: bool = True

    def __bool__(self) -> bool:
        return self.difference <= self.allowed and not self.changed

    @property
    def line(self) -> str:
        """The finding in one line."""
        where = "as" if self.alike else "unlike"
        moved = f"outputs differ by {100 * self.difference:.3g} % of their range ({100 * self.allowed:g} % allowed)"
        return f"{self.cases} inputs, {self.changed} decisions changed, {moved}; this machine computes {where} the one that verified it"


def make(images: Floats, seed: int) -> Floats:
    """Return inputs with the spectra of calibration images and none of their shapes.

    The spectrum of real white noise lends the phases, which so have the symmetry that makes the result real. All channels share them,
    since channels of images go together. The mean of a channel is the mean of its images' means.

    Args:
        images: (N, C, *spatial), preprocessed as the network expects them.
        seed: seed of the phases, and of the choice of images that go together.

    Returns:
        (16, C, *spatial), float32; fewer where they would take more than `LARGEST_BYTES`.
    """
    draw = np.random.default_rng(seed)
    count = cases(images.shape[1:])
    # `resize` repeats the permutation as often as needed: 16 inputs of 8 images take each of 64 images twice
    order = np.resize(draw.permutation(len(images)), (count, min(MIXED, len(images))))
    return np.stack([_scrambled(images[np.sort(chosen)], draw) for chosen in order])


def cases(input_shape: tuple[int, ...]) -> int:
    """Return how many inputs of shape (C, *spatial) a self-test has: sixteen, or as many as `LARGEST_BYTES` hold, but at least two."""
    return int(np.clip(LARGEST_BYTES // (math.prod(input_shape) * 4), 2, CASES))


def _scrambled(images: Floats, draw: np.random.Generator) -> Floats:
    axes = tuple(range(-(images.ndim - 2), 0))
    spectra = np.fft.fftn(images.astype(np.float64), axes=axes)  # (M, C, *spatial)
    # real noise: the phase at frequency -f is minus the one at f, without which the result would be complex
    noise = np.fft.fftn(draw.standard_normal(images.shape[2:]))
    made = np.sqrt((np.abs(spectra) ** 2).mean(0)) * np.exp(1j * np.angle(noise))
    zero = (slice(None), *(0,) * len(axes))
    # frequency 0 is the mean: a random phase might flip its sign, and images that are all positive come out negative
    made[zero] = spectra.mean(0)[zero]
    return np.ascontiguousarray(np.fft.ifftn(made, axes=axes).real, dtype=np.float32)


def attach(artifact: Artifact, predict: Callable[[Floats], Floats], inputs: Floats, made_for: str | None = None) -> Artifact:
    """Write the self-test into the artifact's folder, and seal it with the machine's level in the manifest.

    Args:
        artifact: the artifact, on the machine that verified it.
        predict: function that runs its session.
        inputs: inputs of the test, from `make`.
        made_for: the level that was asked for; None where none was.
    """
    np.savez(artifact.folder / FILE, inputs=inputs, outputs=predict(inputs))
    return artifact.verified(FILE, {**_here(artifact.target), **({} if made_for is None else {MADE_FOR: made_for})})


def check(artifact: Artifact, predict: Callable[[Floats], Floats]) -> Check | None:
    """Compare what the artifact does here with what it did where it was verified; None where it carries no self-test.

    On a machine of the same level and with the same version of the runtime only the order of sums may differ, with threads and batch. On
    another, decisions must be the same but for near ties: where what is decided now was as near to the best as outputs may differ.

    Args:
        artifact: the artifact as read, so that its files are those that were sealed.
        predict: function that runs its session.

    Raises:
        InputError: when the file is no self-test of this model.
    """
    if artifact.golden is None:
        return None
    inputs, expected = _read(artifact)
    outputs = predict(inputs)
    if outputs.shape != expected.shape:
        raise InputError(
            f"`{artifact.folder / artifact.golden.name}` is no self-test of this model (it answers {outputs.shape}): make it again."
        )
    spread = float(expected.max() - expected.min()) or 1.0
    difference = float(np.abs(outputs - expected).max()) / spread
    alike = not differences(artifact)
    same_machine, another = tolerances(artifact.precision)
    allowed = same_machine if alike else another
    changed = _changed(expected, outputs, allowed * spread, _threshold(artifact))
    tells = bool((inputs != inputs[0]).any() and (expected != expected[0]).any())
    return Check(len(inputs), difference if np.isfinite(difference) else float("inf"), allowed, changed, alike, tells)


def tolerances(precision: str) -> tuple[float, float]:
    """Return the largest difference on a machine like the one that verified an artifact, and on another, as shares of the outputs' range.

    Of a mix the looser of both parts' tolerances counts.

    >>> tolerances("int8+bf16")
    (0.01, 0.03)
    """
    same, another = zip(*(TOLERANCES[part] for part in precision.split("+")), strict=True)
    return max(same), max(another)


def differences(artifact: Artifact) -> list[str]:
    """Return how this machine differs from the one that verified the artifact, as far as it decides the numbers; each in a few words."""
    here, lines = _here(artifact.target), []
    if (version := backend(artifact.target).version()) != artifact.runtime:
        lines.append(f"made with {artifact.target} {artifact.runtime}, here is {version}")
    for key in (ISA, GPU):
        there, now = artifact.built.get(key), here.get(key)
        if there != now:
            name = in_words if key == ISA else str
            was, here_is = name(there) if there else "a machine it does not name", name(now) if now else "one that cannot be told"
            lines.append(f"verified on {was}, here is {here_is}")
    return lines


def _here(target: str) -> dict[str, str]:
    """Return what decides the numbers on this machine, by its name in `Artifact.built`."""
    if not runs_on_cpu(target):
        here = device()
        return {} if here is None else {GPU: here.name}
    level = effective_level(target)
    return {} if level is None else {ISA: level}


def _read(artifact: Artifact) -> tuple[Floats, Floats]:
    assert artifact.golden is not None
    path = artifact.folder / artifact.golden.name
    try:
        _require_size(path, artifact.input_shape)
        with np.load(path, allow_pickle=False) as file:
            names, inputs, expected = sorted(file.files), file["inputs"], file["outputs"]
    except Exception as problem:  # whatever numpy and zipfile raise about a file that comes from outside
        raise InputError(f"`{path}` is no self-test ({' '.join(str(problem).split())[:200]}): make the artifact again.") from None
    if inputs.shape[1:] != artifact.input_shape or len(expected) != len(inputs) or expected.ndim < 2 or names != ["inputs", "outputs"]:
        raise _no_self_test(path, f"inputs {inputs.shape}, outputs {expected.shape}")
    if len(inputs) != (required := cases(artifact.input_shape)):
        raise _no_self_test(path, f"it has {len(inputs)} inputs, and a whole one of such inputs has {required}")
    for name, array in (("inputs", inputs), ("outputs", expected)):
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise _no_self_test(path, f"its {name} are not all finite numbers of 32 bits")
    return inputs, expected


def _require_size(path: Path, input_shape: tuple[int, ...]) -> None:
    """See that the arrays are no larger unpacked than the file may be: a few packed bytes can hold gigabytes of zeros.

    Raises:
        ValueError: when they are, or the inputs are more than those of a self-test.
    """
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    whole, inputs = path.stat().st_size, cases(input_shape) * math.prod(input_shape) * 4
    if sum(sizes.values()) > whole or sizes.get("inputs.npy", 0) > inputs + HEADER:
        raise ValueError(f"its arrays take {sum(sizes.values())} bytes, which is more than it may hold")


def _no_self_test(path: Path, why: str) -> InputError:
    return InputError(f"`{path}` is no self-test of this model ({why}): make the artifact again.")


def _threshold(artifact: Artifact) -> float:
    """Return the number above which a single output says yes, as the manifest has it; that of logits where it says nothing."""
    stated = dict(artifact.use.get("output", {})).get("threshold")
    return float(stated) if isinstance(stated, int | float) else 0.0


def _changed(expected: Floats, outputs: Floats, tie: float, threshold: float = 0.0) -> int:
    """Return the number of decisions, one for each input or each of its positions, that changed by more than a near tie.

    Worked example: recorded outputs 2.00 and 1.99, outputs here 1.99 and 2.00, and a tie of 0.05. The decision is another one, but what is
    chosen now was only 0.01 below the best: no change. Recorded 3 and 1, here 1 and 3: what is chosen now was 2 below, so it is a change.
    """
    if expected.shape[1] == 1:
        return int((((expected > threshold) != (outputs > threshold)) & (np.abs(expected - threshold) > tie)).sum())
    now = outputs.argmax(1, keepdims=True)
    # how far what is chosen now was below the best in the recorded outputs: 0 for an unchanged decision
    lost = expected.max(1, keepdims=True) - np.take_along_axis(expected, now, 1)
    return int((lost > tie).sum())
