"""A provider's metadata are believed where they name the issuer and lead nowhere unsafe."""

from __future__ import annotations

import json

import pytest

from sidecar.core.discovery import BadMetadata, Metadata, metadata_urls, parse_metadata

ISSUER = "https://idp.example.com/realm"


def document(**changes: object) -> bytes:
    return json.dumps({"issuer": ISSUER, **changes}).encode()


def test_members_are_read_and_others_passed_over() -> None:
    found = parse_metadata(
        document(
            authorization_endpoint="https://login.example.com/authorize?tenant=a",
            token_endpoint="https://idp.example.com/token",
            revocation_endpoint=None,
            id_token_signing_alg_values_supported=["ES256", "HS256"],
            authorization_response_iss_parameter_supported=True,
            scopes_supported={"not": "looked at"},
        ),
        ISSUER,
    )
    assert found.authorization_endpoint == "https://login.example.com/authorize?tenant=a"
    assert found.token_endpoint == "https://idp.example.com/token"
    assert (found.revocation_endpoint, found.jwks_uri) == (None, None)
    assert found.algorithms == ("ES256", "HS256")
    assert found.demands_iss


def test_what_is_not_said_has_the_defaults_of_the_standards() -> None:
    found = parse_metadata(document(), ISSUER)
    assert found.algorithms == ("RS256",)
    assert not found.demands_iss
    assert found == Metadata(issuer=ISSUER)


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("revocation_endpoint", "/revoke"),
        ("end_session_endpoint", ""),
        ("userinfo_endpoint", 7),
        ("id_token_signing_alg_values_supported", {"RS256": True}),
        ("id_token_signing_alg_values_supported", ["RS256", 1]),
        ("token_endpoint_auth_methods_supported", 1),
        ("authorization_response_iss_parameter_supported", "true"),
    ],
)
def test_an_odd_optional_member_counts_as_not_published(name: str, odd: object) -> None:
    """No login needs it."""
    found = parse_metadata(document(**{name: odd}), ISSUER)
    assert getattr(found, name) is None
    assert found.odd == (name,)


def test_a_list_of_one_may_be_written_without_the_list() -> None:
    found = parse_metadata(document(id_token_signing_alg_values_supported="ES256"), ISSUER)
    assert found.algorithms == ("ES256",)
    assert not found.odd


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (ISSUER, ISSUER + "/"),
        (ISSUER + "/", ISSUER),
        (ISSUER, "https://evil.example.com"),
        (ISSUER, ISSUER.upper()),
        (ISSUER, ""),
    ],
)
def test_the_issuer_must_be_exactly_the_one_asked_for(asked: str, named: str) -> None:
    """The message names the other one, so that the configuration can be put right."""
    with pytest.raises(BadMetadata) as caught:
        parse_metadata(json.dumps({"issuer": named}).encode(), asked)
    assert ascii(named) in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><title>Maintenance</title>",
        b'{"issuer": "https://idp.example.com/realm"',
        b"[]",
        b"null",
        b'{"issuer": "\xff"}',
        b"[" * 100_000,
    ],
)
def test_anything_but_the_right_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadMetadata, match="JSON"):
        parse_metadata(body, ISSUER)


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example.com/x",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https:///x",
        "/x",
        "",
        "https://user:pw@idp.example.com/x",
        "https://idp.example.com/x#fragment",
        "https://idp.example.com/x y",
        "https://idp.example.com/x\r\nSet-Cookie: a=b",
        "https://idp.example.com:port/x",
        "https://\N{CYRILLIC SMALL LETTER A}.example.com/x",
    ],
)
def test_endpoints_are_https_urls_that_need_no_repair(name: str, url: str) -> None:
    with pytest.raises(BadMetadata, match=name):
        parse_metadata(document(**{name: url}), ISSUER)


@pytest.mark.parametrize(
    "issuer", ["http://idp.internal:8080", "http://127.0.0.1:9000", "https://localhost:9000"]
)
def test_plain_http_is_for_issuers_that_are_so_or_on_this_machine(issuer: str) -> None:
    body = json.dumps({"issuer": issuer, "token_endpoint": "http://127.0.0.1:9000/token"}).encode()
    assert parse_metadata(body, issuer).token_endpoint == "http://127.0.0.1:9000/token"


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://idp.example.com",
            (
                "https://idp.example.com/.well-known/openid-configuration",
                "https://idp.example.com/.well-known/oauth-authorization-server",
            ),
        ),
        (
            "https://idp.example.com/",
            (
                "https://idp.example.com/.well-known/openid-configuration",
                "https://idp.example.com/.well-known/oauth-authorization-server",
            ),
        ),
        (
            "https://idp.example.com:8443/a/b/",
            (
                "https://idp.example.com:8443/a/b/.well-known/openid-configuration",
                "https://idp.example.com:8443/.well-known/oauth-authorization-server/a/b",
            ),
        ),
    ],
)
def test_both_standards_places_are_known(issuer: str, urls: tuple[str, str]) -> None:
    assert metadata_urls(issuer) == urls
