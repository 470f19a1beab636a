"""Each request counts once, and is counted out once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.core.config.model import InFlight
from sidecar.web.budgets import STREAM, Budgets
from sidecar.web.flow import Flow
from sidecar.web.transfer_watch import TransferWatch


class Client:
    """A connection on which a response is held up."""

    transport = None

    def __init__(self) -> None:
        self.given_up = False

    def give_up(self, why: str) -> None:
        assert why
        self.given_up = True


def slow(budgets: Budgets) -> tuple[Flow, TransferWatch]:
    """A response that its client takes slowly, counted as one of an API."""
    flow: Any = Flow.__new__(Flow)
    runtime = SimpleNamespace(loop=None)
    flow.handler = SimpleNamespace(runtime=runtime, budgets=budgets)
    flow.runtime, flow.connection = runtime, Client()
    flow.kind, flow.over, flow.callbacks, flow.tasks, flow.upstream = "", False, (), (), None
    flow.bytes_out, flow.detail = 0, ""
    flow.admit("api")
    return flow, TransferWatch(flow)


def test_response_whose_client_has_left_is_not_given_up_besides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is among those that go until its task ends, a turn of the loop later."""
    monkeypatch.setattr("sidecar.web.flow.watch_peer", lambda _: None)
    budgets = Budgets(InFlight(api=10, page=10, stream=4))
    flows = [slow(budgets) for _ in range(6)]
    for flow, watch in flows[:4]:
        assert flow.outlast(watch)
    left, slowest = flows[0]
    slowest._waited = 100.0
    left._release()
    for flow, watch in flows[4:]:
        flow.outlast(watch)
    lasting = [flow for flow, _ in flows if flow.kind == STREAM and not flow.over]
    assert budgets.in_flight[STREAM] == len(lasting) <= 4
    assert not left.connection.given_up  # type: ignore[attr-defined]
    for flow, _ in flows[1:]:
        flow._release()
    assert not any(budgets.in_flight.values())
