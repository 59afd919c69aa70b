"""Find out what this machine can run: targets, processor, GPU and packages, with a remedy for what is missing.

Nothing is sent, and nothing is measured unless it is asked for. Versions come from the packages' metadata. Runtimes that are installed are
loaded, since one that is there may still not work. The only program that is run is `nvidia-smi`, where there is one, with fixed queries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from optimize.backends import backend, description, target_names
from optimize.errors import InputError, TargetUnavailable
from optimize.hardware.cpu_level import LEVELS, level
from optimize.hardware.gpu import Gpu, gpu
from optimize.hardware.installed_packages import EXTRAS, Package, Requirement, install_command, installed_version, packages, torch_build
from optimize.hardware.machine import machine
from optimize.hardware.offline import REPORTING, SENDERS
from optimize.measure.energy import Meters, meters
from optimize.run import parsing as read

if TYPE_CHECKING:
    from optimize.measure.peaks import Peaks

FORMAT = 1
UNAVAILABLE = TargetUnavailable.exit_code

_GIB = 1 << 30
_NEEDS_GPU = "it needs an NVIDIA GPU"
_NO_METERS = Meters((), ())


@dataclass(frozen=True)
class Target:
    """One target and whether it runs on this machine.

    Args:
        name: name that `--target` takes.
        version: installed version; None where the runtime is not installed.
        compiles: whether `optimize compress` can compile for it here.
        runs: whether what was compiled also runs here.
        reason: why it does not run; empty where it does.
        precisions: precisions that it offers on this machine, the exact one first.
        int8_on: the instructions that int8 runs on; None where it does not run, or they are not known.
        remedy: command that installs what is missing; None where nothing is missing, or no package would help.
    """

    name: str
    version: str | None
    compiles: bool
    runs: bool
    reason: str
    precisions: tuple[str, ...]
    int8_on: str | None
    remedy: str | None


@dataclass(frozen=True)
class Diagnosis:
    """The result of `optimize doctor`. `peaks` is None unless it was asked for; `energy` says which energy counters can be read.

    `reporting` names the libraries whose telemetry is on, since this program imported them before `optimize` (`hardware/offline.py`).
    """

    targets: tuple[Target, ...]
    machine: Mapping[str, object]
    gpu: Gpu
    torch: Mapping[str, str | None]
    packages: tuple[Package, ...]
    peaks: Peaks | None = None
    energy: Meters = _NO_METERS
    reporting: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when at least one target runs here, else 4."""
        return 0 if any(target.runs for target in self.targets) else UNAVAILABLE

    def __str__(self) -> str:
        return "\n".join(lines(self))

    def as_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain JSON."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "exit_code": self.exit_code,
            "targets": [asdict(target) for target in self.targets],
            "machine": dict(self.machine),
            "gpu": {"devices": [dict(device) for device in self.gpu.devices], "note": self.gpu.note, "mig": list(self.gpu.mig)},
            "energy": self.energy.as_dict(),
            "telemetry_on": list(self.reporting),
            "torch": dict(self.torch),
            "packages": [asdict(package) for package in self.packages],
            "peaks": None if self.peaks is None else self.peaks.as_dict(),
        }
        # as a reader of the JSON has it, with lists in place of tuples
        as_read: dict[str, Any] = json.loads(json.dumps(content))
        return as_read


def doctor(*, roofline: bool = False, threads: int | str | None = None) -> Diagnosis:
    """Say which targets run on this machine, and why others do not; `print(doctor())` gives the lines of the command.

    Args:
        roofline: also measure what arithmetic and memory of the machine reach, in seconds; earlier measurements are read again.
        threads: number of threads of the runtimes whose peaks are measured; all cores when None.

    Returns:
        The targets, the processor, the GPU and the packages; `exit_code` is 0 when at least one target runs here, else 4.

    Raises:
        InputError: when `threads` is no number of threads, or is given without `roofline`.

    Example:
        >>> [target.name for target in doctor().targets][:2]
        ['openvino', 'onnxruntime']
    """
    if threads is not None and not roofline:
        raise InputError(f"`--threads` (={threads}) is of --roofline: add that, or leave it out.")
    count = None if threads is None else read.threads(threads, "--threads", Path())
    here = machine() | {"memory_available_bytes": psutil.virtual_memory().available}
    cards = gpu()
    targets = tuple(target(name, no_gpu=cards.absent) for name in target_names())
    peaks = None
    if roofline:
        # Loads torch, which takes longer than everything else here.
        from optimize.measure.peaks import peaks as of_machine

        peaks = of_machine([target.name for target in targets if target.runs], count)
    return Diagnosis(targets, here, cards, torch_build(), packages(_optional()), peaks, meters(), REPORTING)


def target(name: str, *, no_gpu: bool = False) -> Target:
    """Try one target: its packages, its backend's own check, and whether the runtime can be loaded; `no_gpu`: there is none here."""
    about = description(name)
    version = installed_version(about.packages[0])
    precisions: tuple[str, ...] = ()
    try:
        runtime = backend(name)
        runtime.preflight()
        # imports the runtime itself: packages that are installed can still fail to load
        runtime.version()
        precisions = (*runtime.precisions(), "int8")
        reason = runtime.unavailable_reason() or ""
    except TargetUnavailable as refusal:
        reason = _reason(str(refusal))
    except Exception as problem:
        # Whatever a broken installation raises (a missing library, another numpy) is what the user came to find out.
        first = (str(problem).strip().splitlines() or [""])[0]
        reason = f"it is installed, but cannot be loaded: {type(problem).__name__}: {first}"
    int8_on = int8_instructions() if precisions and about.on_cpu else None
    # without a GPU nothing that is installed would make a target for GPUs run
    helps = reason and not (no_gpu and about.packages[0].only_with_gpu)
    return Target(name, version, bool(precisions), not reason, reason, precisions, int8_on, about.remedy if helps else None)


def int8_instructions(instructions: Iterable[str] | None = None) -> str | None:
    """Return the instructions that compute 8-bit products, of the given sets or of this machine; None where that is not known."""
    cpu_level = level(instructions)
    return None if cpu_level is None else LEVELS[cpu_level][0]


def _optional() -> list[tuple[str, Requirement]]:
    """Return the install command and the package, for every package that a target or an optional part needs."""
    of_targets = [(about.install_command, package) for about in map(description, target_names()) for package in about.packages]
    return [*of_targets, *((install_command(extra), package) for extra, required in EXTRAS.items() for package in required)]


def _only_with_gpu() -> set[str]:
    """Return the names of packages and targets that cannot be used without an NVIDIA GPU."""
    packages_of_gpus = {package.name for _, package in _optional() if package.only_with_gpu}
    return packages_of_gpus | {name for name in target_names() if description(name).packages[0].only_with_gpu}


def lines(diagnosis: Diagnosis) -> list[str]:
    """Return the diagnosis as text: the targets, the machine, and what is missing."""
    rows = [("target", "installed", "runs here", "precisions", "int8 on"), *map(_row, diagnosis.targets)]
    text = [*_aligned(rows), ""]
    useless = _only_with_gpu() if diagnosis.gpu.absent else set()
    text += [_why(target, _NEEDS_GPU if target.name in useless else target.remedy) for target in diagnosis.targets if target.reason]
    text += ["", *_aligned(_facts(diagnosis))]
    absent = [package for package in diagnosis.packages if package.version is None]
    missing = [(package.name, package.purpose, _NEEDS_GPU if package.name in useless else package.remedy or "") for package in absent]
    if missing:
        text += ["", *_aligned([("missing", "for", "remedy"), *missing])]
    if diagnosis.peaks is not None:
        text += ["", *_peak_lines(diagnosis.peaks)]
    return text


def _why(target: Target, remedy: str | None) -> str:
    compiles = "it compiles here, but does not run: " if target.compiles else ""
    return f"{target.name}: {compiles}{target.reason}{f'; {remedy}' if remedy else ''}."


def _row(target: Target) -> tuple[str, ...]:
    runs = "yes" if target.runs else "compiles only" if target.compiles else "no"
    return target.name, target.version or "no", runs, ", ".join(target.precisions) or "-", target.int8_on or "-"


def _facts(diagnosis: Diagnosis) -> list[tuple[str, ...]]:
    here, build = diagnosis.machine, diagnosis.torch
    sets: Sequence[str] = here["isa"]  # type: ignore[assignment]
    built = f", built for {build['build']}" if build["build"] else ""
    return [
        ("processor", str(here["cpu"])),
        ("instruction sets", " ".join(sets) or "not known"),
        ("cores usable", f"{here['logical_cores']} ({here['physical_cores'] or 'unknown'} physical)"),
        ("memory", f"{_gib(here['memory_bytes'])}, {_gib(here['memory_available_bytes'])} available"),
        (
            "GPU",
            "; ".join([*map(_device, diagnosis.gpu.devices), *(f"MIG {instance}" for instance in diagnosis.gpu.mig)]) or diagnosis.gpu.note,
        ),
        ("energy", "; ".join([*(meter.name for meter in diagnosis.energy.meters), *diagnosis.energy.notes])),
        ("telemetry", _telemetry(diagnosis.reporting)),
        ("system", str(here["os"])),
        ("Python", str(here["python"])),
        ("torch", f"{build['version'] or 'not installed'}{built}"),
    ]


def _telemetry(reporting: Sequence[str]) -> str:
    """Return in words whether libraries report to their makers from this process."""
    if not reporting:
        *senders, last = SENDERS
        return f"off, also that of {', '.join(senders)} and {last}"
    return f"on for {', '.join(reporting)}, imported before optimize: import optimize first"


def _device(device: Mapping[str, str | int]) -> str:
    """Return a GPU in words, with the compute capability that `--compute-capability` takes, where the driver reports it."""
    capability = str(device["compute_capability"])
    known = f", compute capability {capability}" if re.fullmatch(r"\d+\.\d+", capability) else ""
    return f"{device['name']}, {device['memory_mib']} MiB, driver {device['driver']}{known}"


def _peak_lines(peaks: Peaks) -> list[str]:
    busy = f", with other processes using {peaks.load_percent:g} % of it" if peaks.load_percent else ""
    threads = "all cores" if peaks.threads is None else f"{peaks.threads} threads"
    rates = [(name, precision, rate) for name, by_precision in peaks.rates.items() for precision, rate in by_precision.items()]
    rows = [(name, precision, f"{rate / 1e9:.1f}", f"{rate / peaks.bandwidth:.1f}") for name, precision, rate in rates]
    return [
        f"Peaks of this machine, {threads}{busy}; copy bandwidth {peaks.bandwidth / 1e9:.1f} GB/s",
        *_aligned([("runtime", "precision", "GMAC/s", "memory limits below, MAC/byte"), *rows]),
    ]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _reason(text: str) -> str:
    """Return a backend's refusal without the words around it, which the table says already."""
    plain = text.partition("cannot run here: ")[2] or text
    return re.split(r"; (?:pip install|use target) ", plain)[0].rstrip(".")


def _gib(amount: object) -> str:
    return f"{float(str(amount)) / _GIB:.1f} GiB"
