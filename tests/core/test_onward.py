"""The ticket that leads a page on to the provider's logout after its session is gone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.onward import LIFETIME, OnwardTickets

OLD, NEW = b"o" * 32, b"n" * 32
NOW = 1_700_000_000.5
TICKETS = OnwardTickets([NEW, OLD])
ID_TOKEN = "eyJhbGciOiJSUzI1NiJ9." + "a" * 1200 + ".signature"


@pytest.mark.parametrize("id_token", [None, ID_TOKEN])
def test_a_ticket_carries_what_the_provider_wants_to_see(id_token: str | None) -> None:
    """Unread: it goes through scripts, histories and logs."""
    ticket = TICKETS.write(id_token, NOW)
    onward = TICKETS.read(ticket, NOW + 1)
    assert onward is not None
    assert onward.id_token == id_token
    assert "a" * 20 not in ticket
    assert ID_TOKEN not in repr(onward)


def test_an_id_token_that_no_address_could_hold_is_left_out() -> None:
    """The provider then asks its user."""
    onward = TICKETS.read(TICKETS.write("x" * 5000, NOW), NOW)
    assert onward is not None
    assert onward.id_token is None
    assert len(TICKETS.write("x" * 4096, NOW)) < 6144
    assert TICKETS.read(TICKETS.write("x" * 4096, NOW), NOW) is not None


def test_a_ticket_is_short_lived() -> None:
    ticket = TICKETS.write(ID_TOKEN, NOW)
    assert TICKETS.read(ticket, NOW + LIFETIME - 1) is not None
    assert TICKETS.read(ticket, NOW + LIFETIME) is None


def test_rotation_keeps_tickets_of_the_old_secret() -> None:
    ticket = OnwardTickets([OLD]).write(ID_TOKEN, NOW)
    assert TICKETS.read(ticket, NOW) is not None
    assert OnwardTickets([NEW]).read(ticket, NOW) is None


@given(st.one_of(st.text(), st.text(alphabet="abcXYZ019-_.", max_size=200)))
def test_what_was_not_sealed_here_is_nothing(ticket: str) -> None:
    assert TICKETS.read(ticket, NOW) is None
