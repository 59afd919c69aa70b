"""Every kind of tampering of the study, on bundles of runs made by hand: the runner refuses each with the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bundle_tampering import KINDS, tampered
from optimize.deploy.runner.checks import check
from optimize.deploy.runner.errors import Refused
from optimize.run.bundle import bundle
from tests import keys
from tests.deploy.finished_run import finished


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two signed bundles, the owner's public key and another private key."""
    folder = tmp_path_factory.mktemp("tampering")
    private, public = keys.pair(folder, "owner")
    for name in ("mine", "other"):
        bundle(finished(folder / f"run-{name}", seed=len(name)), folder / name, sign_key=private)
    return {"mine": folder / "mine", "other": folder / "other", "public": public, "attacker": keys.private(folder / "attacker.pem")}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_refused_with_the_key(kind: str, made: dict[str, Path], tmp_path: Path) -> None:
    number = list(KINDS).index(kind)
    for seed in (number, number + len(KINDS)):
        assert tampered(tmp_path / "copy", seed, made["mine"], made["other"], made["attacker"]) == kind
        with pytest.raises(Refused) as problem:
            check(tmp_path / "copy", made["public"])
        assert "\n" not in str(problem.value)
    check(made["mine"], made["public"])


def test_the_same_seed_tampers_in_the_same_way(made: dict[str, Path], tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        tampered(tmp_path / name, 0, made["mine"], made["other"], made["attacker"])
        contents.append({path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
