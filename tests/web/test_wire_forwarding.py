"""What the upstream is sent, and what comes back of its head, byte for byte over real TCP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Clients, Running, Script, Start, Upstream

SESSION = "Cookie: access_token=tok"
PAGE = "text/html; charset=utf-8"


def routes(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """A page, and an API behind `/api` with every kind of session rule."""
    api = {"kind": "api", "upstream": "main", "strip": "/api", "session": "optional"}
    rows: dict[str, dict[str, Any]] = {
        "/api/": {},
        "/api/open": {"session": "none"},
        "/api/need": {"session": "required"},
        "/api/bearer": {"session": "required", "authorization": "pass"},
        "/api/both": {"cookies": "forward"},
        "/api/plain": {"inject": False, "envelope": False},
    }
    table: list[dict[str, Any]] = [{"path": path, **api, **own} for path, own in rows.items()]
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [*table, {"path": "/", "kind": "page", "upstream": "main"}],
        **more,
    }


@pytest.fixture
async def site(sidecar: Start, upstream: Upstream) -> Running:
    return await sidecar(routes(upstream))


# -- targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("/api/a", "/a"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?x=1", "/?x=1"),
        ("/apiary", "/apiary"),
        ("/api/a%2Fb/%7Ec/~d", "/a%2Fb/%7Ec/~d"),
        ("/api/a%2fb?c=%2F&d=e%20f+g", "/a%2fb?c=%2F&d=e%20f+g"),
        ("/api/a?", "/a?"),
        ("/api/a?b?c=/../d", "/a?b?c=/../d"),
        ("/api/a;v=1,2/b:c@d", "/a;v=1,2/b:c@d"),
        ("/api//a//b/", "//a//b/"),
        ("/api/a%C3%A4%e4", "/a%C3%A4%e4"),
        ("/%61pi/a", "/a"),
        ("/api/a?%zz%&&=&", "/a?%zz%&&=&"),
        ("/api/a!$&'()*+,;=:@-._~", "/a!$&'()*+,;=:@-._~"),
    ],
)
async def test_path_and_query_arrive_byte_for_byte_behind_strip(
    site: Running, upstream: Upstream, client: Clients, sent: str, received: str
) -> None:
    answer = await (await client(site)).get(sent)
    assert answer.status == 200
    assert upstream.last.line == f"GET {received} HTTP/1.1"


@pytest.mark.parametrize(
    "target",
    [
        "/api/../x",
        "/api/./x",
        "/api/%2e%2e/x",
        "/api/%2E./x",
        "/api/..",
        "/api/..;/x",
        "/api/..%2fx",
        "/api/%252e%252e/x",
        "/api/a%5c..%5cb",
        "/api/a\\b",
        "/api/a%00",
        "/api/a%0d%0aX:y",
        "/api/a%zz",
        "/api/a%",
        "/api/a#b",
    ],
)
async def test_path_that_servers_read_differently_is_refused(
    site: Running, upstream: Upstream, client: Clients, target: str
) -> None:
    answer = await (await client(site)).get(target)
    assert answer.status == 400
    assert answer.code == "bad_request"
    assert upstream.requests == []


@pytest.mark.parametrize("path", ["", "/base", "/base/"])
async def test_path_of_the_upstream_url_stands_in_front(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    config = routes(upstream)
    config["upstreams"]["main"]["url"] += path
    at = await sidecar(config)
    await (await client(at)).get("/api/a?b")
    assert upstream.last.target == path.rstrip("/") + "/a?b"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_method_passes(
    site: Running, upstream: Upstream, client: Clients, method: str
) -> None:
    answer = await (await client(site)).ask(method, "/api/a")
    assert answer.status == 200
    assert upstream.last.method == method


# -- field lines -----------------------------------------------------------------------------------


async def test_fields_pass_in_order_with_their_spelling_and_bytes(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    """Several lines of one name stay several; values keep inner spaces and octets above 127."""
    lines = ["X-oNe: a  b", "Accept: */*", "X-Two: 1", "X-Two: 2", "X-Latin: caf\xe9 \xc3\xa9"]
    await (await client(site)).get("/api/a", *lines, "X-Empty:")
    got = [f"{name}: {value}" for name, value in upstream.last.fields]
    assert [line for line in got if line.startswith(("X-o", "Acc", "X-T", "X-L", "X-E"))] == [
        *lines,
        "X-Empty: ",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic Zm9v",
        "Proxy: http://evil.example",
        "TE: trailers",
        "Trailer: X-T",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    ],
)
async def test_hop_by_hop_field_goes(
    site: Running, upstream: Upstream, client: Clients, line: str
) -> None:
    answer = await (await client(site)).get("/api/a", line)
    assert answer.status == 200
    assert line.partition(":")[0].lower() not in upstream.last.names


async def test_field_that_connection_names_goes(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    await (await client(site)).get(
        "/api/a", "Connection: X-Hop, close, x-other", "X-Hop: 1", "X-OTHER: 2", "X-Stays: 3"
    )
    assert not {"x-hop", "x-other"} & set(upstream.last.names)
    assert upstream.last.get("X-Stays") == "3"


@pytest.mark.parametrize(
    "named",
    [
        "Authorization",
        "Cookie",
        "Host",
        "Content-Length",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Request-Id",
        "Via",
    ],
)
async def test_connection_cannot_take_off_what_the_sidecar_sets(
    site: Running, upstream: Upstream, client: Clients, named: str
) -> None:
    """T4 of docs/security.md."""
    answer = await (await client(site)).post(
        "/api/a", "Cookie: a=b; access_token=tok", f"Connection: {named}", body=b"body"
    )
    assert answer.status == 200
    assert upstream.last.get("Authorization") == "Bearer tok"
    assert upstream.last.get(named) is not None
    assert upstream.last.body == b"body"


@pytest.mark.parametrize(
    "name",
    [
        "X-User",
        "x-user",
        "X_User",
        "X-Forwarded-User",
        "X_Forwarded_User",
        "X-Auth-Request-Email",
        "X-Auth_Request-User",
        "X-Remote-User",
        "Remote-User",
        "X-Real-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Prefix",
        "X-Forwarded-Port",
        "X-Forwarded-Whatever",
        "Forwarded",
        "X-HTTP-Method-Override",
        "X-Client-Cert",
        "True-Client-IP",
        "X-Middleware-Subrequest",
        "Any_Name",
        "Content_Length",
        "Authorization_",
        "X.User",
        "X~User",
        "Authorization.",
        "X-Amzn-Oidc-Data",
        "Cf-Access-Jwt-Assertion",
        "X-Consumer-Username",
        "X-Goog-Iap-Jwt-Assertion",
        "Ssl-Client-Verify",
    ],
)
@pytest.mark.parametrize("path", ["/api/a", "/page"])
async def test_claim_that_only_a_proxy_may_make_goes(
    site: Running, upstream: Upstream, client: Clients, name: str, path: str
) -> None:
    """T2 and T3 of docs/security.md."""
    answer = await (await client(site)).get(path, f"{name}: evil")
    assert answer.status == 200
    assert "evil" not in upstream.last.raw.decode("latin-1")


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"])
@pytest.mark.parametrize(
    ("method", "values", "passed"),
    [
        ("POST", ["PATCH"], ["PATCH"]),
        ("POST", ["delete"], ["delete"]),
        ("POST", ["PUT"], ["PUT"]),
        ("POST", ["MERGE"], ["MERGE"]),
        ("POST", ["HEAD"], []),
        ("POST", ["GET"], []),
        ("POST", ["PATCH, GET"], []),
        ("POST", ["GET", "PATCH"], ["PATCH"]),
        ("GET", ["DELETE"], []),
        ("HEAD", ["PATCH"], []),
        ("PUT", ["PATCH"], []),
    ],
)
async def test_a_post_may_stand_for_a_method_that_is_guarded_as_it_is(
    site: Running,
    upstream: Upstream,
    client: Clients,
    *,
    name: str,
    method: str,
    values: list[str],
    passed: list[str],
) -> None:
    """tus where networks let no PATCH through; never a GET that stands for DELETE."""
    one = await client(site)
    for path in ("/api/a", "/page"):
        lines = [f"{name}: {value}" for value in values]
        assert (await one.ask(method, path, *lines)).status == 200
        assert upstream.last.all(name) == passed


async def test_a_route_has_the_last_word_on_method_overrides(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Kept back from a POST as well, or passed once whatever the method."""
    config = routes(upstream)
    for path, rule in (
        ("/none", {"drop": ["X-HTTP-Method-Override"]}),
        ("/all", {"pass": ["X-HTTP-Method-Override"]}),
    ):
        config["routes"].append({"path": path, "kind": "page", "upstream": "main", "headers": rule})
    one = await client(await sidecar(config))
    for method, path, passed in (
        ("POST", "/none", []),
        ("POST", "/all", ["PATCH"]),
        ("GET", "/all", ["PATCH"]),
    ):
        assert (await one.ask(method, path, "X-HTTP-Method-Override: PATCH")).status == 200
        assert upstream.last.all("X-HTTP-Method-Override") == passed


async def test_a_route_lets_fields_pass_and_keeps_others_back(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Only that route; and what the sidecar writes stays its own."""
    config = routes(upstream)
    rule = {"drop": ["X-Tenant", "accept"], "pass": ["session_id", "X-USER"]}
    config["routes"].append({"path": "/own", "kind": "page", "upstream": "main", "headers": rule})
    one = await client(await sidecar(config))
    sent = ["X-Tenant: 1", "Accept: a/b", "Session_Id: 2", "x-user: 3", "X_User: 4", "X-Id: 5"]
    names = {line.partition(":")[0].lower() for line in sent}
    for path, wanted in (
        ("/own", {"session_id", "x-user", "x-id"}),
        ("//own", {"x-tenant", "accept", "x-id"}),
        ("/page", {"x-tenant", "accept", "x-id"}),
    ):
        assert (await one.get(path, *sent)).status == 200
        assert names & set(upstream.last.names) == wanted
        assert upstream.last.get("X-Forwarded-For") == "127.0.0.1"


# -- what the sidecar says about the client --------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/a", "/page"])
async def test_forwarded_fields_are_rewritten_and_not_believed(
    site: Running, upstream: Upstream, client: Clients, path: str
) -> None:
    await (await client(site)).get(
        path,
        "Host: app.example.com:8443",
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
    )
    assert upstream.last.all("X-Forwarded-For") == ["127.0.0.1"]
    assert upstream.last.all("X-Forwarded-Proto") == ["http"]
    assert upstream.last.all("X-Forwarded-Host") == ["app.example.com:8443"]


@pytest.mark.parametrize(
    ("trusted", "believed"),
    [
        (["127.0.0.0/8"], True),
        (["::ffff:127.0.0.1"], True),
        (["10.0.0.0/8", "127.0.0.1"], True),
        (["10.0.0.0/8", "::1"], False),
        (["unix"], False),
    ],
)
async def test_trusted_proxy_is_believed_and_its_list_extended(
    sidecar: Start, upstream: Upstream, client: Clients, trusted: list[str], believed: bool
) -> None:
    at = await sidecar(routes(upstream, trusted_proxies=trusted))
    await (await client(at)).get(
        "/page",
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-For: 5.6.7.8",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example",
    )
    told = [upstream.last.all(f"X-Forwarded-{name}") for name in ("For", "Proto", "Host")]
    if believed:
        assert told == [["1.2.3.4, 5.6.7.8, 127.0.0.1"], ["https"], ["shop.example"]]
    else:
        assert told == [["127.0.0.1"], ["http"], ["app.example.com"]]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], "1.1 sidecar"),
        (["1.0 fred"], "1.0 fred, 1.1 sidecar"),
        (
            ["1.0 fred", "1.1 p.example.net (Proxy/2)"],
            "1.0 fred, 1.1 p.example.net (Proxy/2), 1.1 sidecar",
        ),
    ],
)
async def test_via_names_every_hop_on_both_ways(
    site: Running, upstream: Upstream, client: Clients, given: list[str], sent: str
) -> None:
    """The hops before stay, and the sidecar is the last (RFC 9110 7.6.3)."""
    lines = [f"Via: {one}" for one in given]
    upstream.default = upstream.reply(b"{}", *lines)
    one = await client(site)
    for path in ("/api/a", "/page"):
        answer = await one.get(path, *lines)
        assert upstream.last.all("Via") == [sent]
        assert answer.all("Via") == [sent]


async def test_via_says_in_which_version_a_message_came(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    upstream.default = [b"HTTP/1.0 200 OK\r\nVia: 1.1 a\r\n\r\nhello", "close"]
    one = await client(site)
    one.send("GET /page HTTP/1.0\r\nVia: 1.1 b\r\n\r\n")
    assert (await one.answer()).all("Via") == ["1.1 a, 1.0 sidecar"]
    assert upstream.last.all("Via") == ["1.1 b, 1.0 sidecar"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, False),
        ("abc-123_X.y:z", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a b", False),
        ("<script>", False),
        ("", False),
    ],
)
async def test_request_id_is_one_for_client_and_upstream(
    site: Running, upstream: Upstream, client: Clients, given: str | None, kept: bool
) -> None:
    """A well-formed one of the client is kept; else a fresh one is made."""
    lines = [] if given is None else [f"X-Request-Id: {given}"]
    one = await client(site)
    first, second = [await one.get("/api/a", *lines) for _ in range(2)]
    sent = [request.get("X-Request-Id") for request in upstream.requests]
    assert sent == [first.get("X-Request-Id"), second.get("X-Request-Id")]
    assert all(re.fullmatch(r"[\w.:/+=@-]{8,128}", one or "") for one in sent)
    assert (sent == [given, given]) is kept
    assert kept or sent[0] != sent[1]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("garbage", False),
    ],
)
async def test_a_good_traceparent_passes_and_none_is_made_up(
    site: Running, upstream: Upstream, client: Clients, given: str | None, kept: bool
) -> None:
    """W3C Trace Context."""
    lines = [] if given is None else [f"traceparent: {given}"]
    await (await client(site)).get("/api/a", *lines)
    assert upstream.last.all("traceparent") == ([given] if kept else [])


@pytest.mark.parametrize(
    ("path", "own", "expected"),
    [
        ("/api/a", {}, "127.0.0.1:{port}"),
        ("/page", {}, "app.example.com"),
        ("/api/a", {"host": "api.internal"}, "api.internal"),
        ("/page", {"host": "www.internal:81"}, "www.internal:81"),
    ],
)
async def test_host_is_the_upstreams_for_apis_and_the_clients_for_pages(
    sidecar: Start, upstream: Upstream, client: Clients, *, path: str, own: Any, expected: str
) -> None:
    config = routes(upstream)
    config["upstreams"]["main"].update(own)
    await (await client(await sidecar(config))).get(path)
    assert upstream.last.all("Host") == [expected.format(port=upstream.port)]
    assert upstream.last.all("X-Forwarded-Host") == ["app.example.com"]


# -- credentials -----------------------------------------------------------------------------------

TOKEN = "access_token=tok"
LOOKALIKES = "access_token_=1; xaccess_token=2; Access_Token=3"
CHUNKS = "authjs.session-token.0=x; __Secure-authjs.session-token.1=y; next-auth.session-token=z"


@pytest.mark.parametrize(
    ("path", "cookie", "own", "cookie_sent", "authorization_sent"),
    [
        # What is injected, and that the client's own never passes there (behaviour: credential).
        ("/api/a", TOKEN, None, None, "Bearer tok"),
        ("/api/a", TOKEN, "Bearer own", None, "Bearer tok"),
        ("/api/a", "a=b", "Bearer own", "a=b", None),
        ("/api/a", None, "Basic eDp5", None, None),
        ("/api/need", TOKEN, "Bearer own", None, "Bearer tok"),
        ("/api/open", TOKEN, None, None, None),
        ("/api/open", "a=b; " + TOKEN, "Bearer own", "a=b", "Bearer own"),
        ("/api/plain", TOKEN, "Bearer own", None, "Bearer own"),
        ("/api/bearer", None, "Bearer own", None, "Bearer own"),
        ("/api/bearer", "a=b", "Bearer own", "a=b", "Bearer own"),
        ("/api/bearer", TOKEN, "Bearer own", None, "Bearer tok"),
        ("/page", TOKEN, None, TOKEN, None),
        ("/page", TOKEN, "Bearer own", TOKEN, "Bearer own"),
        # Cookies: session names and chunks go, the rest stays byte for byte (T7).
        ("/api/both", "a=b; " + TOKEN, None, "a=b; " + TOKEN, "Bearer tok"),
        ("/api/a", f"a=b; {TOKEN}; c=d", None, "a=b; c=d", "Bearer tok"),
        ("/api/a", f"{TOKEN};c=d;  e", None, "c=d;  e", "Bearer tok"),
        ("/api/a", f'a="x; y"; {CHUNKS}; b==;;c = d', None, 'a="x; y"; b==;;c = d', None),
        # Names are compared whole and with their case.
        ("/api/a", LOOKALIKES, None, LOOKALIKES, None),
        ("/api/a", "__Host-access_token=sec", None, None, "Bearer sec"),
        # A value that is no b64token is no session (T5).
        ("/api/a", "access_token=a b", None, None, None),
        ("/api/a", 'access_token="to k"', None, None, None),
        ("/api/a", "access_token=", None, None, None),
        ("/api/a", "access_token=t\xe4", None, None, None),
        # Duplicates: __Host- first, else the first that opens (T6).
        ("/api/a", "access_token=one; access_token=two", None, None, "Bearer one"),
        ("/api/a", "access_token=a b; access_token=two", None, None, "Bearer two"),
        ("/api/a", "access_token=one; __Host-access_token=two", None, None, "Bearer two"),
    ],
)
async def test_cookie_and_authorization_that_the_upstream_gets(
    site: Running,
    upstream: Upstream,
    client: Clients,
    *,
    path: str,
    cookie: str | None,
    own: str | None,
    cookie_sent: str | None,
    authorization_sent: str | None,
) -> None:
    lines = [f"Cookie: {cookie}"] if cookie is not None else []
    lines += [f"Authorization: {own}"] if own is not None else []
    answer = await (await client(site)).get(path, *lines)
    assert answer.status == 200
    assert upstream.last.get("Cookie") == cookie_sent
    assert upstream.last.get("Authorization") == authorization_sent


async def test_cookie_lines_are_joined_before_they_are_read(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    """HTTP/2 front ends may split them (RFC 9113 8.2.3)."""
    await (await client(site)).get("/api/a", "Cookie: a=b", SESSION, "Cookie: c=d")
    assert upstream.last.get("Cookie") == "a=b; c=d"
    assert upstream.last.get("Authorization") == "Bearer tok"


async def test_two_authorization_lines_never_pass_an_injecting_route(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    lines = ("Authorization: Bearer a", "authorization: Bearer b")
    await (await client(site)).get("/api/a", SESSION, *lines)
    assert upstream.last.all("Authorization") == ["Bearer tok"]


@pytest.mark.parametrize("path", ["/api/bearer", "/api/open"])
async def test_two_authorization_lines_never_pass_as_one(
    site: Running, upstream: Upstream, client: Clients, path: str
) -> None:
    """Authorization is no list (RFC 9110 5.3): servers would disagree about which one counts."""
    lines = ("Authorization: Bearer a", "authorization: Bearer b")
    assert (await (await client(site)).get(path, *lines)).status == 400
    assert upstream.requests == []


@pytest.mark.parametrize("path", ["/api/need", "/api/bearer"])
async def test_required_session_is_demanded_before_the_upstream_is_asked(
    site: Running, upstream: Upstream, client: Clients, path: str
) -> None:
    answer = await (await client(site)).get(path)
    assert answer.status == 303
    assert upstream.requests == []


async def test_next_request_on_the_connection_gets_nothing_of_the_one_before(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    """The connection remembers what it has read; who asks next is read anew."""
    one = await client(site)
    for lines, expected in [
        ([SESSION], "Bearer tok"),
        ([], None),
        (["Cookie: access_token=other"], "Bearer other"),
        ([SESSION], "Bearer tok"),
        (["Cookie: a=b"], None),
    ]:
        await one.get("/api/a", *lines)
        assert upstream.last.get("Authorization") == expected
        assert upstream.connections == 1


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "mapped"),
    [
        ("{url}/a?b#c", "/api/a?b#c"),
        ("{url}", "/api/"),
        ("{url}?x", "/api/?x"),
        ("/a/b", "/api/a/b"),
        ("a/b", "a/b"),
        ("?x=1", "?x=1"),
        ("https://other.example/a", "https://other.example/a"),
        ("{url}0/a", "{url}0/a"),
        ("//other.example/a", "//other.example/a"),
        ("http://user@127.0.0.1/a", "http://user@127.0.0.1/a"),
    ],
)
@pytest.mark.parametrize("name", ["Location", "Content-Location"])
async def test_location_of_the_upstream_is_mapped_back(
    site: Running, upstream: Upstream, client: Clients, *, location: str, mapped: str, name: str
) -> None:
    line = f"{name}: {location.format(url=upstream.url)}"
    upstream.default = upstream.reply(b"", line, status="302 Found")
    answer = await (await client(site)).get("/api/a")
    assert answer.status == 302
    assert answer.get(name) == mapped.format(url=upstream.url)


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize("path", ["/page", "/api/a"])
async def test_location_of_an_https_site_is_https(
    sidecar: Start, upstream: Upstream, client: Clients, *, name: str, path: str
) -> None:
    """Servers behind TLS often take http for their clients' scheme; each client's site is its own,
    though the same head comes again."""
    at = await sidecar(routes(upstream), trusted_proxies=["127.0.0.1"])
    upstream.default = upstream.reply(
        b"", f"{name}: http://app.test/a", "Date: Thu, 01 Jan 2026 00:00:00 GMT", status="302 Found"
    )
    one = await client(at)
    for _ in range(3):
        for host, proto, said in [
            ("app.test", "https", "https://app.test/a"),
            ("app.test", "http", "http://app.test/a"),
            ("other.test", "https", "http://app.test/a"),
            ("app.test:8443", "https", "http://app.test/a"),
        ]:
            answer = await one.get(path, f"Host: {host}", f"X-Forwarded-Proto: {proto}")
            assert answer.get(name) == said, (host, proto)


async def test_location_follows_the_public_url(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A scheme that a stranger claims says nothing."""
    upstream.default = upstream.reply(b"", "Location: http://app.test/a", status="302 Found")
    at = await sidecar(routes(upstream), public_url="https://app.test")
    assert (await (await client(at)).get("/page")).get("Location") == "https://app.test/a"
    at = await sidecar(routes(upstream))
    answer = await (await client(at)).get("/page", "Host: app.test", "X-Forwarded-Proto: https")
    assert answer.get("Location") == "http://app.test/a"


async def test_upstream_location_stays_local_whatever_it_is(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    """Behind strip a path may begin with two slashes, which would name another host."""
    upstream.default = upstream.reply(
        b"", f"Location: {upstream.url}//evil.example", status="302 X"
    )
    answer = await (await client(site)).get("/page")
    assert not (answer.get("Location") or "").startswith("//")


@pytest.mark.parametrize("path", ["/api/a", "/api/open", "/page"])
async def test_several_set_cookie_lines_stay_several(
    site: Running, upstream: Upstream, client: Clients, path: str
) -> None:
    cookies = ["a=1; Path=/; Expires=Thu, 01 Jan 2099 00:00:00 GMT", 'b="x, y"; HttpOnly', "a=2"]
    upstream.default = upstream.reply(b"{}", *(f"Set-Cookie: {cookie}" for cookie in cookies))
    answer = await (await client(site)).get(path)
    assert answer.all("Set-Cookie") == cookies


@pytest.mark.parametrize(
    ("path", "passes"),
    [
        ("/api/a", False),
        ("/api/need", False),
        ("/api/open", True),
        ("/page", True),
        ("/api/both", True),
    ],
)
@pytest.mark.parametrize(
    "name", ["access_token", "__Secure-authjs.session-token.3", "next-auth.session-token"]
)
async def test_set_cookie_of_a_session_name_passes_where_a_login_may_be(
    site: Running, upstream: Upstream, client: Clients, *, path: str, passes: bool, name: str
) -> None:
    """Dropped and counted elsewhere (T8); and what sets a session is never stored."""
    cookie = f"{name}=new; Path=/; Secure"
    upstream.default = upstream.reply(b"{}", f"Set-Cookie: {cookie}", "Set-Cookie: other=1")
    answer = await (await client(site)).get(path, SESSION)
    assert answer.all("Set-Cookie") == ([cookie, "other=1"] if passes else ["other=1"])
    assert (answer.get("Cache-Control") == "no-store") is passes
    metrics = await site.metrics()
    assert metrics["sidecar_cookies_dropped_total"] == (0 if passes else 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "private"),
        ("max-age=60", "max-age=60, private"),
        ("public, max-age=60", "max-age=60, private"),
        ("no-store", "no-store"),
        ("private, max-age=1", "private, max-age=1"),
        ('private="x"', "private"),
    ],
)
async def test_answer_to_an_injected_credential_is_private(
    site: Running, upstream: Upstream, client: Clients, given: str | None, expected: str
) -> None:
    """And varies by cookie (behaviour: browser protection)."""
    lines = [] if given is None else [f"Cache-Control: {given}"]
    upstream.default = upstream.reply(b"{}", "Vary: Accept", *lines)
    one = await client(site)
    answer = await one.get("/api/a", SESSION)
    assert answer.get("Cache-Control") == expected
    assert answer.get("Vary") == "Accept, Cookie"
    anonymous = await one.get("/api/a")
    assert anonymous.get("Cache-Control") == given
    assert anonymous.get("Vary") == "Accept, Cookie"


@pytest.mark.parametrize("path", ["/api/a", "/api/open", "/api/plain", "/api/need"])
async def test_no_answer_of_an_api_is_sniffed(
    site: Running, upstream: Upstream, client: Clients, path: str
) -> None:
    """Passed on, wrapped, an error of its own or of the sidecar's: the field stands there once."""
    one = await client(site)
    scripts: list[Script] = [
        upstream.reply(b"{}"),
        upstream.reply(b"<p>", "X-Content-Type-Options: nosniff", type=PAGE),
        upstream.reply(b"no", type=PAGE, status="500 X"),
        upstream.reply(b"", status="204 No Content", type=None).replace(
            b"Content-Length: 0\r\n", b""
        ),
        upstream.reply(b"", status="304 Not Modified", type=None),
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n"],
        ["reset"],
    ]
    for script in scripts:
        upstream.default = script
        for lines in ([SESSION], []):
            answer = await one.get(path, *lines)
            assert answer.get("X-Content-Type-Options") == "nosniff"


async def test_page_that_needs_a_session_is_private_whatever_its_frontend_says(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Frameworks call static pages public; a cache in front would show them to anybody."""
    config = routes(upstream)
    config["routes"].append(
        {"path": "/account", "kind": "page", "upstream": "main", "session": "required"}
    )
    upstream.default = upstream.reply(
        b"<p>", "Cache-Control: public, s-maxage=600", "CDN-Cache-Control: max-age=600", type=PAGE
    )
    one = await client(await sidecar(config))
    for path in ("/account", "//account"):
        answer = await one.get(path, SESSION)
        assert (answer.get("Cache-Control"), answer.get("Vary")) == ("private", "Cookie")
        assert answer.get("CDN-Cache-Control") is None
    answer = await one.get("/", SESSION)
    assert answer.get("Cache-Control") == "public, s-maxage=600"
    assert answer.get("CDN-Cache-Control") == "max-age=600"


@pytest.mark.parametrize(
    "line",
    [
        "Connection: close",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "Trailer: X-T",
        "Upgrade: h2c",
        "Connection: X-Hop",
    ],
)
async def test_hop_by_hop_field_of_an_answer_goes(
    site: Running, upstream: Upstream, client: Clients, line: str
) -> None:
    upstream.default = upstream.reply(b"{}", line, "X-Hop: 1", "X-Stays: 2")
    one = await client(site)
    for _ in range(2):  # the client's connection is the sidecar's own affair
        answer = await one.get("/api/a")
        assert answer.get("X-Stays") == "2"
        assert answer.get(line.partition(":")[0]) is None
        assert ("x-hop" in answer.names) is (line != "Connection: X-Hop")


async def test_page_passes_as_it_came(site: Running, upstream: Upstream, client: Clients) -> None:
    """Body, type, validators and unknown fields."""
    fields = ['ETag: "abc"', "X-Powered-By: Next.js", "Accept-Ranges: bytes", "Age: 7"]
    upstream.default = upstream.reply(b"<p>\xff\x00</p>", *fields, type=PAGE, status="404 Nope")
    answer = await (await client(site)).get("/page", SESSION)
    assert answer.line == "HTTP/1.1 404 Nope"
    assert answer.body == b"<p>\xff\x00</p>"
    assert set(fields) <= {f"{name}: {value}" for name, value in answer.fields}
    assert answer.get("Content-Type") == PAGE
    assert answer.get("Date") is not None


@pytest.mark.parametrize(
    ("path", "kind"), [("/api/a", "application/json"), ("/page", "text/html; charset=utf-8")]
)
async def test_own_error_is_an_envelope_for_apis_and_a_page_for_pages(
    site: Running, upstream: Upstream, client: Clients, path: str, kind: str
) -> None:
    """With the same facts, and the request id of the header in both."""
    upstream.default = ["reset"]
    answer = await (await client(site)).post(path, body=b"x")
    request_id = answer.get("X-Request-Id")
    assert request_id
    assert (answer.status, answer.get("Content-Type")) == (502, kind)
    assert answer.get("Cache-Control") == "no-store"
    if path == "/page":
        assert b"upstream_unreachable" in answer.body
        assert request_id.encode() in answer.body
    else:
        assert list(answer.json) == ["isError", "message", "data", "status", "errorData"]
        told = {"code": "upstream_unreachable", "requestId": request_id}
        assert answer.json["errorData"] == told
        assert (answer.json["isError"], answer.json["data"], answer.json["status"]) == (
            True,
            None,
            502,
        )


async def test_path_without_a_route_is_no_route(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    route = {"path": "/api", "kind": "api", "upstream": "main"}
    config = {"upstreams": {"main": {"url": upstream.url}}, "routes": [route]}
    answer = await (await client(await sidecar(config))).get("/apis")
    assert (answer.status, answer.code) == (404, "no_route")


@pytest.mark.parametrize(
    ("method", "value", "sent"),
    [
        ("OPTIONS", "5", "4"),
        ("OPTIONS", "1", "0"),
        ("OPTIONS", "x", None),
        ("OPTIONS", "-1", None),
        ("OPTIONS", "9" * 5000, None),
        ("OPTIONS", None, None),
        ("GET", "0", "0"),
        ("POST", "3", "3"),
    ],
)
async def test_max_forwards_counts_the_proxies_of_options(
    site: Running,
    upstream: Upstream,
    client: Clients,
    *,
    method: str,
    value: str | None,
    sent: str | None,
) -> None:
    """RFC 9110 7.6.2; on other methods it means nothing, and passes."""
    lines = [] if value is None else [f"Max-Forwards: {value}"]
    answer = await (await client(site)).ask(method, "/page", *lines)
    assert answer.status == 200
    assert upstream.last.get("Max-Forwards") == sent


@pytest.mark.parametrize("path", ["/page", "/api/a"])
async def test_options_at_its_last_proxy_is_answered_here(
    site: Running, upstream: Upstream, client: Clients, path: str
) -> None:
    one = await client(site)
    answer = await one.ask("OPTIONS", path, "Max-Forwards: 0")
    assert (answer.status, answer.body) == (204, b"")
    assert {"GET", "POST", "OPTIONS"} <= set((answer.get("Allow") or "").split(", "))
    assert upstream.requests == []
    assert (await one.get("/page")).status == 200


@pytest.mark.parametrize("hops", ["0", "1", "7"])
async def test_trace_is_never_passed_on_nor_reflected(
    site: Running, upstream: Upstream, client: Clients, hops: str
) -> None:
    """It would show its sender what a proxy in between has added."""
    answer = await (await client(site)).ask(
        "TRACE", "/page", f"Max-Forwards: {hops}", "Cookie: access_token=tok", "X-A: secret"
    )
    assert 400 <= answer.status < 500
    assert b"tok" not in answer.body
    assert b"secret" not in answer.body
    assert upstream.requests == []
