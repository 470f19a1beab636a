"""TLS contexts of the files that the configuration names. A file without use is named, and why."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from sidecar.core.config import PublicListener, Tls

_ALPN: Final = ["http/1.1"]
_NO_CERTIFICATE: Final = "must contain a PEM certificate"
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class UnusableFile(OSError):
    """A file cannot be used. The text has the configuration's key, the path and the cause."""

    def __init__(self, key: str, path: str, cause: str) -> None:
        super().__init__(f"{key}: {path}: {cause}")


def listener_contexts(listeners: Iterable[PublicListener]) -> tuple[ssl.SSLContext | None, ...]:
    """What each listener does of TLS; None: nothing. Raises `UnusableFile`."""
    return tuple(
        None if one.tls is None else server_context(one.tls, one.tls_key) for one in listeners
    )


def server_context(tls: Tls, at: str = "tls") -> ssl.SSLContext:
    """A listener's certificate and whom it lets in, of section `at`. Raises `UnusableFile`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = _VERSIONS[tls.min_version]
    load_chain(context, tls.cert, tls.key, at)
    context.set_alpn_protocols(_ALPN)
    if tls.client_ca is not None:
        _read(tls.client_ca, f"{at}.client_ca")
        _trust(context, tls.client_ca, f"{at}.client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _trust(context: ssl.SSLContext, ca: str, key: str) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise UnusableFile(key, ca, _NO_CERTIFICATE) from None
    if not context.cert_store_stats()["x509"]:  # it may hold lists of what is revoked instead
        raise UnusableFile(key, ca, _NO_CERTIFICATE)


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
        raise UnusableFile(f"{at}.ca", str(ca), _NO_CERTIFICATE) from None
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
    return next(iter(_ends(cert)), None)


def authorities_end_at(ca: str) -> datetime | None:
    """When the first of all authorities in a file ends; None where it holds none."""
    return min(_ends(ca), default=None)


def _ends(file: str) -> Sequence[datetime]:
    try:
        return [one.not_valid_after_utc for one in _certificates(Path(file).read_bytes())]
    except (OSError, ValueError):
        return []


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
        return UnusableFile(f"{at}.cert", cert, _NO_CERTIFICATE)
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
