"""What is open behind a gate ends once a renewal brings claims with which it lets nobody in."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.core.access import RouteGate
from sidecar.core.view import SessionView
from sidecar.sessions.revocations import Revocations


def close_refused(
    gates: Sequence[RouteGate], revocations: Revocations, before: SessionView, after: SessionView
) -> None:
    """Closes what a session has opened behind gates that it may not pass any more.

    In every process on the store. A session that could not pass before has nothing open there.
    """
    old, new = before.session(before.fingerprint), after.session(after.fingerprint)
    if old is None or new is None:
        return
    for gate in gates:
        passed = gate.lets_in(old.reading.claim, old.source)
        if passed and not gate.lets_in(new.reading.claim, new.source):
            revocations.refuse(new.fingerprint, gate.name)
