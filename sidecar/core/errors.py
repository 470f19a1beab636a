"""The one tree of errors. Each proxy error knows its HTTP status and the code that clients see.

The codes are those of the envelope's `errorData.code`; `web/rescue.py` is the one place that turns
an error into an answer.
"""

from __future__ import annotations

import re
from enum import StrEnum
from math import ceil
from typing import ClassVar, Final

LONGEST_DETAIL: Final = 300  # characters of a cause that are logged

_UNPRINTABLE: Final = re.compile(r"[^ -~]+")


def loggable(text: str) -> str:
    """A cause as it is logged: some of it was written by clients, upstreams and providers."""
    return _UNPRINTABLE.sub("?", text[:LONGEST_DETAIL])


def forget_frames(error: BaseException) -> None:
    """Forgets on which way an error came, and all that led to it, once it has been handled.

    The frames refer to what they worked on. If that refers to the error, both would wait for the
    garbage collector.
    """
    led: BaseException | None = error
    while led is not None and led.__traceback__ is not None:  # causes may go round in a circle
        led.__traceback__ = None
        led = led.__cause__ or led.__context__


class UpstreamCause(StrEnum):
    """Why an upstream failed a request: the `cause` in metrics."""

    REFUSED = "refused"  # nobody listens
    DNS = "dns"  # its name cannot be resolved
    TLS = "tls"  # no handshake, or its certificate is not trusted
    NETWORK = "network"  # any other trouble on the way to it
    CONNECT_TIMEOUT = "connect_timeout"
    HEAD_TIMEOUT = "head_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    CLOSED = "closed"  # the connection ended before a response
    CUT = "cut"  # the connection ended within a response's body
    PROTOCOL = "protocol"  # the response is invalid
    BUSY = "busy"  # all connections to it stayed in use


class SidecarError(Exception):
    """Root of every error that the sidecar raises on purpose."""


class ConfigError(SidecarError):
    """The configuration cannot be used. Carries every fault found, not only the first.

    `faults` are `sidecar.core.config.Fault` values; `str()` is the report a person reads.
    """

    def __init__(self, faults: tuple[object, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class RefreshRefused(SidecarError):
    """The provider has ended the session: its refresh token is no longer good."""


class RefreshSuperseded(SidecarError):
    """The refresh token was used, and its successor too: whoever still has it is out of date."""


class ProxyError(SidecarError):
    """An answer that the sidecar gives itself instead of an upstream's.

    `message` is shown to clients, so it never holds request bytes, tokens or addresses;
    `detail` names the cause, and goes to the log only. `close` demands that the client connection
    ends with it.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    message: ClassVar[str] = "Internal Server Error"
    challenge: ClassVar[bytes] = b""
    """What a 401 demands, in every one of them (RFC 9110 11.6.1); empty for any other status."""
    retry_after = 0
    """Seconds after which a client may try again (RFC 9110 10.2.3); 0: nothing is said of it."""

    def __init__(self, detail: str = "", *, close: bool = False) -> None:
        super().__init__(detail or self.message)
        self.detail = detail
        self.close = close


class BadRequest(ProxyError):
    status, code, message = 400, "bad_request", "Bad Request"


class CredentialDemanded(ProxyError):
    """The root of every 401. No browser asks for a password at `Bearer`."""

    status = 401
    challenge = b'Bearer realm="sidecar"'


class CredentialRejected(CredentialDemanded):
    """A token was there, and is not good any more (RFC 6750 3.1)."""

    challenge = CredentialDemanded.challenge + b', error="invalid_token"'


class SessionRequired(CredentialDemanded):
    code, message = "session_required", "A session is required"


class SessionExpired(CredentialRejected):
    code, message = "session_expired", "The session has expired"


class TokenRejected(CredentialRejected):
    code, message = "token_rejected", "The session's token was rejected"


class PrefetchUnauthenticated(CredentialDemanded):
    code, message = "prefetch_unauthenticated", "A prefetch never ends a session"


class SessionChanged(CredentialDemanded):
    code, message = "session_changed", "Another session is active"


class TokenRefreshed(CredentialRejected):
    code, message = "token_refreshed", "The token was renewed; repeat the request"


class CsrfRejected(ProxyError):
    status, code, message = 403, "csrf_rejected", "Cross-site request refused"


class NotAllowed(ProxyError):
    """The session is alive, and no rule of `allow` lets its user in."""

    status, code, message = 403, "not_allowed", "You are not allowed to use this page"


class NoRoute(ProxyError):
    status, code, message = 404, "no_route", "No route matches this path"


class MethodNotAllowed(ProxyError):
    """`allowed` are the methods that the path knows."""

    status, code, message = 405, "bad_request", "Method Not Allowed"

    def __init__(self, *allowed: str) -> None:
        super().__init__(f"allowed are {', '.join(allowed)}")
        self.allowed = allowed


class RequestTimeout(ProxyError):
    status, code, message = 408, "bad_request", "Request Timeout"


class BodyTooLarge(ProxyError):
    status, code, message = 413, "body_too_large", "The request body is too large"


class ExpectationFailed(ProxyError):
    status, code, message = 417, "bad_request", "Expectation Failed"


class RateLimited(ProxyError):
    """The client does something too often (`limits.per_client`); `wait` is in seconds."""

    status, code, message = 429, "rate_limited", "Too many requests from this address"

    def __init__(self, detail: str, wait: float) -> None:
        super().__init__(detail)
        self.retry_after = max(1, ceil(wait))


class HeadersTooLarge(ProxyError):
    status, code, message = (
        431,
        "headers_too_large",
        "The header fields of the request are too large",
    )


class UpstreamError(ProxyError):
    """The upstream is at fault, and the log says which one it is."""

    status = 502
    cause = UpstreamCause.NETWORK

    def __init__(self, detail: str = "", cause: UpstreamCause | None = None) -> None:
        super().__init__(detail)
        if cause is not None:
            self.cause = cause


class UpstreamUnreachable(UpstreamError):
    status, code, message = 502, "upstream_unreachable", "The upstream cannot be reached"
    cause = UpstreamCause.CLOSED


class UpstreamProtocolError(UpstreamError):
    status, code, message = 502, "upstream_protocol", "The upstream's response is invalid"
    cause = UpstreamCause.PROTOCOL


class UndecodableBody(UpstreamProtocolError):
    """The body's coding is unknown, or not what the body is in."""


class Overloaded(ProxyError):
    status, code, message = 503, "overloaded", "Too many requests at once"
    retry_after = 1


class UpstreamBusy(Overloaded):
    """All connections to an upstream stayed in use."""

    cause = UpstreamCause.BUSY


class StoreUnavailable(ProxyError):
    status, code, message = 503, "store_unavailable", "The session store is unavailable"
    retry_after = 1


class RefreshUnavailable(ProxyError):
    status, code, message = 503, "refresh_unavailable", "The session cannot be renewed right now"
    retry_after = 1


class RefreshLimited(RateLimited, RefreshUnavailable):
    """The client has caused too many renewals; its session is as one that cannot be renewed."""


class LoginUnavailable(ProxyError):
    status, code, message = 503, "login_unavailable", "The login is not possible right now"
    retry_after = 1


class UpstreamTimeout(UpstreamError):
    status, code, message = 504, "upstream_timeout", "The upstream did not respond in time"
    cause = UpstreamCause.HEAD_TIMEOUT


class VersionNotSupported(ProxyError):
    status, code, message = 505, "bad_request", "HTTP Version Not Supported"
