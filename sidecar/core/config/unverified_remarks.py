"""Plain cookies beside what presumes sessions that somebody has verified.

A plain cookie is whatever its client says. It opens nothing where an API checks the token in it;
where nobody does, anybody opens it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.core.config.model import Config
from sidecar.core.config.routes import RouteSection
from sidecar.core.config.sources import CookieSource, SourceSection, source_name


def unverified_remarks(config: Config) -> Iterator[str]:
    """Sentences about sources that nobody can verify, each beginning with the source's key."""
    sources = config.session.sources
    for index, source in enumerate(sources):
        if not isinstance(source, CookieSource):
            continue
        where = f"session.sources[{index}]"
        takes = [at for at, route in enumerate(config.routes) if _takes(route, source)]
        gated = [at for at in takes if config.routes[at].session == "required"]
        for said in dict.fromkeys(filter(None, (_opened(config.routes[at]) for at in gated))):
            first = next(at for at in gated if _opened(config.routes[at]) == said)
            what, remedy = said
            yield (
                f"{where}: the sidecar cannot verify this cookie, so anybody can make one that "
                f"opens {what} routes[{first}]; {remedy}"
            )
        hidden = _hidden(config, index, takes)
        if hidden is not None:
            yield (
                f"{where}: stands before session.sources[{hidden}], whose sessions are verified, "
                "and a cookie that anybody can make hides them; put it last"
            )


def _opened(route: RouteSection) -> tuple[str, str] | None:
    """What such a cookie opens, and who must check it; None if an API is shown the token."""
    if route.kind == "api" and route.inject:
        return None
    what = "the page" if route.kind == "page" else "the API"
    if route.inject or route.cookies == "forward":
        return what, "its frontend must check it" if route.kind == "page" else "it must check it"
    return what, "nobody is shown it there: use inject: true, cookies: forward, or other sources"


def _hidden(config: Config, index: int, takes: list[int]) -> int | None:
    """The first verified source behind this one that a route takes as well."""
    for at, source in enumerate(config.session.sources):
        routes = (config.routes[one] for one in takes)
        is_verified = at > index and not isinstance(source, CookieSource)
        if is_verified and any(one.session != "none" and _takes(one, source) for one in routes):
            return at
    return None


def _takes(route: RouteSection, source: SourceSection) -> bool:
    name = source_name(source.type, source.name, source.cookie)
    return route.sources is None or name in route.sources
