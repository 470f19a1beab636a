"""What upstreams believe because a proxy says it, so a client may not: one table.

A name that ends in `*` stands for every name that begins so. `docs/headers.md` shows this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CLAIMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Where a request came from": (
            "Forwarded X-Forwarded X-Forwarded-* X-Original-* X-Real-Ip X-Real-Port Client-Ip "
            "X-Client-Ip X-Cluster-Client-Ip True-Client-Ip Forwarded-For Proxy-Client-Ip "
            "Wl-Proxy-* X-Proxyuser-Ip X-Scheme X-Url-Scheme Front-End-Https X-Envoy-* L5d-* "
            "X-Istio-Attributes X-Arr-* X-Azure-* X-Ms-Proxy X-Ms-Forwarded-Client-Ip "
            "X-Appengine-* Cf-Connecting-Ip Cf-Connecting-Ipv6 Cf-Pseudo-Ipv4 Fastly-Client-Ip "
            "Fastly-Ssl Fly-Client-Ip X-Nf-* X-Vercel-Forwarded-For X-Vercel-Ip-* X-Vercel-Sc-*"
        ),
        "What is asked for": (
            "X-Host X-Host-Override X-Http-Host-Override X-Rewrite-Url X-Script-Name "
            "X-Http-Method X-Http-Method-Override X-Method-Override X-Sendfile-Type "
            "X-Accel-Mapping X-Middleware-Subrequest* X-Invoke-* X-Matched-Path "
            "X-Now-Route-Matches"
        ),
        "Who a user is, whoever says it": (
            "X-User X-User-Id X-Userid X-User-Name X-Username X-User-Email X-Email "
            "X-User-Groups X-Groups X-User-Role X-User-Roles X-Roles X-Userinfo X-Id-Token "
            "X-Auth-User X-Auth-User-* X-Auth-Userid X-Auth-Username X-Auth-Name X-Auth-Email "
            "X-Auth-Groups X-Auth-Roles X-Auth-Subject X-Authenticated-* Remote-* X-Remote-* "
            "X-Webauth-* X-Jwt-Assertion X-Jwt-Payload X-Jwt-Claim-*"
        ),
        "oauth2-proxy, Vouch, Pomerium, Authentik, caddy-security": (
            "X-Auth-Request-* X-Vouch-* X-Pomerium-* X-Authentik-* X-Token-Subject X-Token-User-*"
        ),
        "Apache modules (OpenID Connect, Mellon, Shibboleth)": (
            "Oidc-* Mellon-* Shib-* Eppn Persistent-Id"
        ),
        "Kong, 3scale, OpenSearch": (
            "X-Consumer-* X-Credential-* X-Anonymous-Consumer X-Rh-Identity X-Proxy-User "
            "X-Proxy-Roles X-Proxy-Ext-* X-Proxy-Remote-User"
        ),
        "AWS": "X-Amzn-Oidc-* X-Amzn-Mtls-* X-Amzn-Request-Context X-Amzn-Lambda-Context",
        "Google": (
            "X-Goog-Iap-Jwt-Assertion X-Goog-Authenticated-User-* X-Endpoint-Api-Userinfo "
            "X-Apigateway-*"
        ),
        "Azure": "X-Ms-Client-Principal* X-Ms-Token-*",
        "Cloudflare, Tailscale, Teleport, Okta, Vercel": (
            "Cf-Access-* Cf-Client-Cert-* Tailscale-* Teleport-* X-Teleport-* X-Okta-* "
            "X-Vercel-Oidc-Token"
        ),
        "IBM, Broadcom and Oracle access managers": "Iv-* Sm-* Smuser Osso-* Oam-*",
        "Client certificates (RFC 9440 and others)": (
            "Client-Cert Client-Cert-Chain X-Client-Cert* X-Clientcert* X-Client-Verify "
            "X-Client-Dn Ssl-* X-Ssl-* X-Tls-Client-*"
        ),
    }
)
"""Names by who says them, or what about."""

_WRITTEN: Final = [name.lower().encode() for names in CLAIMS.values() for name in names.split()]
_PREFIXES: Final = tuple(name[:-1] for name in _WRITTEN if name.endswith(b"*"))
_NAMES: Final = frozenset(name for name in _WRITTEN if not name.endswith(b"*"))


def is_claim(lower: bytes) -> bool:
    """Whether a field, by its name in lower case, is in the table."""
    return lower in _NAMES or lower.startswith(_PREFIXES)
