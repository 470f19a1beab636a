"""Rules over claims that contradict other keys, in the plain data of a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

from sidecar.core.access import ClaimPath
from sidecar.core.config.faults import BadValue, Finding
from sidecar.core.config.values import parse_member_path

Data: TypeAlias = Mapping[str, Any]

_WITHOUT_CLAIMS: Final = "cookie"
"""The type of the source whose sessions are plain values, which nobody can verify."""


class NamedSource(NamedTuple):
    """A source by its name and type, and where it is written; no place: it is not.

    `tokens` are the paths of the claims that hold its tokens.
    """

    name: str | None
    type: object
    place: int | None = None
    tokens: tuple[ClaimPath, ...] = ()

    @property
    def shows_claims(self) -> bool:
        """Whether what its sessions say of their users can be read, and is to be believed."""
        return self.type != _WITHOUT_CLAIMS

    @property
    def written(self) -> str:
        """How a message names it."""
        return f"session.sources[{self.place}]"


def route_rule_faults(
    index: int, route: Data, sources: Sequence[NamedSource], *, demands_session: bool
) -> Iterator[Finding]:
    """What makes the `allow` of one route useless or unsafe."""
    if not route.get("allow"):
        return
    where = ("routes", index, "allow")
    if not demands_session:
        yield Finding(where, "needs a session to judge", "add session: required to the route")
    if route.get("authorization") is not None:
        yield Finding(
            where,
            "contradicts authorization: a bearer of the client's own shows no claims",
            "remove one of them",
        )
    yield from without_claims(where, route, sources)
    tokens = {path for one in sources for path in one.tokens}
    for at, rule in enumerate(route["allow"] if isinstance(route["allow"], list) else ()):
        claim = rule.get("claim") if isinstance(rule, dict) else None
        if as_path(claim) in tokens:
            yield Finding((*where, at, "claim"), "must not lead to a token", "remove the rule")


def as_path(value: object) -> ClaimPath | None:
    """A plain value as the path that it is, None if it is none."""
    with suppress(BadValue):
        return parse_member_path(value)
    return None


def route_field_faults(
    index: int, route: Data, sources: Sequence[NamedSource]
) -> Iterator[Finding]:
    """What makes the fields useless that one route sets, or would hand out a token."""
    fields = dict(set_fields(route))
    where = ("routes", index, "headers")
    if fields and route.get("session") == "none":
        yield Finding(where, "contradicts session: none", "use session: optional or required")
    if fields and not any(one.shows_claims for one in _used(route, sources)):
        yield from without_claims(where, route, sources)
    tokens = {path for one in sources for path in one.tokens}
    for name, path in fields.items():
        if path in tokens:
            yield Finding((*where, name), "must not lead to a token", "remove it")


def passed_elsewhere(routes: Iterable[tuple[int, Data]]) -> Iterator[Finding]:
    """A fault for each route that lets clients send a field which another route sets for the same
    upstream: it could not tell one from the other.
    """
    rows = list(routes)
    told = [(row.get("upstream"), name.lower()) for _, row in rows for name, _ in set_fields(row)]
    for index, row in rows:
        passed = _section(row, "headers").get("pass")
        for at, name in enumerate(passed if isinstance(passed, list) else ()):
            plain = re.sub("[^a-z0-9-]", "-", name.lower()) if isinstance(name, str) else ""
            own = {one.lower() for one, _ in set_fields(row)}
            if (row.get("upstream"), plain) in told and plain not in own:
                yield Finding(
                    ("routes", index, "headers", "pass", at),
                    "must not be a field that another route sets for the same upstream",
                    "remove it, or use another name",
                )


def set_fields(route: Data) -> Iterator[tuple[str, ClaimPath]]:
    """The fields that a route sets, in either form, with the paths of their claims."""
    headers = _section(route, "headers")
    for name, value in {**headers, **_section(headers, "set")}.items():
        path = value.split(".") if isinstance(value, str) else value
        if isinstance(name, str) and isinstance(path, list) and path[:1] == ["claim"]:
            yield name, tuple(path[1:])


def _section(data: Data, name: str) -> Data:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _used(route: Data, sources: Iterable[NamedSource]) -> list[NamedSource]:
    """The sources that a route takes sessions of."""
    wanted = route.get("sources")
    return [one for one in sources if not isinstance(wanted, list) or one.name in wanted]


def without_claims(
    where: tuple[str | int, ...], route: Data, sources: Iterable[NamedSource]
) -> Iterator[Finding]:
    """A fault if a source that the route takes sessions of shows no claims."""
    used = _used(route, sources)
    blind = next((one for one in used if not one.shows_claims), None)
    if blind is None:
        return
    fine = [one.name for one in used if one.shows_claims and one.name is not None]
    remedy = "use a source with sealed sessions, such as authjs, or oidc"
    if fine:
        remedy = f"add sources: [{', '.join(dict.fromkeys(fine))}] to the route"
    yield Finding(where, f"needs claims, and {blind.written} (type: cookie) shows none", remedy)
