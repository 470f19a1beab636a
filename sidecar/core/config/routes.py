"""Upstreams and the routes that lead to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sidecar.core.config.allow import (
    ABOUT_ALLOW,
    CLAIM_REFERENCE,
    AllowRule,
    ClaimReference,
    names_claim,
)
from sidecar.core.config.faults import BadValue
from sidecar.core.config.fields import (
    Authority,
    Compress,
    Count,
    Duration,
    FieldName,
    FilePath,
    GatewayStatus,
    IdentityName,
    JsonScalar,
    LocalTarget,
    MemberPath,
    PathText,
    Scalars,
    Section,
    Size,
    SourceName,
    StatusRange,
    UpstreamName,
    UpstreamUrl,
    Wait,
    freeze,
    parsed,
    section_of_switch,
    setting,
)
from sidecar.core.config.units import parse_duration, parse_size, parse_wait
from sidecar.core.config.values import parse_status_range
from sidecar.core.envelope_members import ENVELOPE
from sidecar.core.upstream_url import split_upstream_url

Kind: TypeAlias = Literal["api", "page"]
SessionRule: TypeAlias = Literal["required", "optional", "none"]
CookieRule: TypeAlias = Literal["strip", "forward"]
UnauthorizedRule: TypeAlias = Literal["logout", "envelope", "pass"]


class PoolSection(Section):
    """Connections kept open to one upstream."""

    idle: Duration = parsed(
        parse_duration, "15s", "How long an idle connection is kept; less than the upstream does."
    )
    max: Count = setting(256, "Connections at once, but for those of requests that last.")
    max_age: Duration = parsed(
        parse_duration,
        "5m",
        "How old a connection gets before it is not used again: a name may lead elsewhere by then.",
    )


class UpstreamTls(Section):
    """How an https upstream is verified, and what it is shown."""

    ca: FilePath | None = setting(
        None, "PEM file of the authorities to trust instead of the system's."
    )
    cert: FilePath | None = setting(None, "PEM file of the client certificate chain.")
    key: FilePath | None = setting(None, "PEM file of the client certificate's private key.")

    @model_validator(mode="after")
    def _cert_and_key(self) -> UpstreamTls:
        if (self.cert is None) != (self.key is None):
            raise BadValue("must have both cert and key, or neither")
        return self


class Ejection(Section):
    """When one of several servers is left out for a while."""

    failures: Count = setting(
        5, "Exchanges without a response in a row. A connect that fails leaves out at once."
    )
    time: Duration = parsed(
        parse_duration,
        "30s",
        "How long a server is left out, times how often in a row; after connects that failed from "
        "1 to 10 s.",
    )
    statuses: tuple[GatewayStatus, ...] = setting(
        (), "Statuses that count as no response, such as 502, 503 and 504.", written=[]
    )


class Check(Section):
    """How servers are asked whether they are well."""

    path: LocalTarget = Field(description="What is asked for by GET, behind the base path.")
    interval: Duration = parsed(parse_duration, "10s", "Time between two checks of a server.")
    timeout: Duration = parsed(parse_duration, "2s", "Time limit for connecting and the answer.")
    status: StatusRange = parsed(
        parse_status_range, "200-399", "The statuses of a server that is well: one, or a range."
    )


class Upstream(Section):
    """A server behind the sidecar."""

    url: UpstreamUrl | None = setting(
        None,
        "http or https URL, with a base path if need be; or unix:/path/of.sock, with a base path "
        "as unix:/path/of.sock:/base.",
    )
    urls: tuple[UpstreamUrl, ...] = setting(
        (),
        "Instead of url: several servers of one scheme and base path. A request goes to the one "
        "with the fewest requests under way; one that fails is left out for a while.",
        written=[],
    )
    host: Authority | None = setting(None, "The Host to send instead of the route kind's default.")
    connect: Duration = parsed(parse_duration, "2s", "Time limit for connecting.")
    retry: Wait = parsed(
        parse_wait,
        "500ms",
        "How long connecting is tried again if no server takes a connection; 0s: not at all.",
    )
    head: Duration = parsed(
        parse_duration, "30s", "Time limit from the last request byte to the answer's head."
    )
    idle: Duration = parsed(
        parse_duration, "60s", "Time limit between two reads; not for event streams and tunnels."
    )
    pool: PoolSection = setting(PoolSection(), "Connections kept open.", written={})
    ejection: Ejection | None = setting(
        Ejection(), "When one of several servers is left out for a while; null: never.", written={}
    )
    ready: bool = setting(False, "Whether the sidecar's readiness depends on this upstream.")
    check: Check | None = setting(
        None,
        "How servers are asked whether they are well; null: not at all. One whose check fails is "
        "left out until it passes, while others are there.",
    )
    tls: UpstreamTls = setting(UpstreamTls(), "How an https upstream is verified.", written={})

    @model_validator(mode="after")
    def _servers_alike(self) -> Upstream:
        if (self.url is None) == (not self.urls):
            raise BadValue("must have either url or urls", "add url: http://host:port, for example")
        if len({(one.scheme, one.base) for one in map(split_upstream_url, self.urls)}) > 1:
            raise BadValue(
                "must have urls with one scheme and base path", "add an upstream for each other one"
            )
        return self

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of its servers."""
        return self.urls if self.url is None else (self.url,)


class Failure(Section):
    """A member of a JSON answer below 400 that makes it an error, by its value."""

    path: MemberPath = Field(
        description="Where the member stands; numbers index arrays, and `*` is any index."
    )
    equals: JsonScalar = setting(None, "It is an error if the member has this value.")
    not_: Scalars = Field(
        default=(),
        alias="not",
        description="It is an error if the member is there and has none of these values.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Failure:
        if ("equals" in self.model_fields_set) == ("not_" in self.model_fields_set):
            raise BadValue("must have either equals or not", "add equals: false, for example")
        return self

    @property
    def is_excluding(self) -> bool:
        """Whether `values` are those of a success."""
        return "not_" in self.model_fields_set

    @property
    def values(self) -> tuple[str | int | float | bool | None, ...]:
        """The values that the member is compared with."""
        return self.not_ if self.is_excluding else (self.equals,)


class Envelope(Section):
    """How an answer is wrapped. Without a path the usual rule holds."""

    keep: tuple[str, ...] = setting((), "Extra members of the body carried along.", written=[])
    data: MemberPath | None = setting(None, "Where the payload stands in the body.")
    message: MemberPath | None = setting(None, "Where the message stands in the body.")
    error_data: MemberPath | None = setting(None, "Where an error's details stand in the body.")
    buffer: Size = parsed(parse_size, "1MiB", "Answers up to this size are built in memory.")
    compress: Compress = setting(
        "auto",
        "auto: an envelope is compressed for clients that accept gzip if its upstream had "
        "compressed the answer, or sent more than 1 KiB; never: it is not.",
    )
    failure: tuple[Failure, ...] = setting(
        (),
        "Which JSON answers below 400 are wrapped as errors: {path, equals} or {path, not}.",
        written=[],
    )

    @field_validator("keep", mode="after")
    @classmethod
    def _keeps_no_own_member(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        for name in keep:
            if name in ENVELOPE:
                raise BadValue(f"must not have {name}: that is a member of each envelope")
        return tuple(dict.fromkeys(keep))  # in JSON a member stands once

    @model_validator(mode="after")
    def _keeps_nothing_that_is_looked_into(self) -> Envelope:
        """A large response is written as it comes: either a member is held, or a part of it is."""
        for key, path in (
            ("data", self.data),
            ("message", self.message),
            ("error_data", self.error_data),
        ):
            if path is not None and len(path) > 1 and path[0] in self.keep:
                problem = f"must not have {path[0]} in keep, since {key} stands within it"
                raise BadValue(problem, f"leave out {path[0]}, or move {key}")
        return self


class KindDefaults(msgspec.Struct, frozen=True):
    """What a route's kind decides where its own keys do not."""

    session: SessionRule
    inject: bool
    cookies: CookieRule
    envelope: bool
    on_unauthorized: UnauthorizedRule


KIND_DEFAULTS: Final[Mapping[str, KindDefaults]] = MappingProxyType(
    {
        "api": KindDefaults("required", True, "strip", True, "logout"),
        "page": KindDefaults("optional", False, "forward", False, "pass"),
    }
)


def _kind_defaults(data: Mapping[str, Any]) -> KindDefaults:
    """A missing kind is a fault of its own; the stricter kind stands in until it is told."""
    return KIND_DEFAULTS[data.get("kind", "api")]


def _by_kind(attribute: str, description: str) -> Any:
    """A key whose default depends on the route's kind (behaviour: routes)."""
    shown = ", ".join(
        f"{kind}: {str(getattr(defaults, attribute)).lower()}"
        for kind, defaults in KIND_DEFAULTS.items()
    )
    return Field(
        default_factory=lambda data: getattr(_kind_defaults(data), attribute),
        description=f"{description} Default by kind ({shown}).",
    )


def _inject_default(data: Mapping[str, Any]) -> bool:
    return _kind_defaults(data).inject and data.get("session") != "none"


def _envelope_default(data: Mapping[str, Any]) -> Envelope | None:
    return Envelope() if _kind_defaults(data).envelope else None


_OTHER_KEYS: Final = frozenset(("drop", "pass", "set"))


class FieldNames(Section):
    """Which header fields of its clients a route keeps back, or lets pass; case does not count.

    And which fields it sets itself: `X-User: claim.email` may stand beside the other keys.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "patternProperties": {"^(?!(drop|pass|set)$)[A-Za-z0-9-]+$": CLAIM_REFERENCE}
        }
    )

    drop: tuple[FieldName, ...] = setting(
        (), "Fields kept from the upstream besides those that a proxy would vouch for.", written=[]
    )
    pass_: tuple[FieldName, ...] = Field(
        default=(),
        alias="pass",
        description="Fields that reach the upstream though they are kept from others.",
        json_schema_extra={"default": []},
    )

    set_: Annotated[Mapping[IdentityName, ClaimReference], AfterValidator(freeze)] = Field(
        default_factory=lambda: MappingProxyType({}),
        alias="set",
        description="Fields that tell the upstream who the user is, by claims of the session. A "
        "client's own fields of these names reach no upstream.",
        json_schema_extra={"default": {}},
    )

    @model_validator(mode="before")
    @classmethod
    def _set_in_short(cls, value: object) -> object:
        """`X-User: claim.email` without `set`."""
        if not isinstance(value, Mapping):
            return value
        short = {
            name: one for name, one in value.items() if name not in _OTHER_KEYS and names_claim(one)
        }
        given = value.get("set")
        if not short or not (given is None or isinstance(given, Mapping)):
            return value
        rest = {name: one for name, one in value.items() if name not in short}
        return {**rest, "set": {**(given or {}), **short}}

    @model_validator(mode="after")
    def _set_once(self) -> FieldNames:
        names = [name.lower() for name in self.set_]
        if len({*names}) < len(names):
            raise BadValue("must not set a field twice", "remove one of them")
        if not {*names}.isdisjoint(re.sub("[^a-z0-9-]", "-", one) for one in self.pass_):
            raise BadValue(
                "must not set a field that clients may send", "remove it from pass, or from set"
            )
        return self

    @model_validator(mode="after")
    def _one_or_the_other(self) -> FieldNames:
        if not set(self.drop).isdisjoint(self.pass_):
            raise BadValue(
                "must not have a name in both drop and pass", "remove it from one of them"
            )
        return self


class RouteSection(Section):
    """Which requests go where, and what is done to them on the way.

    After loading every field is concrete: `envelope` is None where answers are not wrapped.
    """

    path: PathText = Field(description="Path prefix; the longest that matches wins, by segments.")
    kind: Kind = Field(description="api or page: decides the defaults of the keys below.")
    upstream: UpstreamName = Field(description="The name of the upstream that serves it.")
    strip: PathText | None = setting(None, "Prefix of the path that the upstream does not see.")
    session: SessionRule = _by_kind("session", "Whether a session is demanded, used or ignored.")
    inject: bool = Field(
        default_factory=_inject_default,
        description="Whether the credential is sent upstream as Authorization. "
        "Default by kind (api: true, page: false); false where session is none.",
    )
    cookies: CookieRule = _by_kind("cookies", "Whether session cookies reach the upstream.")
    envelope: Annotated[
        Envelope | None,
        BeforeValidator(section_of_switch, json_schema_input_type=bool | Envelope),
    ] = Field(
        default_factory=_envelope_default,
        description="Whether answers are wrapped: true, false, or a mapping that says how. "
        "Default by kind (api: true, page: false).",
    )
    on_unauthorized: UnauthorizedRule = _by_kind(
        "on_unauthorized", "What becomes of a 401 that counts."
    )
    errors: Literal["envelope", "problem", "graphql"] | None = setting(
        None,
        "The shape of the sidecar's own errors. problem: application/problem+json (RFC 9457); "
        "graphql: an envelope with the member `errors` besides. Default by kind (api: an envelope, "
        "or graphql if answers are not wrapped and the client accepts "
        "application/graphql-response+json, page: a page).",
    )
    authorization: Literal["pass", "session"] | None = setting(
        None,
        "What a client's own bearer is good for where no session cookie is presented. pass: it is "
        "kept, and a 401 never counts; session: the same, but the token of a session that is known "
        "here stands for that session.",
    )
    sources: Annotated[tuple[SourceName, ...], Field(min_length=1)] | None = setting(
        None,
        "The names of the sources that the credential may come from. Default: all. The first one "
        "whose session is alive wins.",
    )
    allow: tuple[AllowRule, ...] = setting(
        (), f"Who may use the route, which needs session: required. {ABOUT_ALLOW}"
    )
    observe: bool = setting(
        False,
        "For a first rollout: requests and responses pass as they came, without any rule for "
        "sessions, and what would be done is logged and counted.",
    )

    @model_validator(mode="before")
    @classmethod
    def _envelope_of_its_kind(cls, value: object) -> object:
        """An envelope whose keys are all commented out is the default, and not `false`."""
        if isinstance(value, Mapping) and "envelope" in value and value["envelope"] is None:
            return {name: one for name, one in value.items() if name != "envelope"}
        return value

    host: Authority | None = setting(None, "The Host to send, before the upstream's own `host`.")
    headers: FieldNames = Field(
        default_factory=FieldNames,
        description="Which of the client's header fields reach the upstream, and which fields tell "
        "it who the user is.",
        json_schema_extra={"default": {}},
    )

    @field_validator("strip")
    @classmethod
    def _strip_is_prefix(cls, strip: str | None, info: ValidationInfo) -> str | None:
        if strip is None or strip == "/":
            return None
        strip = strip.rstrip("/")
        path = info.data.get("path")
        if path is not None and not f"{path.rstrip('/')}/".startswith(f"{strip}/"):
            raise BadValue(
                "must be a prefix of the path", f"use {path.rstrip('/') or '/'} or a part of it"
            )
        return strip

    @field_validator("inject")
    @classmethod
    def _nothing_to_inject(cls, inject: bool, info: ValidationInfo) -> bool:
        if inject and info.data.get("session") == "none":
            raise BadValue("contradicts session: none", "remove one of them")
        return inject
