"""A plain cookie is whatever its client says: what presumes more is warned of, or refused."""

from __future__ import annotations

import pytest

from tests.core.config.conftest import FaultFinder, Loader

HEAD = (
    f"secret: {'s' * 32}\n"
    "upstreams: {a: {url: http://a}}\n"
    "logout: {redirect_to: https://l/, allowed_origins: [https://l]}\n"
)
RAW = "{type: cookie, cookie: raw}"
SEALED = f"{{type: authjs, name: sealed, secret: {'s' * 32}}}"


def site(keys: str, *sources: str) -> str:
    return (
        f"{HEAD}session: {{sources: [{', '.join(sources)}]}}\n"
        f"routes: [{{path: /, upstream: a, {keys}}}]\n"
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("kind: page, session: required", "opens the page routes[0]; its frontend must check it"),
        (
            "kind: page, session: required, inject: true",
            "opens the page routes[0]; its frontend must check it",
        ),
        (
            "kind: page, session: required, cookies: strip",
            "opens the page routes[0]; nobody is shown it there",
        ),
        ("kind: api, inject: false", "opens the API routes[0]; nobody is shown it there"),
        (
            "kind: api, inject: false, cookies: forward",
            "opens the API routes[0]; it must check it",
        ),
        ("kind: api", None),
        ("kind: api, session: optional, inject: false", None),
        ("kind: page", None),
        ("kind: page, session: required, sources: [sealed]", None),
    ],
)
def test_a_route_that_any_cookie_opens_is_warned_of(
    loaded: Loader, keys: str, words: str | None
) -> None:
    """Unless an API is shown the token, which it verifies itself."""
    warnings = loaded(site(keys, SEALED, RAW)).warnings
    assert len(warnings) == (words is not None)
    assert (words or "") in "".join(warnings)
    assert "".join(warnings).startswith("session.sources[1]: " if words else "")


@pytest.mark.parametrize(
    ("keys", "sources", "is_warned"),
    [
        ("kind: page", (RAW, SEALED), True),
        ("kind: api", (RAW, SEALED), True),
        ("kind: api", (SEALED, RAW), False),
        ("kind: api", (RAW,), False),
        ("kind: api, sources: [sealed]", (RAW, SEALED), False),
        ("kind: api, sources: [raw]", (RAW, SEALED), False),
        ("kind: api, session: none", (RAW, SEALED), False),
    ],
)
def test_a_plain_cookie_before_a_verified_session_is_warned_of(
    loaded: Loader, keys: str, sources: tuple[str, ...], *, is_warned: bool
) -> None:
    """Whoever can set it, such as from a subdomain, decides whose session is used."""
    words = "session.sources[0]: stands before session.sources[1], whose sessions are verified"
    assert any(one.startswith(words) for one in loaded(site(keys, *sources)).warnings) is is_warned


@pytest.mark.parametrize(
    "keys",
    [
        "kind: api, allow: [{claim: groups, any: [a]}]",
        "kind: api, headers: {X-User: claim.email}",
    ],
)
def test_claims_of_a_plain_cookie_are_believed_nowhere(faults: FaultFinder, keys: str) -> None:
    found = faults(site(keys, RAW))
    assert found
    assert all(fault.path.startswith("routes[0].") for fault in found)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("upstream: http://a\nsession: {sources: [{type: cookie, cookie: a}]}", "secret: missing"),
        (
            "upstream: http://a\nsession: {sources: [{type: authjs, secret: short}]}",
            "session.sources[0].secret: should have at least 32 bytes",
        ),
        (
            "upstream: http://a\noidc: {issuer: https://i, client_id: c}",
            "public_url: missing, so oidc sends logins back to the Host",
        ),
        (
            "upstream: http://a\npublic_url: https://a.example\n"
            "oidc: {issuer: https://i, client_id: c, keep: store}",
            "oidc.keep: keeps sessions in memory",
        ),
        (site("kind: page, session: required", RAW), "session.sources[0]: the sidecar cannot"),
        ("upstream: http://a\ntrusted_proxies: 0.0.0.0/0", "trusted_proxies[0]: trusts every"),
        ("upstream: http://a\ncore_dumps: true", "core_dumps: true"),
        (
            "upstream: http://a\npublic_url: http://a.example\n"
            "session: {sources: [{type: cookie, cookie: a, same_site: none}]}",
            "session.sources[0].same_site: needs https",
        ),
    ],
)
def test_each_warning_that_is_promised_comes(loaded: Loader, text: str, start: str) -> None:
    assert any(one.startswith(start) for one in loaded(text).warnings)
