"""Signs a report, and checks that nothing in it was changed since it was signed (Ed25519, RFC 8032).

What is signed is the report without its key "signature", as JSON with sorted keys, no spaces and no escapes, in UTF-8. The block itself:

    {"algorithm": "Ed25519", "public_key": base64 of 32 bytes, "sha256": hex of what is signed, "value": base64 of 64 bytes,
     "page": {"sha256": hex of report.html, "value": base64 of 64 bytes}}

The page shows the report and its signature, so the report is signed first and the page second. What is signed for the page is three lines:
"optimize report.html", the report's sha256 and the page's sha256, each with a line feed at its end. The report's sha256 is among them so
that a signed page cannot be put beside another report. A block without "page" comes from an earlier version.

A valid signature says that the holder of this public key signed this report. It does not say who that is: whoever changes a report can sign
it again with a key of their own. So compare the public key, or its fingerprint, with the one that you were given.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from optimize.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "Ed25519"
PARTS = ("algorithm", "public_key", "sha256", "value")
PAGE = "page"
MAX_KEY_BYTES = 2**16
"""Largest number of bytes read from a key file; a key has about 120."""


@dataclass(frozen=True)
class Check:
    """The result of checking a report's signature; true only when the signature is valid.

    Args:
        state: "valid", "altered" (the report or its signature), or "unsigned".
        reason: the result in one sentence.
        fingerprint: fingerprint of the key that signed, see `fingerprint`; empty unless the signature is valid.
    """

    state: Literal["valid", "altered", "unsigned"]
    reason: str
    fingerprint: str = ""

    def __bool__(self) -> bool:
        return self.state == "valid"


def sign(report: Mapping[str, Any], key_file: str | Path) -> dict[str, str]:
    """Sign a report; the same report and key give the same signature.

    Args:
        report: content of `report.json`; a key "signature" in it is left out of what is signed.
        key_file: file of an Ed25519 private key in PEM (PKCS 8). It is not encrypted, and only its owner may read it.

    Returns:
        The block to be put under "signature".

    Raises:
        InputError: when the key cannot be used, the report is no JSON, or the package cryptography is not installed.
    """
    # Ed25519 takes no random numbers for a signature, so signing twice gives the same report, byte by byte.
    key = private_key(key_file)
    signed = _signed_bytes(report)
    return {
        "algorithm": ALGORITHM,
        "public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
        "sha256": hashlib.sha256(signed).hexdigest(),
        "value": base64.b64encode(key.sign(signed)).decode(),
    }


def sign_page(report: Mapping[str, Any], page: bytes, key_file: str | Path) -> dict[str, str]:
    """Sign the page of a signed report, with the key that signed the report.

    Args:
        report: content of `report.json`, with its key "signature".
        page: bytes of `report.html`.
        key_file: file of the private key that signed the report.

    Returns:
        The block to be put under "page" in the signature.

    Raises:
        InputError: when the key cannot be used, or the package cryptography is not installed.
    """
    # The page is signed by its hash, so that a checker may verify the block without having the page.
    digest = hashlib.sha256(page).hexdigest()
    value = private_key(key_file).sign(_page_bytes(report["signature"]["sha256"], digest))
    return {"sha256": digest, "value": base64.b64encode(value).decode()}


def is_page_of(report: Mapping[str, Any], page: bytes) -> bool:
    """Whether these bytes are the page that was signed with a report; the report must have been found valid by `check`."""
    block = (report.get("signature") or {}).get(PAGE)
    # A report of an earlier version has no signed page, so no page can be shown to belong to it.
    return block is not None and bool(block["sha256"] == hashlib.sha256(page).hexdigest())


def check(report: Mapping[str, Any]) -> Check:
    """Check that a report is the one that was signed with the key that its signature names.

    Raises:
        InputError: when it is signed and the package cryptography is not installed.
    """
    block = report.get("signature")
    if block is None:
        return Check("unsigned", "The report has no signature.")
    # An unsigned report needs no cryptography, so this comes only now.
    require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        if block["algorithm"] != ALGORITHM:
            return Check("altered", f"The signature is of algorithm {block['algorithm']!r}, not {ALGORITHM}.")
        # The block itself is not signed, so a further key in it could be changed by anyone and still look signed.
        if unknown := sorted(set(block) - {*PARTS, PAGE}):
            return Check("altered", f"The signature holds {unknown[0]!r}, which no signature does.")
        public, value = (_decoded(block[name]) for name in ("public_key", "value"))
        key = Ed25519PublicKey.from_public_bytes(public)
        digest = block["sha256"]
        page = None if PAGE not in block else _page_part(block[PAGE])
    # The block comes from a file that anyone may have edited: any shape is possible, and none may end in a traceback.
    except (AttributeError, KeyError, TypeError, ValueError):
        return Check("altered", "The signature is damaged: it lacks a part, or a part is malformed.")
    try:
        signed = _signed_bytes(report)
    except InputError:
        return Check("altered", "The report holds what no signed report can.")
    # The signature alone would settle this; the hash first gives the plainer reason when the report was edited.
    if hashlib.sha256(signed).hexdigest() != digest:
        return Check("altered", "The report is not the one that was signed: its sha256 differs.")
    try:
        key.verify(value, signed)
    except InvalidSignature:
        return Check("altered", "The signature was not made for this report by the key that it names.")
    try:
        if page is not None:
            key.verify(page[1], _page_bytes(digest, page[0]))
    except InvalidSignature:
        return Check("altered", "The signature of the page was not made for this report by the key that signed the report.")
    short = fingerprint(block["public_key"])
    return Check("valid", f"The report is the one that the holder of key {short} signed.", short)


def fingerprint(public_key: str) -> str:
    """The first 16 hex digits of the SHA-256 of a public key's 32 bytes, given as base64: enough to tell keys apart at a glance.

    Raises:
        InputError: when it is no base64.
    """
    try:
        raw = _decoded(public_key)
    except ValueError:
        raise InputError(f"`public_key` (={public_key!r}) is no base64: give it as the report's signature holds it.") from None
    return hashlib.sha256(raw).hexdigest()[:16]


def _decoded(text: str) -> bytes:
    """Base64 -> bytes; `ValueError` where another text is the usual encoding of these bytes.

    "QQ==" and "QR==" both decode to b"A". Only the first is what an encoder writes; with the second, a changed report would still be valid.
    """
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("base64 with stray bits")
    return raw


def _page_part(block: Mapping[str, str]) -> tuple[str, bytes]:
    """The page's sha256 and its signature; `ValueError` where the block holds anything else."""
    # Only these two: a further entry would be shown beside a valid signature, though nobody signed it.
    if set(block) != {"sha256", "value"} or not block["sha256"].isascii():
        raise ValueError("no signature of a page")
    return block["sha256"], _decoded(block["value"])


def _page_bytes(report_sha256: str, page_sha256: str) -> bytes:
    return f"optimize report.html\n{report_sha256}\n{page_sha256}\n".encode()


def _signed_bytes(report: Mapping[str, Any]) -> bytes:
    # A signature cannot cover itself.
    content = {key: value for key, value in report.items() if key != "signature"}
    try:
        # Through JSON once first, so that a report in memory and the same one read from disk give the same bytes: {1: …} becomes {"1": …}.
        content = json.loads(json.dumps(content, allow_nan=False))
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as problem:
        raise InputError(f"`report` cannot be signed ({problem}): it must hold only what JSON can.") from None


def private_key(key_file: str | Path) -> Ed25519PrivateKey:
    """Read the private key that `--sign-key` names.

    Args:
        key_file: file of an Ed25519 private key in PEM (PKCS 8). It is not encrypted, and only its owner may read it.

    Raises:
        InputError: when the key cannot be used, or the package cryptography is not installed.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    remedy = "give an Ed25519 private key in PEM, such as `openssl genpkey -algorithm ed25519` makes"
    # Each failure has its own sentence: a wrong kind of key and an encrypted key need different remedies.
    path = Path(key_file)
    content = _private(path)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise InputError(f"`--sign-key` (={path}) is encrypted: the key must be usable without a password; {remedy}.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"`--sign-key` (={path}) holds no private key in PEM (PKCS 8): {remedy}.") from None
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.strip("_").removesuffix("PrivateKey") or "unknown"
        raise InputError(f"`--sign-key` (={path}) holds a key of another kind ({kind}): {remedy}.")
    return key


def _private(path: Path) -> bytes:
    """The content of a file that only its owner may touch, as ssh asks of its keys."""
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            # The mode is read from the open file, so that the file cannot be exchanged in between. On Windows it says nothing about others.
            if os.name == "posix" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                mode = f"{stat.S_IMODE(status.st_mode):o}"
                raise InputError(f"`--sign-key` (={path}) is open to others (mode {mode}): only its owner may read it; chmod 600 {path}")
            # No more than a key can have, in case the path is a huge file or an endless device.
            return stream.read(MAX_KEY_BYTES)
    except OSError as problem:
        reason = (problem.strerror or type(problem).__name__).lower()
        raise InputError(f"`--sign-key` (={path}) cannot be read ({reason}): check the path.") from None


def require_cryptography() -> None:
    """Raise `InputError` unless the package cryptography is installed."""
    try:
        import cryptography.exceptions  # noqa: F401
    except ImportError:
        raise InputError("signing and checking a signature need the package cryptography: pip install 'optimize[sign]'.") from None
