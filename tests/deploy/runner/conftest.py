"""Bundles made by hand, once for all tests that only read them, and copied for those that change them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from optimize.deploy.runner.signature import VARIABLE
from tests.deploy.runner import handmade


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture(scope="session")
def key() -> Ed25519PrivateKey:
    """The owner's private key."""
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory, key: Ed25519PrivateKey) -> Path:
    """A signed bundle with its runner; not to be changed."""
    return handmade.bundle(tmp_path_factory.mktemp("sealed") / "cells", runner=True, key=key)


@pytest.fixture
def copied(sealed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(sealed, tmp_path / "cells"))
