"""Why handshakes fail, by the errors that OpenSSL has for it."""

from __future__ import annotations

import ssl

import pytest

from sidecar.tls_failure import HandshakeFailure, failure_of


def error_of(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "x")
    error.reason = reason  # type: ignore[assignment] # None where OpenSSL gives none
    return error


@pytest.mark.parametrize(
    ("reason", "failure"),
    [
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "no_certificate"),
        ("TLSV1_ALERT_UNKNOWN_CA", "refused"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "refused"),
        ("UNSUPPORTED_PROTOCOL", "protocol"),
        ("NO_SHARED_CIPHER", "protocol"),
        ("HTTP_REQUEST", "no_tls"),
        ("WRONG_VERSION_NUMBER", "no_tls"),
        ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "other"),
        (None, "other"),
    ],
)
def test_reason_of_openssl(reason: str | None, failure: str) -> None:
    assert failure_of(error_of(reason)) == (failure, (reason or "").lower().replace("_", " "))


@pytest.mark.parametrize(("code", "failure"), [(10, "expired"), (20, "certificate")])
def test_certificate_that_has_ended_is_told_from_one_that_is_not_trusted(
    code: int, failure: str
) -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, "some words"
    assert failure_of(error) == (failure, "some words")


def test_client_that_is_slow_is_told_from_one_that_leaves() -> None:
    assert failure_of(ConnectionAbortedError())[0] is HandshakeFailure.TIMEOUT
    for error in (ConnectionResetError(), BrokenPipeError(), OSError()):
        assert failure_of(error)[0] is HandshakeFailure.LEFT


def test_only_what_concerns_a_certificate_is_a_warning() -> None:
    """Whoever scans the port fills no log with warnings."""
    loud = {one.value for one in HandshakeFailure if one.level == "warning"}
    assert loud == {"no_certificate", "expired", "certificate"}
    assert HandshakeFailure.LEFT.level == "debug"
