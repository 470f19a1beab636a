"""The pages that the sidecar itself shows to people, and those that stand in for them (`pages`).

A page is a text with placeholders such as `{{title}}`. It loads nothing, and runs nothing: its
styles are named to the browser by their hashes.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from html.parser import HTMLParser
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import msgspec

LOGIN_FAILED: Final = "login_failed"
LOGOUT: Final = "logout"
ERROR: Final = "error"
"""Names of pages that stand for several codes: a login that failed, the question before a logout,
and whatever has no page of its own."""

CONFIRM: Final = "confirm"  # the code of the question before a logout

_TROUBLE: Final = "The server behind this site has a problem. Try again in a moment."
_LATER: Final = "This is not your fault. Try again in a minute."
_ENDED: Final = ("You have been logged out", "Your session has ended. Log in again to go on.")

WORDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "bad_request": (
            "This request cannot be answered",
            "What your browser sent is not what this site understands. Go back, and try again.",
        ),
        "session_required": ("Please log in", "This page is for people who are logged in."),
        "session_expired": _ENDED,
        "token_rejected": (
            "Your login is not accepted right now",
            "The server behind this site does not accept it. Try again in a moment, or log out and "
            "in again.",
        ),
        "session_changed": (
            "Somebody else is logged in",
            "Another session has begun in this browser. Load the page again to go on with it.",
        ),
        "prefetch_unauthenticated": _ENDED,
        "token_refreshed": ("Please try again", "Your session was renewed in the meantime."),
        "csrf_rejected": (
            "This came from another site",
            "Other sites cannot act for you here. Open the page on this site, and try again.",
        ),
        "not_allowed": (
            "You do not have access",
            "Nobody has given you access to this page. Ask the people who run this site.",
        ),
        "no_route": (
            "There is no such page",
            "The address may be misspelled, or the page may have moved.",
        ),
        "body_too_large": ("That is too large", "What you sent is larger than this site takes."),
        "headers_too_large": (
            "Too many cookies",
            "The cookies or the URL your browser sends are too large for this site. Removing the "
            "site's cookies helps. You will have to log in again.",
        ),
        "rate_limited": ("That was too often", "Wait a moment, and try again."),
        "upstream_unreachable": ("This page cannot be shown right now", _TROUBLE),
        "upstream_protocol": ("This page cannot be shown right now", _TROUBLE),
        "upstream_timeout": (
            "This takes too long",
            "The server behind this site did not answer in time. Try again in a moment.",
        ),
        "overloaded": ("Too much is going on here", "Try again in a few seconds."),
        "store_unavailable": ("Your session cannot be checked right now", _LATER),
        "refresh_unavailable": ("Your session cannot be renewed right now", _LATER),
        "login_unavailable": ("Logins are not possible right now", _LATER),
        "internal_error": ("Something went wrong here", "This is not your fault. Try again."),
        CONFIRM: (
            "Do you want to log out?",
            "Another site may have led you here. Nothing happens unless you press the button.",
        ),
        "login_expired": (
            "The login failed",
            "It took too long, was opened twice, or began in another browser.",
        ),
        "login_misconfigured": (
            "The login failed",
            "This site and its login service do not understand each other. Only the people who "
            "run this site can help.",
        ),
        "login_loop": (
            "The login failed",
            "You have logged in several times, and it never lasted. Only the people who run this "
            "site can help.",
        ),
        "bad_answer": ("The login failed", "The login service's answer cannot be trusted."),
        "session_too_large": (
            "The login failed",
            "There is more to remember of you than fits. Only the people who run this site can "
            "help.",
        ),
        "access_denied": ("The login failed", "You, or the login service, have declined it."),
    }
)
"""Headline and text of each code, for people. The provider has more codes of its own."""

_OTHER_LOGIN: Final = ("The login failed", "The login service has refused it.")

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --quiet: #57606a; --paper: #fff;
  --accent: #1f5fbf; --on-accent: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --quiet: #a3adb8; --paper: #14171b;
  --accent: #7fb0ff; --on-accent: #0b1a30; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.5 system-ui, sans-serif; }
main { max-width: 36rem; margin: 0 auto; padding: 12vh 1.25rem 2rem; overflow-wrap: anywhere; }
h1 { margin: 0 0 .75rem; font-size: 1.6rem; line-height: 1.25; }
p { margin: .75rem 0; }
a { color: var(--accent); }
button, .button { display: inline-block; padding: .55rem 1.1rem; border: 1px solid var(--accent);
  border-radius: .4rem; background: var(--accent); color: var(--on-accent); font: inherit;
  text-decoration: none; cursor: pointer; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
footer { margin-top: 2.5rem; color: var(--quiet); font-size: .875rem; }
"""

_BUILT_IN: Final = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{{{title}}}}</title>
<style>{STYLE}</style></head>
<body><main><h1>{{{{title}}}}</h1>
<p>{{{{message}}}}</p>
{{{{details}}}}
{{{{actions}}}}
<footer><p>{{{{status}}}} <code>{{{{code}}}}</code><br>
Request <code>{{{{request_id}}}}</code></p></footer></main></body></html>
"""

TEXTS: Final = ("title", "message", "status", "code", "request_id")
PARTS: Final = ("details", "actions")
"""Placeholders: texts, which are escaped, and HTML of the sidecar's own: who is logged in or what
the provider said; links and buttons."""

NEED_ACTIONS: Final = frozenset((ERROR, LOGOUT, LOGIN_FAILED, "not_allowed", "headers_too_large"))
"""Pages that are of no use without their links and buttons."""

LONGEST_PAGE: Final = 256 * 1024  # bytes

_PLACEHOLDER: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


class UnusablePage(ValueError):
    """A page cannot be shown. The text says why, and what helps."""


class PageTemplate(msgspec.Struct, frozen=True):
    """A page that was read: literal texts and, between them, placeholders.

    `head` is its Content-Type and Content-Security-Policy, as whole lines.
    """

    literals: tuple[str, ...]
    names: tuple[str, ...]
    head: bytes

    def body(self, values: Mapping[str, str]) -> bytes:
        """Returns the page with its values, which are HTML already."""
        pieces = [self.literals[0]]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            pieces += (values[name], literal)
        return "".join(pieces).encode()


def parse_page(text: str, name: str) -> PageTemplate:
    """Returns a page. Raises `UnusablePage`; `name` is that of the file without `.html`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # as browsers do, before they hash
    check = _PageCheck()
    try:
        check.feed(text)
        check.close()
    except AssertionError:
        raise UnusablePage("must be HTML: a declaration in it is broken") from None
    literals, names = [], []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        literals.append(text[end : match.start()])
        if literals[-1].endswith(("<", "</", "&")):
            raise UnusablePage("must not have a placeholder right behind < or &")
        names.append(match[1].strip())
        end = match.end()
    literals.append(text[end:])
    known = (*TEXTS, *PARTS)
    for one in names:
        if one not in known:
            raise UnusablePage(f"unknown placeholder {{{{{one[:40]}}}}}; use {', '.join(known)}")
    if name in NEED_ACTIONS and "actions" not in names:
        raise UnusablePage("must have {{actions}}, which is its links and buttons")
    return PageTemplate(tuple(literals), tuple(names), _head(check.styles))


def _head(styles: list[str]) -> bytes:
    """What the page may do: be styled by what stands in it, and show pictures that do."""
    hashes = [b64encode(sha256(one.encode()).digest()).decode() for one in styles]
    styled = " ".join(f"'sha256-{one}'" for one in hashes) or "'none'"
    return (
        "Content-Type: text/html; charset=utf-8\r\n"
        f"Content-Security-Policy: default-src 'none'; style-src {styled}; img-src data:; "
        "base-uri 'none'; frame-ancestors 'none'\r\n"
    ).encode()


class _PageCheck(HTMLParser):
    """Finds a page's styles, and what its policy would block. Raises `UnusablePage`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.styles: list[str] = []
        self._is_style = False  # whether what comes stands in <style>

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            raise UnusablePage("must be without <script>, which its policy would block")
        self._is_style = tag == "style"
        if self._is_style:
            self.styles.append("")
        for name, value in attrs:
            self._check(tag, name, value or "")

    def _check(self, tag: str, name: str, value: str) -> None:
        if "{{" in name + value:
            raise UnusablePage(f"must not have a placeholder inside the tag <{tag}>")
        if name == "style" or name.startswith("on"):
            raise UnusablePage(f'must be without {name}="…"; put styles into <style>')
        loads = name in ("src", "srcset", "data") or (tag == "link" and name == "href")
        if loads and not value.startswith("data:"):
            raise UnusablePage(f"<{tag} {name}> must be a data: URL, as nothing is loaded")

    def handle_endtag(self, tag: str) -> None:
        self._is_style = self._is_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._is_style:
            if "{{" in data:
                raise UnusablePage("must not have a placeholder inside <style>")
            self.styles[-1] += data


def words_for(code: str, group: str | None = None) -> tuple[str, str]:
    """Returns headline and text of a code; `group` is the name that stands for several codes."""
    return WORDS.get(code) or (_OTHER_LOGIN if group == LOGIN_FAILED else WORDS["internal_error"])


def page_names() -> frozenset[str]:
    """Returns the names that pages may have: of codes, of statuses, and of several codes."""
    statuses = {str(one.value) for one in HTTPStatus if one.value >= 400}
    return frozenset({*(WORDS.keys() - {CONFIRM}), *statuses, ERROR, LOGIN_FAILED, LOGOUT})


class OwnPages(msgspec.Struct, frozen=True):
    """The pages by name. The built-in one stands in for all that are missing."""

    by_name: Mapping[str, PageTemplate]

    def page(
        self,
        code: str,
        status: int,
        request_id: str,
        *,
        group: str | None = None,
        details: str = "",
        actions: str = "",
    ) -> tuple[bytes, bytes]:
        """Returns the head lines and the body of a page. `details` and `actions` are HTML.

        Of several pages the one of the code stands first, then that of its `group`, of the status
        and `error`. A page that asks something (status 200) is no error.
        """
        names = [
            code,
            *([group] if group else []),
            str(status),
            *([ERROR] if status >= 400 else []),
        ]
        found = next((self.by_name[one] for one in names if one in self.by_name), BUILT_IN)
        title, message = words_for(code, group)
        values = {
            "title": escape(title),
            "message": escape(message),
            "status": str(status),
            "code": escape(code),
            "request_id": escape(request_id),
            "details": details,
            "actions": actions,
        }
        return found.head, found.body(values)


BUILT_IN: Final = parse_page(_BUILT_IN, ERROR)
