"""Checks the manifest's signature: Ed25519 (RFC 8032) in a DSSE envelope, against a public key that the caller pins.

What is signed is not the manifest alone but the pre-authentication encoding of DSSE, which binds the type of the content:

    DSSEv1 <length of the type> <type> <length of the manifest> <manifest>

Only a key that came by another way than the bundle tells anything: whoever alters a bundle can sign it again with a key of their own.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .canonical import canonical, parse
from .contents import read_file
from .errors import Refused, WrongInput
from .installing import pip_command
from .manifest import ENVELOPE, MAX_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.optimize.bundle+json"
VARIABLE = "BUNDLE_PUBLIC_KEY"
"""Environment variable that pins a key for every start: a file in PEM, or the 32 bytes of the key in base64."""
_MAX_KEY_BYTES = 1 << 16


def encoded(payload: bytes) -> bytes:
    """Return the bytes that are signed for a manifest.

    >>> encoded(b"{}")
    b'DSSEv1 36 application/vnd.optimize.bundle+json 2 {}'
    """
    return b" ".join([b"DSSEv1", str(len(PAYLOAD_TYPE)).encode(), PAYLOAD_TYPE.encode(), str(len(payload)).encode(), payload])


def check(root: Path, manifest: bytes, public_key: str | Path | None) -> str | None:
    """Check the envelope of a manifest.

    Args:
        root: folder of the bundle.
        manifest: bytes of manifest.json.
        public_key: pinned key, a file in PEM or the key in base64; None: that of `BUNDLE_PUBLIC_KEY`, or none at all.

    Returns:
        The fingerprint of the key that signed, the SHA-256 of its 32 bytes; None where no key is pinned.

    Raises:
        Refused: when a key is pinned and did not sign this manifest, or the envelope is damaged or of another manifest.
        WrongInput: when the pinned key cannot be read.
    """
    pinned = public_key if public_key is not None else os.environ.get(VARIABLE) or None
    key = None if pinned is None else _key(pinned, root)
    if not os.path.lexists(root / ENVELOPE):
        if key is None:
            return None
        raise Refused(f"the bundle is not signed (it has no {ENVELOPE}), and a key is pinned: get the signed bundle.")
    signatures = _signatures(read_file(root, ENVELOPE, MAX_BYTES), manifest)
    if key is None:
        return None
    fingerprint = hashlib.sha256(key.public_bytes_raw()).hexdigest()
    from cryptography.exceptions import InvalidSignature

    # each signature must be the key's: one that nobody has checked would travel on as if it had been
    for keyid, signature in signatures:
        if keyid != fingerprint:
            said = f"`{ENVELOPE}` is signed by key {keyid[:16]!a}, the pinned key is {fingerprint[:16]!a}"
            raise Refused(f"{said} (the first 16 digits of each): get the bundle from its owner.")
        try:
            key.verify(signature, encoded(manifest))
        except InvalidSignature:
            raise Refused(f"the signature in `{ENVELOPE}` is none of this manifest by the pinned key: get the bundle again.") from None
    return fingerprint


def _signatures(envelope: bytes, manifest: bytes) -> list[tuple[str, bytes]]:
    """Return key id and signature of each signature in an envelope whose payload is this manifest."""
    try:
        value = parse(envelope)
        if canonical(value) != envelope:
            raise ValueError("it is not in canonical form (RFC 8785)")
        if set(value) != {"payload", "payloadType", "signatures"} or value["payloadType"] != PAYLOAD_TYPE:
            raise ValueError("it is no envelope of a bundle's manifest")
        signatures = [_signature(entry) for entry in value["signatures"]]
        payload = _decoded(value["payload"])
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise Refused(f"`{ENVELOPE}` is damaged ({str(problem)[:200]}): copy the bundle again.") from None
    if payload != manifest:
        raise Refused(f"`{ENVELOPE}` holds another manifest than manifest.json: copy the bundle again.")
    if not signatures:
        raise Refused(f"`{ENVELOPE}` holds no signature: get the signed bundle.")
    return signatures


def _signature(entry: Any) -> tuple[str, bytes]:
    if set(entry) != {"keyid", "sig"} or not isinstance(entry["keyid"], str):
        raise ValueError("a signature has other parts than keyid and sig")
    return entry["keyid"], _decoded(entry["sig"])


def _decoded(text: str) -> bytes:
    content = base64.b64decode(text, validate=True)
    # the last characters of base64 may hold bits that decoders ignore: only one spelling is taken
    if base64.b64encode(content).decode() != text:
        raise ValueError("base64 is spelt in another way than usual")
    return content


def _key(pinned: str | Path, root: Path) -> Ed25519PublicKey:
    """Return the pinned key."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        remedy = pip_command(root, "sign", "cryptography")
        raise Refused(f"a key is pinned, and only the package cryptography can check a signature: {remedy}.") from None
    remedy = "give a file in PEM, or the key in base64"
    # a key that was read from a file may end with a line feed
    if not (text := str(pinned).strip()):
        raise WrongInput(f"the pinned key is an empty text: {remedy}.")
    try:
        content = base64.b64decode(text, validate=True)
        # 44 characters that are a key are never taken for the name of a file
        if len(content) == 32:
            return Ed25519PublicKey.from_public_bytes(content)
    except ValueError:
        pass  # it is no base64, so it is the name of a file
    path = Path(pinned)
    if not _exists(path):
        raise WrongInput(f"the pinned key {text[:200]!r} is neither a file nor a key in base64: {remedy}.")
    try:
        if path.resolve().is_relative_to(root.resolve()):
            raise WrongInput(f"the pinned key `{path}` lies in the bundle that it is to vouch for: take the key from its owner.")
        with path.open("rb") as stream:
            key = load_pem_public_key(stream.read(_MAX_KEY_BYTES))
    except OSError as problem:
        raise WrongInput(f"the pinned key `{path}` cannot be read ({problem.strerror}): {remedy}.") from None
    except WrongInput:
        raise
    except (ValueError, UnsupportedAlgorithm):
        raise WrongInput(f"the pinned key `{path}` is no public key in PEM: make it with openssl pkey -in key.pem -pubout.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise WrongInput(f"the pinned key `{path}` is no Ed25519 key: bundles are signed with Ed25519.")
    return key


def _exists(path: Path) -> bool:
    """Return whether something lies at a path; what may not be looked at is taken to lie there."""
    try:
        path.stat()
    except PermissionError:
        return True
    except (OSError, ValueError):  # also a text that is too long for a name, or has a null byte
        return False
    return True
