"""The longest prefix wins, the rest of a path arrives as sent, and redirects lead back."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from itertools import permutations
from urllib.parse import unquote, unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.record import replace
from sidecar.core.route_table import UNROUTED, Route, RouteTable
from sidecar.core.target import LONGEST_READ, MOST_READ, normalise

SEGMENT = st.sampled_from(["a", "b", "api", "apis", "login", "%2F", "a.b", ""])
PATH = st.lists(SEGMENT, max_size=6).map(lambda segments: "/" + "/".join(segments))
PREFIX = st.lists(st.sampled_from(["a", "b", "api", "apis", "login"]), max_size=4).map(
    lambda segments: "/" + "/".join(segments)
)


def route(
    path: str,
    strip: str = "",
    base: str = "",
    origin: str = "http://api:4000",
    session: str = "none",
    *,
    upstream: str = "none",
) -> Route:
    return replace(
        UNROUTED,
        path=path,
        upstream=upstream,
        session=session,
        strip=strip,
        strip_segments=strip.count("/"),
        base=base,
        upstream_origins=(origin,),
    )


def longest_prefix(prefixes: list[str], path: str) -> str | None:
    """One prefix after the other (behaviour: routes)."""
    matching = [
        prefix for prefix in prefixes if prefix in ("/", path) or path.startswith(prefix + "/")
    ]
    return max(matching, key=len, default=None)


@given(st.lists(PREFIX, unique=True, max_size=8), PATH, st.booleans())
def test_the_longest_prefix_wins(prefixes: list[str], path: str, slash: bool) -> None:
    """Whatever the table holds, the answer is the naive rule's."""
    table = RouteTable(route(p + "/" if slash and p != "/" else p) for p in prefixes)
    found = table.match(path)
    wanted = longest_prefix(prefixes, path)
    assert (None if found is None else found.path.rstrip("/") or "/") == wanted


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/", "/"),
        ("/apis", "/"),
        ("/api", "/api/"),
        ("/api/", "/api/"),
        ("/api/x", "/api/"),
        ("/api/login", "/api/login"),
        ("/api/login/x", "/api/login"),
        ("/api/loginx", "/api/"),
        ("/api//login", "/api/"),
        ("//api/login", "/"),
        ("/api%2Flogin", "/"),
        ("/API/", "/"),
    ],
)
def test_prefixes_end_at_segments(path: str, wanted: str) -> None:
    """`/api/` is no prefix of `/apis`, and `%2F` is no boundary."""
    table = RouteTable([route("/api/"), route("/api/login"), route("/")])
    found = table.match(path)
    assert found is not None
    assert found.path == wanted


def test_nothing_matches_where_no_route_does() -> None:
    """A table without `/` leaves paths over."""
    assert RouteTable([route("/api/")]).match("/other") is None
    assert RouteTable([]).match("/") is None


# -- a required session, in every spelling --------------------------------------------------------

SITE = [
    route("/", session="optional"),
    route("/account/", session="required"),
    route("/account/help", session="optional"),
    route("/api/login", session="none"),
]


def gate(routes: list[Route], path: str) -> tuple[str, str]:
    """The path and the session rule of the route that serves a path as sent."""
    found = RouteTable(routes).match(normalise(path))
    assert found is not None
    return found.path, found.session


@pytest.mark.parametrize(
    "path",
    [
        "//account/",
        "/account%2Fx",
        "/account%2fx",
        "/%2Faccount/",
        "/account;x=1/",
        "/account;/orders",
        "///account",
        "/;a/account/",
        "/;a=%2F/account/",
        "/account%252Fx",
        "/account%252fx",
        "/account%25%32%46x",
        "/%252Faccount/",
        "/;x%2F%2Faccount;y//",
        "/account%3Bx=1/",
        "/account%253Bx=1/",
        "/%2561ccount/",
        "/account%C0%AFx",
        "//account//help;",  # the public page for some, below the private one for others
        "/" + "/" * 5000 + "account",
        "/" + ";a" * 2000 + "/account",
    ],
)
def test_a_required_route_is_required_in_every_spelling(path: str) -> None:
    """What some server takes for the private page is served by its own route, gated."""
    assert gate(SITE, path) == ("/", "required")


@pytest.mark.parametrize("path", ["/account.html", "/account.data", "//ACCOUNT.json"])
def test_a_page_is_private_in_each_format_that_its_upstream_gives(path: str) -> None:
    """Another upstream has other pages, such as a manual `/api.html` beside an API at `/api/`."""
    assert gate(SITE, path) == ("/", "required")
    others = [route("/", session="optional", upstream="manual"), *SITE[1:]]
    assert gate(others, path) == ("/", "optional")


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/accounts;x=1/", "/"),
        ("/x/%2Faccount/", "/"),
        ("/x//account", "/"),
        ("/a;ccount", "/"),
        ("/account/help;x", "/account/"),
        ("/account/help%2Fx", "/account/"),
        ("/api/login//account/", "/api/login"),
        ("/caf%C3%A9;v=1//x", "/"),
        ("/%25account", "/"),
        ("/account%25", "/"),
    ],
)
def test_no_other_path_is_gated(path: str, where: str) -> None:
    """A spelling that nobody reads as the private page stays as its route has it."""
    strict = next(one.session for one in SITE if one.path == where)
    assert gate(SITE, path) == (where, strict)


CASED = [
    route("/", session="optional"),
    route("/account/", session="required"),
    route("/account/help", session="optional"),
    route("/Files/", session="required"),
    route("/%C3%A9t%C3%A9/", session="required"),
    route("/Public/", session="none"),
    route("/public/mine", session="required"),
    route("/Both", session="none"),
    route("/both", session="required"),
]


@pytest.mark.parametrize(
    ("path", "where", "session"),
    [
        ("/ACCOUNT/x", "/", "required"),
        ("/Account", "/", "required"),
        ("/acc%4Funt/", "/", "required"),
        ("/%2FaCCount/", "/", "required"),
        ("/ACCOUNT;x/", "/", "required"),
        ("/files/x", "/", "required"),
        ("/%C3%89T%C3%A9/x", "/", "required"),
        ("/PUBLIC/MINE", "/", "required"),
        ("/Public/Mine", "/Public/", "required"),
        # What a configuration writes in two ways it means.
        ("/Both", "/Both", "none"),
        ("/both", "/both", "required"),
        ("/BOTH", "/", "required"),
        # No looser than its own spelling, and no other path.
        ("/account/Help", "/account/", "required"),
        ("/ACCOUNT/HELP", "/", "optional"),
        ("/ACCOUNTS/", "/", "optional"),
        ("/Public/X", "/Public/", "none"),
        ("/public/X", "/", "optional"),
    ],
)
def test_a_required_route_is_required_in_other_letters(path: str, where: str, session: str) -> None:
    """Express, Caddy and ASP.NET do not look at the case of letters."""
    assert gate(CASED, path) == (where, session)


def test_only_the_session_rule_of_a_gated_route_changes() -> None:
    """Forwarding and everything else stay those of the route that the spelling matches."""
    strict = route("/", strip="", base="/v1", origin="http://page:3000", session="optional")
    table = RouteTable([strict, route("/account/", session="required")])
    found = table.match("//account/")
    assert found is not None
    assert found is table.match("/account;x")
    differing = [
        one.name
        for one in fields(Route)
        if one.init and getattr(found, one.name) != getattr(strict, one.name)
    ]
    assert differing == ["session"]


@pytest.mark.parametrize("session", ["optional", "required", "none"])
@pytest.mark.parametrize(
    ("strict", "gate_", "wanted"),
    [
        ("pass", None, None),
        ("session", None, None),
        ("pass", "pass", "pass"),
        (None, "pass", None),
        (None, None, None),
    ],
)
def test_a_bearer_opens_no_gate_by_another_spelling(
    session: str, strict: str | None, gate_: str | None, wanted: str | None
) -> None:
    """What a client's own token is good for is the required route's to say as well."""
    table = RouteTable(
        [
            replace(route("/", session=session), authorization=strict),
            replace(route("/account/", session="required"), authorization=gate_),
        ]
    )
    found = table.match("//account/")
    assert found is not None
    assert (found.path, found.session, found.authorization) == ("/", "required", wanted)
    plain = table.match("/other")
    assert plain is not None
    assert (plain.session, plain.authorization) == (session, strict)


@pytest.mark.parametrize(
    ("configured", "path"),
    [
        ("/%2Faccount/", "/account/x"),
        ("/a%2Fb/", "/a/b/"),
        ("/account;v=1/", "/account/x"),
        ("/account;v=1/", "/account%3Bv=1/x"),
        ("/caf%C3%A9/", "/caf\u00e9/x"),
        ("/100%25/", "/100%2525/"),
    ],
)
def test_a_required_path_that_is_itself_written_oddly_is_required_too(
    configured: str, path: str
) -> None:
    """A server that reads both alike serves the same page at both."""
    routes = [route("/", session="optional"), route(configured, session="required")]
    assert gate(routes, path) == ("/", "required")
    assert gate(routes, "/other") == ("/", "optional")


@pytest.mark.parametrize(
    "path",
    [
        "//api/logout",
        "/api//logout",
        "/api%2Flogout",
        "/api/logout;x",
        "/api/logout//",
        "/;/api/logout",
        "/API/LOGOUT",
        "/api/logouT/",
        "/Api%2FLogout",
        "/api/Logout;x",
        "/%41pi/logout",
        "//host/API/logout",
    ],
)
def test_no_spelling_gets_past_what_the_sidecar_answers_itself(path: str) -> None:
    """Other spellings of the logout path lead nowhere: an upstream may have a logout there."""
    table = RouteTable(SITE, endpoints=["/api/logout"])
    assert table.match(normalise(path)) is None
    assert table.match("/api/logout/more") is not None
    assert table.match("/api/logouts") is not None
    assert table.match("/API/LOGOUTS") is not None


@pytest.mark.parametrize(
    "path", ["/session/end", "/SESSION/END", "/session/%45nd", "/session//end"]
)
def test_own_path_with_capital_letters_or_escapes_has_no_other_spelling_either(path: str) -> None:
    for own in ("/Session/End", "/Session;x/End"):
        assert RouteTable(SITE, endpoints=[own]).match(normalise(path)) is None


def test_route_in_just_these_letters_is_told_apart_from_an_own_path() -> None:
    """A route that it is merely below says nothing of it; no other spelling means the route."""
    written = route("/API/logout")
    table = RouteTable([*SITE, written, route("/API/")], endpoints=["/api/logout"])
    assert table.match("/API/logout") is written
    assert table.match("/API/logout/") is written
    for path in ("/API/LOGOUT", "/API//logout", "/API/logout;x"):
        assert table.match(path) is None


@pytest.mark.parametrize("path", ["//api/logout", "/API/logout", "/api/logout;x"])
def test_route_for_an_own_path_opens_no_other_spelling_of_it(path: str) -> None:
    """Such a route is never reached, and whoever left it there expects nothing of it."""
    table = RouteTable([*SITE, route("/api/logout")], endpoints=["/api/logout"])
    assert table.match(path) is None


SEGMENTS = st.sampled_from(["a", "b", "c", "", ";", ";x", "%61", "%2561", "%3Bx", "a;x", "b;%2F"])
SEPARATORS = st.sampled_from(["/", "//", "%2F", "%2f", "%252F", "/;x/", "%25%32F"])
SPELLED = st.lists(st.tuples(SEPARATORS, SEGMENTS), min_size=1, max_size=6).map(
    lambda pairs: "/" + "".join(separator + segment for separator, segment in pairs)
)
RULES = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(lambda names: "/" + "/".join(names)),
    st.sampled_from(["required", "optional", "none"]),
    max_size=5,
)


def merged(path: str) -> str:
    return "/" + "/".join(segment for segment in path.split("/") if segment)


def without_parameters(path: str) -> str:
    return "/".join(segment.split(";")[0] for segment in path.split("/"))


def without_authority(path: str) -> str:
    """As what resolves the target as a URL reads it: `//` begins an authority."""
    host, slash, rest = path[2:].partition("/")
    return slash + rest if path.startswith("//") and host and slash else path


STEPS: list[Callable[[str], str]] = [
    *(unquote, unquote, merged, merged, without_parameters, without_parameters),
    without_authority,
]
SERVERS = {steps for count in range(len(STEPS) + 1) for steps in permutations(STEPS, count)}
"""What servers do with a path, in order: decode it twice at most, and the rest where they like."""


def required_by(server: tuple[Callable[[str], str], ...], path: str, rules: dict[str, str]) -> bool:
    """Whether the path, as this server reads it, lies on a required route."""
    for step in server:
        path = step(path)
    found = longest_prefix(list(rules), path.rstrip("/") or "/")
    return found is not None and rules[found] == "required"


@example({"/a": "required", "/a/a": "required"}, "//%3Bx/;x/b/%2561")  # in six steps
@given(RULES, SPELLED)
def test_whatever_a_server_reads_below_a_required_route_is_gated(
    rules: dict[str, str], path: str
) -> None:
    """And nothing else is: the gate is the union of all servers' readings."""
    rules = {"/": "optional", **rules}
    seen = normalise(path)
    strict = longest_prefix(list(rules), seen.rstrip("/") or "/")
    assert strict is not None
    where, session = gate([route(one, session=rule) for one, rule in rules.items()], path)
    wanted = any(required_by(server, seen, rules) for server in SERVERS)
    assert where == strict
    assert session == ("required" if wanted else rules[strict])


def test_long_odd_paths_are_no_routes_and_long_plain_ones_are() -> None:
    """Reading a path in every way takes milliseconds, and clients choose its length."""
    table = RouteTable(SITE)
    assert table.match("/" + "a" * 2 * LONGEST_READ) is not None
    assert table.match("/" + "A" * 2 * LONGEST_READ) is not None
    assert table.match("/" + "a;" * LONGEST_READ) is None
    assert table.match("/account/" + "a;" * LONGEST_READ) is None


def test_a_path_that_can_be_read_in_too_many_ways_is_no_route(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not read in all of them: 8 KB may have a hundred, and real paths have few (T98)."""
    decoded = 0

    def counted(octets: bytes) -> bytes:
        nonlocal decoded
        decoded += len(octets)
        return unquote_to_bytes(octets)

    monkeypatch.setattr("sidecar.core.target.unquote_to_bytes", counted)
    table = RouteTable(SITE)
    unit = "/%C3%A9%2Fb;c/%2F//%252F%3BA"
    assert table.match("/" + unit * 3) is not None
    assert table.match("/a%20b" * (LONGEST_READ // 6)) is not None
    assert table.match("/%E4%B8%AD%2F" * (LONGEST_READ // 13)) is not None
    decoded = 0
    assert table.match("/" + unit * (LONGEST_READ // len(unit))) is None
    assert decoded <= MOST_READ


def test_what_is_remembered_of_paths_is_bounded_in_bytes() -> None:
    """Clients choose paths: four thousand of 60 KB would be 240 MB."""
    table = RouteTable(SITE)
    tracemalloc.start()
    try:
        for number in range(100):
            table.match(f"/{number}" + "a" * 60_000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


# -- towards the upstream and back ----------------------------------------------------------------


@given(PREFIX.filter(lambda path: path != "/"), PATH, st.sampled_from(["", "?", "?a=%2F&b"]))
def test_behind_strip_every_byte_arrives(strip: str, rest: str, query: str) -> None:
    """Path and query byte for byte after `strip` (behaviour: forwarding)."""
    assert route(strip, strip=strip).upstream_target(strip + rest, query) == rest + query


@pytest.mark.parametrize(
    ("strip", "base", "path", "target"),
    [
        ("", "", "/api/x", "/api/x"),
        ("/api", "", "/api/x", "/x"),
        ("/api", "", "/api/", "/"),
        ("/api", "", "/api", "/"),
        ("/api", "", "/%61pi/x%2fy", "/x%2fy"),
        ("/api", "", "/api//x", "//x"),
        ("/api/v1", "", "/api/v1/x", "/x"),
        ("/api", "/base", "/api/x", "/base/x"),
        ("/api", "/base", "/api", "/base/"),
        ("", "/base", "/x", "/base/x"),
    ],
)
def test_the_prefix_is_exchanged(strip: str, base: str, path: str, target: str) -> None:
    """`strip` goes however its characters were escaped, the upstream's base path comes."""
    assert route("/", strip=strip, base=base).upstream_target(path, "?q") == target + "?q"


@pytest.mark.parametrize(
    ("strip", "base", "location", "public"),
    [
        # At the upstream's origin.
        ("/api", "", "http://api:4000/x?y#z", "/api/x?y#z"),
        ("/api", "", "http://api:4000", "/api/"),
        ("/api", "", "http://api:4000?x", "/api/?x"),
        ("", "", "http://api:4000/x", "/x"),
        ("/api", "/v1", "http://api:4000/v1/x", "/api/x"),
        ("/api", "/v1", "http://api:4000/v1", "/api"),
        # Path-absolute.
        ("/api", "", "/x", "/api/x"),
        ("", "", "/x", "/x"),
        ("/api", "/v1", "/v1/x", "/api/x"),
        ("/api", "/v1", "/v1?x", "/api?x"),
        ("/api", "/v1", "/v1#x", "/api#x"),
        ("/api", "/v1", "/v10/x", "/api/v10/x"),
        ("", "/v1", "/v1", "/"),
        ("", "/v1", "/v1?x", "/?x"),
        ("", "/v1", "/v1#x", "/#x"),
        # The same under the other scheme, without a scheme, and as others write it.
        ("/api", "", "https://api:4000/x", "/api/x"),
        ("/api", "", "//api:4000/x", "/api/x"),
        ("/api", "", "HTTP://API:4000/x", "/api/x"),
        # Foreign, and relative: as they came.
        ("/api", "", "https://idp.test/x", "https://idp.test/x"),
        ("/api", "", "http://api:40001/x", "http://api:40001/x"),
        ("/api", "", "http://api:4000.evil.test/x", "http://api:4000.evil.test/x"),
        ("/api", "", "http://api:4000@evil.test/x", "http://api:4000@evil.test/x"),
        ("/api", "", "http://api:4000\\@evil.test/x", "http://api:4000\\@evil.test/x"),
        ("/api", "", "//cdn.test/x", "//cdn.test/x"),
        ("/api", "", "x/y", "x/y"),
        ("/api", "", "?x", "?x"),
        ("/api", "", "", ""),
        # What would become another host by being mapped.
        ("", "", "http://api:4000//evil.test/x", "/evil.test/x"),
        ("", "", "http://api:4000/\\evil.test/x", "/evil.test/x"),
        ("", "", "http://api:4000/\t/evil.test/x", "/evil.test/x"),
        ("", "/v1", "/v1//evil.test/x", "/evil.test/x"),
        ("", "/v1", "/v1/\\evil.test/x", "/evil.test/x"),
        ("", "", "/\\evil.test/x", "/evil.test/x"),
        ("", "", "/\t/evil.test/x", "/evil.test/x"),
    ],
)
def test_locations_lead_back(strip: str, base: str, location: str, public: str) -> None:
    """What points at the upstream, or is path-absolute, is mapped back (behaviour: forwarding)."""
    assert route("/", strip=strip, base=base).public_location(location) == public


@pytest.mark.parametrize(
    ("origin", "host", "location", "public"),
    [
        ("http://api", None, "http://api:80/x", "/api/x"),
        ("http://api", None, "https://api/x", "/api/x"),
        ("http://api", None, "https://api:443/x", "/api/x"),
        ("http://api", None, "http://api:81/x", "http://api:81/x"),
        ("http://api:4000", b"shop.internal", "https://shop.internal/x", "/api/x"),
        ("http://api:4000", b"Shop.Internal:80", "http://shop.internal/x", "/api/x"),
        ("http://api:4000", b"shop.internal", "ftp://shop.internal/x", "ftp://shop.internal/x"),
    ],
)
def test_locations_lead_back_by_the_host_that_was_sent(
    origin: str, host: bytes | None, location: str, public: str
) -> None:
    """And whatever the upstream believes of the scheme (FastAPI behind https)."""
    one = replace(route("/", strip="/api"), upstream_origins=(origin,), host=host)
    assert one.public_location(location) == public


@pytest.mark.parametrize(
    ("location", "public"),
    [
        ("/fa/items/?a=1", "/fa/items/?a=1"),
        ("http://api:4000/fa/items", "/fa/items"),
        ("/fa", "/fa"),
        ("/fa?x", "/fa?x"),
        ("/fa#x", "/fa#x"),
        ("/fab", "/fa/fab"),
        ("/items/fa/", "/fa/items/fa/"),
    ],
)
def test_upstream_that_knows_its_prefix_gets_it_once(location: str, public: str) -> None:
    """FastAPI by `--root-path`, Flask by `ProxyFix(x_prefix=1)`: they write it themselves."""
    assert route("/fa/", strip="/fa").public_location(location) == public


def test_location_by_the_upstreams_own_base_has_no_prefix_yet() -> None:
    """Whatever its paths are called."""
    one = route("/api/", strip="/api", base="/v1")
    assert one.public_location("/v1/api/keys/") == "/api/api/keys/"
    assert one.public_location("/api/keys/") == "/api/keys/"


@pytest.mark.parametrize(
    ("strip", "base", "sent", "location", "public"),
    [
        ("/app", "", b"app.test", "http://app.test/login", "/app/login"),
        ("/app", "", b"App.Test:80", "//app.test/login", "/app/login"),
        ("/app", "", b"app.test:8080", "https://app.test:8080/login", "/app/login"),
        ("/app", "", b"app.test", "http://app.test:8080/login", "http://app.test:8080/login"),
        ("/app", "", b"app.test", "http://app.test/app/x", "/app/x"),
        ("/based", "/base", b"app.test", "http://app.test/base/login", "/based/login"),
        ("/app", "", b"app.test", "http://other.test/login", "http://other.test/login"),
        ("/app", "", b"", "//\\evil.test/x", "//\\evil.test/x"),
        ("/app", "", b"", "http://api:4000/x", "/app/x"),
    ],
)
def test_the_clients_host_means_the_upstream_that_was_sent_it(
    strip: str, base: str, sent: bytes, location: str, public: str
) -> None:
    """An absolute location leads to where the path-absolute one of the same place leads."""
    assert route("/", strip=strip, base=base).public_location(location, sent) == public


def test_the_clients_host_is_mapped_only_where_paths_differ() -> None:
    """With `host:` another one is sent, and without a prefix the location is right as it is."""
    assert replace(route("/", strip="/app"), host=None).maps_host
    assert replace(route("/", base="/v1"), host=None).maps_host
    assert not replace(route("/"), host=None).maps_host
    assert not replace(route("/", strip="/app"), host=b"x").maps_host


@given(
    st.sampled_from(["", "/api"]),
    st.sampled_from(["", "/v1"]),
    st.lists(
        st.sampled_from(["/", "\\", "\t", "v1", "evil.test", "@", "?", "#", ".", "http:"]),
        max_size=8,
    ).map("".join),
)
def test_mapping_never_leads_elsewhere(strip: str, base: str, rest: str) -> None:
    """What points at the upstream comes back to this origin, by browsers' rules too."""
    mapped = route("/", strip=strip, base=base).public_location("http://api:4000/" + rest)
    as_browsers_read = mapped.replace("\t", "").replace("\\", "/")
    assert urlsplit(urljoin("https://app.test/x", as_browsers_read)).netloc == "app.test"


@pytest.mark.parametrize("read", [lambda r: r.inject, lambda r: r.envelope is not None])
def test_without_a_route_nothing_is_done(read: Callable[[Route], bool]) -> None:
    """The stand-in neither injects nor wraps."""
    assert not read(UNROUTED)
    assert UNROUTED.strip_cookies
    assert UNROUTED.on_unauthorized == "pass"
