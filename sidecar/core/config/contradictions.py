"""Keys that are right each by itself, but not together.

These rules read the plain data, not the validated values, so that they are told together with every
other fault. A key of the wrong type is told elsewhere and makes a rule silent here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from sidecar.core.config.claim_faults import (
    NamedSource,
    as_path,
    passed_elsewhere,
    route_field_faults,
    route_rule_faults,
)
from sidecar.core.config.faults import BadValue, Finding, KeyPath, did_you_mean, dotted, shown
from sidecar.core.config.listen_section import takes_common_tls
from sidecar.core.config.model import LISTEN, ConfigDocument
from sidecar.core.config.path_faults import (
    PATH_RULES,
    Data,
    Rule,
    demands_session,
    section,
    written_routes,
)
from sidecar.core.config.renewal import RESERVED_PARAMETERS, Oidc
from sidecar.core.config.renewal_faults import RENEWAL_RULES
from sidecar.core.config.sources import source_name
from sidecar.core.config.units import parse_duration, parse_wait
from sidecar.core.config.values import Listen, parse_listen
from sidecar.core.cookies import LIBRARY_COOKIES, unprefixed
from sidecar.core.store_url import StoreUrl, parse_store_url
from sidecar.core.upstream_url import UNIX

SOURCE_VARIABLES: Final = {"AUTH_SECRET": "authjs", "NEXTAUTH_SECRET": "nextauth"}
"""Each gives a source with that secret where no sources are written."""

_TOKEN_KEYS: Final = ("token", "refresh_token")
"""What names the claims of a source that hold tokens."""

_PAYLOAD_KEYS: Final = ("data", "message", "error_data")
"""What names the members of a body that an envelope is made of."""

_PLAIN: Final = ("http://", UNIX)
"""What the URLs of upstreams begin with that no TLS is spoken to."""

_ALL, _ALL_V4 = "::", "0.0.0.0"  # noqa: S104 - compared, not bound


def contradictions(data: Data, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Every contradiction between keys of the raw configuration.

    `environ` may hold the secrets of the sources that stand where none is written.
    """
    for rule in _RULES:
        yield from rule(data)
    yield from _kept_values_have_a_secret(data, environ)
    yield from _own_cookie_is_its_own(data, environ)
    yield from _sources_exist(data, environ)
    yield from _rules_have_claims(data, environ)


def _shorthand_alone(data: Data) -> Iterator[Finding]:
    others = [name for name in ("upstreams", "routes") if data.get(name) is not None]
    if data.get("upstream") is not None and others:
        remedy = f"keep either upstream or {' and '.join(others)}"
        yield Finding(("upstream",), f"contradicts {' and '.join(others)}", remedy)


def _something_to_serve(data: Data) -> Iterator[Finding]:
    given = {name for name in ("upstream", "upstreams", "routes") if data.get(name) is not None}
    if not given:
        remedy = "add upstream: http://localhost:4000, for example, or set SIDECAR_UPSTREAM"
        yield Finding(("upstream",), "missing", remedy)
    elif given == {"upstreams"}:
        yield Finding(("routes",), "missing", "add the paths of each upstream")
    elif given == {"routes"}:
        yield Finding(("upstreams",), "missing", "add the servers that the routes name")


def _upstreams_exist(data: Data) -> Iterator[Finding]:
    names = data.get("upstreams")
    if not isinstance(names, dict):
        return
    for index, route in written_routes(data):
        name = route.get("upstream")
        if isinstance(name, str) and name not in names:
            where = ("routes", index, "upstream")
            yield Finding(where, f'unknown upstream "{shown(name)}"', did_you_mean(name, names))


def _sources_exist(data: Data, environ: Mapping[str, str]) -> Iterator[Finding]:
    names = [one.name for one in _sources(data, environ) if one.name is not None]
    for index, route in written_routes(data):
        wanted = route.get("sources")
        for at, name in enumerate(wanted if isinstance(wanted, list) else ()):
            if isinstance(name, str) and name not in names:
                where = ("routes", index, "sources", at)
                yield Finding(where, f'unknown source "{shown(name)}"', did_you_mean(name, names))


def _rules_have_claims(data: Data, environ: Mapping[str, str]) -> Iterator[Finding]:
    sources = _sources(data, environ)
    for index, route in written_routes(data):
        is_gated = demands_session(route)
        yield from route_rule_faults(index, route, sources, demands_session=is_gated)
        yield from route_field_faults(index, route, sources)
    yield from passed_elsewhere(written_routes(data))


def _sources(data: Data, environ: Mapping[str, str]) -> list[NamedSource]:
    """The sources, written or by default; that of `oidc` comes first."""
    found = []
    if data.get("oidc") is not None:
        cookie = section(data, "oidc").get("cookie", Oidc.model_fields["cookie"].default)
        found.append(NamedSource(source_name("oidc", cookie=cookie), "oidc"))
    sources = section(data, "session").get("sources")
    if isinstance(sources, list):
        found += [
            NamedSource(
                source_name(one.get("type"), one.get("name"), one.get("cookie")),
                one.get("type"),
                at,
                tuple(path for key in _TOKEN_KEYS if (path := as_path(one.get(key))) is not None),
            )
            for at, one in enumerate(sources)
            if isinstance(one, dict)
        ]
    else:
        found += [NamedSource(source_name(type_), type_) for type_ in _default_types(environ)]
    return found


def _default_types(environ: Mapping[str, str]) -> Iterator[str]:
    """The types of the sources that stand if none are written and routes are."""
    for variable, type_ in SOURCE_VARIABLES.items():
        if environ.get(variable):
            yield type_


def _envelopes_keep_nothing_that_is_looked_into(data: Data) -> Iterator[Finding]:
    """As within one envelope, of one that takes a part of its keys from the common one."""
    common = section(data, "envelope")
    for index, route in written_routes(data):
        own = section(route, "envelope")
        kept = _listed(own.get("keep", common.get("keep")))
        for key in _PAYLOAD_KEYS if own else ():
            path = as_path(own.get(key, common.get(key)))
            is_mixed = ("keep" in own) is not (key in own)
            if is_mixed and path is not None and len(path) > 1 and path[0] in kept:
                taken = key if "keep" in own else "keep"
                yield Finding(
                    ("routes", index, "envelope"),
                    f"must not have {shown(path[0])} in keep, since {key} stands within it "
                    f"({taken} is that of the common envelope)",
                    f"set {taken} here, too",
                )


def _own_login_is_asked_for_right(data: Data) -> Iterator[Finding]:
    oidc = section(data, "oidc")
    scopes, parameters = oidc.get("scopes"), section(oidc, "parameters")
    if isinstance(scopes, list) and "openid" not in scopes:
        yield Finding(
            ("oidc", "scopes"), "must contain openid", "add it: it makes the login name a user"
        )
    for name in sorted(RESERVED_PARAMETERS & parameters.keys()):
        yield Finding(
            ("oidc", "parameters", name), "must not be set: the sidecar sets it", "remove it"
        )


def _own_login_knows_its_origin(data: Data) -> Iterator[Finding]:
    """Else the provider would be given a redirect URI of whatever Host a request names."""
    if not isinstance(data.get("oidc"), dict) or data.get("public_url") is not None:
        return
    listeners = _listeners(data) if "listen" in data else {}  # by default on the loopback
    if not all(map(_is_loopback, listeners.values())):
        yield Finding(
            ("public_url",),
            "missing: oidc would send logins back to the Host that a request names",
            "set it to the origin that browsers see, such as https://app.example.com",
        )


def _own_cookie_is_its_own(data: Data, environ: Mapping[str, str]) -> Iterator[Finding]:
    """In no spelling: cookies are found under their base names, with any prefix."""
    own = section(data, "oidc").get("cookie", Oidc.model_fields["cookie"].default)
    if data.get("oidc") is None or not isinstance(own, str):
        return
    for whose, names in _cookies_of_sources(data, environ):
        same = [name for name in names if unprefixed((name,)) == unprefixed((own,))]
        if same:
            spelling = "" if own in same else f", {shown(same[0])} in another spelling"
            problem = f"must not be the cookie of {whose} too{spelling}"
            yield Finding(("oidc", "cookie"), problem, "use another name")


def _refresh_cookie_is_another(data: Data) -> Iterator[Finding]:
    """Else a renewal would write both tokens into one cookie, of which the last one stays."""
    for index, source in enumerate(_listed(section(data, "session").get("sources"))):
        given = source if isinstance(source, dict) else {}
        names = [given.get("cookie"), given.get("refresh_cookie")]
        texts = [name for name in names if isinstance(name, str)]
        if len(texts) == len(names) and len(unprefixed(texts)) == 1:
            yield Finding(
                ("session", "sources", index, "refresh_cookie"),
                "must not be the cookie of the token too",
                "name the cookie that holds the refresh token",
            )


def _cookies_of_sources(
    data: Data, environ: Mapping[str, str]
) -> Iterator[tuple[str, Sequence[str]]]:
    """What each source is called here, and its cookies: named, or by its library."""
    sources = section(data, "session").get("sources")
    if not isinstance(sources, list):
        for variable, type_ in SOURCE_VARIABLES.items():
            if environ.get(variable):
                yield f"the source by {variable}", (LIBRARY_COOKIES[type_],)
        return
    for index, source in enumerate(sources):
        if isinstance(source, dict):
            cookie = source.get("cookie") or LIBRARY_COOKIES.get(str(source.get("type")))
            given = (cookie, source.get("refresh_cookie"))
            yield f"session.sources[{index}]", [one for one in given if isinstance(one, str)]


def _listeners_apart(data: Data) -> Iterator[Finding]:
    listeners = [*_listeners(data).items()]
    for at, (path, one) in enumerate(listeners):
        taken = next((there for there, other in listeners[:at] if _overlap(one, other)), None)
        if taken is not None:
            problem = f"must not be the address of {dotted(taken)} too"
            yield Finding(path, problem, "use another port, or keep one of them")
    admin = _address(data.get("admin", str(ConfigDocument.model_fields["admin"].default)))
    if admin is not None and any(_overlap(one, admin) for _, one in listeners):
        yield Finding(("admin",), "must not be the address of listen too", "use another port")


def _tls_is_for_somebody(data: Data) -> Iterator[Finding]:
    """Plain HTTP where TLS was written down would be a surprise."""
    items = _listener_items(data)
    takes = [
        takes_common_tls(_keys(item), address, is_alone=len(items) == 1)
        for path, address in _listeners(data).items()
        for item in [items[path]]
    ]
    if data.get("tls") is not None and takes and not any(takes):
        yield Finding(
            ("tls",),
            "must be for some listener: those that name tls themselves, and Unix sockets among "
            "several, do not take it",
            "name it there, as in listen: [{address: unix:/run/sidecar.sock, tls: {…}}]",
        )


def _upstream_tls_is_for_somebody(data: Data) -> Iterator[Finding]:
    """A user who names an authority to trust takes the connection for encrypted."""
    for name, upstream in section(data, "upstreams").items():
        tls = section(upstream, "tls") if isinstance(upstream, dict) else {}
        given = [upstream.get("url"), *_listed(upstream.get("urls"))] if tls else []
        urls = [one.lower() for one in given if isinstance(one, str)]
        is_plain = urls and all(one.startswith(_PLAIN) for one in urls)
        if is_plain and any(one is not None for one in tls.values()):
            yield Finding(
                ("upstreams", name, "tls"),
                "must be for an https upstream: nothing is encrypted to this one",
                "use https:// in its URL, or remove tls",
            )


def _balancers_are_trusted(data: Data) -> Iterator[Finding]:
    """Else a listener that is for them alone would close every connection."""
    trusted = data.get("trusted_proxies", [])
    for path, item in _listener_items(data).items():
        if _keys(item).get("proxy_protocol") is not True or not isinstance(trusted, list):
            continue
        address = _address(item)
        is_unix = address is not None and address.unix_path is not None
        if is_unix and "unix" not in trusted:
            remedy = "add unix to trusted_proxies"
        elif not is_unix and not any(one != "unix" for one in trusted):
            remedy = "add the balancer's addresses to trusted_proxies"
        else:
            continue
        problem = "must have a peer whose header is believed"
        yield Finding((*path, "proxy_protocol"), problem, remedy)


def _workers_share_a_store(data: Data) -> Iterator[Finding]:
    store = _store(data)
    if store is not None and not store.is_shared and _has_several_workers(data):
        yield Finding(
            ("store", "url"),
            f"must be a shared store, because workers is {data['workers']}",
            "remove it (workers share a private SQLite file by default), or use a shared store",
        )


def _kept_values_have_a_secret(data: Data, environ: Mapping[str, str]) -> Iterator[Finding]:
    """A random secret would open nothing that another process, or this one before, has sealed."""
    store = _store(data)
    if store is not None and store.is_shared and not _has_secret(data, environ):
        whose = "other machines" if store.is_remote else "the next start"
        yield Finding(
            ("store", "url"),
            f"needs a secret, or {whose} cannot open its values",
            "set secret (make one with `sidecar keygen`)",
        )


def _drain_waits_less_than_it_lasts(data: Data) -> Iterator[Finding]:
    drain = section(data, "drain")
    with suppress(BadValue):
        wait = parse_wait(drain.get("wait", "5s"))
        if wait >= parse_duration(drain.get("timeout", "25s")):
            remedy = "use wait: 5s and timeout: 25s, for example"
            yield Finding(("drain", "wait"), "must be shorter than drain.timeout", remedy)


_RULES: Final[tuple[Rule, ...]] = (
    _shorthand_alone,
    _something_to_serve,
    _upstreams_exist,
    *PATH_RULES,
    _envelopes_keep_nothing_that_is_looked_into,
    _refresh_cookie_is_another,
    _own_login_is_asked_for_right,
    _own_login_knows_its_origin,
    *RENEWAL_RULES,
    _listeners_apart,
    _tls_is_for_somebody,
    _upstream_tls_is_for_somebody,
    _balancers_are_trusted,
    _drain_waits_less_than_it_lasts,
    _workers_share_a_store,
)


def _listeners(data: Data) -> dict[KeyPath, Listen]:
    """The addresses to serve on that can be read, by their keys."""
    found = {path: _address(item) for path, item in _listener_items(data).items()}
    return {path: one for path, one in found.items() if one is not None}


def _listener_items(data: Data) -> dict[KeyPath, object]:
    """What stands for each listener: an address, or a mapping."""
    written = data.get("listen", LISTEN)
    if isinstance(written, list):
        return {("listen", at): item for at, item in enumerate(written)}
    return {("listen",): written}


def _keys(item: object) -> Data:
    """The keys of a listener that is written as a mapping."""
    return item if isinstance(item, dict) else {}


def _address(value: object) -> Listen | None:
    value = value.get("address") if isinstance(value, dict) else value
    with suppress(BadValue):
        return parse_listen(value) if isinstance(value, str) else None
    return None


def _overlap(one: Listen, other: Listen) -> bool:
    if one.unix_path is not None or other.unix_path is not None:
        return one.unix_path == other.unix_path
    return one.port == other.port != 0 and _share_an_address({one.host, other.host})


def _share_an_address(hosts: set[str]) -> bool:
    """Whether both stand for one and the same address, as far as their text tells."""
    if len(hosts) == 1 or _ALL in hosts:
        return True
    return _ALL_V4 in hosts and not any(":" in host for host in hosts)


def _is_loopback(listen: Listen) -> bool:
    """Whether no other machine can connect (RFC 1122 3.2.1.3, RFC 4291 2.5.3, RFC 6761 6.3)."""
    if listen.host == "localhost":
        return True
    with suppress(ValueError):
        return ip_address(listen.host).is_loopback
    return False


def _store(data: Data) -> StoreUrl | None:
    """The store that is written, None where there is none."""
    url = section(data, "store").get("url")
    with suppress(ValueError):
        return parse_store_url(url) if isinstance(url, str) else None
    return None


def _has_several_workers(data: Data) -> bool:
    """`auto` may be one process here and several on the next machine."""
    workers = data.get("workers")
    if isinstance(workers, str):  # from the environment
        return workers == "auto" or (workers.isdigit() and int(workers) > 1)
    return isinstance(workers, int) and workers > 1


def _has_secret(data: Data, environ: Mapping[str, str]) -> bool:
    """Whether something is written from which the secret comes, be it right or wrong."""
    if data.get("secret"):
        return True
    sources = section(data, "session").get("sources")
    if not isinstance(sources, list):
        return any(environ.get(name) for name in SOURCE_VARIABLES)
    return any(
        isinstance(source, dict) and (source.get("secret") or source.get("password"))
        for source in sources
    )


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()
