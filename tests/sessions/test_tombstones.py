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


def tomb(*credentials: str, proof: Proof = Proof.VOUCHED) -> Tombstone:
    return Tombstone(SINCE + 0.5, UNTIL + 0.5, credentials, proof)


@pytest.mark.parametrize("credentials", [0, 1, 4, 10])
def test_a_tombstone_takes_no_more_than_is_said(credentials: int) -> None:
    """So the bound in bytes is one."""
    tracemalloc.start()
    try:
        tombs, before, said = Tombstones(), tracemalloc.get_traced_memory()[0], 0
        for number in range(5000):
            one = Tombstone(
                SINCE + number, UNTIL + number, tuple(name() for _ in range(credentials))
            )
            tombs.put(name(), one)
            said += one.cost
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert said / 3 < taken <= said


def test_what_more_speaks_for_is_kept_in_its_own_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tombstone moves up, and never down."""
    monkeypatch.setattr(tombstones, "ROOM", dict.fromkeys(Proof, 5 * tombstones.TOMBSTONE_COST))
    tombs = Tombstones()
    tombs.put("one", tomb(proof=Proof.NONE))
    tombs.put("one", tomb(proof=Proof.ACCEPTED))
    assert tombs.put("one", tomb(proof=Proof.NONE)).proof is Proof.ACCEPTED
    for _ in range(20):
        tombs.put(name(), tomb(proof=Proof.NONE))
    assert tombs.of("one", SINCE) is not None
    assert [tombs.count(proof) for proof in Proof] == [5, 1, 0]
    assert len(tombs) == 6


def test_a_second_death_ends_no_sooner() -> None:
    """Another process may tell of it for a minute only."""
    tombs = Tombstones()
    tombs.put("one", tomb())
    tombs.put("one", Tombstone(SINCE + 9, SINCE + 60, (), Proof.NONE))
    assert tombs.of("one", UNTIL) is not None


def test_one_that_is_evicted_is_told_and_has_not_risen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not been handed out again, and counts for nothing from then on."""
    monkeypatch.setattr(tombstones, "ROOM", dict.fromkeys(Proof, 2 * tombstones.TOMBSTONE_COST))
    tombs, evicted = Tombstones(), list[str]()
    tombs.evicted = lambda fingerprint, _: evicted.append(fingerprint)
    for one in ("a", "b", "c"):
        tombs.put(one, tomb())
    assert evicted == ["a"]
    assert tombs.died_at("a", SINCE) is None
    tombs.lift("b")
    assert tombs.died_at("b", SINCE) == SINCE + 0.5


def test_a_credential_stays_dead_with_the_session_that_it_is_of() -> None:
    """Also if another one that held it is forgotten."""
    tombs = Tombstones()
    tombs.put("made-up", tomb("shared", proof=Proof.NONE))
    tombs.put("real", tomb("shared"))
    tombs.lift("made-up")
    assert tombs.dead_session("shared") == "real"


def test_credentials_are_bounded() -> None:
    """Those that were known first stay."""
    tombs = Tombstones()
    for number in range(100):
        tombs.put("one", tomb(f"c{number}"))
    kept = tombs.by_fingerprint["one"].credentials
    assert len(kept) == tombstones.MAX_NAMES
    assert kept[0] == "c0"
    assert tombs.with_names("one", ["another"]) is None
    assert tombs.dead_session("c99") is None
