"""Memory, file and seal behave like one simple model, whatever is done in whatever order."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.net.store.memory import MemoryStore
from sidecar.net.store.sealed_store import SealedStore
from sidecar.net.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from sidecar.net.store import Store

KEYS = st.sampled_from(["a", "b"])
VALUES = st.sampled_from([b"", b"1", b"2"])
SECONDS = st.sampled_from([0.0, 1.0, 5.0, 1e12])
STEPS = st.one_of(
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("put"), KEYS, VALUES, SECONDS),
    st.tuples(st.just("add"), KEYS, VALUES, SECONDS),
    st.tuples(st.just("replace"), KEYS, VALUES, VALUES, SECONDS),
    st.tuples(st.just("remove"), KEYS),
    st.tuples(st.just("remove"), KEYS, VALUES),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 3.0, 20.0])),
)


class Model:
    """What the interface says, as simply as it can be written."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.entries: dict[str, tuple[bytes, float]] = {}

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def get(self, key: str) -> bytes | None:
        value, ends = self.entries.get(key, (None, 0.0))
        return value if ends > self.now else None

    def put(self, key: str, value: bytes, seconds: float) -> None:
        self.entries[key] = (value, self.now + max(seconds, 0.001))

    def add(self, key: str, value: bytes, seconds: float) -> bool:
        absent = self.get(key) is None
        if absent:
            self.put(key, value, seconds)
        return absent

    def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        same = self.get(key) == old
        if same:
            self.put(key, new, seconds)
        return same

    def remove(self, key: str, value: bytes | None = None) -> bool:
        current = self.get(key)
        there = current is not None and value in (None, current)
        if there:
            del self.entries[key]
        return there


def report(text: str) -> None:
    raise AssertionError(text)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=40))
def test_every_store_is_like_the_model(steps: list[tuple[Any, ...]]) -> None:
    """Each step gives what the model gives."""

    async def compare(directory: str) -> None:
        model = Model()

        def clock() -> float:
            return model.now

        stores: list[Store] = [
            MemoryStore(report, clock=clock),
            SqliteStore(str(Path(directory) / "store.db"), report, limit=30.0, clock=clock),
            SealedStore(MemoryStore(report, clock=clock), [b"s" * 32], report),
        ]
        for step, *arguments in steps:
            wanted = getattr(model, step)(*arguments)
            if step != "wait":
                answers = [await getattr(store, step)(*arguments) for store in stores]
                assert answers == [wanted] * 3
        for store in stores:
            await store.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(compare(directory))
