"""What the document says of upstreams: where they are, how they do, and what they failed by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core.record import replace
from sidecar.observation import counters
from sidecar.observation.quantiles import BOUNDS_MS, latency
from sidecar.observation.status_model import AddressRow, UpstreamRow
from sidecar.web.readiness import missing_upstreams

if TYPE_CHECKING:
    from sidecar.net.members import ServerSnapshot
    from sidecar.net.pool import Pool
    from sidecar.observation.timeline import Past
    from sidecar.runtime import Runtime

_BUCKETS: Final = len(BOUNDS_MS) + 1
_DAY: Final = 86400.0


async def upstream_rows(runtime: Runtime, past: Past, now: float) -> tuple[UpstreamRow, ...]:
    """A row for each upstream. Those that readiness depends on are reached for."""
    missing = await missing_upstreams(runtime)
    rows = (_row(runtime, past, now, name, pool) for name, pool in runtime.pools.items())
    return tuple(replace(row, is_missing=row.name in missing) for row in rows)


def _row(runtime: Runtime, past: Past, now: float, name: str, pool: Pool) -> UpstreamRow:
    blame = runtime.recorder.failures.blames.get(name)
    errors = {
        one[2]: int(past.total(one, 1)[0]) for one in past.names(counters.CAUSE) if one[1] == name
    }
    count = counters.answered(runtime.metrics, runtime.policy.routes_of(name))
    is_failing = blame is not None and blame.successes == count
    took = past.total((counters.UPSTREAM, name), _BUCKETS + 1)
    end = pool.certificate_ends_at()
    return UpstreamRow(
        name=name,
        origin=pool.address.origin,
        addresses=tuple(_address(one) for one in pool.servers()),
        idle=pool.idle,
        busy=pool.open - pool.idle - pool.lent,
        lent=pool.lent,
        waiting=pool.waiting,
        limit=pool.address.pool_max,
        retries=int(past.total((counters.RETRIES, name), 1)[0]),
        errors=errors,
        requests_failed=sum(errors.values()),
        failing_since=blame.since if blame is not None and is_failing else None,
        last_error=None if blame is None else blame.detail,
        last_error_at=None if blame is None else blame.at,
        certificate_days_left=None if end is None else round((end - now) / _DAY, 2),
        latency=latency([int(one) for one in took[:_BUCKETS]], took[_BUCKETS]),
    )


def _address(one: ServerSnapshot) -> AddressRow:
    return AddressRow(
        address=one.address,
        resolved=one.addresses,
        resolved_at=one.resolved_at,
        ejected_until=one.out_until,
        ejections=one.ejections,
        failures=one.failures,
        last_error=one.error,
        last_error_at=one.error_at,
        check=one.check,
    )
