"""An administrator ends sessions, in this process and for all that share its store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.access import folded_email
from sidecar.core.end_request import EndRequest, EndResult
from sidecar.core.errors import StoreUnavailable
from sidecar.web.session_end import count_ended

if TYPE_CHECKING:
    from sidecar.core.view import OpenedSession
    from sidecar.runtime import Runtime
    from sidecar.sessions.termination import Ended, SessionTermination

REASON = "admin"


async def end_for_admin(runtime: Runtime, asked: EndRequest) -> EndResult:
    """Ends the sessions that are named: their cookies are refused and what is open with them ends.

    Their tokens are revoked and hooks are called in the background, as at any logout.
    """
    refused = _refusal(runtime, asked)
    if refused is not None:
        return EndResult(result="refused", reason=refused)
    ended: list[str] = []

    def note(session: OpenedSession) -> None:
        ended.append(session.fingerprint)
        count_ended(runtime, session, REASON)

    try:
        is_known = await _end(runtime.termination, asked, note)
    except StoreUnavailable as trouble:
        return EndResult(len(ended), result="failed", reason=f"the store: {trouble.detail}")
    if not asked.known_only:
        runtime.log.info("ended by an administrator", what=asked.kind, ended=len(ended))
    return EndResult(len(ended), is_known)


async def _end(termination: SessionTermination, asked: EndRequest, note: Ended) -> bool:
    """Ends what is named. Returns whether it is known; raises `StoreUnavailable`."""
    if asked.fingerprint is not None:
        return await termination.end_one(asked.fingerprint, note, known_only=asked.known_only)
    email = None if asked.email is None else folded_email(asked.email)
    if email is not None:
        await termination.end_by_email(email, note, REASON)
    else:
        await termination.end_named(asked.sub, asked.sid, note, REASON)
    return True


def _refusal(runtime: Runtime, asked: EndRequest) -> str | None:
    """Why nothing can be ended by such a name."""
    if asked.fingerprint is not None:
        return None
    login = runtime.policy.login
    if login is None:
        return "without oidc no session has its user's name here; name it by its fingerprint"
    if asked.issuer not in (None, login.client.issuer):
        return "issuer: must be that of oidc, letter by letter"
    return None
