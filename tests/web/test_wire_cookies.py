"""How session cookies are renewed and expired over the wire: so that their browsers take it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

import pytest

if TYPE_CHECKING:
    from tests.conftest import Answer, Client, Clients, Received, Start, Upstream

FETCH = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]
DOCUMENT += ["Accept: text/html"]
EMBEDDED = "Path=/app; Secure; SameSite=None; Partitioned"
NGINX_PAGE = 4096


def site(upstream: Upstream, **more: Any) -> dict[str, Any]:
    raw = {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"}
    return {
        "public_url": "https://app.example.com",
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/app/api", "kind": "api", "upstream": "main", "strip": "/app/api"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "session": {"sources": [raw | more.pop("source", {})]},
        "refresh": {"token_endpoint": f"{upstream.url}/token", "client_id": "app"},
        **more,
    }


def application(upstream: Upstream, **sets: list[str]) -> None:
    """An application that sets these cookies on a path, and renews `r0` for `new` and `r1`."""

    def answer(request: Received) -> bytes:
        if request.target == "/token":
            given = parse_qs(request.body.decode())["refresh_token"]
            if given != [tokens["old"]]:
                return upstream.reply(b'{"error":"invalid_grant"}', status="400 Bad")
            renewed = {"access_token": tokens["access"], "refresh_token": tokens["refresh"]}
            return upstream.reply(json.dumps({**renewed, "expires_in": 300}).encode())
        lines = sets.get(request.target.rpartition("/")[2])
        if lines is not None:
            return upstream.reply(
                b"ok", *(f"Set-Cookie: {line}" for line in lines), type="text/plain"
            )
        if request.get("Authorization") == f"Bearer {tokens['access']}":
            return upstream.reply(b"{}")
        return upstream.reply(b"{}", status="401 Unauthorized")

    tokens = {"old": "r0", "access": "new", "refresh": "r1"}
    upstream.default = answer
    upstream.tokens = tokens  # type: ignore[attr-defined]


async def renewed(one: Client, cookie: str = "access_token=old; refresh_token=r0") -> list[str]:
    answer = await one.get("/app/api/me", f"Cookie: {cookie}", *FETCH)
    assert answer.status == 200
    return answer.all("Set-Cookie")


def attributes(line: str) -> set[str]:
    """The attributes but for the lifetime."""
    parts = line.split("; ")[1:]
    return {part for part in parts if not part.startswith(("Expires", "Max-Age"))}


def size(answer: Answer) -> int:
    """The bytes of an answer's head."""
    fields = sum(len(name) + len(value) + 4 for name, value in answer.fields)
    return len(answer.line) + 2 + fields + 2


# -- as the application sets them ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (EMBEDDED, {"Path=/app", "Secure", "SameSite=None", "Partitioned"}),
        (
            "Path=/; HttpOnly; Secure; SameSite=None",
            {"Path=/", "HttpOnly", "Secure", "SameSite=None"},
        ),
        ("Path=/; SameSite=Strict", {"Path=/", "SameSite=Strict", "Secure"}),
        ("Path=/; Domain=example.com", {"Path=/", "Domain=example.com", "SameSite=Lax", "Secure"}),
        ("Path=/; HttpOnly; Domain=other.test", {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"}),
    ],
    ids=["embedded", "frame", "readable", "domain", "another tenant's domain"],
)
async def test_renewed_cookies_keep_the_attributes_that_the_application_gave_them(
    sidecar: Start, upstream: Upstream, client: Clients, written: str, expected: set[str]
) -> None:
    """In a frame, or with another Path beside, the browser would not have the new ones."""
    names = ("access_token=old", "refresh_token=r0")
    application(upstream, login=[f"{name}; {written}" for name in names])
    one = await client(await sidecar(site(upstream)))
    await one.get("/app/login", *DOCUMENT)
    lines = await renewed(one)
    assert [line.split(";")[0] for line in lines] == ["access_token=new", "refresh_token=r1"]
    assert all(attributes(line) == expected for line in lines)


async def test_keys_say_the_attributes_of_what_nobody_has_seen_yet(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """After a restart nothing was seen; and what is configured stands above what is."""
    application(upstream, login=["access_token=old; Path=/; HttpOnly", "refresh_token=r0"])
    keys = {"same_site": "none", "path": "/app", "partitioned": True, "http_only": False}
    one = await client(await sidecar(site(upstream, source=keys)))
    expected = {"Path=/app", "SameSite=None", "Secure", "Partitioned"}
    assert all(attributes(line) == expected for line in await renewed(one))
    await one.get("/app/login", *DOCUMENT)
    answer = await one.post("/api/logout", "Cookie: access_token=x", *FETCH)
    gone = [line for line in answer.all("Set-Cookie") if line.startswith("access_token=;")]
    assert {"; ".join(sorted(attributes(line))) for line in gone} >= {
        "Partitioned; Path=/app; SameSite=None; Secure",
        "Path=/app; SameSite=None; Secure",
    }


@pytest.mark.parametrize("other", ["example.com", "evil.test"])
async def test_what_was_set_on_another_host_is_not_followed(
    sidecar: Start, upstream: Upstream, client: Clients, other: str
) -> None:
    """Applications derive the Domain from the host that they are asked for.

    A wider one would show the session to every tenant, and a stranger can make up a host.
    """
    tenant = "Host: b.example.com"

    def login(request: Received) -> bytes:
        at, _, rest = (request.get("X-Forwarded-Host") or "").partition(".")
        domain = f"; Domain={at}.{rest}; Path=/wide" if at != "b" else "; HttpOnly; Path=/b"
        return upstream.reply(b"ok", f"Set-Cookie: access_token=old{domain}", type="text/plain")

    application(upstream)
    rest = upstream.default
    assert callable(rest)
    upstream.default = lambda one: login(one) if one.target == "/login" else rest(one)
    one = await client(await sidecar(site(upstream, public_url=None)))
    await one.get("/login", *DOCUMENT, tenant)
    await one.get("/login", *DOCUMENT, f"Host: {other}")
    cookie = "Cookie: access_token=old; refresh_token=r0"
    answer = await one.get("/app/api/me", cookie, *FETCH, tenant)
    line = answer.all("Set-Cookie")[0]
    assert attributes(line) == {"HttpOnly", "Path=/b", "SameSite=Lax"}


async def test_a_logout_expires_what_it_saw_where_it_was_set(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """In both partitions, since browsers keep apart what was set before and after."""
    application(upstream, login=[f"access_token=old; {EMBEDDED}"])
    one = await client(await sidecar(site(upstream)))
    await one.get("/app/login", *DOCUMENT)
    answer = await one.post("/api/logout", "Cookie: access_token=old", *FETCH)
    gone = [line for line in answer.all("Set-Cookie") if line.startswith("access_token=;")]
    assert {frozenset(attributes(line)) for line in gone} >= {
        frozenset(("Path=/app", "SameSite=None", "Secure")),
        frozenset(("Path=/app", "SameSite=None", "Secure", "Partitioned")),
    }


async def test_cookies_of_other_names_are_not_followed(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Nor what only expires a cookie, nor what the client is not given."""
    none = "SameSite=None; Secure; Path=/x"
    application(upstream, login=[f"x=1; {none}", f"access_token=; {none}; Max-Age=0"])
    one = await client(await sidecar(site(upstream)))
    await one.get("/login", *DOCUMENT)
    assert all("SameSite=Lax" in line for line in await renewed(one))


async def test_an_applications_sign_out_on_its_own_path_ends_the_session(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """It expires its cookie where it has set it: then the token is of no more use."""
    gone = [f"access_token=; {EMBEDDED}; Max-Age=0"]
    application(upstream, login=[f"access_token=new; {EMBEDDED}"], signout=gone)
    one = await client(await sidecar(site(upstream, refresh=None)))
    cookie = "Cookie: access_token=new"
    await one.get("/app/login", *DOCUMENT)
    assert (await one.get("/app/api/me", cookie, *FETCH)).status == 200
    await one.get("/app/signout", cookie, *DOCUMENT)
    assert (await one.get("/app/api/me", cookie, *FETCH)).status == 303


# -- percent-encoding, and chunks ------------------------------------------------------------------


@pytest.mark.parametrize("access", ["opaque/token+1==", "token.c2lnbmF0dXJl/+w=="])
async def test_encoded_values_are_decoded_and_written_back_encoded(
    sidecar: Start, upstream: Upstream, client: Clients, access: str
) -> None:
    """As encodeURIComponent writes them: better-auth, cookies().set, res.cookie, js-cookie."""
    application(upstream)
    upstream.tokens.update(old="old/r+0==", access=access, refresh="100%/r")  # type: ignore[attr-defined]
    one = await client(await sidecar(site(upstream)))
    cookie = (
        f"access_token={quote('a/b+c==', safe='')}; refresh_token={quote('old/r+0==', safe='')}"
    )
    pairs = [line.split(";")[0] for line in await renewed(one, cookie)]
    written = [
        f"access_token={quote(access, safe='')}",
        f"refresh_token={quote('100%/r', safe='')}",
    ]
    assert pairs == written
    assert (await one.get("/app/api/me", f"Cookie: {pairs[0]}", *FETCH)).status == 200


async def test_plain_values_stay_plain_unless_they_would_read_otherwise(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    application(upstream)
    upstream.tokens.update(access="a/b+c==", refresh="r%41")  # type: ignore[attr-defined]
    one = await client(await sidecar(site(upstream)))
    pairs = [line.split(";")[0] for line in await renewed(one)]
    assert pairs == ["access_token=a/b+c==", "refresh_token=r%2541"]


@pytest.mark.parametrize("separator", [".", "__"])
async def test_both_tokens_are_joined_from_chunks_and_written_in_chunks(
    sidecar: Start, upstream: Upstream, client: Clients, separator: str
) -> None:
    application(upstream)
    upstream.tokens.update(access="n" * 5000, refresh="m" * 5000)  # type: ignore[attr-defined]
    one = await client(await sidecar(site(upstream)))
    pieces = [("access_token", "old"), ("refresh_token", "r0")]
    cookie = "; ".join(
        f"{name}{separator}{at}={letter}"
        for name, value in pieces
        for at, letter in enumerate(value)
    )
    lines = await renewed(one, cookie)
    values = {line.partition("=")[0]: line.partition("=")[2].partition(";")[0] for line in lines}
    for name, token in (("access_token", "n" * 5000), ("refresh_token", "m" * 5000)):
        chunks = [values[f"{name}{separator}{at}"] for at in range(2)]
        assert "".join(chunks) == token
    assert values[f"access_token{separator}2"] == ""  # of the old one, which was longer


# -- the room in an answer's head ------------------------------------------------------------------

MANY = {"domains": ["example.com", "app.example.com"], "paths": ["/", "/app"]}


@pytest.mark.parametrize(
    "presented",
    [["access_token"], ["access_token.0", "access_token.1", "refresh_token"]],
    ids=["whole", "chunks"],
)
@pytest.mark.parametrize("lines", [FETCH, DOCUMENT], ids=["script", "document"])
async def test_the_head_of_a_logout_fits_into_one_page_of_memory(
    sidecar: Start, upstream: Upstream, client: Clients, presented: list[str], lines: list[str]
) -> None:
    """nginx answers 502 for a larger one. What was presented is expired everywhere all the same."""
    one = await client(await sidecar(site(upstream, logout=MANY)))
    cookie = "; ".join(f"{name}=x" for name in presented)
    answer = await one.post("/api/logout", f"Cookie: {cookie}", *lines)
    assert size(answer) < NGINX_PAGE
    gone = [line.partition("; Max-Age")[0] for line in answer.all("Set-Cookie")]
    places = [
        f"Path={path}{domain}"
        for domain in ("", *(f"; Domain={one}" for one in MANY["domains"]))
        for path in MANY["paths"]
    ]
    assert {f"{name}=; {place}" for name in presented for place in places} <= set(gone)
    bases = {"authjs.session-token", "__Secure-authjs.session-token"}
    if presented == ["access_token"]:
        assert {f"{name}=; Path=/" for name in bases} <= set(gone)


async def test_a_page_that_shows_a_dead_session_its_login_fits_too(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Its own header fields count."""
    one = await client(await sidecar(site(upstream, logout=MANY, refresh=None)))
    upstream.default = upstream.reply(b"{}", status="401 Unauthorized")
    assert (await one.get("/app/api/me", "Cookie: access_token=x", *FETCH)).status == 303
    policy = "Content-Security-Policy: " + "x" * 1000
    upstream.default = upstream.reply(b"login", policy, type="text/html")
    answer = await one.get("/login", "Cookie: access_token=x", *DOCUMENT)
    assert answer.status == 200
    assert any(line.startswith("access_token=;") for line in answer.all("Set-Cookie"))
    assert size(answer) < NGINX_PAGE
