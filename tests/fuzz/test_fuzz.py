"""The targets of this folder: what is kept of long runs, and some inputs that are new."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import kept, oracles, registry
from tests.fuzz.target import Target

EXAMPLES = 150  # new inputs for each target; long runs are `python -m tests.fuzz`

every_target = pytest.mark.parametrize("name", registry.NAMES)


@pytest.fixture(scope="module")
def load(do_without: Callable[[str], NoReturn]) -> Callable[[str], Target]:
    """Loads a target; without its programs there is none."""

    def loaded(name: str) -> Target:
        try:
            return registry.load(name)
        except oracles.Missing as missing:
            do_without(str(missing))

    return loaded


@every_target
def test_kept_inputs_break_no_promise(name: str, load: Callable[[str], Target]) -> None:
    """Those that reach most of the code, as long runs have found them, and the seeds."""
    target = load(name)
    inputs = [*target.seeds, *kept.read(name)]
    assert len(inputs) > len(target.seeds)
    for one in inputs:
        assert len(one) <= target.longest
        target.check(one)


@every_target
def test_new_inputs_break_no_promise(name: str, load: Callable[[str], Target]) -> None:
    """Made of the target's words and seeds, and of any octets."""
    target = load(name)
    pieces = st.one_of(st.sampled_from(target.words), st.binary(max_size=4))
    starts = st.sampled_from([b"", *target.seeds]).flatmap(
        lambda seed: st.integers(0, len(seed)).map(lambda end: seed[:end])
    )
    inputs = st.tuples(starts, st.lists(pieces, max_size=12).map(b"".join)).map(b"".join)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def each(data: bytes) -> None:
        target.check(data[: target.longest])

    each()


def test_kept_inputs_are_few() -> None:
    """They come with every checkout."""
    assert {path.stem for path in kept.CORPUS.iterdir()} == set(registry.NAMES)
    assert all(path.stat().st_size <= kept.MOST for path in kept.CORPUS.iterdir())
