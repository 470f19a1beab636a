"""The log: which lines are written, and where to."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from sidecar.core.config.faults import BadValue
from sidecar.core.config.fields import (
    Duration,
    PathPattern,
    SampleRate,
    Section,
    Target,
    section_of_switch,
    setting,
)


def _status(value: object) -> object:
    if isinstance(value, bool):
        raise BadValue("must be an integer")
    return value


Status: TypeAlias = Annotated[int, Field(ge=100, le=599), BeforeValidator(_status)]


class AccessSection(Section):
    """Which requests get a line; those that fail always do."""

    min_status: Status | None = setting(
        None, "Requests that were answered with this status or a higher one get a line."
    )
    min_duration: Duration | None = setting(
        None, "Requests that took so long get a line, whatever their status."
    )
    sample: SampleRate | None = setting(
        None,
        "The fraction of the other requests that get one. Default: 1, or 0 with min_status or "
        "min_duration.",
    )


def _switch(value: object) -> object:
    """True is every request, false is none; null is the default, as for a section."""
    return {} if value is None else section_of_switch(value)


class Log(Section):
    """What is logged, and where to. After loading, `access` is None if there is no access log."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least severe level. The access log is on level info; debug lifts its filters."
    )
    format: Literal["json", "console"] = setting("json", "json for machines, console for people.")
    access: Annotated[
        AccessSection | None, BeforeValidator(_switch, json_schema_input_type=bool | AccessSection)
    ] = setting(
        AccessSection(),
        "Whether requests get a line: true, false, or a mapping that says which.",
        written=True,
    )
    mask: tuple[PathPattern, ...] = setting(
        (),
        "Paths such as /users/*/cards/*, of which logs show * for the segments that a * stands "
        "for. A pattern holds for every path that begins so.",
        written=[],
    )
    target: Target = setting(
        "stderr",
        "stderr, stdout, or file:///path: a file that is appended to, and opened anew at a reload.",
    )
