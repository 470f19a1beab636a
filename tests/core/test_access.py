"""Rules over claims: whom they let in, and what the log is told."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.access import (
    EMAIL,
    LONGEST_CLAIM,
    AccessRule,
    RouteGate,
    find_claim,
    folded_email,
    lets_in,
    needed_for,
    picked,
    verified_email,
    why_not,
)

GROUPS = ("groups",)


def rule(claim: tuple[str, ...] = GROUPS, **sets: list[str]) -> AccessRule:
    return AccessRule(claim, **{name: frozenset(values) for name, values in sets.items()})


def claims(**given: Any) -> Any:
    return lambda path: find_claim(given, path)


@pytest.mark.parametrize(
    ("one", "given", "holds"),
    [
        (rule(any=["staff"]), {"groups": ["x", "staff"]}, True),
        (rule(any=["staff"]), {"groups": "staff"}, True),
        (rule(any=["staff", "boss"]), {"groups": ["boss"]}, True),
        (rule(any=["staff"]), {"groups": ["Staff", "staffs", "staff "]}, False),
        (rule(any=["staff"]), {"groups": []}, False),
        (rule(any=["staff"]), {}, False),
        (rule(any=["staff"]), {"groups": None}, False),
        (rule(any=["staff"]), {"groups": {"staff": True}}, False),
        (rule(all=["a", "b"]), {"groups": ["b", "c", "a"]}, True),
        (rule(all=["a", "b"]), {"groups": ["a"]}, False),
        (rule(any=["a"], all=["b"]), {"groups": ["a"]}, False),
        (rule(any=["true"]), {"groups": True}, True),
        (rule(any=["7"]), {"groups": [7]}, True),
        (rule(("realm", "roles"), any=["a"]), {"realm": {"roles": ["a"]}}, True),
        (rule(("realm", "roles"), any=["a"]), {"realm.roles": ["a"]}, False),
        (rule(("realm.roles",), any=["a"]), {"realm.roles": ["a"]}, True),
        (rule(("upn",), domains=["example.com"]), {"upn": "a@Example.COM"}, True),
        (rule(("upn",), domains=["example.com"]), {"upn": "a@sub.example.com"}, False),
        (rule(("upn",), domains=["example.com"]), {"upn": "a@example.com@evil.com"}, False),
        (rule(("upn",), domains=["example.com"]), {"upn": "example.com"}, False),
    ],
)
def test_whom_a_rule_lets_in(one: AccessRule, given: dict[str, Any], holds: bool) -> None:
    """Values are compared whole, as texts; a domain is what stands behind the last `@`."""
    assert one.holds(claims(**given)) is holds


@pytest.mark.parametrize(
    ("verified", "holds"),
    [(True, True), ("true", True), (None, False), (False, False), ("false", False), (1, False)],
)
def test_an_unverified_email_never_counts(verified: object, holds: bool) -> None:
    """Neither by its domain nor as a value, and one of which nothing is said is unverified."""
    given = claims(email="a@example.com", email_verified=verified)
    assert rule(EMAIL, domains=["example.com"]).holds(given) is holds
    assert rule(EMAIL, any=["a@example.com"]).holds(given) is holds


def test_one_rule_is_enough_and_no_rule_lets_everybody_in() -> None:
    rules = (rule(any=["staff"]), rule(("sub",), any=["alice"]))
    assert lets_in(rules, claims(sub="alice"))
    assert not lets_in(rules, claims(sub="bob", groups=["x"]))
    assert lets_in((), claims())


def test_the_log_is_told_which_claims_and_none_of_their_values() -> None:
    rules = (rule(any=["staff"]), rule(("sub",), any=["a"]), rule(EMAIL, domains=["x.example"]))
    told = why_not(rules, claims(sub="secret-name", email="me@x.example"))
    assert told == ("no rule holds: groups is missing, sub has other values, email is not verified")


def test_what_is_kept_of_a_user_is_small_and_flat() -> None:
    """A claim that is too large, or an object, counts as missing; its absence is remembered."""
    given: dict[str, Any] = {"a": ["x", 1, True], "b": "y" * LONGEST_CLAIM, "c": {"d": 1}}
    kept = picked(given, [("a",), ("b",), ("c",), ("c", "d"), ("e",)])
    assert kept == {"a": ["x", 1, True], "b": None, "c": None, "c\0d": 1, "e": None}


def test_an_email_is_asked_for_with_its_verification() -> None:
    assert needed_for([EMAIL, GROUPS, EMAIL]) == (EMAIL, GROUPS, ("email_verified",))
    assert needed_for([GROUPS]) == (GROUPS,)


def test_a_gate_counts_sessions_of_its_sources_alone() -> None:
    """Another application's session may say anything."""
    gate = RouteGate((rule(any=["staff"]),), frozenset({1}))
    assert gate.lets_in(claims(groups="staff"), 1)
    assert not gate.lets_in(claims(groups="staff"), 0)
    assert not gate.lets_in(claims(groups="x"), 1)


@pytest.mark.parametrize(
    ("spelling", "folded"),
    [
        ("alice@example.com", "alice@example.com"),
        (" Alice@EXAMPLE.com. ", "alice@example.com"),
        ("stra\u00dfe@example.com", "strasse@example.com"),
        ("\uff41lice@example.com", "alice@example.com"),
        ("a@b\u00fccher.example", "a@xn--bcher-kva.example"),
        ("a@XN--BCHER-kva.example", "a@xn--bcher-kva.example"),
        ('"a@b"@example.com', '"a@b"@example.com'),
        ("a+b.c@example.com", "a+b.c@example.com"),
        ("a@" + "x" * 70 + ".example", "a@" + "x" * 70 + ".example"),
        ("a@example.com\u3002.", "a@example.com"),
        ("a@b\u3002example", "a@b.example"),
        ("a@example.com\r\n.", None),
        ("\u00a8a@example.com", "\u0308a@example.com"),
        ("a@exam ple.com", None),
        ("a@example.com\0", None),
        ("alice", None),
        ("@example.com", None),
        ("alice@", None),
        ("", None),
        ("a@b" + "x" * LONGEST_CLAIM, None),
    ],
)
def test_all_spellings_of_an_address_are_one(spelling: str, folded: str | None) -> None:
    assert folded_email(spelling) == folded


def test_email_counts_only_if_it_is_verified() -> None:
    known = [
        verified_email(claims(email="A@b.example", email_verified=said))
        for said in (True, "true", False, "false", None, 1)
    ]
    assert known == ["a@b.example", "a@b.example", None, None, None, None]
    assert verified_email(claims(email=["a@b.example"], email_verified=True)) is None
    assert verified_email(claims(email_verified=True)) is None
