"""The key that a user was given, checked by what `openssl` and `cryptography` make of the same one."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from optimize.errors import InputError
from optimize.run.verification.public_key import public_key
from tests import keys

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TEXT = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()


def refused(said: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        public_key(said)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"`--public-key` (={str(said)[:80]}")
    return str(caught.value)


def test_a_file_in_pem_and_base64_are_the_same_key(tmp_path: Path) -> None:
    assert public_key(keys.public(tmp_path / "key.pub", KEY)) == TEXT
    assert public_key(TEXT) == TEXT
    assert public_key((tmp_path / "key.pub").read_text()) == TEXT
    (tmp_path / "text").write_text(f"{TEXT}\n")
    assert public_key(tmp_path / "text") == TEXT


def test_a_file_that_is_named_as_a_key_does_not_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a run may send a file beside it, whose name is the owner's key and whose content is his own."""
    monkeypatch.chdir(tmp_path)
    other = bytes(range(32))
    plain = base64.b64encode(other).decode()
    assert "/" not in plain
    keys.public(tmp_path / plain, KEY)
    assert public_key(plain) == plain
    assert public_key(f"./{plain}") == TEXT


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_the_file_that_openssl_makes_is_read(tmp_path: Path) -> None:
    keys.private(tmp_path / "key.pem", KEY)
    subprocess.run(["openssl", "pkey", "-in", tmp_path / "key.pem", "-pubout", "-out", tmp_path / "key.pub"], check=True)
    assert public_key(tmp_path / "key.pub") == TEXT


def test_a_private_key_is_not_repeated(tmp_path: Path) -> None:
    content = keys.private(tmp_path / "key.pem", KEY).read_text()
    with pytest.raises(InputError, match=r"`--public-key` \(=-----BEGIN …\) holds a private key") as caught:
        public_key(content)
    assert content.splitlines()[1] not in str(caught.value)


def test_other_keys_are_refused(tmp_path: Path) -> None:
    assert "holds a private key, which belongs to its owner alone" in refused(keys.private(tmp_path / "key.pem", KEY))
    for other, kind in ((rsa.generate_private_key(65537, 1024), "RSA"), (ec.generate_private_key(ec.SECP256R1()), "E")):
        assert f"holds a key of another kind ({kind}" in refused(keys.public(tmp_path / "other.pub", other))
    ssh = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    for content in (ssh, b"", b"\xff" * 99, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", TEXT[:-2].encode()):
        (tmp_path / "other.pub").write_bytes(content)
        assert "holds no public key in PEM: give the Ed25519 public key" in refused(tmp_path / "other.pub")


@pytest.mark.parametrize(
    "said",
    ["nowhere.pub", "", "a\0b", "x" * 5000, TEXT[:-1], TEXT[:-2] + "9=", TEXT + "AAAA", "é", KEY.public_key().public_bytes_raw().hex()],
)
def test_what_is_neither_a_file_nor_a_key_is_refused(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is neither a file that is there nor a key in base64"):
        public_key(said)


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    assert "cannot be read (is a directory)" in refused(tmp_path)
