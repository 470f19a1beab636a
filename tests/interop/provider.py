"""What the checks need of a provider, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.oidc.browser import Browser, Page

CLIENT_ID: Final = "app"
CLIENT_SECRET: Final = "a-secret-of-the-client-32-letters"
PASSWORD: Final = "a-Passw0rd-of-32-characters-long"  # of every user
USERS: Final = ("alice", "bob", "carol", "dave", "erin", "frank", "grace")
SECONDS: Final = 12  # that an access token lives


class NotOffered(Exception):
    """The provider has no such thing. The text says what it has instead, or why not."""


@dataclass(frozen=True)
class Place:
    """Where a provider runs, and for which sidecar."""

    port: int
    sidecar: str  # its URL
    folder: Path  # for its data and logs

    @property
    def redirect_uri(self) -> str:
        return f"{self.sidecar}/auth/callback"

    @property
    def post_logout_uri(self) -> str:
        return f"{self.sidecar}/"

    @property
    def back_channel_uri(self) -> str:
        return f"{self.sidecar}/auth/backchannel-logout"


class Provider(ABC):
    """A provider: installed once, then run for each site. Users are those of `USERS`.

    Access tokens live `seconds`, refresh tokens rotate, and a refresh token that is used twice is
    refused, where it can be set up so.
    """

    name: ClassVar[str]
    seconds: ClassVar[float] = SECONDS
    agree: ClassVar[str | None] = None  # the name of the button that agrees, if not the first
    version: str = ""
    configured: ClassVar[tuple[str, ...]] = ()
    """What had to be set, at the provider or in `oidc:`, besides what every client registers."""

    def __init__(self) -> None:
        self._place: Place | None = None

    @property
    def place(self) -> Place:
        assert self._place is not None, "it was not started"
        return self._place

    @property
    @abstractmethod
    def issuer(self) -> str: ...

    @property
    def oidc(self) -> Mapping[str, Any]:
        """More keys of the sidecar's `oidc:`."""
        return {}

    @abstractmethod
    def install(self, cache: Path) -> None:
        """Installs what is missing, and sets `version`. Raises `LeftOut`."""

    @abstractmethod
    async def start(self, place: Place) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def sign_in(self, browser: Browser, page: Page, user: str) -> Page:
        """Through the provider's forms, from the first of them to the site's page."""

    async def rotate_keys(self) -> None:
        """From now on it signs with another key. Raises `NotOffered`."""
        raise NotOffered("its keys cannot be changed")

    async def end_here(self, browser: Browser, user: str) -> None:
        """The user logs out at the provider itself. Raises `NotOffered`."""
        raise NotOffered("it has no logout of its own")

    async def end_by_admin(self, user: str) -> None:
        """An administrator ends the user's sessions. Raises `NotOffered`."""
        raise NotOffered("it has no administration")


async def through(
    browser: Browser, page: Page, home: str, button: str | None = None, **fields: str
) -> Page:
    """Sends forms, with these fields filled in, until the browser is back at `home` (a URL).

    By the button of this name where there is one, else by the first.
    """
    for _ in range(6):
        if str(page.url.origin()) == home:
            return page
        page = await browser.submit(page, button, **fields)
    raise AssertionError(f"still at {page.url.with_query(None)}: {page.text[:1000]}")
