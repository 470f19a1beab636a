"""The types of the configuration's keys: how each is read and how JSON Schema describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from sidecar.core.config import units, values
from sidecar.core.config.faults import BadValue
from sidecar.core.store_url import StoreUrl, parse_store_url

Value = TypeVar("Value")

MIN_SECRET_BYTES: Final = 32
# The schema generator adds the `_file` variant beside every key that carries this mark.
HAS_FILE_VARIANT: Final = "x-file-variant"
SCALAR: Final = (str, int, float, bool)
MOST_WORKERS: Final = 1024
MOST_DIGITS: Final = 9

_SWITCHES: Final[Mapping[str, bool]] = MappingProxyType({"true": True, "false": False})


class Section(BaseModel):
    """A mapping of the configuration: frozen, closed to unknown keys, silent about its input."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        model_title_generator=lambda model: model.__name__.removesuffix("Section"),
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        """A section whose keys are all commented out reads as null in YAML."""
        return {} if value is None else value


def setting(default: object, description: str, *, written: object = None) -> Any:
    """A key with a default; `written` is how users write that default where it differs."""
    shown = default if written is None else written
    extra: dict[str, Any] = {} if shown == () else {"default": shown}
    return Field(default=default, description=description, json_schema_extra=extra)


def parsed(parser: Callable[[str], object], written: str, description: str) -> Any:
    """A key whose default is what `parser` makes of `written`."""
    return setting(parser(written), description, written=written)


def _text(parser: Callable[[str], Value]) -> PlainValidator:
    """A validator for a value written as text and kept in the normal form that `parser` returns."""

    def validate(value: object) -> Value:
        if not isinstance(value, str):
            raise BadValue("must be text", "put numbers, true and false in quotes")
        return parser(value)

    return PlainValidator(validate)


def _string(pattern: str | None = None, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **({"pattern": pattern} if pattern else {}), **more})


def switch_of(value: object) -> bool | None:
    """Whether it is on, of true and false, also as text from the environment; else None.

    In any case, as in YAML.
    """
    if isinstance(value, str):
        return _SWITCHES.get(value.lower())
    return value if isinstance(value, bool) else None


def section_of_switch(value: object) -> object:
    """True is a section with every default, and false is none; anything else stays."""
    is_on = switch_of(value)
    return value if is_on is None else {} if is_on else None


def _as_list(value: object) -> object:
    """One value stands for a list of one."""
    return [value] if isinstance(value, SCALAR) else value


def _as_passwords(value: object) -> object:
    """iron-session gives a lone password the id 1 (`normalizeStringPasswordToMap`)."""
    return {"1": value} if isinstance(value, SCALAR) else value


def _signing_secret(value: object) -> SecretStr:
    secret = _secret(value)
    if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise BadValue(
            f"must have at least {MIN_SECRET_BYTES} bytes", "make one with `sidecar keygen`"
        )
    return secret


def _secret(value: object) -> SecretStr:
    if not isinstance(value, str):
        raise BadValue("must be text", "put the secret in quotes")
    if not value:
        raise BadValue(
            "must not be empty", "set the variable or file that holds it, or remove the key"
        )
    return SecretStr(value)


def _private_pem(value: object) -> SecretStr:
    secret = _secret(value)
    values.check_private_pem(secret.get_secret_value())
    return secret


def _count(value: object) -> object:
    """Pydantic reads true as 1."""
    if isinstance(value, bool):
        raise BadValue("must be an integer")
    return value


def _sample_rate(value: object) -> object:
    """A number, or one as text from the environment; Pydantic reads true as 1."""
    try:
        rate = float(value) if isinstance(value, str | int | float) else -1.0
    except ValueError:
        rate = -1.0
    if isinstance(value, bool) or not 0.0 <= rate <= 1.0:
        raise BadValue("must be a number from 0 to 1", "use 0.01 for one of a hundred, for example")
    return rate


def _compress(value: object) -> object:
    """False is never, true is auto."""
    is_on = switch_of(value)
    return value if is_on is None else "auto" if is_on else "never"


def _workers(value: object) -> object:
    """A number may come as text from the environment."""
    is_number = isinstance(value, str) and value.isdecimal() and len(value) <= MOST_DIGITS
    number = int(value) if is_number else value  # type: ignore[call-overload]
    if value == "auto" or (isinstance(number, int) and not isinstance(number, bool) and number > 0):
        if isinstance(number, int) and number > MOST_WORKERS:
            raise BadValue(f"must be at most {MOST_WORKERS}", "use auto, one for each processor")
        return number
    raise BadValue("must be a positive integer or `auto`")


def _json_scalar(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float):
        return value
    raise BadValue("must be text, a number, true, false or null")


def freeze(value: Mapping[str, Value]) -> Mapping[str, Value]:
    return MappingProxyType(dict(value))


def freeze_json(value: Any) -> Any:
    """A JSON value that nobody can change."""
    if isinstance(value, Mapping):
        return freeze({str(key): freeze_json(item) for key, item in value.items()})
    return tuple(map(freeze_json, value)) if isinstance(value, list | tuple) else value


def _parse_store(value: str) -> StoreUrl:
    try:
        return parse_store_url(value)
    except ValueError as error:
        problem, _, remedy = str(error).partition("; ")
        raise BadValue(problem, remedy) from None


def parsed_store(written: str, description: str) -> Any:
    """The store's address, which may hold a password and so come from a file."""
    extra: dict[str, Any] = {"default": written, HAS_FILE_VARIANT: True}
    return Field(default=_parse_store(written), description=description, json_schema_extra=extra)


def texts(description: str) -> Any:
    """A mapping of texts, empty by default."""
    return Field(
        default_factory=lambda: MappingProxyType({}),
        description=description,
        json_schema_extra={"default": {}},
    )


def secret_setting(description: str) -> Any:
    """A secret that may be missing, or come from a file."""
    extra: dict[str, Any] = {HAS_FILE_VARIANT: True, "default": None}
    return Field(default=None, description=description, json_schema_extra=extra)


Duration: TypeAlias = Annotated[
    float,
    PlainValidator(units.parse_duration),
    _string(units.DURATION_PATTERN, examples=["250ms", "30s", "5m", "12h", "30d"]),
]
Grace: TypeAlias = Annotated[
    float,
    PlainValidator(units.parse_grace),
    _string(units.DURATION_PATTERN, examples=["30s", "5m", "24h"]),
]
Wait: TypeAlias = Annotated[
    float,
    PlainValidator(units.parse_wait),
    _string(units.DURATION_PATTERN, examples=["0s", "500ms", "1s"]),
]
_SIZE: Final = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "pattern": units.SIZE_PATTERN},
            {"type": "integer", "minimum": 1},
        ],
        "examples": ["64KiB", "1MiB", "1GiB"],
    }
)
Size: TypeAlias = Annotated[int, PlainValidator(units.parse_size), _SIZE]
HeadSize: TypeAlias = Annotated[int, PlainValidator(units.parse_head_size), _SIZE]
RateText: TypeAlias = Annotated[
    units.Rate,
    PlainValidator(units.parse_rate),
    _string(units.RATE_PATTERN, examples=["5/s", "30/m", "1000/h"]),
]
Count: TypeAlias = Annotated[int, Field(ge=1), BeforeValidator(_count)]
Share: TypeAlias = Annotated[
    float,
    PlainValidator(units.parse_share),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
]
Compress: TypeAlias = Annotated[
    Literal["auto", "never"],
    BeforeValidator(_compress, json_schema_input_type=Literal["auto", "never"] | bool),
]
SampleRate: TypeAlias = Annotated[float, Field(ge=0, le=1), BeforeValidator(_sample_rate)]
Iterations: TypeAlias = Annotated[int, Field(ge=1, le=100_000), BeforeValidator(_count)]
Workers: TypeAlias = Annotated[int | Literal["auto"], BeforeValidator(_workers)]
ErrorStatus: TypeAlias = Annotated[int, Field(ge=400, le=599), BeforeValidator(_count)]
GatewayStatus: TypeAlias = Annotated[int, Field(ge=500, le=599), BeforeValidator(_count)]
StatusRange: TypeAlias = Annotated[
    values.Statuses,
    PlainValidator(values.parse_status_range),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[2-5][0-9]{2}(-[2-5][0-9]{2})?$"},
                {"type": "integer", "minimum": 200, "maximum": 599},
            ],
            "examples": ["200-399", "204"],
        }
    ),
]
LocalTarget: TypeAlias = Annotated[str, _text(values.parse_local_target), _string("^/")]
ListenAddress: TypeAlias = Annotated[values.Listen, _text(values.parse_listen), _string("^.*:.+$")]
Origin: TypeAlias = Annotated[str, _text(values.parse_origin), _string("^https?://[^/]+/?$")]
UpstreamUrl: TypeAlias = Annotated[
    str, _text(values.parse_upstream_url), _string("^(https?://[^@?#]+|unix:/[^?#]+)$")
]
EndpointUrl: TypeAlias = Annotated[
    str, _text(values.parse_endpoint_url), _string("^https?://[^@#]+$")
]
Pem: TypeAlias = Annotated[str, _text(values.parse_pem), _string(minLength=1)]
StoreAddress: TypeAlias = Annotated[StoreUrl, _text(_parse_store), _string(minLength=1)]
Authority: TypeAlias = Annotated[str, _text(values.parse_authority), _string("^[^/@]+$")]
TrustedProxy: TypeAlias = Annotated[
    str, _text(values.parse_proxy), _string("^(unix|[0-9A-Fa-f:.]+(/[0-9]+)?)$")
]
PathText: TypeAlias = Annotated[str, _text(values.parse_path), _string("^/[^?#]*$")]
PathPattern: TypeAlias = Annotated[
    str, _text(values.parse_path_pattern), _string(r"^/[^?#]*$", examples=["/users/*/cards/*"])
]
Target: TypeAlias = Annotated[
    str,
    _text(values.parse_log_target),
    _string("^(stderr|stdout|file:///.+)$", examples=["stderr", "file:///var/log/sidecar.log"]),
]
Redirect: TypeAlias = Annotated[str, _text(values.parse_redirect), _string("^(/|https?://)")]
CookiePath: TypeAlias = Annotated[str, _text(values.parse_cookie_path), _string("^/[^;]*$")]
SameSite: TypeAlias = Annotated[
    str, _text(values.parse_same_site), WithJsonSchema({"enum": ["lax", "strict", "none"]})
]
Domain: TypeAlias = Annotated[str, _text(values.parse_domain), _string("^[A-Za-z0-9_.-]+$")]
Token: TypeAlias = Annotated[str, _text(values.parse_token), _string(values.TOKEN_PATTERN)]
CookieName: TypeAlias = Annotated[
    str, _text(values.parse_cookie_name), _string(values.TOKEN_PATTERN)
]
FieldName: TypeAlias = Annotated[str, _text(values.parse_field_name), _string(values.TOKEN_PATTERN)]
IdentityName: TypeAlias = Annotated[
    str, _text(values.parse_identity_field), _string("^[A-Za-z0-9-]+$")
]
UpstreamName: TypeAlias = Annotated[str, _text(values.parse_name), _string(values.NAME_PATTERN)]
SourceName: TypeAlias = Token
QueryName: TypeAlias = Annotated[str, _text(values.parse_query_name), _string("^[A-Za-z0-9_.~-]+$")]
FilePath: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(values.parse_file_name)]
MemberPath: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(values.parse_member_path),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ]
        }
    ),
]
JsonScalar: TypeAlias = Annotated[
    str | int | float | bool | None,
    PlainValidator(_json_scalar),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]

Scalars: TypeAlias = Annotated[
    tuple[JsonScalar, ...],
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value]),
    Field(min_length=1),
]

Secret: TypeAlias = Annotated[
    SecretStr, PlainValidator(_secret), WithJsonSchema({"type": "string", "minLength": 1})
]
SigningSecret: TypeAlias = Annotated[SecretStr, PlainValidator(_signing_secret)]
_SECRET_TEXT: Final[dict[str, Any]] = {"type": "string", "minLength": 1}
_ONE_OR_MORE: Final = (
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [_SECRET_TEXT, {"type": "array", "items": _SECRET_TEXT, "minItems": 1}],
            HAS_FILE_VARIANT: True,
        }
    ),
)
Secrets: TypeAlias = Annotated[tuple[Secret, ...], *_ONE_OR_MORE]
SigningSecrets: TypeAlias = Annotated[tuple[SigningSecret, ...], *_ONE_OR_MORE]
PrivatePem: TypeAlias = Annotated[SecretStr, PlainValidator(_private_pem), _string(minLength=1)]
Passwords: TypeAlias = Annotated[
    Mapping[str, Secret],
    BeforeValidator(_as_passwords),
    Field(min_length=1),
    AfterValidator(freeze),
    WithJsonSchema(
        {
            "anyOf": [
                _SECRET_TEXT,
                {"type": "object", "additionalProperties": _SECRET_TEXT, "minProperties": 1},
            ],
            HAS_FILE_VARIANT: True,
        }
    ),
]
