"""Who may end a session, and where they go next, row by row (behaviour: logout)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.csrf import CsrfRule
from sidecar.core.errors import CsrfRejected
from sidecar.core.logout_rule import (
    LONGEST_QUERY,
    LogoutRule,
    Verdict,
    judge,
    parameters,
    way_back,
)
from sidecar.core.request import Request
from sidecar.core.target import is_local_path, local_reference
from sidecar.core.tickets import Ticket

PUBLIC = b"https://app.test"
CSRF = CsrfRule(enabled=True, header=b"", origins=frozenset([b"https://admin.test"]))
RULE = LogoutRule("/api/logout", "/login", None)

DOCUMENT = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"}
FETCH = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"}
OLD_BROWSER = {"Accept": "text/html,application/xhtml+xml"}
SAME = {"Sec-Fetch-Site": "same-origin"}
TYPED = {"Sec-Fetch-Site": "none"}
SIBLING = {"Sec-Fetch-Site": "same-site"}
CROSS = {"Sec-Fetch-Site": "cross-site"}
EVIL_REFERER = {"Referer": "https://evil.test/page"}

END, CHANGED, CONFIRM, REFUSE = Verdict.END, Verdict.CHANGED, Verdict.CONFIRM, Verdict.REFUSE
VOID = Verdict.VOID


def verdict(
    method: str,
    headers: Mapping[str, str],
    ticket: Ticket | None = None,
    live: str | None = "live",
    *,
    csrf: CsrfRule = CSRF,
    has_cookie: bool = True,
    goes_on: bool = False,
) -> Verdict:
    fields = [("Host", "app.test"), *headers.items()]
    raw = tuple((name.encode(), value.encode()) for name, value in fields)
    request = Request(method, "/api/logout", raw, http11=True)
    return judge(
        request,
        ticket=ticket,
        live=live,
        has_cookie=has_cookie,
        csrf=csrf,
        public_origin=PUBLIC,
        goes_on=goes_on,
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [OLD_BROWSER, {**DOCUMENT, **SAME}, {**DOCUMENT, **CROSS}])
def test_document_is_led_on_to_the_provider_where_nothing_is_left_here(
    method: str, headers: dict[str, str]
) -> None:
    """A living session is ended by the same rules as without."""
    for has_cookie in (True, False):
        got = verdict(method, headers, live=None, has_cookie=has_cookie, goes_on=True)
        assert got is Verdict.ONWARD
    assert verdict(method, headers, goes_on=True) is verdict(method, headers)


@pytest.mark.parametrize("headers", [{**FETCH, **SAME}, {**DOCUMENT, "Purpose": "prefetch"}])
def test_nobody_but_a_document_is_led_on(headers: dict[str, str]) -> None:
    assert verdict("GET", headers, live=None, goes_on=True) is verdict("GET", headers, live=None)


CLIENTS: list[dict[str, str]] = [
    {},
    OLD_BROWSER,
    {**DOCUMENT, **SAME},
    {**DOCUMENT, **CROSS},
    {**FETCH, **SAME},
    {**FETCH, **CROSS},
    {"RSC": "1", **FETCH, **SAME},
    {"Sec-Fetch-Mode": "cors"},
    EVIL_REFERER,
]


@pytest.mark.parametrize("headers", CLIENTS)
@pytest.mark.parametrize(
    ("ticket", "live", "wanted"),
    [
        (Ticket("live"), "live", END),
        (Ticket("live"), None, END),
        (Ticket(None), None, END),
        (Ticket("dead"), "live", CHANGED),
        (Ticket(None), "live", CHANGED),
    ],
)
def test_a_ticket_ends_the_session_it_names_and_no_other(
    headers: dict[str, str], ticket: Ticket, live: str | None, wanted: Verdict
) -> None:
    """Rows 1 and 2: it proves a real 401, so it does not matter who brings it."""
    assert verdict("GET", headers, ticket, live) is wanted
    assert verdict("HEAD", headers, ticket, live) is wanted


@pytest.mark.parametrize("ticket", [Ticket("live"), Ticket(None)])
@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({**DOCUMENT, **CROSS}, VOID),
        ({**FETCH, **CROSS}, VOID),
        ({"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors", **CROSS}, VOID),
        (EVIL_REFERER, VOID),
        ({**OLD_BROWSER, **EVIL_REFERER}, VOID),
        ({"Origin": "https://evil.test"}, VOID),
        ({"Origin": "null"}, VOID),
        ({**DOCUMENT, **SAME}, END),
        ({**DOCUMENT, **SAME, **EVIL_REFERER}, END),
        ({**DOCUMENT, **SIBLING}, END),  # the same site: a Strict cookie would have come along
        ({**DOCUMENT, **TYPED}, END),
        ({}, END),
        (OLD_BROWSER, END),
        ({**OLD_BROWSER, "Referer": "https://APP.test:443/x"}, END),
    ],
)
def test_a_ticket_from_another_site_is_void_without_a_cookie(
    headers: dict[str, str], wanted: Verdict, ticket: Ticket
) -> None:
    """A cookie with SameSite=Strict stays at home then, and would be expired unseen."""
    for method in ("GET", "HEAD"):
        assert verdict(method, headers, ticket, None, has_cookie=False) is wanted
        assert verdict(method, headers, ticket, None, has_cookie=True) is END


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        # Row 3: a navigation of the user's own.
        ({**DOCUMENT, **SAME}, END),
        ({**DOCUMENT, **TYPED}, END),
        ({**DOCUMENT, **SAME, "Sec-Fetch-User": "?1", "Referer": "https://app.test/x"}, END),
        # Row 3: no Sec-Fetch headers at all, and nothing that names somebody else.
        ({}, END),
        ({"Accept": "*/*", "User-Agent": "curl/8"}, END),
        ({"Referer": "HTTPS://App.Test:443/x"}, END),
        ({**OLD_BROWSER, "Referer": "https://app.test:0443"}, END),
        ({**OLD_BROWSER, "Referer": "https://app.test"}, END),
        ({**OLD_BROWSER, "Referer": "https://app.test/dash?x"}, END),
        ({"Origin": "https://app.test"}, END),
        # Node's own fetch: a Sec-Fetch header that makes it no browser.
        ({"Sec-Fetch-Mode": "cors", "User-Agent": "node"}, END),
        # Row 4: a cross-site navigation is asked, and one that may be cross-site.
        (OLD_BROWSER, CONFIRM),
        ({**OLD_BROWSER, "Referer": ""}, CONFIRM),
        ({**OLD_BROWSER, "Referer": "https://app.test@evil.test/"}, CONFIRM),
        ({**OLD_BROWSER, "Referer": "https://app.test:8443/"}, CONFIRM),
        ({**OLD_BROWSER, "Origin": "https://app.test", **EVIL_REFERER}, CONFIRM),
        ({**DOCUMENT, **CROSS}, CONFIRM),
        ({**DOCUMENT, **SIBLING}, CONFIRM),
        ({**DOCUMENT, **CROSS, "Sec-Fetch-User": "?1"}, CONFIRM),
        ({**DOCUMENT, "Sec-Fetch-Site": "odd"}, CONFIRM),
        ({**OLD_BROWSER, **EVIL_REFERER}, CONFIRM),
        ({**OLD_BROWSER, "Origin": "null"}, CONFIRM),
        ({**OLD_BROWSER, "Referer": "https://app.test.evil.test/"}, CONFIRM),
        ({**OLD_BROWSER, "Referer": "http://app.test/"}, CONFIRM),
        # Row 4: anything else does nothing.
        ({**FETCH, **SAME}, REFUSE),
        ({**FETCH, **CROSS}, REFUSE),
        (EVIL_REFERER, REFUSE),
        ({"Origin": "https://evil.test"}, REFUSE),
        ({"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors", **SAME}, REFUSE),
        ({"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors", **CROSS}, REFUSE),
        ({"Sec-Fetch-Dest": "script", **CROSS}, REFUSE),
        ({"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate", **SAME}, REFUSE),
        ({"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate", **CROSS}, REFUSE),
        ({"Sec-Fetch-Dest": "frame", "Sec-Fetch-Mode": "navigate", **SAME}, REFUSE),
        ({"RSC": "1", **FETCH, **SAME}, REFUSE),
        ({"RSC": "1"}, REFUSE),
        ({"RSC": "1", "Next-Router-Prefetch": "1", **FETCH, **SAME}, REFUSE),
        ({"Next-Router-Prefetch": "1"}, REFUSE),
        ({"Sec-Purpose": "prefetch", **DOCUMENT, **SAME}, REFUSE),
        ({"Sec-Purpose": "prefetch;prerender", **DOCUMENT, **TYPED}, REFUSE),
        ({"Purpose": "prefetch", **OLD_BROWSER}, REFUSE),
        ({"X-Moz": "prefetch", **OLD_BROWSER}, REFUSE),
        ({"Connection": "Upgrade", "Upgrade": "websocket"}, REFUSE),
    ],
)
@pytest.mark.parametrize("live", ["live", None])
def test_a_get_without_a_ticket_needs_the_user(
    headers: dict[str, str], wanted: Verdict, live: str | None
) -> None:
    """Rows 3 and 4, whether or not there is a session to end."""
    for method in ("GET",) if "Upgrade" in headers else ("GET", "HEAD"):
        assert verdict(method, headers, None, live) is wanted


@pytest.mark.parametrize(
    ("headers", "ends"),
    [
        (SAME, True),
        (TYPED, True),
        ({"Origin": "https://app.test"}, True),
        ({"Origin": "https://admin.test"}, True),
        ({}, True),
        (CROSS, False),
        (SIBLING, False),
        ({"Origin": "https://evil.test"}, False),
        ({"Origin": "null"}, False),
        ({**CROSS, "Origin": "https://evil.test"}, False),
    ],
)
def test_a_post_needs_the_same_origin(headers: dict[str, str], ends: bool) -> None:
    """Row 5, with a ticket or without, and even where CSRF is switched off elsewhere."""
    off = CsrfRule(enabled=False, header=b"", origins=CSRF.origins)
    for ticket in (None, Ticket("live"), Ticket("dead")):
        for csrf in (CSRF, off):
            if ends:
                assert verdict("POST", headers, ticket, csrf=csrf) is END
            else:
                with pytest.raises(CsrfRejected):
                    verdict("POST", headers, ticket, csrf=csrf)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_end_nothing(method: str) -> None:
    """405, ticket or not."""
    assert verdict(method, {**DOCUMENT, **SAME}, Ticket("live")) is REFUSE


# -- where to -------------------------------------------------------------------------------------

WITH_RETURN = LogoutRule("/api/logout", "/login", "from")


@pytest.mark.parametrize(
    ("rule", "query", "location"),
    [
        (RULE, "", "/login"),
        (RULE, "next=/dash", "/dash"),
        (RULE, "callbackUrl=%2Fdash%3Fx%3D1", "/dash?x=1"),
        (RULE, "callbackUrl=/b&next=/a", "/a"),
        (RULE, "next=/k%C3%A4se/%7Bid%7D?q=a%20b%7Cc", "/k%C3%A4se/%7Bid%7D?q=a%20b%7Cc"),
        (RULE, "next=/files//2", "/login"),
        (RULE, "next=//evil.test&callbackUrl=/b", "/b"),
        (RULE, "next=/a&next=//evil.test", "/a"),
        (RULE, "next=https://evil.test", "/login"),
        (RULE, "next=/%5Cevil.test", "/login"),
        (RULE, "next=%2F%09%2Fevil.test", "/login"),
        (RULE, "next=/x%0d%0aSet-Cookie:a=1", "/login"),
        (RULE, "next=/%FF", "/login"),
        (RULE, "next=", "/login"),
        (RULE, "return=/page", "/login"),
        (WITH_RETURN, "return=/page?x=1%26y", "/login?from=%2Fpage%3Fx%3D1%26y"),
        (WITH_RETURN, "return=//evil.test", "/login"),
        (WITH_RETURN, "next=/a&return=/page", "/a"),
        (LogoutRule("/l", "/login?a=1", "from"), "return=/p", "/login?a=1&from=%2Fp"),
        (LogoutRule("/l", "/login#form", "from"), "return=/p", "/login?from=%2Fp#form"),
        (
            LogoutRule("/l", "https://login.test/x?a=1#f", "from"),
            "return=/p",
            "https://login.test/x?a=1&from=%2Fp#f",
        ),
    ],
)
def test_a_document_goes_to_the_callers_local_path_else_to_the_login(
    rule: LogoutRule, query: str, location: str
) -> None:
    """T31 and T32: only what stays on the origin is taken from a request."""
    assert rule.next_location(parameters(query)) == location


@pytest.mark.parametrize(
    ("query", "asked", "location"),
    [
        ("", True, "/home"),
        ("next=/a", True, "/a"),
        ("next=//a", True, "/home"),
        ("", False, "/login"),
        ("return=/p", False, "/login?from=%2Fp"),
    ],
)
def test_who_asks_for_a_logout_need_not_be_led_to_the_login(
    query: str, asked: bool, location: str
) -> None:
    """Where that would log in again at once; a 401 leads there all the same."""
    rule = LogoutRule("/api/logout", "/login", "from", home="/home")
    assert rule.next_location(parameters(query), is_asked_for=asked) == location


@given(st.dictionaries(st.sampled_from(["next", "callbackUrl", "return", "x"]), st.text()))
def test_nothing_in_a_query_leads_elsewhere(given_by_client: dict[str, str]) -> None:
    """Whatever is asked for, the answer is the configured page or a local path."""
    location = WITH_RETURN.next_location(given_by_client)
    assert location.isascii()
    assert location.isprintable()
    assert is_local_path(location)


@pytest.mark.parametrize(
    ("rule", "back", "location"),
    [
        (RULE, None, "/api/logout?ticket=T"),
        (RULE, "/page?x=1", "/api/logout?ticket=T"),
        (WITH_RETURN, None, "/api/logout?ticket=T"),
        (WITH_RETURN, "/page?x=1&y", "/api/logout?ticket=T&return=%2Fpage%3Fx%3D1%26y"),
        (WITH_RETURN, "//evil.test", "/api/logout?ticket=T"),
    ],
)
def test_a_401_leads_to_logout_with_its_ticket(
    rule: LogoutRule, back: str | None, location: str
) -> None:
    """The way back is carried only where `return_param` names a parameter for it."""
    assert rule.location("T", back) == location


@pytest.mark.parametrize(
    ("method", "fields", "place"),
    [
        ("GET", {"Sec-Fetch-Dest": "document"}, "/a?b=1"),
        ("GET", {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "navigate"}, "/a?b=1"),
        ("GET", {}, "/a?b=1"),
        ("POST", {"Sec-Fetch-Dest": "document"}, None),
        ("HEAD", {"Sec-Fetch-Dest": "document"}, None),
        ("GET", {"Sec-Fetch-Dest": "iframe"}, None),
        ("GET", {"Sec-Fetch-Dest": "frame"}, None),
        ("GET", {"Sec-Fetch-Dest": "fencedframe", "Sec-Fetch-Mode": "navigate"}, None),
        ("GET", {"Accept": "application/json"}, None),
    ],
)
def test_only_a_page_that_fills_the_window_can_be_gone_back_to(
    method: str, fields: dict[str, str], place: str | None
) -> None:
    """After the login the browser gets it by GET, into the window: neither forms nor frames."""
    asked = {"Host": "app.test", "Accept": "text/html", **fields}
    raw = [(name.encode(), value.encode()) for name, value in asked.items()]
    assert way_back(Request(method, "/a?b=1", raw, http11=True)) == place


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
def test_the_way_back_survives_the_redirect(text: str) -> None:
    """What `location` carries is what `next_location` gives the login."""
    back = "/" + text
    query = WITH_RETURN.location("T", back).partition("?")[2]
    reached = WITH_RETURN.next_location(parameters(query))
    place = local_reference(back)
    wanted = "/login" if place is None else f"/login?from={quote(place, safe='')}"
    assert reached == wanted


@given(st.text(st.characters(max_codepoint=255) | st.just("\udcff") | st.sampled_from("&=%+?;")))
def test_any_query_can_be_read(query: str) -> None:
    """Odd escapes and bytes raise nothing."""
    assert all(isinstance(value, str) for value in parameters("?" + query).values())


def test_parameters_are_bounded_and_the_first_counts() -> None:
    """A query of thousands of parameters is no work and no surprise."""
    assert parameters("?a=1&a=2&b=&c") == {"a": "1", "b": "", "c": ""}
    assert len(parameters("&".join(f"p{number}=1" for number in range(1000)))) == 64


def test_a_query_longer_than_any_ticket_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty thousand escapes were undone four times for one request (T92)."""
    assert parameters("next=" + "x" * (LONGEST_QUERY - 5)) != {}
    monkeypatch.setattr("sidecar.core.logout_rule.parse_qsl", pytest.fail)
    assert parameters("next=" + "x" * (LONGEST_QUERY - 4)) == {}


@pytest.mark.parametrize(
    "who", [FETCH | SAME, {}, OLD_BROWSER | {"X-Requested-With": "XMLHttpRequest"}]
)
def test_a_script_needs_the_field_besides(who: dict[str, str]) -> None:
    """`csrf.header` holds for logouts by scripts. A form cannot send it, so its origin counts."""
    rule = CsrfRule(enabled=True, header=b"x-csrf", origins=frozenset())
    with pytest.raises(CsrfRejected, match="x-csrf"):
        verdict("POST", who, csrf=rule)
    assert verdict("POST", who | {"X-CSRF": "1"}, csrf=rule) is END
    assert (
        verdict("POST", who, csrf=CsrfRule(enabled=False, header=b"x-csrf", origins=frozenset()))
        is END
    )
    assert verdict("POST", DOCUMENT | SAME | {"Accept": "text/html"}, csrf=rule) is END
    assert verdict("GET", DOCUMENT | SAME, csrf=rule) is END
