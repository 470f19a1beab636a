"""What a configuration is made of is known, also if it cannot be used."""

from __future__ import annotations

import os
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from sidecar.config_loader import ConfigLoader
from sidecar.core.errors import ConfigError
from sidecar.file_watch import digest_of_bytes

if TYPE_CHECKING:
    from pathlib import Path


def test_every_file_of_it_is_known(tmp_path: Path) -> None:
    """The file itself, secrets, certificates, and those of the store."""
    names = ("file.yaml", "secret", "cert", "key", "ca", "client", "store-ca")
    paths = {name: str(tmp_path / name) for name in names}
    (tmp_path / "secret").write_text("s" * 32)
    (tmp_path / "ca").write_text("authority")
    trusted = f"ca: {paths['ca']}, cert: {paths['client']}, key: {paths['client']}"
    text = f"""
        upstreams: {{api: {{url: "https://a", tls: {{{trusted}}}}}}}
        routes: [{{path: /, kind: api, upstream: api, session: optional}}]
        session: {{sources: [{{type: authjs, secret_file: {paths["secret"]}}}]}}
        tls: {{cert: {paths["cert"]}, key: {paths["key"]}}}
        store: {{url: "rediss://h?ca={paths["store-ca"]}"}}
    """
    (tmp_path / "file.yaml").write_text(text)
    load = ConfigLoader(paths["file.yaml"], {})
    load()
    assert load.digests.keys() == set(paths.values())
    assert load.digests[paths["secret"]] == digest_of_bytes(b"s" * 32)
    assert load.digests[paths["ca"]] == digest_of_bytes(b"authority")
    assert load.digests[paths["cert"]] is None


def test_files_of_one_that_cannot_be_used_are_known(tmp_path: Path) -> None:
    """So that their correction is seen."""
    file, secret = tmp_path / "file.yaml", tmp_path / "secret"
    load = ConfigLoader(str(file), {})
    with pytest.raises(OSError, match="No such file"):
        load()
    assert load.digests == {str(file): None}
    for text in (b"{", b"nonsense: 1", b"\xff\xfe"):
        file.write_bytes(text)
        with pytest.raises(ConfigError):
            load()
        assert load.digests == {str(file): digest_of_bytes(text)}
    file.write_text(f"upstream: http://a\nsecret_file: {secret}")
    with pytest.raises(ConfigError, match="cannot be read"):
        load()
    assert load.digests[str(secret)] is None


@pytest.mark.parametrize(
    ("data", "told"),
    [(None, "cannot be read: No such file or directory"), (b"\xff\xfe", "must be UTF-8 text")],
)
def test_file_that_cannot_be_read_is_told_in_words(
    tmp_path: Path, data: bytes | None, told: str
) -> None:
    """To whoever reloads it, and to the admin page, which compares it with what runs."""
    file = tmp_path / "file.yaml"
    if data is not None:
        file.write_bytes(data)
    load = ConfigLoader(str(file), {})
    for read in (load, load.tree):
        with pytest.raises((ConfigError, OSError)) as caught:
            read()
        assert str(caught.value) == f"{file}: {told}; use -c to name another file"


def test_without_a_file_there_is_none() -> None:
    load = ConfigLoader(None, {"upstream": "http://a"})
    assert load().upstreams["api"].url == "http://a"
    assert load.digests == {}


def test_pipe_is_read_once_and_not_watched(tmp_path: Path) -> None:
    """As `-c <(…)` of a shell is one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=("upstream: http://a",), daemon=True)
    writer.start()
    load = ConfigLoader(str(pipe), {})
    assert load().upstreams["api"].url == "http://a"
    assert load.digests == {}
    writer.join(10)
    assert not writer.is_alive()
