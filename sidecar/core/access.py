"""Who may use what: rules over the claims of a session (`allow`).

A claim is what a provider, or the application that sealed a session, says of its user. The rules
know claims by their paths and ask for each with a function, wherever the session has them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import msgspec

ClaimPath: TypeAlias = tuple[str, ...]
"""Where a claim stands: its name, and further names if it is a member of an object."""

ClaimOf: TypeAlias = Callable[[ClaimPath], object]
"""Gives a session's claim; None if the session does not have it."""

SUBJECT: Final = ("sub",)
EMAIL: Final = ("email",)
EMAIL_VERIFIED: Final = ("email_verified",)

_OTHER_DOT: Final = "\u3002"  # stands for a dot in domains (RFC 3490 3.1), as others do by NFKC
_normal: Final = partial(unicodedata.normalize, "NFKC")
_NO_SPACE: Final = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]+").fullmatch

LONGEST_CLAIM: Final = 16 * 1024
"""Bytes of one claim that are kept of a user, as JSON. A larger one counts as missing."""


def find_claim(claims: Mapping[str, object], path: ClaimPath) -> object:
    """Returns the value at `path`, None if it leads nowhere."""
    value: object = claims
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def key_of(path: ClaimPath) -> str:
    """Returns a path as one text. Names may hold dots, and none holds a NUL."""
    return "\0".join(path)


def path_of(key: str) -> ClaimPath:
    """Returns what `key_of` was given."""
    return tuple(key.split("\0"))


def picked(claims: Mapping[str, object], paths: Iterable[ClaimPath]) -> dict[str, object]:
    """Returns the claims at these paths by `key_of`; None for each that is missing or unusable."""
    return {key_of(path): usable(find_claim(claims, path)) for path in paths}


def usable(value: object) -> object:
    """Returns a claim that rules can look at, else None.

    That is a text, a number, true, false, or a list of these, of at most `LONGEST_CLAIM` bytes.
    """
    items = value if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(one, str | int | float) for one in items):
        return None
    return value if len(msgspec.json.encode(value)) <= LONGEST_CLAIM else None


def texts(value: object) -> list[str]:
    """Returns the values of a claim as texts: of a list each one, else the only one."""
    items = value if isinstance(value, list | tuple) else (value,)
    return [one if isinstance(one, str) else _written(one) for one in items if one is not None]


def _written(value: object) -> str:
    """A number, true or false as JSON has it."""
    return msgspec.json.encode(value).decode()


def needed_for(paths: Iterable[ClaimPath]) -> tuple[ClaimPath, ...]:
    """Returns all claims that must be known to judge these: an email with its verification."""
    found = dict.fromkeys(paths)
    if EMAIL in found:
        found[EMAIL_VERIFIED] = None
    return tuple(found)


class AccessRule(msgspec.Struct, frozen=True):
    """One rule: a claim has one of `any`, each of `all`, and a mail address of one of `domains`.

    What is empty demands nothing. `domains` are in lower case.
    """

    claim: ClaimPath
    any: frozenset[str] = frozenset()
    all: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()

    def holds(self, claim: ClaimOf) -> bool:
        """Returns whether it holds. An email counts only if the session says that it is verified:
        anybody can write another one's address into a profile.
        """
        value = claim(self.claim)
        if value is None or (self.claim == EMAIL and not is_verified(claim)):
            return False
        values = texts(value)
        return (
            (not self.any or not self.any.isdisjoint(values))
            and self.all.issubset(values)
            and (not self.domains or any(_domain(one) in self.domains for one in values))
        )


def is_verified(claim: ClaimOf) -> bool:
    """Returns whether the provider says that the email is its user's; some say so in a text."""
    said = claim(EMAIL_VERIFIED)
    return said is True or said == "true"


def verified_email(claim: ClaimOf) -> str | None:
    """Returns the user's email as `folded_email` has it; None if it does not count for rules."""
    address = claim(EMAIL)
    return folded_email(address) if isinstance(address, str) and is_verified(claim) else None


def folded_email(address: str) -> str | None:
    """Returns an address in the one spelling that all of its spellings have; None if it is none.

    Case, compatible characters (NFKC) and the ASCII form of a domain (RFC 5891) make no other
    address. Dots and `+` do: only some providers ignore them.
    """
    if len(address) > LONGEST_CLAIM:
        return None
    # To fold letters may undo the normal form, and to normalise may make white space.
    text = _normal(_normal(address).casefold()).strip()
    local, _, written = text.rpartition("@")
    domain = written.replace(_OTHER_DOT, ".").rstrip(".")
    if not local or not _NO_SPACE(domain):
        return None
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:  # a domain that DNS does not know, which is compared as it is
        return f"{local}@{domain}"


def _domain(address: str) -> str:
    """What stands behind the last `@`, in lower case; empty if there is none."""
    return address.rpartition("@")[2].lower() if "@" in address else ""


def lets_in(rules: Sequence[AccessRule], claim: ClaimOf) -> bool:
    """Returns whether one of the rules holds, or there is none."""
    return not rules or any(rule.holds(claim) for rule in rules)


def why_not(rules: Sequence[AccessRule], claim: ClaimOf) -> str:
    """Returns why no rule holds, for the log: names of claims, and none of their values."""
    return "no rule holds: " + ", ".join(
        dict.fromkeys(f"{'.'.join(rule.claim)} {_state(rule, claim)}" for rule in rules)
    )


def _state(rule: AccessRule, claim: ClaimOf) -> str:
    if claim(rule.claim) is None:
        return "is missing"
    if rule.claim == EMAIL and not is_verified(claim):
        return "is not verified"
    return "has other values"


class RouteGate(msgspec.Struct, frozen=True):
    """Who may use a route: whom one of the `rules` lets in.

    `sources` are the places of the sources whose sessions count; None: all. `name` is the path of
    the route that wrote it, by which processes name it to each other.
    """

    rules: tuple[AccessRule, ...]
    sources: frozenset[int] | None = None
    name: str = ""

    def lets_in(self, claim: ClaimOf, source: int) -> bool:
        """Returns whether a session of this source passes."""
        return (self.sources is None or source in self.sources) and lets_in(self.rules, claim)
