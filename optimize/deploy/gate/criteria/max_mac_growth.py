"""Multiply-accumulates of one input: those of the run's report, or counted in an ONNX file. They do not say how fast a model is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.deploy.gate.criteria import Criterion
from optimize.deploy.gate.judged import Judged

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence
    from optimize.measure.benchmark import Contender

NAME = "max_mac_growth"


def _judge(evidence: Evidence, limit: float | None) -> Iterator[Judged]:
    from optimize.deploy.gate.growth import judged_count

    old = evidence.stored_figure(NAME) if evidence.baseline is None else _macs(evidence.baseline)
    yield judged_count(NAME, "multiply-accumulates", "MACs", old, _macs(evidence.candidate), limit)


def _macs(model: Contender) -> int | None:
    from optimize.deploy.gate.evidence import artifact
    from optimize.graph.onnx_macs import onnx_macs

    if model.macs is not None:
        return model.macs
    # every other form than an ONNX file has to be told
    main = artifact(model).main
    return onnx_macs(main) if main.suffix == ".onnx" else None


def _record(evidence: Evidence) -> int | None:
    return _macs(evidence.candidate)


CRITERION = Criterion(
    name=NAME,
    rule="growth",
    help="Largest allowed growth of the multiply-accumulates of one input; 0% allows none.",
    example="1%",
    judge=_judge,
    record=_record,
    noisy=False,
    order=70,
)
