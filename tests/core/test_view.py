"""What a page's server is shown of a Cookie header: no session that is dead or was passed over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Result
from sidecar.core.view import SessionView
from tests.fuzz.targets._seals import NOW, READER, session

NAME = "authjs.session-token"
DEAD = session("authjs", "dead")
HALVES = DEAD[: len(DEAD) // 2], DEAD[len(DEAD) // 2 :]


def read(header: str) -> SessionView:
    return READER.read(
        CookieJar.parse(header), NOW, READER.every, name_of=token_of, is_dead="dead".__eq__
    )


def token_of(reading: Reading) -> str | None:
    return reading.token or reading.content


@pytest.mark.parametrize(
    "header",
    [
        # One of two values of a chunk is odd: without them the other one is the whole session.
        f"{NAME}.0=a.b.c!; {NAME}.1=d.e.f; {NAME}.0={DEAD}",
        f"{NAME}.1=d.e.f; {NAME}.0=a.b.c%3D; {NAME}.0={DEAD}",
        # Next.js leaves out a cookie whose percent-encoding is broken, so the other is whole.
        f"{NAME}.0={DEAD}; {NAME}.1=a.%zz",
        f"{NAME}.0={DEAD}; {NAME}.1=a.%ff",
        # It does not trim names: neither is the second chunk one.
        f"{NAME}.0={DEAD};\t{NAME}.1=a.b",
        f"{NAME}.0={DEAD}; {NAME}.1\t=a.b",
        # It keeps a quotation mark, which Node.js passes over when it decodes base64url.
        f'{NAME}.0={HALVES[0]}; {NAME}.1="{HALVES[1]}',
    ],
    ids=["odd duplicate", "odd first", "no escape", "no UTF-8", "tab", "tab behind", "quote"],
)
def test_no_spelling_shows_a_dead_session_to_one_parser_alone(header: str) -> None:
    view = read(header)
    assert NAME not in view.forwarded.decode("latin-1")
    assert view.reading.result is not Result.OK


def with_part(type_: str, at: int, respell: Callable[[str], str]) -> str:
    """The value of a dead session with one of its parts between dots in another spelling."""
    parts = session(type_, "dead").split(".")
    parts[at] = respell(parts[at])
    return ".".join(parts)


def with_other_bits(text: str) -> str:
    """The same octets: the last character holds bits of no octet, which are set here."""
    return text[:-1] + chr(ord(text[-1]) + 1)


@pytest.mark.parametrize(
    "header",
    [
        f"{NAME}={with_part('authjs', 2, with_other_bits)}",
        f"{NAME}={with_part('authjs', 4, with_other_bits)}",
        f"next-auth.session-token={with_part('nextauth', 2, '{}A'.format)}",
        f"session={with_part('jwt', 2, '{}=AAAA'.format)}",
        f"session={with_part('jwt', 2, '{}!'.format)}",
        f"session={with_part('jwt', 2, with_other_bits)}",
        f"app={session('iron-session', 'dead')}*",
    ],
    ids=["bits of the IV", "bits of the tag", "a character", "padding", "mark", "bits", "version"],
)
def test_a_dead_session_is_known_in_what_nodejs_decodes(header: str) -> None:
    """Node.js passes over what is no base64url, and iron-session over what follows its version."""
    view = read(header)
    assert view.forwarded == b""
    assert view.living == ()
    assert [one.fingerprint for one in view.sessions] == ["dead"]


@pytest.mark.parametrize(
    "header",
    [
        f"{NAME}=not-a-session",
        f"{NAME}.0=not-a; {NAME}.1=-session",
        f'a="b; {NAME}=%22not%22; c=%zz',
        f'{NAME}="not a session"',
        "session=s%3Aan-id!",
    ],
)
def test_what_opens_for_nobody_passes_as_it_came(header: str) -> None:
    assert read(header).forwarded.decode("latin-1") == header
