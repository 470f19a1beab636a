"""A world for each test: a sidecar and a recording upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.oracle.world import World, site, world_of

if TYPE_CHECKING:
    from tests.conftest import Start, Upstream


@pytest.fixture
async def world(sidecar: Start, upstream: Upstream) -> World:
    """A sidecar that serves, and its upstream. At the end nothing may be left under way."""
    at = await sidecar(site(upstream.url))
    return world_of(upstream, at.port, at.sidecar)
