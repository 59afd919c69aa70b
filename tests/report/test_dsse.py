"""Envelopes, checked by `cryptography` itself against the encoding that the specification of DSSE gives as an example, and spoilt."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimize.errors import InputError
from optimize.report.dsse import encoded, sign, verify
from tests import keys

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.asymmetric import ed25519

TYPE, PAYLOAD = "application/x", b'title = "\xc3\xa9"\n'


@pytest.fixture(scope="module")
def key() -> Any:
    return ed25519.Ed25519PrivateKey.generate()


@pytest.fixture
def file(tmp_path: Path, key: Any) -> Path:
    path = tmp_path / "p.toml.dsse.json"
    path.write_text(sign(TYPE, PAYLOAD, keys.private(tmp_path / "key.pem", key)), encoding="utf-8")
    return path


def test_what_is_signed_is_the_example_of_the_specification() -> None:
    assert encoded("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_are_of_bytes_not_of_letters() -> None:
    assert encoded("a", "é".encode()) == b"DSSEv1 1 a 2 \xc3\xa9"


def test_another_library_accepts_the_signature(file: Path, key: Any) -> None:
    envelope = json.loads(file.read_text(encoding="utf-8"))
    (signature,) = envelope["signatures"]
    payload = base64.b64decode(envelope["payload"])
    message = b"DSSEv1 13 application/x " + str(len(payload)).encode() + b" " + payload
    key.public_key().verify(base64.b64decode(signature["sig"]), message)
    assert payload == PAYLOAD
    assert signature["keyid"] == hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()


def test_the_same_key_gives_the_same_envelope(file: Path, tmp_path: Path) -> None:
    assert sign(TYPE, PAYLOAD, tmp_path / "key.pem") == file.read_text(encoding="utf-8")


def test_a_valid_signature_names_its_key(file: Path, key: Any) -> None:
    signed = verify(file, TYPE, PAYLOAD)
    raw = key.public_key().public_bytes_raw()
    assert (signed.fingerprint, base64.b64decode(signed.public_key)) == (hashlib.sha256(raw).hexdigest(), raw)


@pytest.mark.parametrize(("kind", "payload"), [(TYPE, PAYLOAD + b" "), ("application/y", PAYLOAD)])
def test_other_bytes_or_another_type_are_refused(file: Path, kind: str, payload: bytes) -> None:
    with pytest.raises(InputError, match="other bytes"):
        verify(file, kind, payload)


def spoilt(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda envelope: envelope["signatures"][0].__setitem__(name, value)


def other_key(envelope: dict[str, Any]) -> None:
    public = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    envelope["signatures"][0] |= {"public_key": base64.b64encode(public).decode(), "keyid": hashlib.sha256(public).hexdigest()}


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (spoilt("sig", base64.b64encode(bytes(64)).decode()), "did not make"),
        (other_key, "did not make"),
        (spoilt("keyid", "0" * 64), "another key"),
        (spoilt("public_key", "!"), "no readable"),
        (spoilt("sig", None), "no readable"),
        (lambda envelope: envelope["signatures"].clear(), "no readable"),
        (lambda envelope: envelope["signatures"].append(envelope["signatures"][0]), "no readable"),
        (lambda envelope: envelope.pop("payload"), "no readable"),
    ],
)
def test_a_spoilt_envelope_is_refused_in_one_line(file: Path, spoil: Callable[[dict[str, Any]], None], text: str) -> None:
    envelope = json.loads(file.read_text(encoding="utf-8"))
    spoil(envelope)
    file.write_text(json.dumps(envelope), encoding="utf-8")
    with pytest.raises(InputError, match=text) as caught:
        verify(file, TYPE, PAYLOAD)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"payload": 1, "payload": 2}', "[" * 100_000])
def test_what_is_no_envelope_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "e").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="no readable"):
        verify(tmp_path / "e", TYPE, PAYLOAD)
