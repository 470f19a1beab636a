"""TLS contexts of the files that the configuration names. A file without use is named, and why."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_ALPN: Final = ["http/1.1"]


class UnusableFile(OSError):
    """A file cannot be used. The text has the configuration's key, the path and the cause."""

    def __init__(self, key: str, path: str, cause: str) -> None:
        super().__init__(f"{key}: {path}: {cause}")


def server_context(cert: str, key: str, at: str = "tls") -> ssl.SSLContext:
    """The listener's certificate, of the files in section `at`. Raises `UnusableFile`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_chain(context, cert, key, at)
    context.set_alpn_protocols(_ALPN)
    return context


def client_context(
    ca: str | None, cert: str | None = None, key: str | None = None, at: str = "tls"
) -> ssl.SSLContext:
    """Whom to trust (None: as the system does), and the client's own certificate.

    Raises `UnusableFile`.
    """
    if ca is not None:
        _read(ca, f"{at}.ca")
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise UnusableFile(f"{at}.ca", str(ca), "must contain a PEM certificate") from None
    context.set_alpn_protocols(_ALPN)
    if cert is not None:
        load_chain(context, cert, key or cert, at)
    return context


def show_certificate(context: ssl.SSLContext, cert: str, key: str, at: str) -> None:
    """Has a context show a client's certificate, whose key is PEM text. Raises `UnusableFile`.

    The key is in no file: OpenSSL reads it from memory that this process alone has.
    """
    _read(cert, f"{at}.cert")
    with os.fdopen(os.memfd_create("key"), "wb") as memory:
        memory.write(key.encode())
        memory.flush()
        try:
            context.load_cert_chain(cert, f"/proc/self/fd/{memory.fileno()}")
        except ssl.SSLError:
            raise UnusableFile(f"{at}.cert", cert, "must be the certificate of `key`") from None


def ends_at(cert: str) -> datetime | None:
    """When the first certificate of a file ends; None where it holds none that can be read."""
    try:
        return _certificates(Path(cert).read_bytes())[0].not_valid_after_utc
    except (OSError, ValueError, IndexError):
        return None


def now() -> datetime:
    """The time to compare `ends_at` with."""
    return datetime.now(UTC)


def _read(path: str, key: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        cause = (error.strerror or type(error).__name__).lower()
        raise UnusableFile(key, path, cause) from None


def load_chain(context: ssl.SSLContext, cert: str, key: str, at: str = "tls") -> None:
    """Has a context present this certificate, also if it had another one. Raises `UnusableFile`."""
    held = _read(cert, f"{at}.cert"), _read(key, f"{at}.key")
    try:
        # Without a password that is given here, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise _diagnosed(held, (cert, key), at, error) from None


def _diagnosed(
    held: tuple[bytes, bytes], paths: tuple[str, str], at: str, error: Exception
) -> UnusableFile:
    """Which of the two files is to blame: OpenSSL does not say."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    cert, key = paths
    try:
        certificates = _certificates(held[0])
    except ValueError:
        return UnusableFile(f"{at}.cert", cert, "must contain a PEM certificate")
    try:
        private = load_pem_private_key(held[1], None)
    except TypeError:
        return UnusableFile(f"{at}.key", key, "must not be encrypted")
    except Exception:
        return UnusableFile(f"{at}.key", key, "must contain a PEM private key")
    if private.public_key() != certificates[0].public_key():
        return UnusableFile(f"{at}.key", key, f"must be the private key of {cert}")
    reason = getattr(error, "reason", None) or type(error).__name__
    return UnusableFile(f"{at}.cert", cert, f"refused by OpenSSL: {reason.lower()}")


def _certificates(data: bytes) -> Sequence[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    return load_pem_x509_certificates(data)
