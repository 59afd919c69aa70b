"""Ranges that are taken over give the file that measuring them gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.backends import activation_ranges as module
from optimize.backends.export import export_onnx
from tests import nets


def test_a_mix_with_known_ranges_is_the_mix_that_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime: Any = pytest.importorskip("optimize.backends.targets.onnxruntime")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(module, "_kept", {})
    export_onnx(nets.candidate(nets.chain()), tmp_path / "model.onnx")
    inputs = nets.cases(12)
    first = next(iter(runtime.inspect(runtime.build(runtime.convert(tmp_path / "model.onnx", tmp_path / "f32", "f32"), threads=1))))

    def mix(name: str, cases: Any = inputs) -> bytes:
        runtime.quantize(tmp_path / "model.onnx", tmp_path / name, cases, ignored_layers=[first])
        return (tmp_path / name / "model.onnx").read_bytes()

    measured = mix("measured")
    module._kept.clear()
    runtime.quantize(tmp_path / "model.onnx", tmp_path / "whole", inputs)
    read: list[int] = []
    monkeypatch.setattr(runtime, "_batches", lambda *_: iter(read.append(1) or () for _ in range(0)))
    assert mix("taken over") == measured
    assert len(module._kept) == 1
    # other inputs have other ranges, which are measured: there are none to read here
    with pytest.raises(ValueError, match="No data"):
        mix("other", 2 * np.asarray(inputs))


def test_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_kept", {})
    model = tmp_path / "model.onnx"
    for content in range(module.MAX_KEPT + 2):
        model.write_bytes(bytes([content]))
        with module.ranges_file(model, nets.cases(1), tmp_path) as file:
            file.write_text(str(content))
    assert list(module._kept.values()) == [str(content) for content in range(2, module.MAX_KEPT + 2)]
