"""The upstream's files."""

from __future__ import annotations

from pathlib import Path

LARGE = 100 * 1024 * 1024

_ITEM = b'{"id": 100017, "name": "item number 17", "price": 12.5, "tags": ["a", "b"], "ok": true}'
_BEFORE, _BETWEEN, _AFTER = b'{"data": [', b", ", b"]}"

# The third stays below the sidecar's buffer (1 MiB), the last is far beyond it.
DOCUMENTS = {"1k.json": 1024, "64k.json": 65536, "1m.json": 1_000_000, "100m.json": LARGE}
DOWNLOAD = "100m.bin"


def write_files(directory: Path) -> None:
    """Writes every file that the upstream serves."""
    directory.mkdir(parents=True)
    for name, size in DOCUMENTS.items():
        (directory / name).write_bytes(document(size))
    with (directory / DOWNLOAD).open("wb") as file:
        file.truncate(LARGE)


def document(size: int) -> bytes:
    """A JSON answer of at most `size` bytes, and hardly less."""
    count = (size - len(_BEFORE) - len(_AFTER)) // (len(_ITEM) + len(_BETWEEN))
    return _BEFORE + _BETWEEN.join([_ITEM] * count) + _AFTER


def data_of(body: bytes) -> bytes:
    """The bytes of a document's member `data`, as an envelope has to show them."""
    return body[len(_BEFORE) - 1 : -1]
