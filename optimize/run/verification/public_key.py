"""The public key that a user was given, by which a report must be signed."""

from __future__ import annotations

import base64
import binascii
import errno
import os
from pathlib import Path

from optimize.errors import InputError
from optimize.report.signature import MAX_KEY_BYTES, require_cryptography
from optimize.run.verification.folder_contents import plain

_REMEDY = "give the Ed25519 public key in PEM, as `openssl pkey -in key.pem -pubout` makes it, or its 44 characters of base64"


def public_key(said: str | os.PathLike[str]) -> str:
    """Read a public key.

    Args:
        said: the key in PEM (SubjectPublicKeyInfo), or its 32 bytes in base64 as a report's signature holds them; or a file of either,
            whose name is no key itself.

    Returns:
        The 32 bytes in base64.

    Raises:
        InputError: when it is neither, holds a key of another kind or a private one, or the package cryptography is not installed.
    """
    require_cryptography()
    text = os.fspath(said)
    if text.lstrip().startswith("-----BEGIN "):
        return _of_file("-----BEGIN …", text.encode("utf-8", errors="replace"))
    if _is_key(text):  # first: a file of that name, which came with the run, must not take the key's place
        return text
    content = _content(text)
    if content is not None:
        return _of_file(text, content)
    raise InputError(f"`--public-key` (={plain(text[:80])}) is neither a file that is there nor a key in base64: {_REMEDY}.")


def _is_key(text: str) -> bool:
    """Return whether a text is the one that encodes 32 bytes in base64."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == 32 and base64.b64encode(raw).decode() == text


def _content(text: str) -> bytes | None:
    """Return what a file of this name holds; None where there is none."""
    try:
        if not text or not Path(text).exists():
            return None
        with Path(text).open("rb") as stream:
            return stream.read(MAX_KEY_BYTES)
    except ValueError:  # a name that no file can have
        return None
    except OSError as problem:
        if problem.errno == errno.ENAMETOOLONG:
            return None
        reason = (problem.strerror or type(problem).__name__).lower()
        raise InputError(f"`--public-key` (={text}) cannot be read ({reason}): check the path.") from None


def _of_file(name: str, content: bytes) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    # the 32 bytes in base64, as the signature in a report has them
    if _is_key(text := content.decode("ascii", errors="replace").strip()):
        return text
    if b"PRIVATE KEY" in content:
        raise InputError(f"`--public-key` (={name}) holds a private key, which belongs to its owner alone: {_REMEDY}.")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"`--public-key` (={name}) holds no public key in PEM: {_REMEDY}.") from None
    if not isinstance(key, Ed25519PublicKey):
        kind = type(key).__name__.strip("_").removesuffix("PublicKey") or "unknown"
        raise InputError(f"`--public-key` (={name}) holds a key of another kind ({kind}): {_REMEDY}.")
    return base64.b64encode(key.public_bytes_raw()).decode()
