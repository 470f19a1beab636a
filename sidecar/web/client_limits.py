"""What one client address may do (`limits.per_client`): rates of logins, logouts and renewals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecar.core.client import Client
from sidecar.core.client_address import client_network
from sidecar.core.errors import RateLimited, RefreshLimited
from sidecar.core.record import replace

if TYPE_CHECKING:
    from sidecar.web.flow import Flow


def admit(flow: Flow, limit: str) -> None:
    """Counts a request to an endpoint of the sidecar's own; a document is refused with a page.

    Raises `RateLimited`.
    """
    wait = _wait(flow, limit)
    if wait:
        if flow.request.client is Client.DOCUMENT:
            flow.route = replace(flow.route, kind="page")
        raise RateLimited(_detail(flow, limit), wait)


def renewals(flow: Flow) -> Callable[[], None]:
    """Returns what is called before the request causes a renewal. It raises `RefreshLimited`."""

    def permit() -> None:
        wait = _wait(flow, "refresh")
        if wait:
            raise RefreshLimited(_detail(flow, "refresh"), wait)

    return permit


def _key(name: str) -> str:
    """The key of a limit: answers of the provider have an allowance like that of logins."""
    return "login" if name == "callback" else name


def _wait(flow: Flow, name: str) -> float:
    """Takes one for the request's client. Returns the seconds to wait if it may not.

    Trusted proxies are not limited: their clients would be limited all together.
    """
    limit = flow.runtime.limits.get(name)
    if limit is None:
        return 0.0
    peer = flow.connection.peer
    address = peer.client(flow.request)
    client = client_network(address)
    if client is None or flow.runtime.policy.trusts.includes(address):
        return 0.0
    now = flow.runtime.loop.time()
    wait = limit.take(client, now)
    if wait:
        flow.runtime.metrics.rate_limited[_key(name)] += 1
        if limit.is_news(now):
            _warn(flow, name, address)
    return wait


def _warn(flow: Flow, name: str, address: str) -> None:
    hint = None
    if address == flow.connection.peer.address:
        hint = "if this is a proxy, list it in trusted_proxies"
    flow.runtime.log.warning(
        "client limited", limit=_detail(flow, name), client=address, detail=hint
    )


def _detail(flow: Flow, name: str) -> str:
    return f"limits.per_client.{_key(name)}: above {flow.runtime.limits[name].rate}"
