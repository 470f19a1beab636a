"""Sidecar, nginx and HAProxy are given the same bytes, and every difference has its rule."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

from sidecar.core.record import replace
from tests.differential.__main__ import cases, check
from tests.differential.answers import ANSWERS
from tests.differential.explained import ANSWERS_TOLD, RULES
from tests.differential.page import tables
from tests.differential.servers import PROGRAMS, lanes
from tests.differential.streams import ALL, Stream, single

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"
RANDOM = 500  # cases behind those of the table: as many on a fast machine as on a slow one


async def test_every_difference_has_its_rule(require_program: Callable[[str], str]) -> None:
    """Each oddity alone, then random ones; the long run is `python -m tests.differential`."""
    for program in PROGRAMS:
        require_program(program)
    told = []
    alone = len(ALL) + len(ANSWERS)
    async with lanes() as found:
        for one in islice(cases(0), alone + RANDOM):
            told += (await check(found, one)).faults
    assert [str(fault) for fault in told] == []


async def test_a_difference_without_a_rule_is_told(require_program: Callable[[str], str]) -> None:
    """An oddity that is not named: each of the three makes something of its own of it."""
    for program in PROGRAMS:
        require_program(program)
    async with lanes() as found:
        named = single("dot segment", 1)
        unnamed = [replace(one, tags=frozenset()) for one in named.requests]
        compared = await check(found, Stream(1, tuple(unnamed), ()))
    assert {fault.who for fault in compared.faults} == {"sidecar", "injecting"}


def test_page_has_every_rule() -> None:
    """docs/differences.md ends with the tables that the comparison is held to."""
    assert PAGE.read_text(encoding="utf-8").endswith(f"\n{tables()}\n")


def test_every_rule_names_oddities_that_are_sent() -> None:
    derived = {
        "chunked in HTTP/1.0",
        "absolute form of another host",
        "body of GET, HEAD or DELETE in HTTP/1.0",
    }
    assert {tag for rule in RULES for tag in (*rule.tags, *rule.together)} <= {*ALL, *derived}
    assert {tag for rule in ANSWERS_TOLD for tag in rule.tags} <= set(ANSWERS)


def test_nothing_is_forwarded_that_both_others_refuse() -> None:
    """The sidecar is never the least strict of the three."""
    assert [rule.tags for rule in RULES if rule.fates == "FRR"] == []
    assert [rule.tags for rule in ANSWERS_TOLD if rule.fates == "PGG"] == []


def test_every_difference_says_why() -> None:
    rules = [rule for rule in (*RULES, *ANSWERS_TOLD) if len(set(rule.fates)) > 1]
    assert [rule.tags for rule in rules if not (rule.why and rule.source)] == []
