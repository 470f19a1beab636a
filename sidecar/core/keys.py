"""Keys out of secrets: HKDF-SHA256 (RFC 5869)."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def hkdf(secret: bytes, *, salt: bytes, info: bytes, size: int) -> bytes:
    """Returns a key of `size` bytes."""
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=info).derive(secret)


def derive_key(secret: bytes, label: str) -> bytes:
    """Returns the sidecar's own key for one duty: 32 bytes.

    Different labels never share a key, so a ticket can never pass for anything else.
    """
    return hkdf(secret, salt=b"", info=f"session-sidecar {label}".encode(), size=32)
