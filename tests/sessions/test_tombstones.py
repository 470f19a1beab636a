"""Dead sessions are remembered within the bytes that are said."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from sidecar.core.proof import Proof
from sidecar.core.tickets import encode
from sidecar.sessions import tombstones
from sidecar.sessions.tombstones import Tombstone, Tombstones

SINCE, UNTIL = 1_700_000_000.0, 1_702_592_000.0


def name() -> str:
    return encode(os.urandom(16))


def tombstone(*credentials: str, proof: Proof = Proof.VOUCHED) -> Tombstone:
    return Tombstone(SINCE + 0.5, UNTIL + 0.5, credentials, proof)


@pytest.mark.parametrize("credentials", [0, 1, 4, 10])
def test_a_tombstone_takes_no_more_than_is_said(credentials: int) -> None:
    """So the bound in bytes is one."""
    tracemalloc.start()
    try:
        known, before, said = Tombstones(), tracemalloc.get_traced_memory()[0], 0
        for number in range(5000):
            one = Tombstone(
                SINCE + number, UNTIL + number, tuple(name() for _ in range(credentials))
            )
            known.put(name(), one)
            said += one.cost
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert said / 3 < taken <= said


def test_what_more_speaks_for_is_kept_in_its_own_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tombstone moves up, and never down."""
    monkeypatch.setattr(tombstones, "ROOM", dict.fromkeys(Proof, 5 * tombstones.TOMBSTONE_COST))
    known = Tombstones()
    known.put("one", tombstone(proof=Proof.NONE))
    known.put("one", tombstone(proof=Proof.ACCEPTED))
    assert known.put("one", tombstone(proof=Proof.NONE)).proof is Proof.ACCEPTED
    for _ in range(20):
        known.put(name(), tombstone(proof=Proof.NONE))
    assert known.of("one", SINCE) is not None
    assert [known.count(proof) for proof in Proof] == [5, 1, 0]
    assert len(known) == 6


def test_a_second_death_ends_no_sooner() -> None:
    """Another process may tell of it for a minute only."""
    known = Tombstones()
    known.put("one", tombstone())
    known.put("one", Tombstone(SINCE + 9, SINCE + 60, (), Proof.NONE))
    assert known.of("one", UNTIL) is not None


def test_one_that_is_evicted_is_told_and_has_not_risen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not been handed out again, and counts for nothing from then on."""
    monkeypatch.setattr(tombstones, "ROOM", dict.fromkeys(Proof, 2 * tombstones.TOMBSTONE_COST))
    known, evicted = Tombstones(), list[str]()
    known.evicted = lambda fingerprint, _: evicted.append(fingerprint)
    for one in ("a", "b", "c"):
        known.put(one, tombstone())
    assert evicted == ["a"]
    assert known.died_at("a", SINCE) is None
    known.lift("b")
    assert known.died_at("b", SINCE) == SINCE + 0.5


def test_a_credential_stays_dead_with_the_session_that_it_is_of() -> None:
    """Also if another one that held it is forgotten."""
    known = Tombstones()
    known.put("made-up", tombstone("shared", proof=Proof.NONE))
    known.put("real", tombstone("shared"))
    known.lift("made-up")
    assert known.dead_session("shared") == "real"


def test_credentials_are_bounded() -> None:
    """Those that were known first stay."""
    known = Tombstones()
    for number in range(100):
        known.put("one", tombstone(f"c{number}"))
    kept = known.by_fingerprint["one"].credentials
    assert len(kept) == tombstones.MAX_NAMES
    assert kept[0] == "c0"
    assert known.with_names("one", ["another"]) is None
    assert known.dead_session("c99") is None
