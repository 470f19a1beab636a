"""The members of an envelope, which the configuration must know as well."""

from __future__ import annotations

from typing import Final

ENVELOPE: Final = frozenset({"isError", "message", "data", "status", "errorData"})
