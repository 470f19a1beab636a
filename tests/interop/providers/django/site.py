"""A Django project with django-oauth-toolkit, run by the environment that has them:

`python site.py FILE prepare | serve | end USER`; FILE is a JSON object
(`tests.interop.providers.django_oauth`).
"""
# mypy: ignore-errors

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import ClassVar

import django
from django.conf import settings

GIVEN = json.loads(Path(sys.argv[1]).read_text())
FOLDER = Path(sys.argv[1]).parent
_LOGIN = "<form method=post>{% csrf_token %}{{ form }}<button>Log in</button></form>"

settings.configure(
    SECRET_KEY="for tests only",
    DEBUG=True,  # it serves on the loopback interface alone, and shows why it fails
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": FOLDER / "django.db",
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    },
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "context_processors": ["django.template.context_processors.request"],
                "loaders": [
                    ("django.template.loaders.locmem.Loader", {"registration/login.html": _LOGIN}),
                    "django.template.loaders.app_directories.Loader",
                ],
            },
        }
    ],
    LOGIN_URL="/login/",
    OAUTH2_PROVIDER={
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": GIVEN["keys"][0],
        "OIDC_RSA_PRIVATE_KEYS_INACTIVE": GIVEN["keys"][1:],
        "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
        "SCOPES": {"openid": "who you are", "profile": "your name", "email": "your address"},
        "ACCESS_TOKEN_EXPIRE_SECONDS": GIVEN["seconds"],
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "ALLOWED_SCHEMES": ["http", "https"],  # of what it redirects to after a logout
        "OAUTH2_VALIDATOR_CLASS": f"{__name__}.Validator",
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.auth.views import LoginView  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider import models  # noqa: E402
from oauth2_provider.oauth2_validators import OAuth2Validator  # noqa: E402


class Validator(OAuth2Validator):
    """Tells name and address; without it the id_token says `sub` alone."""

    oidc_claim_scope: ClassVar = {
        **OAuth2Validator.oidc_claim_scope,
        "name": "profile",
        "email": "email",
    }

    def get_additional_claims(self):
        return {"name": lambda it: it.user.get_full_name(), "email": lambda it: it.user.email}


urlpatterns = [
    path("o/", include("oauth2_provider.urls")),
    path("login/", LoginView.as_view()),
]


def prepare() -> None:
    """Makes the database, the users and the client."""
    call_command("migrate", verbosity=0)
    for name in GIVEN["users"]:
        names = {"first_name": name.capitalize(), "last_name": "Example"}
        User.objects.create_user(name, f"{name}@example.com", GIVEN["password"], **names)
    models.get_application_model().objects.create(
        name="app",
        client_id=GIVEN["client_id"],
        client_secret=GIVEN["client_secret"],
        client_type="confidential",
        authorization_grant_type="authorization-code",
        algorithm="RS256",
        redirect_uris=GIVEN["redirect_uri"],
        post_logout_redirect_uris=GIVEN["post_logout_uri"],
    )


def end(name: str) -> None:
    """What an administrator deletes: the user's tokens and sessions."""
    user = User.objects.get(username=name)
    for kind in (models.get_refresh_token_model(), models.get_access_token_model()):
        kind.objects.filter(user=user).delete()
    for session in Session.objects.all():
        if session.get_decoded().get("_auth_user_id") == str(user.pk):
            session.delete()


if __name__ == "__main__":
    if sys.argv[2] == "prepare":
        prepare()
    elif sys.argv[2] == "end":
        end(sys.argv[3])
    else:
        call_command("runserver", f"localhost:{GIVEN['port']}", "--noreload")
