"""The tables of docs/differences.md, by the rules that the comparison is held to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import Final

from tests.differential.explained import ANSWER_CHANGES, ANSWERS_TOLD, CHANGES, RULES, Change, Rule
from tests.differential.servers import HAPROXY

_FATES: Final = MappingProxyType({"R": "refused", "F": "forwarded"})
_ANSWERS: Final = MappingProxyType(
    {
        "P": "passed",
        "C": "without its content",
        "G": "5xx",
        "B": "broken off",
        "N": "none, or no HTTP",
        "*": "5xx or broken off",
    }
)
_OTHER_BODY: Final = "cut short"


def tables() -> str:
    """All of them, as the page has them between its text."""
    return "\n".join((*_requests(), "", *_fields(), "", *_responses(), "", *_heads()))


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"### {title}\n"
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _named(tags: Sequence[str]) -> str:
    return "; ".join(tags).replace("|", "\\|")


def _requests() -> Iterator[str]:
    """Requests of which the sidecar makes something else than one of the others."""
    rows = [
        (_with(one), *(_FATES[fate] for fate in one.fates), one.why, one.source)
        for one in RULES
        if len(set(one.fates)) > 1
    ]
    return _table(
        "Requests that are refused",
        ("request", "sidecar", "nginx", "HAProxy", "why", "rule"),
        rows,
    )


def _with(rule: Rule) -> str:
    return _named(rule.tags) + (f" (with: {_named(rule.together)})" if rule.together else "")


def _fields() -> Iterator[str]:
    return _table(
        "What an upstream is sent", ("difference", "to", "why", "rule"), _changes(CHANGES)
    )


def _changes(changes: Sequence[Change]) -> Iterator[Sequence[str]]:
    for one in changes:
        keys = ", ".join(
            f"`{key.replace('[*]', '*').replace('|', chr(92) + '|')}`" for key in one.keys
        )
        others = "both" if len(one.others) > 1 else _proxy(one.others[0])
        yield keys.replace(": *`", "`"), others, one.why, one.source


def _proxy(name: str) -> str:
    return "HAProxy" if name == HAPROXY else name


def _responses() -> Iterator[str]:
    rows = []
    for one in ANSWERS_TOLD:
        if len(set(one.fates)) == 1 and one.fates[0] != "B":
            continue
        told = [_ANSWERS[fate] for fate in one.fates]
        if one.fates[1] == "C":
            told[1] = _OTHER_BODY
        if one.fates == "B*B":
            told[1] = "complete in HTTP/1.0"
        rows.append((_named(one.tags), *told, one.why, one.source))
    return _table(
        "Responses that are not passed",
        ("response of the upstream", "sidecar", "nginx", "HAProxy", "why", "rule"),
        rows,
    )


def _heads() -> Iterator[str]:
    return _table(
        "What a client is sent", ("difference", "to", "why", "rule"), _changes(ANSWER_CHANGES)
    )
