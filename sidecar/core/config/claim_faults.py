"""Rules over claims that contradict other keys, in the plain data of a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from sidecar.core.config.faults import Finding

Data: TypeAlias = Mapping[str, Any]

_WITHOUT_CLAIMS: Final = "cookie"
"""The type of the source whose sessions are plain values, which nobody can verify."""


class NamedSource(NamedTuple):
    """A source by its name and type, and where it is written; no place: it is not."""

    name: str | None
    type: object
    place: int | None = None

    @property
    def shows_claims(self) -> bool:
        """Whether what its sessions say of their users can be read, and is to be believed."""
        return self.type != _WITHOUT_CLAIMS

    @property
    def written(self) -> str:
        """How a message names it."""
        return f"session.sources[{self.place}]"


def route_rule_faults(
    index: int, route: Data, sources: Iterable[NamedSource], *, demands_session: bool
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


def without_claims(
    where: tuple[str | int, ...], route: Data, sources: Iterable[NamedSource]
) -> Iterator[Finding]:
    """A fault if a source that the route takes sessions of shows no claims."""
    wanted = route.get("sources")
    names = set(wanted) if isinstance(wanted, list) else None
    used = [one for one in sources if names is None or one.name in names]
    blind = next((one for one in used if not one.shows_claims), None)
    if blind is None:
        return
    fine = [one.name for one in used if one.shows_claims and one.name is not None]
    remedy = "use a source with sealed sessions, such as authjs, or oidc"
    if fine:
        remedy = f"add sources: [{', '.join(dict.fromkeys(fine))}] to the route"
    yield Finding(where, f"needs claims, and {blind.written} (type: cookie) shows none", remedy)
