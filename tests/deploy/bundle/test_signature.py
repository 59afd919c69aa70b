"""The envelope: its bytes written out by hand, checked by `openssl` where there is one, and refused after any change."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from optimize.deploy.bundle import signature
from optimize.errors import InputError
from optimize.report.dsse import encoded, keyid
from tests import keys

MANIFEST = '{"a":"é"}'.encode()
SIGNED = b'DSSEv1 36 application/vnd.optimize.bundle+json 10 {"a":"\xc3\xa9"}'
"""Counted by hand: the é has two bytes."""


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def key_file(key: Ed25519PrivateKey, tmp_path: Path) -> Path:
    return keys.private(tmp_path / "key.pem", key)


def base64_of(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def test_what_is_signed_is_the_encoding_of_dsse() -> None:
    assert encoded(signature.PAYLOAD_TYPE, MANIFEST) == SIGNED
    assert encoded("", b"") == b"DSSEv1 0  0 "


def test_the_envelope_holds_what_cryptography_verifies(key: Ed25519PrivateKey, key_file: Path) -> None:
    envelope = signature.sign(MANIFEST, key_file)
    content = json.loads(envelope)
    assert set(content) == {"payload", "payloadType", "signatures"}
    assert base64.b64decode(content["payload"]) == MANIFEST
    (entry,) = content["signatures"]
    assert entry["keyid"] == hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()
    key.public_key().verify(base64.b64decode(entry["sig"]), SIGNED)
    with pytest.raises(InvalidSignature):
        key.public_key().verify(base64.b64decode(entry["sig"]), MANIFEST)  # the payload alone is not what was signed
    assert signature.sign(MANIFEST, key_file) == envelope
    assert envelope.startswith(b'{"payload":"eyJ')
    assert b" " not in envelope
    assert signature.check(MANIFEST, envelope, base64_of(key)) == entry["keyid"] == keyid(key_file)


def test_openssl_agrees(key: Ed25519PrivateKey, key_file: Path, tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl")
    public = keys.public(tmp_path / "key.pub", key)
    (tmp_path / "signed").write_bytes(SIGNED)
    (tmp_path / "sig").write_bytes(base64.b64decode(json.loads(signature.sign(MANIFEST, key_file))["signatures"][0]["sig"]))
    call = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", tmp_path / "signed", "-sigfile", tmp_path / "sig"]
    assert "Success" in subprocess.run(call, check=True, capture_output=True, text=True).stdout


def changed(envelope: bytes, **parts: Any) -> bytes:
    return rfc8785.dumps(json.loads(envelope) | parts)


def test_every_change_is_refused(key: Ed25519PrivateKey, key_file: Path, tmp_path: Path) -> None:
    envelope = signature.sign(MANIFEST, key_file)
    (entry,) = json.loads(envelope)["signatures"]
    stranger = keys.private(tmp_path / "other.pem")
    foreign = json.loads(signature.sign(MANIFEST, stranger))["signatures"][0]
    other = base64.b64encode(b"{}").decode()
    again = base64.b64encode(key.sign(encoded(signature.PAYLOAD_TYPE, b"{}"))).decode()
    for wrong, reason in (
        (b"", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"payload":1,"payload":1}', "damaged"),
        (changed(envelope, payload="AA="), "damaged"),
        (changed(envelope, signatures=None), "damaged"),
        (changed(envelope, payloadType="application/vnd.in-toto+json"), "something else"),
        (changed(envelope, payload=other), "another manifest"),
        (changed(envelope, signatures=[]), "signed by nobody"),
        (changed(envelope, signatures=[entry, foreign]), "not by the key"),
        (changed(envelope, note="trusted"), "damaged"),
        (changed(envelope, signatures=[entry | {"note": "trusted"}]), "damaged"),
        (json.dumps(json.loads(envelope)).encode(), "damaged"),
        (changed(envelope, signatures=[foreign]), "not by the key"),
        (changed(envelope, signatures=[foreign | {"keyid": entry["keyid"]}]), "did not make"),
        (changed(envelope, signatures=[entry | {"sig": again}]), "did not make"),
        (changed(envelope, signatures=[entry | {"sig": entry["sig"][:-3] + "h=="}]), "damaged|did not make"),
    ):
        with pytest.raises(InputError, match=reason):
            signature.check(MANIFEST, wrong, base64_of(key))
    with pytest.raises(InputError, match="another manifest"):
        signature.check(b"{}", envelope, base64_of(key))


def test_a_key_that_others_can_read_is_not_used(key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        signature.sign(MANIFEST, key_file)
