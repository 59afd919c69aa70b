"""Take a trained PyTorch model to a smaller, faster, verified artifact for the machine that will run it.

    import optimize as opt

    report = opt.compress(net, {"train": train, "val": val, "test": test}, target="onnxruntime", out="out")
    print(report)                          # the verdict, its reasons, what became smaller and faster
    if report:
        outputs = report.predict(images)   # the compiled model, in its runtime

Every public name is imported when it is first used, so `import optimize` loads neither torch nor a runtime. Besides the names listed here
there are all steps (`optimize/steps/`), signals (`optimize/importance/`) and strategies (`optimize/searching/`) by their classes: a new
file in one of these folders needs no entry.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.hardware.offline import REPORTING

if TYPE_CHECKING:
    from optimize.backends import backend as backend
    from optimize.backends.artifact import Artifact as Artifact
    from optimize.backends.export import export_onnx as export_onnx
    from optimize.candidate import Candidate as Candidate
    from optimize.candidate import Reference as Reference
    from optimize.data.dataset import Dataset as Dataset
    from optimize.data.dataset import load_data as load_data
    from optimize.data.preprocessing import Preprocessing as Preprocessing
    from optimize.data.split import Split as Split
    from optimize.errors import Inconclusive as Inconclusive
    from optimize.errors import InputError as InputError
    from optimize.errors import OptimizeError as OptimizeError
    from optimize.errors import TargetUnavailable as TargetUnavailable
    from optimize.graph.macs import macs as macs
    from optimize.graph.trace import trace as trace
    from optimize.guard.evaluate import evaluate as evaluate
    from optimize.guard.limits import Limits as Limits
    from optimize.guard.verdict import Verdict as Verdict
    from optimize.guard.verdict import judge as judge
    from optimize.importance.batchnorm import BatchNormScale as BatchNormScale
    from optimize.importance.ilr import InsideLayerRanking as InsideLayerRanking
    from optimize.importance.magnitude import Magnitude as Magnitude
    from optimize.importance.output_error import OutputError as OutputError
    from optimize.importance.rank import Rank as Rank
    from optimize.importance.redundancy import Redundancy as Redundancy
    from optimize.importance.snip import Snip as Snip
    from optimize.importance.taylor import Taylor as Taylor
    from optimize.loading.load import load_model as load_model
    from optimize.run.bundle import bundle as bundle
    from optimize.run.doctor import doctor as doctor
    from optimize.run.from_python import audit as audit
    from optimize.run.from_python import compare as compare
    from optimize.run.from_python import compress as compress
    from optimize.run.from_python import demo as demo
    from optimize.run.from_python import plan as plan
    from optimize.run.from_python import verify as verify
    from optimize.run.gate import gate as gate
    from optimize.run.profile import profile as profile
    from optimize.run.report import Report as Report
    from optimize.searching.allocate import Allocate as Allocate
    from optimize.searching.budgets import Budgets as Budgets
    from optimize.searching.published.local import Local as Local
    from optimize.searching.published.stepwise import Stepwise as Stepwise
    from optimize.searching.search import search as search
    from optimize.searching.walk import SearchResult as SearchResult
    from optimize.steps.chain import Chain as Chain
    from optimize.steps.factorize import Factorize as Factorize
    from optimize.steps.factorize_convolutions import FactorizeConvolutions as FactorizeConvolutions
    from optimize.steps.finetune import Finetune as Finetune
    from optimize.steps.fit_output import FitOutput as FitOutput
    from optimize.steps.merge import Merge as Merge
    from optimize.steps.prune import Prune as Prune
    from optimize.steps.prune_to_widths import PruneToWidths as PruneToWidths
    from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm as RecalibrateBatchNorm
    from optimize.steps.remove_channels import RemoveChannels as RemoveChannels
    from optimize.steps.repair import Repair as Repair

_NAMES = {
    "backends": ("backend",),
    "backends.artifact": ("Artifact",),
    "backends.export": ("export_onnx",),
    "candidate": ("Candidate", "Reference"),
    "data.dataset": ("Dataset", "load_data"),
    "data.preprocessing": ("Preprocessing",),
    "data.split": ("Split",),
    "errors": ("Inconclusive", "InputError", "OptimizeError", "TargetUnavailable"),
    "graph.macs": ("macs",),
    "graph.trace": ("trace",),
    "guard.evaluate": ("evaluate",),
    "guard.limits": ("Limits",),
    "guard.verdict": ("Verdict", "judge"),
    "loading.load": ("load_model",),
    "run.bundle": ("bundle",),
    "run.doctor": ("doctor",),
    "run.from_python": ("audit", "compare", "compress", "demo", "plan", "verify"),
    "run.gate": ("gate",),
    "run.profile": ("profile",),
    "run.report": ("Report",),
    "searching.search": ("search",),
    "searching.walk": ("SearchResult",),
}
"""Module -> the public names in it."""
_FOLDERS = ("steps", "importance", "searching")
"""Where each public class that is called as a step, a signal or a strategy is a public name."""
_CALLABLE = re.compile(
    r"^class ([A-Z]\w*):\n(?:(?!class |def |@).*\n)*?    def __call__\(self, (?:candidate: Candidate, reference: Reference\b|walk: Walk\b)",
    re.MULTILINE,
)
"""A class, by its own text, that is called with (candidate, reference, …) or with a walk."""


def _module_of(home: Path) -> dict[str, str]:
    """Public name -> the module that defines it; steps, signals and strategies as their folders have them, found without importing them."""
    found = {name: f"optimize.{module}" for module, names in _NAMES.items() for name in names}
    for file in sorted(path for folder in _FOLDERS for path in (home / folder).rglob("*.py")):
        module = ".".join(("optimize", *file.relative_to(home).with_suffix("").parts))
        found |= dict.fromkeys(_CALLABLE.findall(file.read_text(encoding="utf-8")), module)
    return found


_MODULE_OF = _module_of(Path(__file__).parent)
__all__ = ("REPORTING", *sorted(_MODULE_OF))


def __getattr__(name: str) -> Any:
    """A public name, imported on its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'optimize' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, and what every module has."""
    return sorted({*globals(), *__all__})
