"""Who asks: every kind of client by the headers that it really sends."""

from __future__ import annotations

import pytest

from sidecar.core.client import Client, is_server_side, tell_apart


def facts(headers: dict[str, str]) -> dict[bytes, bytes]:
    return {name.lower().encode(): value.encode() for name, value in headers.items()}


DOCUMENT = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html,*/*;q=0.8"}
FETCH = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors", "Accept": "*/*"}
HANDSHAKE = {"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"}


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        # What Chromium and Next.js really send (baseline).
        (DOCUMENT, Client.DOCUMENT),
        ({**FETCH, "RSC": "1"}, Client.ROUTER),
        ({**FETCH, "RSC": "1", "Next-Router-Prefetch": "1"}, Client.PREFETCH),
        ({**FETCH, "X-Nextjs-Data": "1"}, Client.ROUTER),
        ({**FETCH, "X-Nextjs-Data": "1", "Purpose": "prefetch"}, Client.PREFETCH),
        ({**FETCH, "Accept": "text/event-stream"}, Client.EVENTS),
        (FETCH, Client.FETCH),
        ({"Sec-Fetch-Mode": "cors", "User-Agent": "node", "Accept": "*/*"}, Client.FETCH),
        # Other ways of prefetching.
        ({**DOCUMENT, "Sec-Purpose": "prefetch"}, Client.PREFETCH),
        ({**DOCUMENT, "Sec-Purpose": "prefetch;prerender"}, Client.PREFETCH),
        ({**DOCUMENT, "Purpose": "Prefetch"}, Client.PREFETCH),
        ({"X-Moz": "prefetch", "Accept": "text/html"}, Client.PREFETCH),
        # Frames draw what they are answered.
        ({"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate"}, Client.DOCUMENT),
        ({"Sec-Fetch-Dest": "frame", "Sec-Fetch-Mode": "navigate"}, Client.DOCUMENT),
        # What is fetched as something else is data, whatever it accepts.
        ({"Sec-Fetch-Dest": "image", "Accept": "text/html"}, Client.FETCH),
        ({**FETCH, "Accept": "text/html"}, Client.FETCH),
        # A service worker passes a navigation on: what is asked for is lost, the mode is not.
        ({**NAVIGATION, "Sec-Fetch-Dest": "empty"}, Client.DOCUMENT),
        ({**NAVIGATION, "Sec-Fetch-Dest": "empty", "X-Requested-With": "a.b"}, Client.DOCUMENT),
        (NAVIGATION, Client.DOCUMENT),
        # `<a download>` navigates as well, and accepts nothing in particular.
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "empty"}, Client.FETCH),
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "empty", "Accept": "*/*"}, Client.FETCH),
        ({"Sec-Fetch-Mode": "navigate"}, Client.FETCH),
        # Plugins draw what they are answered, but inside a page that nobody left.
        ({**NAVIGATION, "Sec-Fetch-Dest": "embed"}, Client.FETCH),
        ({**NAVIGATION, "Sec-Fetch-Dest": "object"}, Client.FETCH),
        ({"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, Client.FETCH),
        # Browsers without Sec-Fetch headers, and their scripts.
        ({"Accept": "text/html,application/xhtml+xml"}, Client.DOCUMENT),
        ({"Accept": "Text/HTML"}, Client.DOCUMENT),
        ({"Accept": "text/html", "X-Requested-With": "XMLHttpRequest"}, Client.FETCH),
        ({"Accept": "text/html", "X-Requested-With": "xmlhttprequest"}, Client.FETCH),
        # Android's WebView names its application on every request.
        ({"Accept": "text/html", "X-Requested-With": "com.example.app"}, Client.DOCUMENT),
        ({"Accept": "text/html", "Next-Action": "abc"}, Client.FETCH),
        ({"Accept": "application/json"}, Client.FETCH),
        # No browser.
        ({}, Client.FETCH),
        ({"User-Agent": "curl/8", "Accept": "*/*"}, Client.FETCH),
        # Nothing but `1` is a router request.
        ({**DOCUMENT, "RSC": "0"}, Client.DOCUMENT),
        # Handshakes come first.
        (HANDSHAKE, Client.WEBSOCKET),
        ({**HANDSHAKE, "Sec-Fetch-Dest": "empty", "Purpose": "prefetch"}, Client.WEBSOCKET),
    ],
)
def test_clients_are_told_apart(headers: dict[str, str], client: Client) -> None:
    """By the headers that they really send, in the order of the table (behaviour: 401)."""
    assert tell_apart("GET", facts(headers)) is client


@pytest.mark.parametrize(
    ("path", "headers", "client"),
    [
        ("/_next/data/build/orders.json", FETCH, Client.ROUTER),
        ("/shop/_next/data/build/orders.json", FETCH, Client.ROUTER),  # below a base path
        ("/_next/data/build/orders.json", {**FETCH, "Purpose": "prefetch"}, Client.PREFETCH),
        ("/_next/data/build/orders.json", DOCUMENT, Client.DOCUMENT),  # typed by a user
        ("/_next/static/chunks/main.js", FETCH, Client.FETCH),
    ],
)
def test_page_data_are_router_data_by_their_place(
    path: str, headers: dict[str, str], client: Client
) -> None:
    """A middleware may have taken the header off."""
    assert tell_apart("GET", facts(headers), path) is client


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({**FETCH, "Accept": "text/x-component", "Next-Action": "abc"}, Client.ACTION),
        ({**FETCH, "Next-Action": "abc", "RSC": "1"}, Client.ACTION),
        ({**FETCH, "Next-Action": "abc", "Sec-Purpose": "prefetch"}, Client.PREFETCH),
        # A form that is sent without JavaScript.
        (DOCUMENT, Client.DOCUMENT),
        (FETCH, Client.FETCH),
        ({**FETCH, **HANDSHAKE}, Client.FETCH),
    ],
)
def test_server_actions_are_posts(headers: dict[str, str], client: Client) -> None:
    assert tell_apart("POST", facts(headers)) is client


@pytest.mark.parametrize(
    ("headers", "is_one"),
    [
        # Node's own fetch, whatever the method (baseline).
        ({"Sec-Fetch-Mode": "cors", "User-Agent": "node", "Accept": "*/*"}, True),
        ({"User-Agent": "curl/8"}, True),
        (FETCH | {"Sec-Fetch-Site": "same-origin"}, False),
        # A script of a browser without Fetch Metadata, from elsewhere.
        ({"Origin": "https://app.example.com"}, False),
    ],
)
def test_servers_are_told_from_browsers(headers: dict[str, str], is_one: bool) -> None:
    assert is_server_side(facts(headers)) is is_one
