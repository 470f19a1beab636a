"""`${NAME}` is replaced by text, once, and never becomes structure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.config.faults import BadValue
from sidecar.core.config.references import hide_references, show_references, substitute
from sidecar.core.config.tree import read_tree

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


def read(text: str, **environ: str) -> Any:
    return read_tree(text, "file", environ).data["key"]


@given(TEXT.map(lambda text: text.replace("${", "")), TEXT)
def test_value_arrives_untouched_whatever_it_holds(before: str, value: str) -> None:
    """A value that looks like a reference itself is not looked at again."""
    before = before.rstrip("$")
    assert substitute(f"{before}${{NAME}}", {"NAME": value}) == before + value


@given(TEXT)
def test_escaped_text_stands_for_itself(text: str) -> None:
    assert substitute(text.replace("${", "$${"), {}) == text


@given(TEXT)
def test_hiding_is_undone(text: str) -> None:
    assert show_references(hide_references(text)) == text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_value_in_a_flow_mapping_never_becomes_structure(value: str) -> None:
    data = read("key: {secret: ${NAME}, next: 1}", NAME=value)
    assert data == {"secret": None if value == "null" else value, "next": 1}


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("a${A}b${B}", {"A": "1", "B": "2"}, "a1b2"),
        ("${A:-default}", {}, "default"),
        ("${A:-default}", {"A": ""}, "default"),
        ("${A:-default}", {"A": "x"}, "x"),
        ("${A:-}", {}, ""),
        ("${A:-http://x:1/?a=b#c}", {}, "http://x:1/?a=b#c"),
        ("${A}", {"A": ""}, ""),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$A $ {A} {A}", {"A": "x"}, "$A $ {A} {A}"),
        ("$$${A}", {"A": "x"}, "$${A}"),
    ],
)
def test_references(text: str, environ: dict[str, str], expected: str) -> None:
    """The grammar, by example; `:-` also covers an empty variable, as in a shell."""
    assert substitute(text, environ) == expected


@pytest.mark.parametrize(
    "text", ["${", "${}", "${A", "${1A}", "${A-b}", "${A:b}", "${A B}", "${ä}"]
)
def test_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="malformed"):
        substitute(text, {"A": "x", "1A": "x", "ä": "x"})


def test_every_unset_name_is_told() -> None:
    with pytest.raises(BadValue, match="A, B is not set"):
        substitute("${A}${B}", {})


@pytest.mark.parametrize(
    "value", ["0123456789", "1e400", "true", "~", "null ", "[a]", "a: b", "# c"]
)
def test_what_comes_from_the_environment_is_text(value: str) -> None:
    """A secret of digits keeps its zeros; only a lone unquoted `null` is null."""
    assert read("key: ${A}", A=value) == value
    assert read("key: '${A}'", A="null") == "null"
    assert read("key: ${A}", A="null") is None


def test_default_may_hold_what_yaml_would_split() -> None:
    assert read("key: {a: ${A:-b: c, # d}, e: 1}") == {"a": "b: c, # d", "e": 1}


def test_private_use_characters_are_refused() -> None:
    """They carry the references past the parser."""
    with pytest.raises(BadValue, match="private-use"):
        hide_references("key: \ue041")
