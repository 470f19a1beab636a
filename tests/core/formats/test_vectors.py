"""Every cookie that the real libraries made comes out as they themselves would read it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Result, Source, read_credential
from sidecar.core.formats import FORMATS
from sidecar.explain import explain

Vector = Mapping[str, Any]

DATA = Path(__file__).parents[2] / "data" / "authjs.json"
VECTORS: list[Vector] = json.loads(DATA.read_text())["vectors"]
BY_KIND = {vector["kind"]: vector for vector in VECTORS}
TYPES = {
    "authjs-v5": "authjs",
    "nextauth-v4": "nextauth",
    "iron": "iron-session",
    "auth0-v4": "auth0",
    "better-auth-account": "better-auth",
}

every_vector = pytest.mark.parametrize(
    "vector", VECTORS, ids=[f"{vector['id']}-{vector['kind']}" for vector in VECTORS]
)


def source_of(vector: Vector) -> Source:
    """A source with the vector's secrets, cookie name and claim path."""
    type_ = TYPES[vector["format"]]
    where = {"cookie": vector["cookie_name"], "token": tuple(vector["claim_path"])}
    if type_ == "iron-session":
        passwords = dict(zip(vector["password_ids"], vector["secrets"], strict=True))
        return FORMATS[type_](passwords=passwords, **where)
    return FORMATS[type_](secrets=vector["secrets"], **where)


def header_of(vector: Vector) -> str:
    """The vector's cookies as a Cookie field value."""
    return "; ".join(f"{name}={value}" for name, value in vector["cookies"].items())


def acceptable(vector: Vector) -> set[str]:
    """The results that the vector allows; `lenient_ok` and `strict_ok` as its file defines them."""
    allowed = {vector["expect"].get("error", "ok"), *vector.get("also_ok", ())}
    if vector.get("lenient_ok"):
        allowed.add("ok")
    if vector.get("strict_ok"):
        allowed.add("invalid")
    return allowed


@every_vector
def test_a_librarys_cookie_reads_as_the_library_reads_it(
    vector: Vector,
) -> None:
    told = explain([source_of(vector)], header_of(vector), vector["now"])
    assert told["result"] in acceptable(vector)
    assert told["header_bytes"] == len(header_of(vector))
    if told["result"] != "ok":
        assert told["token_sha256"] is None
    elif "access_token" in vector["expect"]:
        token = vector["expect"]["access_token"]
        assert told["token_sha256"] == hashlib.sha256(token.encode()).hexdigest()
    if told["result"] == "ok" and "exp" in (vector["claims"] or {}):
        assert told["expires_at"] == vector["claims"]["exp"]


def test_every_vector_is_there() -> None:
    assert len(VECTORS) == 223


@pytest.mark.parametrize("kind", ["v5-chunked-3", "v4-chunked-3", "auth0-chunked", "iron9-chunked"])
def test_chunks_are_joined_in_whatever_order_they_arrive(
    kind: str,
) -> None:
    vector = BY_KIND[kind]
    pairs = [f"{name}={value}" for name, value in vector["cookies"].items()]
    random.Random(kind).shuffle(pairs)
    reading = read_credential([source_of(vector)], CookieJar.parse("; ".join(pairs)), vector["now"])
    assert reading.result is Result.OK
    assert reading.chunks == len(pairs)
    assert reading.names == tuple(sorted(vector["cookies"]))


@pytest.mark.parametrize("kind", ["v5-small-insecure", "v4-small-insecure", "iron8-small"])
@pytest.mark.parametrize("where", ["{name}=stale; {good}", "{good}; {name}=stale"])
def test_of_duplicates_the_one_that_opens_wins(
    kind: str,
    where: str,
) -> None:
    vector = BY_KIND[kind]
    header = where.format(name=vector["cookie_name"], good=header_of(vector))
    assert (
        read_credential([source_of(vector)], CookieJar.parse(header), vector["now"]).result
        is Result.OK
    )


def test_a_chunk_set_that_opens_wins_over_a_stale_base_and_the_reverse() -> None:
    chunked, whole = BY_KIND["v5-chunked-2"], BY_KIND["v5-small-insecure"]
    name = chunked["cookie_name"]
    stale_base = CookieJar.parse(f"{name}=stale; {header_of(chunked)}")
    stale_chunk = CookieJar.parse(f"{header_of(whole)}; {name}.1=stale")
    assert read_credential([source_of(chunked)], stale_base, chunked["now"]).chunks == 2
    assert read_credential([source_of(whole)], stale_chunk, whole["now"]).result is Result.OK


def test_duplicated_chunk_sets_are_told_apart() -> None:
    vector = BY_KIND["v5-chunked-2"]
    name = vector["cookie_name"]
    header = f"{name}.0=stale; {name}.1=stale; {header_of(vector)}"
    assert (
        read_credential([source_of(vector)], CookieJar.parse(header), vector["now"]).result
        is Result.OK
    )


@pytest.mark.parametrize("suffix", [".2", ".01", ".1000000", ".0002", "." + "9" * 5000])
def test_any_other_index_spoils_a_set_of_chunks(
    suffix: str,
) -> None:
    vector = BY_KIND["v5-chunked-2"]
    header = f"{header_of(vector)}; {vector['cookie_name']}{suffix}=stale"
    reading = read_credential([source_of(vector)], CookieJar.parse(header), vector["now"])
    assert reading.result is Result.INVALID


@pytest.mark.parametrize("sibling", ["-other", "x", ".x", ".-1", "..0", "__0", ".0x", ".²"])
def test_a_sibling_with_the_same_beginning_is_no_chunk(
    sibling: str,
) -> None:
    vector = BY_KIND["v5-chunked-2"]
    header = f"{vector['cookie_name']}{sibling}=evil; {header_of(vector)}"
    reading = read_credential([source_of(vector)], CookieJar.parse(header), vector["now"])
    assert reading.result is Result.OK


def test_a_cookie_under_another_prefix_opens_where_the_salt_allows_it() -> None:
    for kind, result in (("v4-small-insecure", Result.OK), ("v5-small-insecure", Result.INVALID)):
        vector = BY_KIND[kind]
        (value,) = vector["cookies"].values()
        jar = CookieJar.parse(f"__Host-{vector['cookie_name']}={value}")
        reading = read_credential([source_of(vector)], jar, vector["now"])
        assert reading.result is result
        assert reading.cookie == "__Host-" + vector["cookie_name"]


def test_a_cookie_name_may_be_configured_with_its_prefix() -> None:
    vector = BY_KIND["v5-small-secure"]
    source = FORMATS["authjs"](secrets=vector["secrets"], cookie=vector["cookie_name"])
    (value,) = vector["cookies"].values()
    jar = CookieJar.parse(f"{vector['cookie_name']}={value}")
    assert source.base_names == ("authjs.session-token",)
    assert read_credential([source], jar, vector["now"]).result is Result.OK


def test_a_flood_of_duplicates_is_cut_short() -> None:
    vector = BY_KIND["v5-small-insecure"]
    flood = f"{vector['cookie_name']}=x; " * 1000
    jar = CookieJar.parse(flood + header_of(vector))
    assert read_credential([source_of(vector)], jar, vector["now"]).result is Result.INVALID


def test_valid_until_is_the_moment_when_the_reading_changes() -> None:
    for kind in ("v5-small-insecure", "auth0-small", "iron8-small"):
        vector = BY_KIND[kind]
        source, jar = source_of(vector), CookieJar.parse(header_of(vector))
        end = read_credential([source], jar, vector["now"]).valid_until
        assert end is not None
        assert read_credential([source], jar, end - 0.001).result is Result.OK
        assert read_credential([source], jar, end).result is Result.EXPIRED


def test_a_named_claim_stands_for_the_expiry() -> None:
    vector = BY_KIND["auth0-small"]
    (value,) = vector["cookies"].values()
    jar = CookieJar.parse(f"__session={value}")
    for path, expected in (
        (("tokenSet", "expiresAt"), 1800003600),
        (("tokenSet", "scope"), 1800086400),
        (("no", "such"), 1800086400),
    ):
        source = FORMATS["auth0"](secrets=vector["secrets"], expires_at=path)
        reading = read_credential([source], jar, vector["now"])
        assert reading.expires_at == expected
        assert reading.valid_until == 1800086400 + 15


@every_vector
def test_no_secret_and_no_token_shows_in_a_repr(
    vector: Vector,
) -> None:
    source, jar = source_of(vector), CookieJar.parse(header_of(vector))
    reading = read_credential([source], jar, vector["now"])
    shown = f"{source!r} {reading!r} {jar!r}"
    hidden = [*vector["secrets"], *jar.values(vector["cookie_name"]), reading.token]
    assert not [text for text in hidden if text and len(text) > 8 and text in shown]


@cache
def every_source() -> list[Source]:
    secrets = ["a-secret-that-is-long-enough-for-all"]
    sealed = [FORMATS[t](secrets=secrets) for t in ("authjs", "nextauth", "auth0", "better-auth")]
    iron = FORMATS["iron-session"](passwords={"1": secrets[0]}, cookie="app")
    return [*sealed, iron, FORMATS["cookie"](cookie="access_token")]


NAMES = st.sampled_from(
    [p + s.base_names[0] for s in every_source() for p in ("", "__Host-", "__Secure-")]
)
SUFFIXES = st.sampled_from(["", ".0", ".1", "__0", "__1", ".01", ".99", " "])
LATIN1 = st.text(st.characters(max_codepoint=255))
PAIRS = st.builds("{}{}={}".format, NAMES, SUFFIXES, LATIN1 | st.text("eyJ.-_*~2Fe6AB="))


@given(st.text() | st.lists(PAIRS | LATIN1).map("; ".join), st.floats())
def test_reading_never_raises_and_never_yields_anything_but_a_b64token(
    header: str, now: float
) -> None:
    jar = CookieJar.parse(header)
    for source in every_source():
        reading = read_credential([source], jar, now)
        assert isinstance(reading, Reading)
        assert (reading.token is not None) == (reading.result is Result.OK)
    explain(every_source(), header, now)


@settings(max_examples=400)
@given(st.data())
def test_no_mutation_of_a_sealed_cookie_opens(data: st.DataObject) -> None:
    kinds = ["v5-small-secure", "v4-small-secure", "iron9-small", "auth0-small"]
    vector = BY_KIND[data.draw(st.sampled_from([*kinds, "better-auth-account-small"]))]
    ((name, value),) = vector["cookies"].items()
    start = data.draw(st.integers(0, len(value) - 1))
    length = data.draw(st.integers(0, 40))
    mutated = value[:start] + data.draw(st.text("Aw_-.*~=+/é1")) + value[start + length :]
    jar = CookieJar.parse(f"{name}={mutated}")
    result = read_credential([source_of(vector)], jar, vector["now"]).result
    assert (result is Result.OK) == (mutated == value)
