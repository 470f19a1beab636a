"""What holds for the requests of each route, compiled."""

from __future__ import annotations

from sidecar.compilation.compile_login import compile_rules
from sidecar.compilation.compile_sources import source_set
from sidecar.core.access import RouteGate
from sidecar.core.config import Config
from sidecar.core.config.routes import Envelope, FieldNames, RouteSection
from sidecar.core.envelope import EnvelopeRule, FailureRule
from sidecar.core.identity import IdentityField
from sidecar.core.observed_route import passing
from sidecar.core.request import FieldRule
from sidecar.core.route_table import Route
from sidecar.core.upstream_url import split_upstream_url


def compile_route(config: Config, route: RouteSection) -> Route:
    """One route, with what the whole configuration says of its upstream, sources and fields."""
    upstream = config.upstreams[route.upstream]
    urls = [split_upstream_url(one) for one in upstream.servers]
    url = urls[0]
    origin = url.authority if route.kind == "api" else None
    host = route.host or upstream.host or origin
    compiled = Route(
        path=route.path,
        kind=route.kind,
        upstream=route.upstream,
        session=route.session,
        inject=route.inject and route.session != "none",
        strip_cookies=route.cookies == "strip",
        envelope=None if route.envelope is None else _compile_envelope(route.envelope),
        on_unauthorized=route.on_unauthorized,
        authorization=route.authorization,
        sources=source_set(config, route.sources),
        strip=(route.strip or "").rstrip("/"),
        strip_segments=(route.strip or "").rstrip("/").count("/"),
        base=url.base,
        fields=_compile_fields(route.headers, _set_names(config)),
        host=host.encode() if host is not None else None,
        upstream_origins=tuple(one.origin for one in urls),
        errors=route.errors,
        gates=_compile_gates(config, route),
        identity=tuple(
            IdentityField(name.encode(), claim) for name, claim in route.headers.set_.items()
        ),
    )
    return passing(compiled) if route.observe else compiled


def _compile_gates(config: Config, route: RouteSection) -> tuple[RouteGate, ...]:
    if not route.allow:
        return ()
    sources = source_set(config, route.sources)
    return (RouteGate(compile_rules(route.allow), sources, route.path),)


def _set_names(config: Config) -> frozenset[str]:
    """The fields that some route sets: no client's own reaches any upstream, by whatever route."""
    return frozenset(name.lower() for route in config.routes for name in route.headers.set_)


def _compile_fields(written: FieldNames, set_here: frozenset[str]) -> FieldRule | None:
    passed = frozenset(name.encode() for name in written.pass_)
    dropped = frozenset(name.encode() for name in (*written.drop, *set_here)) - passed
    return FieldRule(dropped, passed) if dropped or passed else None


def _compile_envelope(written: Envelope) -> EnvelopeRule:
    usual = EnvelopeRule()
    return EnvelopeRule(
        keep=written.keep,
        data=written.data or usual.data,
        message=written.message or usual.message,
        error_data=written.error_data or usual.error_data,
        buffer=written.buffer,
        compress=written.compress == "auto",
        failure=tuple(
            FailureRule(rule.path, rule.values, is_excluding=rule.is_excluding)
            for rule in written.failure
        ),
    )
