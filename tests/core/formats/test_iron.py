"""What an iron-session seal must be before a password is tried; and the seals of h3.

`tests/npm/h3.mjs` has printed tests/data/h3.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Result, read_credential
from sidecar.core.formats.iron import COSTLY_ATTEMPTS, IronOpener, iron_source
from sidecar.core.jwe import SealError

DATA = Path(__file__).parents[2] / "data"
VECTORS = json.loads((DATA / "authjs.json").read_text())["vectors"]
H3 = json.loads((DATA / "h3.json").read_text())
PASSWORD = H3["password"]
PATH = ("data", "secure", "accessToken")
every_seal = pytest.mark.parametrize("vector", H3["vectors"], ids=lambda one: one["what"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("~2", ""),
        ("~2", "~1"),
        ("~2", "~2\n"),
        ("Fe26.2*", "Fe26.1*"),
        ("*1*", "**"),
        ("*1*", "*2*"),
        ("*1801209600000*", "**"),
        ("*1801209600000*", "*01801209600000*"),
        ("*1801209600000*", "*1e99*"),
        ("*1801209600000*", "*9999999999999999*"),
        ("*1801209600000*", "*99999999999999999999*"),
        ("*1801209600000*", "*١٢٣*"),
    ],
)
def test_a_seal_that_is_not_quite_one_does_not_open(old: str, new: str) -> None:
    vector = next(v for v in VECTORS if v["kind"] == "iron9-small")
    (value,) = vector["cookies"].values()
    opener = IronOpener({"1": vector["secrets"][0].encode()})
    assert opener.open(value, "app", vector["now"]).claims == vector["claims"]
    assert old in value
    with pytest.raises(SealError):
        opener.open(value.replace(old, new), "app", vector["now"])


def read(vector: dict[str, Any], cookies: dict[str, str] | None = None, **options: Any) -> Reading:
    pairs = (vector["cookies"] if cookies is None else cookies).items()
    jar = CookieJar.parse("; ".join(f"{name}={value}" for name, value in pairs))
    given = {"passwords": {"1": PASSWORD}, "iterations": 8192, "token": PATH, **options}
    source = iron_source(cookie=vector["cookie"], **given)
    return read_credential([source], jar, options.pop("now", vector["now"]))


@every_seal
def test_a_session_of_h3_yields_its_token(vector: dict[str, Any]) -> None:
    """Without a password's id and a version behind, with an end or without, whole or in chunks."""
    found = read(vector)
    assert (found.result, found.token) == (Result.OK, "token-of-the-test"), found.why
    assert found.is_plain
    assert set(found.names) == set(vector["cookies"])
    assert len(found.places) == len(vector["cookies"])
    if vector["lifetime"] is None:
        assert found.expires_at is None
    else:
        assert found.expires_at == pytest.approx(vector["now"] + vector["lifetime"], abs=2)


@every_seal
@pytest.mark.parametrize(
    "passwords",
    [{"default": PASSWORD, "1": "x" * 32}, {"1": "x" * 32, "2": PASSWORD}],
    ids=["called default", "any"],
)
def test_a_seal_that_names_no_password_opens_with_one_of_several(
    vector: dict[str, Any], passwords: dict[str, str]
) -> None:
    assert read(vector, passwords=passwords).result is Result.OK


@every_seal
def test_a_seal_of_h3_does_not_open_with_another_password_nor_altered(
    vector: dict[str, Any],
) -> None:
    assert read(vector, passwords={"1": "x" * 32}).result is Result.INVALID
    assert read(vector, passwords={"default": "x" * 32, "1": PASSWORD}).result is Result.INVALID
    for name, value in vector["cookies"].items():
        if "*" in value:
            altered = {**vector["cookies"], name: value.replace("*", "*0", 1)}
            assert read(vector, altered).result is Result.INVALID
            assert read(vector, {**vector["cookies"], name: value + "~2"}).result is not Result.OK


def test_h3_2_seals_open_only_with_its_iterations_and_h3_1_seals_with_either() -> None:
    results = {one["what"]: read(one, iterations=1).result for one in H3["vectors"]}
    fast = {"h3 1", "nuxt-auth-utils", "h3 2, as h3 1 seals"}
    assert {what for what, result in results.items() if result is Result.OK} == fast
    slow = next(one for one in H3["vectors"] if one["what"] == "h3 2")
    assert "iterations: 8192" in read(slow, iterations=1).why


def test_a_missing_or_odd_chunk_of_h3_is_never_made_up_for() -> None:
    vector = next(one for one in H3["vectors"] if "chunks" in one["what"])
    cookies = vector["cookies"]
    assert len(cookies) > 2
    for missing in cookies:
        rest = {name: value for name, value in cookies.items() if name != missing}
        assert read(vector, rest).result is Result.INVALID
    for count in ("__chunked__0", "__chunked__51", "__chunked__1", "__chunked__x", "__chunked__"):
        assert read(vector, {**cookies, "app": count}).result is Result.INVALID


def test_costly_seals_are_tried_in_small_numbers() -> None:
    """Each costs a stranger nothing, and this process 16 ms."""
    bad = H3["vectors"][0]["cookies"]["h3"].replace("*", "*0", 1)
    source = iron_source(cookie="h3", passwords={"1": PASSWORD}, iterations=8192)
    jar = CookieJar.parse("; ".join([f"h3={bad}"] * 20))
    assert len(list(source.readings(jar, 0.0))) == COSTLY_ATTEMPTS
