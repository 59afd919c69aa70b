"""The gate inside a team's own tests: a plugin of pytest, on pytest-benchmark.

    def test_latency(benchmark_artifact):
        benchmark_artifact("out/model")

times the artifact as pytest-benchmark times any function. With `--optimize-gate-baseline PATH` the artifact is also compared with a
baseline, as `optimize gate` compares: a regression fails the test. A comparison that cannot be decided ends the test as an expected failure
(xfail): it does not stop the suite, since chance is no fault of the code, and it does not look green either.

pytest imports this module at every start, so it imports nothing heavy: no numpy, no torch, no runtime, no other job.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from optimize.deploy.gate.criteria import rows

if TYPE_CHECKING:
    from optimize.candidate import Floats

BenchmarkArtifact: TypeAlias = Callable[..., "Floats"]
ROUNDS, WARMUP_ROUNDS = 50, 5
_BASELINE = "optimize_gate_baseline"
_MEASUREMENT = {
    "max_seconds": ("S", "Longest comparison of latency; by default 120."),
    "batches": ("N,…", "Batch sizes at each of which latency is compared; by default that of the inputs."),
    "threads": ("N", "Number of threads; by default 1."),
    "data": ("DATA", "Labelled data for a comparison of accuracy."),
}
"""Settings of `optimize gate` that are options here too, beside the limits -> metavar and help."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the gate: the baseline, every limit, and how it is measured."""
    group = parser.getgroup("optimize", "latency gate of optimize")
    help = "Compare what `benchmark_artifact` times with this baseline: a run, an artifact, an .onnx file or a stored baseline."
    group.addoption("--optimize-gate-baseline", dest=_BASELINE, metavar="PATH", help=help)
    for row in rows():
        name = row.name.replace("_", "-")
        group.addoption(f"--optimize-{name}", dest=f"optimize_{row.name}", metavar=row.example, help=row.help.replace("%", "%%"))
    for setting, (metavar, text) in _MEASUREMENT.items():
        group.addoption(f"--optimize-{setting.replace('_', '-')}", dest=f"optimize_{setting}", metavar=metavar, help=text)


@pytest.fixture
def benchmark_artifact(request: pytest.FixtureRequest) -> BenchmarkArtifact:
    """Return a function that times one artifact, and holds the gate where a baseline was named.

    The function takes `path`, the folder of a run or of an artifact or an .onnx file; `inputs`, (N, C, *spatial) float32, by default one
    random input; `baseline`, by default that of the command line; and `rounds`. It returns the outputs, so that a test can look at them.
    Call it last in a test: an undecided gate ends the test there.
    """
    if not request.config.pluginmanager.hasplugin("benchmark"):
        pytest.fail("`benchmark_artifact` needs pytest-benchmark, which is not active here: pip install 'optimize[gate]'.", pytrace=False)
    benchmark = request.getfixturevalue("benchmark")

    def time_and_gate(
        path: str | Path, inputs: Floats | None = None, *, baseline: str | Path | None = None, rounds: int = ROUNDS
    ) -> Floats:
        outputs, batch = _time(benchmark, Path(path), inputs, rounds, request.config.getoption("optimize_threads"))
        against = baseline or request.config.getoption(_BASELINE)
        if against is not None:
            _hold(request.config, against, path, batch, benchmark)
        return outputs

    return time_and_gate


def _time(benchmark: Any, path: Path, inputs: Floats | None, rounds: int, threads: str | None) -> tuple[Floats, int]:
    """Time an artifact in this process, and return its outputs and the number of inputs."""
    import tempfile

    import numpy as np

    from optimize.errors import OptimizeError
    from optimize.run.open_models import ModelOpener
    from optimize.run.parsing import threads as read_threads

    if inputs is not None and (not isinstance(inputs, np.ndarray) or inputs.ndim < 2 or not len(inputs)):
        kind = type(inputs).__name__
        pytest.fail(f"`inputs` (={kind}) must be an array (N, C, *spatial), N from 1: leave it out for a random one.", pytrace=False)
    try:
        count = read_threads(threads or 1, "--optimize-threads", Path())
        with tempfile.TemporaryDirectory() as scratch:
            batches = (1,) if inputs is None else (len(inputs),)
            model = ModelOpener(scratch=Path(scratch) / "models", batches=batches).all([path])[0]
            given = model.inputs(1) if inputs is None else inputs
            with model.open(count) as session:
                outputs: Floats = benchmark.pedantic(session.predict, args=(given,), rounds=rounds, warmup_rounds=WARMUP_ROUNDS)
    except OptimizeError as problem:
        pytest.fail(str(problem), pytrace=False)
    facts = {"precision": model.precision, "runtime": model.runtime, "size_bytes": model.size_bytes, "batch": len(given)}
    benchmark.extra_info.update(facts)
    return outputs, len(given)


def _hold(config: pytest.Config, baseline: str | Path, candidate: str | Path, batch: int, benchmark: Any) -> None:
    """Compare with the baseline; fail the test for a regression, and end it as xfail where that is not decided."""
    from optimize.errors import OptimizeError
    from optimize.run.gate import gate

    names = (*(row.name for row in rows()), *_MEASUREMENT)
    options = {f"--{name.replace('_', '-')}": f"--optimize-{name.replace('_', '-')}" for name in names}
    settings = {name: value for name in names if (value := config.getoption(f"optimize_{name}")) is not None}
    try:
        result = gate(baseline, candidate, **{"batches": (batch,), **settings})
    except OptimizeError as problem:
        # a gate names its own options, which have other names here
        words = str(problem).replace("`--baseline`", "`--optimize-gate-baseline`")
        for own, here in options.items():
            words = words.replace(f"`{own}`", f"`{here}`")
        pytest.fail(words, pytrace=False)
    benchmark.extra_info["gate"] = {"outcome": result.outcome, "reasons": result.reasons}
    if result.outcome == "fail":
        pytest.fail("\n".join(result.lines), pytrace=False)
    if result.outcome == "inconclusive":
        pytest.xfail(f"the gate is inconclusive: {'; '.join(result.reasons)}")
