"""The envelope `{"isError", "message", "data", "status", "errorData"}` around an upstream's JSON.

`media` says what counts as JSON, `document` validates it and hands out the upstream's own bytes,
`lookup` finds values deep inside, `beginning` reads one that is still coming, `failure` says which
are errors below 400, `render` builds the envelope in memory, `stream` at constant memory.
"""

from __future__ import annotations

from sidecar.core.envelope.beginning import Beginning, read_beginning
from sidecar.core.envelope.document import (
    ABSENT,
    Document,
    NeedsWalk,
    Walk,
    parse,
    parse_at_once,
)
from sidecar.core.envelope.failure import FailureRule
from sidecar.core.envelope.lookup import holds
from sidecar.core.envelope.media import is_json_type
from sidecar.core.envelope.render import (
    TEXT_LIMIT,
    EnvelopeRule,
    Parts,
    envelope_parts,
    fault,
    success,
    wrap,
    wrap_empty,
    wrap_text,
)
from sidecar.core.envelope.stream import StreamWrapper
from sidecar.core.jsonscan import InvalidJSON, Unstreamable

__all__ = [
    "ABSENT",
    "TEXT_LIMIT",
    "Beginning",
    "Document",
    "EnvelopeRule",
    "FailureRule",
    "InvalidJSON",
    "NeedsWalk",
    "Parts",
    "StreamWrapper",
    "Unstreamable",
    "Walk",
    "envelope_parts",
    "fault",
    "holds",
    "is_json_type",
    "parse",
    "parse_at_once",
    "read_beginning",
    "success",
    "wrap",
    "wrap_empty",
    "wrap_text",
]
