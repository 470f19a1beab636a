"""The provider's few pages: plain HTML forms, no script. Each says what this provider is for."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from sidecar.demo.idp.parameters import with_parameters
from sidecar.demo.idp.tokens import display_name

WARNING: Final = (
    "This identity provider is for demos and tests only: there are no passwords, and anyone can "
    "sign in as anybody."
)
FRAME_SECONDS: Final = 2  # that framed pages of clients have to load

STYLE: Final = """\
:root { color-scheme: light dark; }
body {
  max-width: 34rem;
  margin: 2rem auto;
  padding: 0 1.25rem;
  font: 1rem/1.5 system-ui, sans-serif;
}
.warning { padding: 0.6rem 0.8rem; border: 2px solid #b3261e; border-radius: 0.35rem; }
h1 { font-size: 1.4rem; }
button { font: inherit; padding: 0.35rem 0.9rem; margin: 0.2rem 0.3rem 0.2rem 0; cursor: pointer; }
:focus-visible { outline: 3px solid #1f5fbf; outline-offset: 2px; }
iframe { display: none; }
code { font: 0.9em ui-monospace, monospace; }
"""

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{head}
<link rel="stylesheet" href="/style.css"></head>
<body><p class="warning"><strong>Rehearsal only.</strong> {warning}</p>
<main><h1>{title}</h1>
{body}
</main></body></html>
"""


def index(issuer: str, subject: str | None) -> str:
    """What stands at `/`."""
    who = "Nobody is" if subject is None else f"{_name(subject)} is"
    body = (
        f"<p>Issuer: <code>{escape(issuer)}</code></p>"
        f"<p>{who} signed in with this browser. "
        '<a href="/end_session">Sign out</a></p>'
        '<p><a href="/.well-known/openid-configuration">Discovery</a> '
        '<a href="/_rehearsal">Switches and counters</a></p>'
    )
    return _page("Rehearsal identity provider", body)


def sign_in(interaction: str, client_id: str, scope: Sequence[str], users: Sequence[str]) -> str:
    """Asks who it is; signing in grants the scope."""
    buttons = "".join(_button("user", user, f"Sign in as {_name(user)}") for user in users)
    return _page(
        "Sign in", _asks(client_id, scope) + _form("/sign-in", interaction, buttons + _CANCEL)
    )


def consent(interaction: str, client_id: str, scope: Sequence[str], subject: str) -> str:
    """Asks one who is signed in already whether to grant the scope."""
    body = f"<p>You are signed in as {_name(subject)}.</p>" + _asks(client_id, scope)
    buttons = _button("user", subject, "Allow") + _CANCEL
    return _page("Allow access", body + _form("/sign-in", interaction, buttons))


def confirm_logout(interaction: str, subject: str) -> str:
    """Asks whether to sign out."""
    buttons = _button("confirm", "yes", "Sign out")
    body = f"<p>You are signed in as {_name(subject)}.</p>"
    return _page("Sign out?", body + _form("/end_session/confirm", interaction, buttons))


def signed_out(frames: Sequence[tuple[str, str]], issuer: str, redirect: str | None) -> str:
    """Says so; frames the clients' logout pages, and goes on where there is a place to go."""
    framed = "".join(
        f'<iframe src="{escape(with_parameters(uri, {"iss": issuer, "sid": sid}))}"></iframe>'
        for uri, sid in frames
    )
    if redirect is None:
        return _page("Signed out", f"<p>You are signed out.</p>{framed}")
    target = escape(redirect)
    head = f'<meta http-equiv="refresh" content="{FRAME_SECONDS}; url={target}">'
    body = f'<p>You are signed out. <a href="{target}">Go on</a></p>{framed}'
    return _page("Signed out", body, head)


def failure(text: str) -> str:
    """What went wrong, for a person."""
    return _page("That did not work", f"<p>{escape(text)}</p>")


def _asks(client_id: str, scope: Sequence[str]) -> str:
    asked = ", ".join(f"<code>{escape(one)}</code>" for one in scope)
    return f"<p><strong>{escape(client_id)}</strong> asks for {asked}.</p>"


def _form(action: str, interaction: str, buttons: str) -> str:
    return (
        f'<form method="post" action="{action}">'
        f'<input type="hidden" name="interaction" value="{escape(interaction)}">{buttons}</form>'
    )


def _button(name: str, value: str, text: str) -> str:
    return f'<button name="{name}" value="{escape(value)}">{text}</button>'


_CANCEL: Final = _button("deny", "yes", "Cancel")


def _name(subject: str) -> str:
    return escape(display_name(subject))


def _page(title: str, body: str, head: str = "") -> str:
    return _PAGE.format(title=title, head=head, warning=WARNING, body=body)
