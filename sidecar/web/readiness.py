"""What `/readyz` says of one process, and of several together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from sidecar.core.errors import StoreUnavailable
from sidecar.net.deadline import Within

if TYPE_CHECKING:
    from sidecar.net.provider import Provider
    from sidecar.net.store import Store
    from sidecar.runtime import Runtime

PROBE_SECONDS: Final = 2.0
"""How long the store and each upstream may take to answer."""


async def readiness(runtime: Runtime, *, draining: bool) -> dict[str, Any]:
    """Asks the store and all upstreams now; the provider is reported as it was met last.

    Not ready while draining, without a shared store that is needed (`store.ready`), or without an
    upstream that is (`ready: true`).
    """
    config = runtime.policy.config
    store, *reached = await asyncio.gather(
        _answers(runtime.store),
        *(runtime.pools[name].is_reachable(PROBE_SECONDS) for name in config.upstreams),
    )
    upstreams = {
        name: {"reachable": fine, "required": upstream.ready}
        for (name, upstream), fine in zip(config.upstreams.items(), reached, strict=True)
    }
    told = {
        "reachable": store,
        "required": needs_store(runtime),
        "pending": runtime.outbox.pending.total(),
    }
    missing = ["store"] if _is_missing(told) else []
    missing += [f"upstream {name}" for name, row in upstreams.items() if _is_missing(row)]
    return {
        "ready": not (missing or draining),
        "draining": draining,
        "missing": missing,
        "store": told,
        "provider": _provider(runtime.provider),
        "upstreams": upstreams,
    }


def needs_store(runtime: Runtime) -> bool:
    """Whether readiness depends on the store."""
    store = runtime.policy.config.store
    return store.url.is_shared and store.ready


async def missing_upstreams(runtime: Runtime) -> frozenset[str]:
    """The names of those that readiness depends on, and that cannot be reached now."""
    needed = [name for name, one in runtime.policy.config.upstreams.items() if one.ready]
    reached = await asyncio.gather(
        *(runtime.pools[name].is_reachable(PROBE_SECONDS) for name in needed)
    )
    return frozenset(name for name, fine in zip(needed, reached, strict=True) if not fine)


def of_all(reports: Mapping[int, dict[str, Any] | None]) -> dict[str, Any]:
    """One report out of every worker's; None is one that did not answer. Ready if all are."""
    told = {number: report for number, report in reports.items() if report is not None}
    missing = [f"worker {number}" for number, report in reports.items() if report is None]
    missing += dict.fromkeys(what for report in told.values() for what in report["missing"])
    if not reports:
        missing = ["workers"]
    stores = [report["store"] for report in told.values()]
    return {
        "ready": not missing and all(report["ready"] for report in told.values()),
        "draining": any(report["draining"] for report in told.values()),
        "missing": missing,
        "store": {
            "reachable": bool(stores) and all(one["reachable"] for one in stores),
            "required": any(one["required"] for one in stores),
            "pending": sum(one["pending"] for one in stores),
        },
        "provider": _blamed(report["provider"] for report in told.values()),
        "upstreams": _upstreams(report["upstreams"] for report in told.values()),
        "workers": {
            str(number): {"ready": report is not None and report["ready"]}
            for number, report in reports.items()
        },
    }


def _is_missing(row: Mapping[str, Any]) -> bool:
    return bool(row["required"] and not row["reachable"])


def _provider(provider: Provider | None) -> dict[str, Any] | None:
    """How the last fetch of each document went, and the last error, whenever that was."""
    if provider is None:
        return None
    return {
        name: {"reachable": not one.has_failed, "error": one.error, "at": one.failed_at}
        for name, one in provider.published.items()
    }


def _blamed(reports: Iterable[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Each process asks the provider for itself: of each document, the last error of any."""
    blamed: dict[str, Any] = {}
    for report in reports:
        for name, row in (report or {}).items():
            before = blamed.get(name, row)
            last = max(before, row, key=lambda one: one["at"] or 0.0)
            blamed[name] = {**last, "reachable": before["reachable"] and row["reachable"]}
    return blamed or None


def _upstreams(reports: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """An upstream is reachable if it is for all."""
    upstreams: dict[str, Any] = {}
    for report in reports:
        for name, row in report.items():
            before = upstreams.get(name, row)
            upstreams[name] = {**row, "reachable": row["reachable"] and before["reachable"]}
    return upstreams


async def _answers(store: Store) -> bool:
    """Whether the store can be written to."""
    try:
        async with Within(PROBE_SECONDS):
            await store.ping()
    except (StoreUnavailable, TimeoutError):
        return False
    return True
