"""Why a TLS handshake with a client has failed, in a few words that are always the same."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class HandshakeFailure(StrEnum):
    """What a client did, or did not do."""

    NO_CERTIFICATE = "no_certificate"
    """It showed none, where one is required."""
    EXPIRED = "expired"
    """Its certificate has ended."""
    CERTIFICATE = "certificate"
    """Its certificate is not valid here, such as one of another authority."""
    REFUSED = "refused"
    """It refused, most often since it does not trust the certificate here."""
    PROTOCOL = "protocol"
    """It has no version or cipher in common with the listener."""
    NO_TLS = "no_tls"
    """What it sent is no TLS, such as plain HTTP."""
    TIMEOUT = "timeout"
    """It was not done within `limits.client_head`."""
    LEFT = "left"
    """It left before the end, such as a check whether the port is open."""
    OTHER = "other"
    """Anything else that TLS forbids."""

    @property
    def level(self) -> str:
        """How loudly it is told: somebody who has business here may have been turned away."""
        return _LEVELS.get(self, "info")


_LEVELS: Final[Mapping[HandshakeFailure, str]] = MappingProxyType(
    {
        HandshakeFailure.NO_CERTIFICATE: "warning",
        HandshakeFailure.EXPIRED: "warning",
        HandshakeFailure.CERTIFICATE: "warning",
        HandshakeFailure.LEFT: "debug",
    }
)
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_ALERTS: Final = ("TLSV1_ALERT_", "SSLV3_ALERT_", "TLSV13_ALERT_")
_REASONS: Final[Mapping[str, HandshakeFailure]] = MappingProxyType(
    {
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": HandshakeFailure.NO_CERTIFICATE,
        "CERTIFICATE_VERIFY_FAILED": HandshakeFailure.CERTIFICATE,
        "UNSUPPORTED_PROTOCOL": HandshakeFailure.PROTOCOL,
        "VERSION_TOO_LOW": HandshakeFailure.PROTOCOL,
        "NO_SHARED_CIPHER": HandshakeFailure.PROTOCOL,
        "NO_SUITABLE_SIGNATURE_ALGORITHM": HandshakeFailure.PROTOCOL,
        "NO_SUITABLE_KEY_SHARE": HandshakeFailure.PROTOCOL,
        "HTTP_REQUEST": HandshakeFailure.NO_TLS,
        "HTTPS_PROXY_REQUEST": HandshakeFailure.NO_TLS,
        "WRONG_VERSION_NUMBER": HandshakeFailure.NO_TLS,
    }
)


def failure_of(error: OSError) -> tuple[HandshakeFailure, str]:
    """Why, and the words of OpenSSL for it, of which nothing is the client's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        is_late = error.verify_code == _EXPIRED
        found = HandshakeFailure.EXPIRED if is_late else HandshakeFailure.CERTIFICATE
        return found, error.verify_message
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        is_alert = reason.startswith(_ALERTS)
        other = HandshakeFailure.REFUSED if is_alert else HandshakeFailure.OTHER
        return _REASONS.get(reason, other), reason.lower().replace("_", " ")
    if isinstance(error, ConnectionAbortedError):
        return HandshakeFailure.TIMEOUT, "not done in time"
    return HandshakeFailure.LEFT, "the client left"
