"""Which fields pass, which are the sidecar's own and which go; and no value breaks a head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import headers
from sidecar.core.headers import (
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    Fate,
    FieldTable,
    at_least_private,
    decodable_codings,
    is_clean_block,
    is_for_everybody,
    is_own_field,
    list_members,
    media_type,
    vary_by,
)

PASS, NOTE, TAKE, DROP, BAD = Fate.PASS, Fate.NOTE, Fate.TAKE, Fate.DROP, Fate.BAD
WITHHOLD = Fate.WITHHOLD

REQUEST = {
    PASS: "accept-language content-type x-csrf cache-control if-modified-since "
    "if-range dnt sec-ch-ua sec-websocket-version sec-websocket-extensions tracestate x-api-key "
    "x-forwardedfor x-users x-auth-token x-access-token x-xsrf-token x-amz-date x-amzn-trace-id "
    "x-goog-api-key x-user-agent x-client-info x-middleware-prefetch x-hasura-role remotes "
    "sslx 1-2",
    NOTE: "origin referer user-agent accept purpose sec-purpose x-moz next-router-prefetch rsc "
    "next-action sec-fetch-site sec-fetch-mode sec-fetch-dest sec-websocket-key x-requested-with",
    TAKE: "host cookie authorization connection content-length expect accept-encoding if-match "
    "if-none-match upgrade x-request-id traceparent x-forwarded-for x-forwarded-host "
    "x-forwarded-proto x-forwarded-port x-forwarded-prefix",
    DROP: "keep-alive proxy-connection te trailer http2-settings "
    "proxy-authorization proxy-authenticate proxy",
    # T2, T3, T4 and T18; CVE-2025-64484, CVE-2025-29927, CVE-2025-61780, httpoxy.
    WITHHOLD: "forwarded x-forwarded-user x-forwarded-email "
    "x-forwarded-groups x-forwarded-preferred-username x-forwarded-client-cert x-forwarded-ssl "
    "x-forwarded-anything x-real-ip x-client-ip x-original-url x-original-host x-rewrite-url "
    "x-host x-user x-remote-user remote-user x-auth-request-user x-auth-request-access-token "
    "x-http-method-override x-ssl-client-cert x-ssl-client-s-dn x-envoy-original-path "
    "x-ms-client-principal x-ms-client-principal-id x-goog-authenticated-user-email "
    "x-authentik-username tailscale-user-login x-middleware-subrequest cf-connecting-ip "
    "x-amzn-oidc-data x-amzn-oidc-identity cf-access-jwt-assertion "
    "cf-access-authenticated-user-email "
    "x-pomerium-jwt-assertion x-pomerium-claim-email x-consumer-username x-consumer-custom-id "
    "x-credential-identifier x-anonymous-consumer x-userinfo x-vouch-user x-vouch-idp-claims-name "
    "x-goog-iap-jwt-assertion x-authenticated-userid remote-groups x-remote-extra-scopes "
    "x-webauth-user ssl-client-verify ssl-client-subject-dn x-ssl-cert x-client-cert "
    "x-client-cert-dn "
    "x-arr-clientcert oidc-claim-sub oidc-access-token x-okta-user teleport-jwt-assertion "
    "x-teleport-user x-jwt-assertion client-cert iv-user sm-user shib-session-id mellon-name-id "
    "x-token-user-email wl-proxy-client-cert x-sendfile-type l5d-client-id x-rh-identity "
    "x_forwarded_for x_user remote_user x-forwarded_user content_length transfer_encoding a_b "
    "x.user x~user x!user x+user x|user x'user x#user x$user x%user x&user x*user x^user x`user",
    BAD: 'x:y x,y x;y x(y x[y x/y x=y x@y x{y x"y x\\y',
}
RESPONSE = {
    PASS: "server x-powered-by strict-transport-security content-security-policy allow "
    "last-modified retry-after x_custom link age content-language sec-websocket-protocol",
    TAKE: "connection content-type content-length content-encoding set-cookie location "
    "content-location cache-control vary etag www-authenticate x-request-id date upgrade "
    "accept-ranges content-md5 digest x-content-type-options cdn-cache-control surrogate-control "
    "vercel-cdn-cache-control x-accel-expires x-litespeed-cache-control example-cache-control",
    DROP: "keep-alive proxy-connection te trailer transfer-encoding proxy-authenticate",
    BAD: "x:y x,y x(y",
}


def rows(table: dict[Fate, str]) -> list[tuple[bytes, Fate]]:
    return [(name.encode(), fate) for fate, names in table.items() for name in names.split()]


@pytest.mark.parametrize(("name", "fate"), rows(REQUEST))
def test_what_becomes_of_a_request_field(name: bytes, fate: Fate) -> None:
    """In every spelling, the first time and when it is remembered."""
    for spelling in (name, name.title(), name.upper(), name[:1].upper() + name[1:]) * 2:
        assert REQUEST_FIELDS.fate(spelling) is fate


@pytest.mark.parametrize(("name", "fate"), rows(RESPONSE))
def test_what_becomes_of_a_response_field(name: bytes, fate: Fate) -> None:
    """Likewise."""
    for spelling in (name, name.title(), name.upper()) * 2:
        assert RESPONSE_FIELDS.fate(spelling) is fate


@pytest.mark.parametrize(
    "name", [b"", b" ", b"x y", b"x\t", b" x", b"x\r", b"x\n", b"x\0", b"\xe9"]
)
@pytest.mark.parametrize("table", [REQUEST_FIELDS, RESPONSE_FIELDS])
def test_what_is_no_token_is_no_name(table: FieldTable, name: bytes) -> None:
    """RFC 9110 5.1; a name with a line break would be two fields."""
    assert table.fate(name) is BAD


@given(st.binary(max_size=20))
def test_no_spelling_of_a_name_changes_its_fate(name: bytes) -> None:
    """Names are compared without regard to case (RFC 9110 5.1)."""
    for table in (REQUEST_FIELDS, RESPONSE_FIELDS):
        assert table.fate(name) is table.fate(name.upper()) is table.fate(name.swapcase())


def test_the_memory_of_spellings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients choose names: neither many nor long ones are remembered for ever."""
    monkeypatch.setattr(headers, "MEMO_LIMIT", 10)
    table = FieldTable({b"host": TAKE}, client_side=True)
    assert table.fate(b"x" * 65) is PASS
    assert b"x" * 65 not in table.memo
    for number in range(100):
        assert table.fate(b"x-%d" % number) is PASS
    assert len(table.memo) <= 10
    assert table.fate(b"HOST") is TAKE


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        *((name, True) for name in ("Authorization", "cookie", "HOST", "Content-Length", "Via")),
        *((name, True) for name in ("Transfer-Encoding", "Connection", "Upgrade", "TE", "Proxy")),
        *((name, True) for name in ("X-Forwarded-For", "X-Forwarded-Prefix", "X-Request-Id")),
        *((name, True) for name in ("X_Forwarded.For", "content_length", "X~Request.Id")),
        *((name, False) for name in ("X-User", "session_id", "Forwarded", "X-Forwardedfor")),
        *((name, False) for name in ("X-Forwarded-User", "X-Forwarded-Email")),
    ],
)
def test_which_fields_are_the_sidecars_own_in_every_spelling(name: str, is_own: bool) -> None:
    """What an upstream could take for one of them counts too."""
    assert is_own_field(name.encode()) is is_own


LINES = st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=5)


@given(LINES)
def test_a_block_is_clean_if_no_value_holds_a_control_byte(
    lines: list[tuple[bytes, bytes]],
) -> None:
    """RFC 9110 5.5: bare CR and LF, NUL, and the others but TAB."""
    block = b"".join(b"%b: %b\r\n" % line for line in lines)
    dirty = any(
        (byte < 32 and byte != 9) or byte == 127 for line in lines for byte in b"".join(line)
    )
    assert is_clean_block(block, len(lines)) is not dirty


@pytest.mark.parametrize(
    ("block", "lines", "clean"),
    [
        (b"", 0, True),
        (b"A: b\tc\xff\r\n", 1, True),
        (b"A: b\r\nEvil: x\r\n", 1, False),
        (b"A: \r\n\r\n", 1, False),
        (b"A: b\r\n", 2, False),
        (b"A: b\n\r\n", 1, False),
        (b"A: b\r\r\n", 1, False),
        (b"A: \r\nb\n\r", 2, False),
    ],
)
def test_a_line_more_or_less_than_was_written_is_none_of_ours(
    block: bytes, lines: int, clean: bool
) -> None:
    """A value with a whole CRLF in it adds a line."""
    assert is_clean_block(block, lines) is clean


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", ()),
        (b"close", (b"close",)),
        (b"Keep-Alive,  X-Foo\t, ,close", (b"keep-alive", b"x-foo", b"close")),
        (b",,", ()),
    ],
)
def test_lists_are_read_leniently(value: bytes, members: tuple[bytes, ...]) -> None:
    """RFC 9110 5.6.1.2: empty members are ignored."""
    assert list_members(value) == members


@pytest.mark.parametrize(
    ("accepted", "sent"),
    [
        (b"gzip, deflate, br, zstd", b"gzip, deflate"),
        (b"br", b"identity"),
        (b"*", b"identity"),
        (b"", b"identity"),
        (b"br;q=1.0, GZIP;q=0.8, *;q=0.1", b"GZIP;q=0.8"),
        (b"x-gzip", b"x-gzip"),
        (b"identity;q=0, gzip", b"identity;q=0, gzip"),
        (b"gzipped", b"identity"),
    ],
)
def test_only_what_can_be_decoded_is_asked_for(accepted: bytes, sent: bytes) -> None:
    """Accept-Encoding is cut to what can be decoded (behaviour: envelope)."""
    assert decodable_codings(accepted) == sent


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (b"max-age=60", b"max-age=60, private"),
        (b"public, max-age=60", b"max-age=60, private"),
        (b"Public,S-MaxAge=60,max-age=1", b"max-age=1, private"),
        (b"private", b"private"),
        (b"PRIVATE, max-age=60", b"PRIVATE, max-age=60"),
        (b"no-store", b"no-store"),
        (b"no-cache", b"no-cache, private"),
        (b'private="set-cookie"', b"private"),
        (b'max-age=9, Private="a, b", private', b"max-age=9, private"),
        (b'private="a", no-store', b"no-store"),
        (b'no-cache="a, b"', b'no-cache="a, b", private'),
        (b'no-cache="a, private, b"', b'no-cache="a, private, b", private'),
        (b'no-cache="a, no-store"', b'no-cache="a, no-store", private'),
        (b'no-cache="a, s-maxage"', b'no-cache="a, s-maxage", private'),
        (b'no-cache="\\", private, b"', b'no-cache="\\", private, b", private'),
        (b'PUBLIC="", S-MaxAge = 5, max-age=1', b"max-age=1, private"),
        (b'no-cache="a, private', b"no-store"),
        (b"private-ish", b"private-ish, private"),
        (b"", b"private"),
        (b", ,", b"private"),
        (b"public", b"private"),
    ],
)
def test_no_shared_cache_keeps_what_is_private(value: bytes, made: bytes) -> None:
    """Answers to injected credentials are at least `private` (behaviour: browser protection)."""
    assert at_least_private(value) == made


def test_a_string_without_an_end_is_looked_for_once() -> None:
    """Not once more for each quotation mark in it, which takes half a minute of 64 KiB (T91)."""
    value = b'no-cache="' + b'\\"' * 1000
    assert headers._QUOTED.findall(value) == [b""]
    assert headers._DIRECTIVE.findall(value) == [value]
    assert at_least_private(value) == b"no-store"
    assert is_for_everybody(value)


@pytest.mark.parametrize(
    ("value", "is_so"),
    [
        (b"public", True),
        (b"max-age=9, S-MaxAge=9", True),
        (b"max-age=9", False),
        (b'no-cache="a, public"', False),
        (b'no-cache="a, public', True),
        (b'no-cache="a, b', True),
        (b"", False),
    ],
)
def test_what_shared_caches_may_give_to_everybody(value: bytes, is_so: bool) -> None:
    """Such a response says nothing for a credential; nor does one that caches read differently."""
    assert is_for_everybody(value) is is_so


DIRECTIVES = st.lists(
    st.sampled_from(
        [b"public", b"private", b"no-store", b"max-age=9", b"s-maxage=9", b'private="x"', b"", b" "]
    )
).map(b",".join)


@given(DIRECTIVES)
def test_whatever_was_said_it_ends_up_private(value: bytes) -> None:
    """And nothing that invites a shared cache is left (RFC 9111 5.2.2)."""
    said = set(list_members(at_least_private(value)))
    assert said & {b"private", b"no-store"}
    assert not said & {b"public", b"s-maxage=9", b'private="x"'}
    assert at_least_private(at_least_private(value)) == at_least_private(value)


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (b"Accept-Encoding", b"Accept-Encoding, Cookie"),
        (b"cookie", b"cookie"),
        (b"Accept, Cookie", b"Accept, Cookie"),
        (b"*", b"*"),
        (b"X-Cookie", b"X-Cookie, Cookie"),
    ],
)
def test_answers_vary_by_cookie(value: bytes, made: bytes) -> None:
    """`*` says more (behaviour: browser protection)."""
    assert vary_by(value, cookie=True, origin=False) == made


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (b"application/json", b"application/json"),
        (b"Application/JSON ; charset=utf-8", b"application/json"),
        (b'attachment; filename="x;y"', b"attachment"),
        (b"", b""),
    ],
)
def test_the_media_type_is_what_stands_before_the_parameters(value: bytes, type_: bytes) -> None:
    """RFC 9110 8.3.1."""
    assert media_type(value) == type_
