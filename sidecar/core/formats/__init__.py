"""The session formats: the type that a configuration names, and what builds its source.

A new library with encrypted JWTs is a row in `jwe.FAMILIES`; anything else a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sidecar.core.credential import Source
from sidecar.core.formats.encrypted_jwt import FAMILIES, jwe_source
from sidecar.core.formats.iron import iron_source
from sidecar.core.formats.raw import raw_source
from sidecar.core.formats.signed_jwt import jwt_source

FORMATS: dict[str, Callable[..., Source]] = {
    **{family.type: partial(jwe_source, family) for family in FAMILIES},
    "iron-session": iron_source,
    "jwt": jwt_source,
    "cookie": raw_source,
}
"""Type → factory. All take keywords: `cookie`, `keys`, and but for `cookie` itself `token`,
`expires_at`; `iron-session` takes `passwords`, the encrypted JWTs `secrets`, and `jwt` takes
`secrets` or `ring`."""
