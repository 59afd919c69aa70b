"""Ed25519 keys as files, as `openssl` makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def private(path: Path, key: Any = None) -> Path:
    """A private key (PKCS 8) that only its owner may read."""
    path.write_bytes((key or ed25519.Ed25519PrivateKey.generate()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


def public(path: Path, key: Any) -> Path:
    """The public half of a key."""
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A private key and its public half."""
    key = ed25519.Ed25519PrivateKey.generate()
    return private(folder / f"{name}.pem", key), public(folder / f"{name}.pub", key)
