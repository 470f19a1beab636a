"""What went wrong on a connection, in words for a log.

The text of an error is left out, but for OpenSSL's own: others may hold an URL with a secret in it.
"""

from __future__ import annotations

import os
import socket
import ssl
from errno import errorcode
from typing import Final

from aiohttp.http_exceptions import (
    BadStatusLine,
    ContentLengthError,
    HttpProcessingError,
    InvalidHeader,
    LineTooLong,
    TransferEncodingError,
)

from sidecar.core.errors import UpstreamCause

_MALFORMED: Final[tuple[tuple[type[HttpProcessingError], str], ...]] = (
    (LineTooLong, "the answer's header fields are too large"),
    (BadStatusLine, "the answer's status line is malformed"),
    (InvalidHeader, "a header field of the answer is malformed"),
    (ContentLengthError, "the answer's Content-Length is not its length"),
    (TransferEncodingError, "the answer's chunked framing is malformed"),
)
"""By the first that fits; subclasses come first."""


def of_connection(error: BaseException) -> str:
    """Why no connection could be made, or why it was lost."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or type(error).__name__).lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({socket_text(error)})"
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in errorcode:
        return os.strerror(number).lower()
    return type(error).__name__


def cause_of(error: BaseException) -> UpstreamCause:
    """The cause that a connection which could not be made is counted by."""
    if isinstance(error, ssl.SSLError):
        return UpstreamCause.TLS
    if isinstance(error, socket.gaierror):
        return UpstreamCause.DNS
    if isinstance(error, ConnectionRefusedError):
        return UpstreamCause.REFUSED
    return UpstreamCause.NETWORK


def socket_text(error: socket.gaierror) -> str:
    """What the resolver says, which never holds the name."""
    return (error.strerror or type(error).__name__).lower()


def too_late(limit: float) -> str:
    """How it is said that nothing has come within `limit` seconds."""
    return f"timed out after {limit:.2g} s"


def of_answer(error: HttpProcessingError) -> str:
    """Why a response is not HTTP."""
    for kind, cause in _MALFORMED:
        if isinstance(error, kind):
            return cause
    # llhttp describes in the first line what it met, and quotes the bytes below it.
    described = error.message.partition("\n")[0].rstrip(":")
    return f"the answer is not HTTP: {described}" if described else "the answer is not HTTP"
