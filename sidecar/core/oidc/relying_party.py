"""What the sidecar is at the provider, and how a login fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from sidecar.core.access import EMAIL, EMAIL_VERIFIED, AccessRule, ClaimPath
from sidecar.core.errors import NotAllowed, SidecarError

TOLERANCE: Final = 60.0  # seconds that clocks may differ, by default


class LoginFailed(SidecarError):
    """A login did not succeed. `code` is for the user: an error code of the provider or one of
    `bad_answer`, `login_expired`, `login_misconfigured`; the text is for the log. `status` is that
    of the answer: 400, or 5xx where neither user nor browser can help it. `description` is what the
    provider says to the user, if the answer is one that was waited for. None holds a secret.
    """

    def __init__(self, code: str, detail: str, status: int = 400, description: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.description = description


class LoginRefused(LoginFailed):
    """The provider knows the user, and no rule lets the user in. `who` is for the user to see."""

    def __init__(self, detail: str, who: str) -> None:
        super().__init__(NotAllowed.code, detail, NotAllowed.status)
        self.who = who


class OidcClient(msgspec.Struct, frozen=True):
    """What the sidecar is at the provider, and what it asks for.

    `parameters` are more of the authorization request; None: that one is not sent. `tolerance` is
    how many seconds the provider's clock may differ. `claims` are the paths of those that are
    needed of a user, `allow` the rules of which one must hold.
    """

    issuer: str
    client_id: str
    scopes: tuple[str, ...]
    parameters: Mapping[str, str | None] = msgspec.field(default_factory=dict)
    tolerance: float = TOLERANCE
    claims: tuple[ClaimPath, ...] = ()
    allow: tuple[AccessRule, ...] = ()

    @property
    def kept(self) -> tuple[ClaimPath, ...]:
        """The claims that are kept of a user: a session is also found by its verified email."""
        return tuple(dict.fromkeys((*self.claims, EMAIL, EMAIL_VERIFIED)))
