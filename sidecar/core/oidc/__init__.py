"""OpenID Connect, decided: what is asked of a provider, and which of its answers are believed.

In the order of a session: `relying_party`, `attempt`, `authorization_response`, `id_token` (with
`token_claims`), `session_index`, `provider_logout`.
"""
