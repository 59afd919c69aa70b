"""One bundle for all tests of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.deploy.runner.model import Model
from optimize.run.bundle import bundle
from tests.deploy.finished_run import finished


@pytest.fixture(scope="session")
def served_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny network, (N, 1, 4, 4) -> (N, 3); nobody writes into it."""
    folder = tmp_path_factory.mktemp("served")
    return bundle(finished(folder / "run"), folder / "bundle").path


@pytest.fixture(scope="session")
def model(served_bundle: Path) -> Iterator[Model]:
    """The model of that bundle, in this process."""
    with Model(served_bundle) as opened:
        yield opened
