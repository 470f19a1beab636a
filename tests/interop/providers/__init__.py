"""The providers, each in a module of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.interop.provider import Provider
from tests.interop.providers.dex import Dex
from tests.interop.providers.django_oauth import DjangoOauthToolkit
from tests.interop.providers.hydra import Hydra
from tests.interop.providers.keycloak import Keycloak
from tests.interop.providers.oidc_provider import OidcProvider

PROVIDERS: Final[Mapping[str, type[Provider]]] = {
    one.name: one for one in (OidcProvider, Keycloak, DjangoOauthToolkit, Hydra, Dex)
}
"""By the name that the command takes, in the order in which they are run."""
