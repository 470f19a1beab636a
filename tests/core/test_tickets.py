"""Tickets prove a real 401 for two minutes; fingerprints give nothing away."""

from __future__ import annotations

import string

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.keys import derive_key
from sidecar.core.tickets import TICKET_LIFETIME, Signer, Ticket, decode, encode

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
NOW = 1_700_000_000.5
SIGNER = Signer([NEW, OLD])
FINGERPRINT = SIGNER.fingerprint("token")
URL_SAFE = frozenset(string.ascii_letters + string.digits + "-_")


@given(st.one_of(st.none(), st.text().map(SIGNER.fingerprint)), st.floats(0, 4e9))
def test_a_ticket_says_what_it_was_made_for(fingerprint: str | None, now: float) -> None:
    """Round trip, with a fingerprint or none."""
    ticket = SIGNER.ticket(fingerprint, now)
    assert set(ticket) <= URL_SAFE
    assert SIGNER.read_ticket(ticket, now) == Ticket(fingerprint)


@given(
    st.one_of(st.none(), st.text().map(SIGNER.fingerprint)),
    st.one_of(st.none(), st.frozensets(st.integers(0, 31))),
    st.sampled_from(["envelope", "problem", "graphql"]),
)
def test_a_ticket_says_more_of_its_route(
    fingerprint: str | None, sources: frozenset[int] | None, errors: str
) -> None:
    """Whose sessions it took, and how its client is told of errors."""
    ticket = SIGNER.ticket(fingerprint, NOW, sources, errors)
    assert SIGNER.read_ticket(ticket, NOW) == Ticket(fingerprint, sources, errors)
    assert len(ticket) <= 64


def test_a_ticket_works_more_than_once() -> None:
    """A redirect that is followed twice, in two tabs, ends in one place."""
    ticket = SIGNER.ticket(FINGERPRINT, NOW)
    assert SIGNER.read_ticket(ticket, NOW) == SIGNER.read_ticket(ticket, NOW + 1)


@pytest.mark.parametrize(
    ("age", "holds"),
    [
        (0, True),
        (TICKET_LIFETIME - 1, True),
        (TICKET_LIFETIME + 1, False),
        (86400, False),
    ],
)
def test_a_ticket_is_short_lived(age: float, holds: bool) -> None:
    """Found later in a history or a log, it is worth nothing."""
    ticket = SIGNER.ticket(FINGERPRINT, NOW)
    assert (SIGNER.read_ticket(ticket, NOW + age) is not None) is holds


@given(st.data())
def test_any_mutation_is_refused(data: st.DataObject) -> None:
    """One character changed, added or taken away."""
    ticket = SIGNER.ticket(FINGERPRINT, NOW)
    at = data.draw(st.integers(0, len(ticket) - 1))
    char = data.draw(st.sampled_from([*sorted(URL_SAFE), *"=+/ é\udcff"]))
    for mutation in (
        ticket[:at] + char + ticket[at + 1 :],
        ticket[:at] + char + ticket[at:],
        ticket[:at] + ticket[at + 1 :],
        ticket[:at],
    ):
        if mutation != ticket:
            assert SIGNER.read_ticket(mutation, NOW) is None


@given(st.one_of(st.text(), st.binary(max_size=64).map(encode)))
def test_what_was_not_signed_is_refused(ticket: str) -> None:
    """Whatever the text is, reading it raises nothing and proves nothing."""
    assert SIGNER.read_ticket(ticket, 0) is None


def test_claims_cannot_be_moved_from_one_ticket_to_another() -> None:
    """A ticket about nobody does not become one about somebody, nor the reverse."""
    about, nobody = (decode(SIGNER.ticket(one, NOW)) for one in (FINGERPRINT, None))
    assert about is not None
    assert nobody is not None
    for forged in (nobody[:5] + about[5:21] + nobody[5:], about[:5] + about[-16:]):
        assert SIGNER.read_ticket(encode(forged), NOW) is None


def test_rotation_keeps_tickets_of_the_old_secret() -> None:
    """The first secret signs, all verify; one that was taken off the list does not."""
    ticket = Signer([OLD]).ticket(FINGERPRINT, NOW)
    assert Signer([NEW, OLD]).read_ticket(ticket, NOW) == Ticket(FINGERPRINT)
    assert Signer([NEW]).read_ticket(ticket, NOW) is None
    assert Signer([OLD]).read_ticket(Signer([NEW, OLD]).ticket(None, NOW), NOW) is None


def test_a_fingerprint_is_stable_keyed_and_short() -> None:
    """128 bits, the same for a session while it lives, another under another secret."""
    assert Signer([NEW]).fingerprint("token") == FINGERPRINT
    assert Signer([OTHER]).fingerprint("token") != FINGERPRINT
    assert SIGNER.fingerprint("token2") != FINGERPRINT
    raw = decode(FINGERPRINT)
    assert raw is not None
    assert len(raw) == 16


def test_neither_holds_the_token() -> None:
    """Both go to logs and URLs."""
    token = "canary-4711-token"
    fingerprint = SIGNER.fingerprint(token)
    ticket = decode(SIGNER.ticket(fingerprint, NOW))
    assert ticket is not None
    assert b"canary" not in ticket
    assert "canary" not in fingerprint


@given(st.binary(min_size=1, max_size=80), st.text(max_size=20))
def test_keys_are_derived_by_hkdf(secret: bytes, label: str) -> None:
    """The library's own HKDF-SHA256 (RFC 5869) without salt agrees."""
    info = f"session-sidecar {label}".encode()
    assert derive_key(secret, label) == HKDF(SHA256(), 32, None, info).derive(secret)


def test_different_duties_never_share_a_key() -> None:
    """So nothing made for one duty passes for another (T30)."""
    assert derive_key(NEW, "fingerprint") != derive_key(NEW, "logout ticket")


@given(st.binary(max_size=40))
def test_base64url_comes_back(raw: bytes) -> None:
    """Without padding, and without characters that a URL escapes."""
    assert set(encode(raw)) <= URL_SAFE
    assert decode(encode(raw)) == raw


@pytest.mark.parametrize("text", ["A", "AB", "AA==", "A A", "AA\n", "+/+/", "é", "\udcff", "AAA!"])
def test_only_the_one_spelling_is_read(text: str) -> None:
    """A second spelling of one value would make two of what is compared as text."""
    assert decode(text) is None
