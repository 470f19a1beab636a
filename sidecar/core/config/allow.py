"""Rules over the claims of a session: who may log in, and who may use a route."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from sidecar.core.config.faults import BadValue
from sidecar.core.config.fields import SCALAR, MemberPath, Section, setting
from sidecar.core.config.values import parse_member_path

_DOMAIN: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
_TOKENS: Final = frozenset(("accesstoken", "refreshtoken", "idtoken", "tokenset"))


def refuse_tokens(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path of a claim that says something of a user. Raises `BadValue` for a token's."""
    if any(name.replace("_", "").replace("-", "").lower() in _TOKENS for name in path):
        raise BadValue("must not lead to a token", "use a claim such as email or groups")
    return path


def _one_or_more(value: object) -> object:
    """One value stands for a list of one."""
    return [value] if isinstance(value, SCALAR) else value


def _claim_value(value: object) -> str:
    """A text, a number, true or false, as texts are compared."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int) and value != "":
        return str(value)
    raise BadValue("must be text, a whole number, true or false")


def _mail_domain(value: object) -> str:
    """What stands behind the `@` of an address, in lower case."""
    domain = value.lower() if isinstance(value, str) else ""
    if not _DOMAIN.fullmatch(domain):
        raise BadValue("must be a mail domain", "use example.com, for example, without @")
    return domain


ClaimName: TypeAlias = Annotated[MemberPath, AfterValidator(refuse_tokens)]
ClaimValue: TypeAlias = Annotated[
    str, PlainValidator(_claim_value), WithJsonSchema({"type": ["string", "integer", "boolean"]})
]
ClaimValues: TypeAlias = Annotated[
    tuple[ClaimValue, ...],
    BeforeValidator(_one_or_more, json_schema_input_type=str | int | bool | list[str | int | bool]),
]
MailDomain: TypeAlias = Annotated[
    str, PlainValidator(_mail_domain), WithJsonSchema({"type": "string", "minLength": 1})
]
Domains: TypeAlias = Annotated[
    tuple[MailDomain, ...], BeforeValidator(_one_or_more, json_schema_input_type=str | list[str])
]


_CLAIM: Final = "claim"


def _claim_reference(value: object) -> tuple[str, ...]:
    """The path behind `claim.`, or behind the first item of a list, which is `claim`."""
    parts = value.split(".") if isinstance(value, str) else value
    if not isinstance(parts, list) or parts[:1] != [_CLAIM]:
        raise BadValue("must be claim. and the name of a claim", "use claim.email, for example")
    return refuse_tokens(parse_member_path(parts[1:]))


def names_claim(value: object) -> bool:
    """Whether a plain value is meant for the path of a claim, be it right or wrong."""
    return isinstance(value, str) or (isinstance(value, list) and value[:1] == [_CLAIM])


CLAIM_REFERENCE: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string", "pattern": r"^claim\..+$"},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 2},
    ]
}
ClaimReference: TypeAlias = Annotated[
    tuple[str, ...], PlainValidator(_claim_reference), WithJsonSchema(CLAIM_REFERENCE)
]


class AllowRule(Section):
    """One way to be let in: a claim with the right values."""

    claim: ClaimName = Field(
        description="The claim; dots go deeper, a list keeps a claim's own dots. `email` counts "
        "only beside `email_verified: true`."
    )
    any: ClaimValues = setting((), "Values of which the claim has one at least.")
    all: ClaimValues = setting((), "Values that the claim has all of.")
    domain: Domains = setting(
        (), "Domains of which the mail address has one; subdomains are others."
    )

    @model_validator(mode="after")
    def _says_something(self) -> AllowRule:
        if not (self.any or self.all or self.domain):
            raise BadValue("must have any, all or domain", "add any: [staff], for example")
        return self


ABOUT_ALLOW: Final = "Rules over the session's claims, of which one must hold. Default: everybody."
