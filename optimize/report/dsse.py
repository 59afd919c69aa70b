"""Signs and checks the bytes of a file by an envelope beside it: DSSE, the Dead Simple Signing Envelope, version 1, with Ed25519.

    {"payloadType": "application/…", "payload": base64 of the file's bytes,
     "signatures": [{"keyid": sha256 hex of the public key's 32 bytes, "public_key": base64 of these bytes, "sig": base64 of 64 bytes}]}

What is signed is the pre-authentication encoding: "DSSEv1", the length and the text of the type, the length and the bytes of the payload,
with one space between each. For the type "a/b" and the payload "hello": `DSSEv1 3 a/b 5 hello`. The type is signed too, so that a signed
protocol can never be shown as a signed manifest.

"public_key" is no part of DSSE, which allows further fields. A valid signature says that the holder of this key signed, not who that is:
compare its fingerprint, the keyid, with the one that you were given.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.errors import InputError
from optimize.report import strict_json
from optimize.report.signature import private_key, require_cryptography

MAX_ENVELOPE_BYTES = 2**20
"""Largest number of bytes of an envelope that is read; its payload is a text of a few pages."""


@dataclass(frozen=True)
class Signed:
    """A valid signature.

    Args:
        fingerprint: SHA-256 of the 32 bytes of the public key, 64 hexadecimal digits.
        public_key: these bytes in base64.
        envelope: the envelope, as parsed JSON.
    """

    fingerprint: str
    public_key: str
    envelope: Mapping[str, Any]


def encoded(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding, which is what the signature is over.

    >>> encoded("a/b", b"hello")
    b'DSSEv1 3 a/b 5 hello'
    """
    kind = payload_type.encode()
    return b" ".join((b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload))


def keyid(key_file: str | Path) -> str:
    """Return the name of a private key in an envelope: the SHA-256 of the 32 bytes of its public half, 64 hexadecimal digits.

    Raises:
        InputError: when the key cannot be used, or the package cryptography is not installed.
    """
    require_cryptography()
    return hashlib.sha256(private_key(Path(key_file)).public_key().public_bytes_raw()).hexdigest()


def envelope(payload_type: str, payload: bytes, key_file: str | Path) -> dict[str, Any]:
    """Return the envelope of a payload with one signature; Ed25519 takes no random numbers, so signing twice gives the same.

    Args:
        payload_type: media type of the payload, which is signed too.
        payload: bytes to sign.
        key_file: file of an Ed25519 private key in PEM (PKCS 8). It is not encrypted, and only its owner may read it.

    Raises:
        InputError: when the key cannot be used, or the package cryptography is not installed.
    """
    require_cryptography()
    value = private_key(Path(key_file)).sign(encoded(payload_type, payload))
    signature = {"keyid": keyid(key_file), "sig": base64.b64encode(value).decode()}
    return {"payloadType": payload_type, "payload": base64.b64encode(payload).decode(), "signatures": [signature]}


def sign(payload_type: str, payload: bytes, key_file: str | Path) -> str:
    """Return the envelope of a payload, with the public key in it, as JSON text; the same payload and key give the same text.

    Args:
        payload_type: media type of the payload, which is signed too.
        payload: bytes to sign.
        key_file: file of an Ed25519 private key in PEM (PKCS 8). It is not encrypted, and only its owner may read it.

    Raises:
        InputError: when the key cannot be used, or the package cryptography is not installed.
    """
    content = envelope(payload_type, payload, key_file)
    (signature,) = content["signatures"]
    public = base64.b64encode(private_key(Path(key_file)).public_key().public_bytes_raw()).decode()
    signatures = [{"keyid": signature["keyid"], "public_key": public, "sig": signature["sig"]}]
    return json.dumps({**content, "signatures": signatures}, indent=2) + "\n"


def verify(file: Path, payload_type: str, payload: bytes) -> Signed:
    """Check the envelope in a file against the payload that lies beside it.

    Args:
        file: file of the envelope.
        payload_type: media type that the envelope must name.
        payload: bytes that must have been signed.

    Raises:
        InputError: when the envelope is damaged, is for other bytes, or its signature is not valid; or cryptography is not installed.
    """
    require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        with file.open("rb") as stream:
            whole = strict_json.parse(stream.read(MAX_ENVELOPE_BYTES))
        kind, content, (signature,) = whole["payloadType"], _decoded(whole["payload"]), whole["signatures"]
        public, value = _decoded(signature["public_key"]), _decoded(signature["sig"])
        key = Ed25519PublicKey.from_public_bytes(public)
        fingerprint = str(signature["keyid"])
    except OSError as problem:
        reason = (problem.strerror or type(problem).__name__).lower()
        raise InputError(f"`{file}` cannot be read ({reason}): see to its permissions.") from None
    # the file comes from anyone: any shape is possible, and none may end in a traceback
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"`{file}` is no readable DSSE envelope with one Ed25519 signature: sign again.") from None
    if kind != payload_type or content != payload:
        raise InputError(f"`{file}` was made for other bytes than those of the file beside it: sign again, or take the signed file.")
    try:
        key.verify(value, encoded(payload_type, payload))
    except InvalidSignature:
        raise InputError(f"`{file}` holds a signature that the key in it did not make: sign again.") from None
    if fingerprint != hashlib.sha256(public).hexdigest():
        raise InputError(f"`{file}` names another key than the one that signed: sign again.")
    return Signed(fingerprint, signature["public_key"], whole)


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
