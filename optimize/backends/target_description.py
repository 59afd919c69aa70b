"""Facts about a target that are known without loading its runtime: its name for people, where it runs, the packages it needs."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from optimize.errors import TargetUnavailable
from optimize.hardware.installed_packages import Requirement, install_command, is_installed


@dataclass(frozen=True)
class Description:
    """Facts about one target, stated by its module in `optimize/backends/targets/` as `DESCRIPTION`.

    Args:
        title: name of the runtime as its maker writes it, for messages and reports: "ONNX Runtime".
        on_cpu: whether a compiled model runs on the processor; such a target is a choice of `--target cpu` and a baseline of every run.
        packages: packages that the target needs, the one that brings the runtime first.
        extra: pip extra of this project that installs the packages; empty where pyproject.toml has none for the target.
        file_ending: ending of the file that the runtime opens.
        aliases: other names that people use for the target; an error suggests the target for them.
        position: place in lists of targets, the lowest first; targets of the same position are listed by name.
        names_every_layer: whether `inspect` names every layer that has weights, so that a missing one is a fault.
        obeys_cpu_level: whether the environment variables of `backends/cpu_limit.py` keep the runtime to a lesser CPU's instructions.

    Examples:
        >>> Description("Reference", on_cpu=True, packages=(Requirement("onnx", "runtime"),)).install_command
        "pip install 'onnx'"
    """

    title: str
    on_cpu: bool
    packages: tuple[Requirement, ...]
    extra: str = ""
    file_ending: str = ".onnx"
    aliases: tuple[str, ...] = ()
    position: int = 100
    names_every_layer: bool = False
    obeys_cpu_level: bool = False

    @property
    def install_command(self) -> str:
        """The command that installs the packages."""
        return install_command(self.extra, self.packages)

    @property
    def remedy(self) -> str | None:
        """The command that installs what is missing; None where every package is installed."""
        return None if all(map(is_installed, self.packages)) else self.install_command

    def require_packages(self, target: str) -> None:
        """Check that the packages can be imported, without importing them.

        Args:
            target: name of the target, for the error.

        Raises:
            TargetUnavailable: naming the missing packages and what to type.
        """
        missing = [package.name for package in self.packages if importlib.util.find_spec(package.import_name) is None]
        if missing:
            raise TargetUnavailable(f"target {target!r} cannot run here: {' and '.join(missing)} not installed; {self.install_command}.")
