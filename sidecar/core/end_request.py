"""What an administrator asks to end, and what came of it: as JSON of the admin listener."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from sidecar.core.access import folded_email
from sidecar.core.record import values_of

NAMES: Final = ("sub", "sid", "email", "fingerprint")
FORM: Final = 'must be a JSON object with one of "sub", "sid", "email" and "fingerprint"'
LONGEST_NAME: Final = 255  # characters of a subject (OpenID Connect Core 2), and of any other name

_KEYS: Final = frozenset((*NAMES, "issuer", "known_only"))
_FINGERPRINT: Final = re.compile(r"[A-Za-z0-9_-]{22}")


class BadEndRequest(ValueError):
    """A request to end sessions that cannot be meant. The text says what would be right."""


@dataclass(frozen=True, slots=True)
class EndRequest:
    """Which sessions end: a user's, those of a session at the provider, or one by its fingerprint.

    `email` names its user as `sub` does, if the provider has verified it; any spelling will do.
    `issuer` is the provider that is meant, None if there is but one. `known_only`: a fingerprint
    that this process does not know is left alone.
    """

    sub: str | None = field(default=None, repr=False)
    sid: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    fingerprint: str | None = None
    issuer: str | None = None
    known_only: bool = False

    @property
    def kind(self) -> str:
        """What is named."""
        named = {"user": self.sub, "provider session": self.sid, "email": self.email}
        return next((kind for kind, name in named.items() if name), "session")

    def as_json(self) -> dict[str, Any]:
        """The JSON object that `read_end_request` reads."""
        return {name: value for name, value in values_of(self).items() if value}


def read_end_request(body: bytes) -> EndRequest:
    """Returns the request of a body. Raises `BadEndRequest`."""
    try:
        given = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise BadEndRequest(FORM) from None
    if not isinstance(given, dict):
        raise BadEndRequest(FORM)
    for name, value in given.items():
        if name not in _KEYS:
            raise BadEndRequest(f"unknown member; the body {FORM}")
        if name != "known_only" and not (isinstance(value, str) and value):
            raise BadEndRequest(f"{name}: must be text")
    named = [name for name in NAMES if name in given]
    if len(named) != 1:
        raise BadEndRequest(FORM)
    if len(given[named[0]]) > LONGEST_NAME:
        raise BadEndRequest(f"{named[0]}: must have at most {LONGEST_NAME} characters")
    fingerprint = given.get("fingerprint")
    if fingerprint is not None and not _FINGERPRINT.fullmatch(fingerprint):
        raise BadEndRequest("fingerprint: must be the 22 characters that the log has as `session`")
    if "email" in given and folded_email(given["email"]) is None:
        raise BadEndRequest("email: must be a mail address such as alice@example.com")
    given["known_only"] = given.get("known_only") is True
    return EndRequest(**given)


class EndResult(msgspec.Struct, frozen=True):
    """What came of it: how many sessions ended. `result` is done, refused or failed.

    `is_known`: somebody here knew the session, or it had ended before; else it is refused from now
    on if it is presented. `reason` says why it is not done.
    """

    ended: int = 0
    is_known: bool = True
    result: str = "done"
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The answer of the admin listener."""
        if self.reason is not None:
            return {"result": self.result, "ended": self.ended, "reason": self.reason}
        return {"result": self.result, "ended": self.ended, "known": self.is_known}

    def in_words(self) -> str:
        """What came of it, for a person."""
        if self.reason is not None:
            begun = f" ({self.ended} ended before)" if self.ended else ""
            return f"{self.result}: {self.reason}{begun}"
        if not self.is_known:
            return "nobody knows this session; it is refused if it is presented"
        return f"{self.ended} ended" if self.ended else "none was alive"


def read_end_result(body: bytes) -> EndResult:
    """Returns what `as_json` has written. Raises `ValueError` for anything else."""
    given = msgspec.json.decode(body, type=dict[str, Any])
    ended, result = given.get("ended"), given.get("result")
    if not isinstance(ended, int) or not isinstance(result, str):
        raise ValueError("this is no answer of a sidecar")
    return EndResult(ended, given.get("known") is True, result, given.get("reason"))


def all_together(results: Iterable[EndResult]) -> EndResult:
    """Returns what several processes have done together: done if one of them could."""
    told = list(results)
    done = [one for one in told if one.result == "done"]
    if not done:
        return told[0] if told else EndResult(result="failed", reason="no worker answers")
    return EndResult(sum(one.ended for one in done), any(one.is_known for one in done))
