"""manifest.dsse.json: the signature of a bundle, as an envelope of DSSE v1 (Dead Simple Signing Envelope) with Ed25519 (RFC 8032).

    {"payload": base64 of manifest.json, "payloadType": "application/vnd.optimize.bundle+json",
     "signatures": [{"keyid": SHA-256 of the key's 32 bytes, hexadecimal, "sig": base64 of 64 bytes}]}

What is signed is not the payload alone but its pre-authentication encoding, which also has its type. So a signature for something of
another type can never be taken for one of a bundle:

    DSSEv1 36 application/vnd.optimize.bundle+json 4711 {"accepted":true,…      (36 and 4711 are numbers of bytes)

The manifest has the hash of every file, so the signature covers the whole bundle. It says that the holder of the key made this bundle. It
says nothing about who that is: compare the key with the one that you were given by another way.

Source: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any

import rfc8785

from optimize.errors import InputError
from optimize.report.dsse import encoded, envelope
from optimize.report.signature import require_cryptography
from optimize.report.strict_json import parse

ENVELOPE = "manifest.dsse.json"
PAYLOAD_TYPE = "application/vnd.optimize.bundle+json"
_REMEDY = "take the bundle that the key's owner signed"


def sign(manifest: bytes, key_file: str | Path) -> bytes:
    """Return the envelope of a manifest; the same manifest and key give the same bytes.

    Args:
        manifest: bytes of manifest.json.
        key_file: file of an Ed25519 private key in PEM (PKCS 8). It is not encrypted, and only its owner may read it.

    Raises:
        InputError: when the key cannot be used, or the package cryptography is not installed.
    """
    content: bytes = rfc8785.dumps(envelope(PAYLOAD_TYPE, manifest, key_file))
    return content


def check(manifest: bytes, signed: bytes, public_key: str) -> str:
    """Check that the holder of a key signed a manifest.

    Args:
        manifest: bytes of manifest.json.
        signed: bytes of manifest.dsse.json.
        public_key: the 32 bytes of the public key in base64, as `run/verification/public_key.py` reads them from a file.

    Returns:
        The SHA-256 of the key's 32 bytes, hexadecimal.

    Raises:
        InputError: when the envelope is damaged, is of another manifest, or has no signature, or one that is not a valid one of this key;
            when the package cryptography is not installed.
    """
    require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw = base64.b64decode(public_key, validate=True)
    wanted = hashlib.sha256(raw).hexdigest()
    try:
        kind, payload, signatures = _opened(signed)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise InputError(f"`{ENVELOPE}` is damaged ({type(problem).__name__}): {_REMEDY}.") from None
    if kind != PAYLOAD_TYPE:
        raise InputError(f"`{ENVELOPE}` signs something else ({ascii(kind)[:80]}), not a bundle: {_REMEDY}.")
    # what is verified must be what is used: another payload in the envelope would be signed, and the manifest beside it would not
    if payload != manifest:
        raise InputError(f"`{ENVELOPE}` signs another manifest than the one beside it: {_REMEDY}.")
    # each signature must be the key's: one that nobody has checked would travel on as if it had been
    for name, value in signatures:
        if name != wanted:
            raise InputError(f"`{ENVELOPE}` is signed by {ascii(name)[1:-1][:16]}, not by the key {wanted[:16]}: {_REMEDY}.")
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(value, encoded(PAYLOAD_TYPE, payload))
        except InvalidSignature:
            raise InputError(f"`{ENVELOPE}` has a signature that the key {wanted[:16]} did not make for this bundle: {_REMEDY}.") from None
    if not signatures:
        raise InputError(f"`{ENVELOPE}` is signed by nobody, and the key {wanted[:16]} must have signed it: {_REMEDY}.")
    return wanted


def _opened(signed: bytes) -> tuple[str, bytes, list[tuple[str, bytes]]]:
    """Return the type, the payload, and the key and bytes of every signature.

    Raises:
        ValueError: when it is not written as `sign` writes it: in another form, or with a part that nobody signed and somebody might read.
    """
    content: dict[str, Any] = parse(signed)
    if rfc8785.dumps(content) != signed or set(content) != {"payload", "payloadType", "signatures"}:
        raise ValueError("not in canonical form, or with further parts")
    if any(set(entry) != {"keyid", "sig"} for entry in content["signatures"]):
        raise ValueError("a signature with further parts")
    signatures = [(str(entry["keyid"]), _decoded(entry["sig"])) for entry in content["signatures"]]
    return content["payloadType"], _decoded(content["payload"]), signatures


def _decoded(text: str) -> bytes:
    """Return the bytes of a base64 text; `ValueError` where an encoder would write another text for them."""
    raw = base64.b64decode(text, validate=True)
    # "QQ==" and "QR==" are the same byte: only the first is what an encoder writes
    if base64.b64encode(raw).decode() != text:
        raise binascii.Error("base64 with stray bits")
    return raw
