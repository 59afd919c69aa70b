"""The machine and the runtime that an artifact was verified on: what decides its numbers, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optimize.backends.self_test import ISA, MADE_FOR
from optimize.deploy.bundle.bundled_run import BundledRun

CAPABILITIES = "compute_capabilities"


@dataclass(frozen=True)
class RuntimeMachine:
    """The section "machine" of the manifest.

    Args:
        cpu: name of the processor.
        isa: level of `hardware.cpu_level.LEVELS` that the artifact was verified on; None for a GPU target, or where it is not known.
        made_for: level that the artifact was made for; None where none was asked for.
        compute_capabilities: compute capabilities of the GPUs that the engine is for, such as ["9.0"]; None for a CPU target.
        runtime: name of the target, and version of its runtime, as the runtime itself gives it.
        python: version of Python.
        numpy: version of numpy; None where the run did not record it.
        threads: number of threads that the artifact was measured with; None for the runtime's own choice.
        peak_memory_bytes: largest memory of a process that ran the artifact, in bytes; None where it was not measured.
    """

    cpu: str | None
    isa: str | None
    made_for: str | None
    compute_capabilities: list[str] | None
    runtime: Mapping[str, str]
    python: str | None
    numpy: str | None
    threads: int | None
    peak_memory_bytes: int | None

    @classmethod
    def of(cls, run: BundledRun) -> RuntimeMachine:
        """Return what the report and the artifact of a run say."""
        artifact, report = run.artifact, run.report
        machine, built = report.get("machine") or {}, artifact.built
        capabilities = built.get(CAPABILITIES)
        return cls(
            cpu=machine.get("cpu"),
            isa=built.get(ISA),
            made_for=built.get(MADE_FOR),
            compute_capabilities=None if capabilities is None else [part.strip() for part in capabilities.split(",")],
            runtime={"name": artifact.target, "version": artifact.runtime},
            python=machine.get("python"),
            numpy=report["versions"].get("numpy"),
            threads=artifact.use.get("threads"),
            # a run that ended without a measurement has None here
            peak_memory_bytes=(report.get("compressed") or {}).get("peak_memory_bytes"),
        )
