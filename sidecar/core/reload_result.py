"""What became of reloads: values that the admin listener, metrics and logs tell."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import msgspec

from sidecar.core.record import replace, values_of

Outcome: TypeAlias = Literal["started", "reloaded", "refused", "failed"]
"""`failed` is a defect of the sidecar; the old configuration stays, as it does if refused."""

OUTCOMES: Final[tuple[Outcome, ...]] = ("reloaded", "refused", "failed")
"""What may come of a reload."""


class ReloadResult(msgspec.Struct, frozen=True):
    """One attempt, or the start."""

    result: Outcome
    when: float
    """Unix seconds of its end."""
    hash: str
    """Of the configuration that holds since then (`policy.config_hash`)."""
    kept: tuple[str, ...] = ()
    """Keys whose new values take a restart."""
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    """Why the old configuration stays."""

    @property
    def is_good(self) -> bool:
        """Whether the configuration that was read holds."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """A JSON object for people and programs; without what does not belong to the result."""
        told = "faults" if self.faults else "warnings"
        common = {"result": self.result, "when": self.when, "hash": self.hash}
        return {**common, "kept": list(self.kept), told: list(getattr(self, told))}


class ReloadHistory(msgspec.Struct, frozen=True):
    """What holds since when, and what came of the last attempt."""

    holds: ReloadResult
    """The start, or the last reload that was not refused."""
    last: ReloadResult | None = None
    """The last attempt; None before the first one."""
    counts: Mapping[Outcome, int] = msgspec.field(
        default_factory=lambda: MappingProxyType(dict.fromkeys(OUTCOMES, 0))
    )
    """How many attempts had which outcome."""

    def after(self, result: ReloadResult) -> ReloadHistory:
        """With one attempt more."""
        counts = {**self.counts, result.result: self.counts[result.result] + 1}
        holds = result if result.is_good else self.holds
        return ReloadHistory(holds, result, MappingProxyType(counts))

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `read_history` reads it."""
        last = None if self.last is None else values_of(self.last)
        return {"holds": values_of(self.holds), "last": last, "counts": dict(self.counts)}


def read_history(told: Mapping[str, Any]) -> ReloadHistory:
    """The history of its JSON object."""
    last = told["last"]
    return ReloadHistory(
        _read(told["holds"]),
        None if last is None else _read(last),
        MappingProxyType(dict(told["counts"])),
    )


def _read(told: Mapping[str, Any]) -> ReloadResult:
    lists = {key: tuple(told[key]) for key in ("kept", "warnings", "faults")}
    return ReloadResult(told["result"], told["when"], told["hash"], **lists)


def together(first: ReloadResult, others: Mapping[str, ReloadResult | None]) -> ReloadResult:
    """One result out of the supervisor's, which was good, and that of each worker by its name.

    None is one that did not answer. Any fault is a fault of all. A worker that read another
    configuration than the supervisor is told, too.
    """
    faults = list(first.faults)
    for name, one in others.items():
        if one is None:
            faults.append(f"{name}: has not answered")
        elif one.faults:
            faults += [f"{name}: {fault}" for fault in one.faults]
        elif one.hash != first.hash:
            faults.append(f"{name}: holds another configuration; reload once more")
    if len(faults) == len(first.faults):
        return first
    has_defect = any(one is not None and one.result == "failed" for one in others.values())
    outcome: Outcome = "failed" if has_defect else "refused"
    return replace(first, result=outcome, faults=tuple(dict.fromkeys(faults)))
