"""The hash of a configuration: the same for the same values, and no help to whoever guesses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from sidecar.core.config import Config
from sidecar.core.config.digest import DIGITS, digest

Loader = Callable[..., Config]

ROOT: Final = Path(__file__).parents[3]
NAMES: Final = ("AUTH_SECRET", "SIDECAR_SECRET", "CLIENT_SECRET")
KEY: Final = b"k" * 32
FULL: Final = """
    upstream: http://localhost:4000
    session: {sources: [{type: authjs, secret: "%s"}]}
    store: {url: "redis://:%s@localhost"}
"""


def full(loaded: Loader, secret: str, word: str) -> Config:
    return loaded(FULL % (secret, word))


def test_what_is_written_otherwise_is_the_same(loaded: Loader) -> None:
    """Comments, order, and a default that is written."""
    one = loaded("upstream: http://a\nlisten: 0.0.0.0:8080\n")
    other = loaded("# more\nlisten: '0.0.0.0:8080'\n\nlimits: {header: 64KiB}\nupstream: http://a")
    assert digest(one, KEY) == digest(other, KEY)
    assert digest(one, b"") == digest(other, b"")
    assert len(digest(one, KEY)) == DIGITS


@pytest.mark.parametrize("key", [KEY, b""])
@pytest.mark.parametrize(
    "more", ["listen: 0.0.0.0:81", "limits: {header: 63KiB}", "cors: {origins: ['https://a.b']}"]
)
def test_any_other_value_changes_it(loaded: Loader, more: str, key: bytes) -> None:
    assert digest(loaded("upstream: http://a"), key) != digest(
        loaded(f"upstream: http://a\n{more}"), key
    )


def test_secrets_change_it_only_with_a_key(loaded: Loader) -> None:
    """Without one, whoever sees it could try guesses."""
    base = full(loaded, "s" * 32, "pw1")
    for other in (full(loaded, "t" * 32, "pw1"), full(loaded, "s" * 32, "pw2")):
        assert digest(base, KEY) != digest(other, KEY)
        assert digest(base, b"") == digest(other, b"")
    assert digest(base, KEY) != digest(base, b"l" * 32)


def test_it_is_the_same_in_every_process(loaded: Loader) -> None:
    """Whatever order hashing gives; of the reference configuration, which has every key."""
    code = f"""
from sidecar.core.config import load
from sidecar.compilation.compile_policy import config_hash
text = open("config/sidecar.yaml").read()
environ = dict.fromkeys({NAMES!r}, "x" * 40)
print(config_hash(load(text, source="f", environ=environ, read_file=lambda _: "x" * 40)))
"""
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1
