"""A browser without scripts: follows redirects, keeps cookies by host, fills in forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final

from aiohttp import ClientResponse, ClientSession, CookieJar, TCPConnector
from yarl import URL

FETCH: Final = {
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
}
DOCUMENT: Final = {
    "Accept": "text/html,*/*;q=0.8",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
}


@dataclass
class Form:
    """A form of a page: where it goes, and what it sends if nobody changes it."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)  # name and value


class Page:
    """A document at the end of all redirects."""

    def __init__(self, answer: ClientResponse, text: str) -> None:
        self.url = answer.url
        self.status = answer.status
        self.text = text

    @property
    def forms(self) -> list[Form]:
        """Every form of the page."""
        reader = _Forms()
        reader.feed(self.text)
        return reader.forms

    def form(self) -> Form:
        """The first form."""
        forms = self.forms
        assert forms, f"no form at {self.url.with_query(None)}: {self.status} {self.text[:2000]}"
        return forms[0]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._by_id: dict[str, Form] = {}
        self._open: Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(given.get("action", ""), given.get("method", "get").upper())
            self.forms.append(self._open)
            self._by_id[given.get("id", "")] = self._open
        elif tag in ("input", "button") and "disabled" not in given:
            form = self._by_id.get(given["form"]) if "form" in given else self._open
            if form is not None:
                _add(form, tag, given)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None


def _add(form: Form, tag: str, given: Mapping[str, str]) -> None:
    """Adds a field or a button to the form that it belongs to."""
    name, value = given.get("name", ""), given.get("value", "")
    kind = given.get("type", "submit" if tag == "button" else "text").lower()
    if kind in ("submit", "image", "button"):
        form.buttons.append((name, value))
    elif name and (kind not in ("checkbox", "radio") or "checked" in given):
        form.fields[name] = value


class Browser:
    """Follows redirects and forms at all servers, whose cookies it keeps apart by host."""

    def __init__(self, sidecar: str, trustworthy: Sequence[str] = ()) -> None:
        """`trustworthy` are origins that are sent `Secure` cookies without TLS, as browsers do for
        the loopback interface.
        """
        self.sidecar = URL(sidecar)
        trusted = [URL(origin) for origin in trustworthy]
        self.session = ClientSession(
            cookie_jar=CookieJar(unsafe=True, quote_cookie=False, treat_as_secure_origin=trusted),
            connector=TCPConnector(force_close=True),
        )

    async def open(
        self, url: URL | str, form: Mapping[str, str] | None = None, method: str = "POST"
    ) -> Page:
        """A document, at the end of all redirects. What a form sends goes by its method."""
        data = {"data": form} if method == "POST" else {"params": form}
        asked = self.session.request(
            "GET" if form is None else method,
            self.sidecar.join(URL(url)),
            headers=DOCUMENT,
            **({} if form is None else data),  # type: ignore[arg-type]
        )
        async with asked as answer:
            return Page(answer, await answer.text())

    async def get(self, path: str) -> tuple[int, Any]:
        """What a script gets."""
        url = self.sidecar.join(URL(path))
        async with self.session.get(url, headers=FETCH) as answer:
            return answer.status, await answer.json()

    async def submit(self, page: Page, button: str | None = None, **fields: str) -> Page:
        """Sends a page's form, with these of its fields filled in, by the button of this name.

        Where there is none it is the first button.
        """
        form = page.form()
        pressed = [one for one in form.buttons if one[0] == button][:1] or form.buttons[:1]
        given = {name: value for name, value in fields.items() if name in form.fields}
        sent = {**form.fields, **{name: value for name, value in pressed if name}, **given}
        target = page.url.join(URL(form.action)) if form.action else page.url
        return await self.open(target, sent, form.method)

    @property
    def cookie(self) -> str:
        """What the sidecar is presented."""
        kept = self.session.cookie_jar.filter_cookies(self.sidecar)
        return "; ".join(f"{one.key}={one.value}" for one in kept.values())

    async def who(self) -> Any:
        """What the sidecar says about the session."""
        return (await self.get("/auth/session"))[1]

    async def close(self) -> None:
        await self.session.close()
