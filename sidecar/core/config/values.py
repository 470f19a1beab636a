"""Parsers of single values: addresses, origins, paths, names. Each returns the value's normal form.

All raise BadValue and none repeats the value in it, since it may have come from a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from sidecar.core.attributes import SAME_SITES
from sidecar.core.config.faults import BadValue
from sidecar.core.cookies import unprefixed
from sidecar.core.errors import BadRequest
from sidecar.core.headers import is_own_field, is_request_field
from sidecar.core.target import normalise
from sidecar.core.upstream_url import UNIX

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

TOKEN_PATTERN: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"  # noqa: S105 - RFC 9110 section 5.6.2
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"

_TOKEN: Final = re.compile(TOKEN_PATTERN.removesuffix("$"), re.ASCII)
_NAME: Final = re.compile(NAME_PATTERN.removesuffix("$"), re.ASCII)
_QUERY_NAME: Final = re.compile(r"[A-Za-z0-9_.~-]+", re.ASCII)
_HOSTNAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*",
    re.ASCII,
)
# RFC 3986 section 3.3: pchar and "/"; "%" only as an escape.
_PATH: Final = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_LOCAL_TARGET: Final = re.compile(r"/(?![/\\])[!-\[\]-~]*", re.ASCII)
_DOT_SEGMENT: Final = re.compile(r"(?:\.|%2e){1,2}(?:;.*)?", re.IGNORECASE)
_STATUS_RANGE: Final = re.compile(r"([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?", re.ASCII)
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")

PEM: Final = "-----BEGIN "
"""What a text in PEM has in it (RFC 7468 section 2)."""
_PRIVATE_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----", re.ASCII)


class FileName(str):
    """The path of a file or directory whose contents count, so that a change of them reloads."""

    __slots__ = ()


def parse_file_name(value: str) -> FileName:
    """The path of a file or directory, absolute or not."""
    if "\0" in value:
        raise BadValue("must be the path of a file", "remove the NUL character")
    if PEM in value:  # paths are shown, and this may be a private key
        raise BadValue("must be the path of a file, not what it holds", "save the text as a file")
    return FileName(value)


class Listen(msgspec.Struct, frozen=True):
    """An address to listen on: host and port, or the path of a Unix socket (then port is 0).

    The host `::` is every address of the machine, of IPv4 too. `mode` is that of the socket's file;
    None leaves it to the process's umask.
    """

    host: str
    port: int
    unix_path: str | None = None
    mode: int | None = None

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: str) -> Listen:
    """`host:port`, `:port`, `[v6]:port`, `unix:/path` or `unix:/path|0660`.

    Without a host, and with `*` or `[::]`, it is IPv4 and IPv6. Port 0 lets the system choose.
    """
    if value.startswith("unix:"):
        return _parse_unix(value.removeprefix("unix:"))
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
        raise BadValue(
            "must be host:port, :port, [v6]:port or unix:/path", "use 0.0.0.0:8080, for example"
        )
    return Listen("::" if host in ("", "*") else _parse_host(host), int(port))


def _parse_unix(text: str) -> Listen:
    path, bar, mode = text.partition("|")
    if bar and not re.fullmatch(r"0?[0-7]{3}", mode, re.ASCII):
        raise BadValue(
            "must have a mode of three octal digits behind |",
            "use unix:/run/sidecar.sock|0660, for example",
        )
    _require_socket_path(path)
    return Listen("", 0, path, int(mode, 8) if bar else None)


def _require_socket_path(path: str) -> None:
    # sun_path has 108 bytes, the last one a NUL (unix(7)).
    if not path.startswith("/") or "\0" in path or len(path.encode()) > 107:
        raise BadValue("must be unix: and an absolute path of at most 107 bytes")


def _parse_host(text: str) -> str:
    """A host name, IPv4 address or bracketed IPv6 address, lower-cased and without brackets."""
    bracketed = text.startswith("[") and text.endswith("]")
    host = text[1:-1].lower() if bracketed else text.lower()
    if bracketed or ":" in host:
        return _parse_v6(host, bracketed=bracketed)
    if not _HOSTNAME.fullmatch(host):
        raise BadValue(
            "must have a valid host name or address", "use punycode for names beyond ASCII"
        )
    if re.fullmatch(r"[0-9.]+", host):
        return _parse_v4(host)
    return host


def _parse_v6(host: str, *, bracketed: bool) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise BadValue(
            "must have a valid IPv6 address in brackets", "use [::1]:8080, for example"
        ) from None
    if not bracketed:
        raise BadValue("must have its IPv6 address in brackets", f"use [{address}]")
    return str(address)


def _parse_v4(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise BadValue(
            "must have a valid IPv4 address", "use four decimal numbers from 0 to 255"
        ) from None


def parse_authority(value: str) -> str:
    """`host` or `host:port`, lower-cased, as a Host field carries it (RFC 9110 section 7.2)."""
    split = _split(f"http://{value}", "use host or host:port")
    if split.netloc != value or split.path:
        raise BadValue("must be host or host:port, without scheme and path")
    return _authority(split, default_port=0)


def parse_origin(value: str) -> str:
    """`https://app.example.com` in the form browsers send as Origin (RFC 6454 section 6.2)."""
    remedy = "use scheme://host or scheme://host:port, such as https://app.example.com"
    split = _split(value, remedy)
    if split.path not in {"", "/"} or "?" in value or "#" in value:
        raise BadValue("must be an origin, without a path", remedy)
    return f"{split.scheme}://{_authority(split, default_port=_PORTS[split.scheme])}"


def parse_upstream_url(value: str) -> str:
    """`http://host:port/base`, https, or `unix:/path/of.sock:/base`, without trailing slash.

    It has no userinfo, query and fragment, and the path of a socket has no colon.
    """
    if "?" in value or "#" in value:
        raise BadValue("must not have a query or a fragment", "remove it")
    if value.startswith(UNIX):
        path, colon, base = value.removeprefix(UNIX).partition(":")
        _require_socket_path(path)
        base = parse_path(base).rstrip("/") if colon else ""
        return f"{UNIX}{path}:{base}" if base else f"{UNIX}{path}"
    split = _split(
        value, "use http://host:port, https://host:port or unix:/path, with a base path if needed"
    )
    base = parse_path(split.path or "/").rstrip("/")
    return f"{split.scheme}://{_authority(split, default_port=_PORTS[split.scheme])}{base}"


class Statuses(NamedTuple):
    """The statuses from `lowest` to `highest`."""

    lowest: int
    highest: int

    def __str__(self) -> str:
        return f"{self.lowest}-{self.highest}"


def parse_status_range(value: object) -> Statuses:
    """`200-399`, or `204` alone."""
    found = _STATUS_RANGE.fullmatch(str(value))
    if found is None or isinstance(value, bool) or int(found[1]) > int(found[2] or found[1]):
        raise BadValue("must be a status or a range of them", "use 200-399, for example")
    return Statuses(int(found[1]), int(found[2] or found[1]))


def parse_pem(value: str) -> str:
    """The public key of a PEM text, in PEM: of a public key or of a certificate.

    Raises `BadValue` for what has a private key in it, which nothing here needs.
    """
    if _PRIVATE_PEM.search(value):
        raise BadValue(
            "must be a public key: this text holds a private one",
            "use what `openssl pkey -in key.pem -pubout` prints",
        )
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as form

    text = value.encode()
    loaders: tuple[Callable[[], Any], ...] = (
        lambda: form.load_pem_public_key(text),
        lambda: x509.load_pem_x509_certificate(text).public_key(),
    )
    for load in loaders:
        try:
            key = load()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        written = key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        return str(written.decode())
    raise BadValue("must be a public key or a certificate in PEM", "use key_file: with its path")


def check_private_pem(value: str) -> None:
    """Raises `BadValue` for what is no private RSA or EC key in PEM, or has a password."""
    if _private_key(value) is None:
        raise BadValue(
            "must be a private RSA or EC key in PEM, without a password",
            "use key_file: with its path",
        )


_SIGNING_CURVES: Final = frozenset(("secp256r1", "secp384r1", "secp521r1"))


def check_signing_pem(value: str) -> None:
    """Raises `BadValue` for a key that signs no client assertion (RFC 7518 3.4).

    What is no private key at all is left to `check_private_pem`.
    """
    curve = getattr(_private_key(value), "curve", None)
    if curve is not None and curve.name not in _SIGNING_CURVES:
        raise BadValue(
            "must be a private RSA key, or an EC key of P-256, P-384 or P-521, in PEM",
            "make a key of one of these",
        )


def _private_key(value: str) -> RSAPrivateKey | EllipticCurvePrivateKey | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(value.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey) else None


def parse_endpoint_url(value: str) -> str:
    """An http or https URL that is asked as it is: no userinfo and no fragment."""
    remedy = "use an http or https URL without user, password and fragment"
    split = _split(value, remedy)
    if "#" in value:
        raise BadValue("must not have a fragment", remedy)
    _authority(split, default_port=_PORTS[split.scheme])
    return value


def _split(value: str, remedy: str) -> SplitResult:
    """The parts of an http or https URL. Stricter than urlsplit, which drops tabs and newlines."""
    try:
        split = urlsplit(value) if re.fullmatch(r"[!-~]+", value) and "\\" not in value else None
    except ValueError:
        split = None
    if split is None or split.scheme not in _PORTS or not split.netloc:
        raise BadValue("must be an http or https URL", remedy)
    if "@" in split.netloc:
        raise BadValue("must not have a user name or password", "remove them: logs would show them")
    return split


def _authority(split: SplitResult, *, default_port: int) -> str:
    host_text, colon, port_text = split.netloc.rpartition(":")
    if not colon or port_text.endswith("]"):
        host_text, port_text = split.netloc, str(default_port)
    if not re.fullmatch(r"[0-9]{1,5}", port_text, re.ASCII) or int(port_text) > 65535:
        raise BadValue("must have a port from 1 to 65535")
    host = _parse_host(host_text)
    shown = f"[{host}]" if ":" in host else host
    port = int(port_text)
    if port == 0 and colon and default_port:
        raise BadValue("must have a port from 1 to 65535")
    return shown if port == default_port else f"{shown}:{port}"


def parse_proxy(value: str) -> str:
    """A CIDR in normal form, or `unix`. `::ffff:a.b.c.d` is IPv4 (RFC 4291 section 2.5.5.2)."""
    if value == "unix":
        return value
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise BadValue(
            "must be a network, an address or unix", "use 10.0.0.0/8, for example"
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        network = _unmapped(network)
    if "/" in value and not _has_no_host_bits(value):
        raise BadValue("must have no bits set after its prefix", f"did you mean {network}?")
    return str(network)


def _unmapped(network: ipaddress.IPv6Network) -> ipaddress.IPv4Network:
    address = int(network.network_address) & 0xFFFFFFFF
    return ipaddress.IPv4Network((address, network.prefixlen - _MAPPED.prefixlen))


def _has_no_host_bits(value: str) -> bool:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True


def parse_path(value: str) -> str:
    """An absolute path in the form that routes are matched in: without empty or dot segments.

    Escapes are normalised as those of requests are, since an unlike spelling never matches.
    """
    if not _PATH.fullmatch(value):
        raise BadValue(
            "must be a path that begins with /", "percent-encode other characters (RFC 3986)"
        )
    segments = value.split("/")[1:]
    if "" in segments[:-1] or any(_DOT_SEGMENT.fullmatch(segment) for segment in segments):
        raise BadValue("must not have empty or dot segments", "remove //, /./ and /../")
    try:
        return normalise(value)
    except BadRequest as error:
        raise BadValue(
            f"must be a path that a request can have: {error.detail}", "use its plain spelling"
        ) from None


def parse_local_target(value: str) -> str:
    """A path of this origin with an optional query: never `//host`, a backslash or controls."""
    if not _LOCAL_TARGET.fullmatch(value):
        raise BadValue("must be a local path", "use /login, for example")
    parse_path(re.split("[?#]", value, maxsplit=1)[0])
    return value


def parse_path_pattern(value: str) -> str:
    """A path of which some whole segments are `*`."""
    path = parse_path(value)
    segments = path.split("/")
    if any("*" in segment and segment != "*" for segment in segments):
        raise BadValue("must have * for whole segments alone", "use /files/*, for example")
    if "*" not in segments:
        raise BadValue("must have a segment *", "use /users/*/cards/*, for example")
    return path


def parse_log_target(value: str) -> str:
    """`stderr`, `stdout`, or `file://` and an absolute path (RFC 8089 2)."""
    if value in ("stderr", "stdout"):
        return value
    if not value.startswith("file:///") or "\0" in value or value.endswith("/"):
        raise BadValue("must be stderr, stdout or file:///path", "use file:///var/log/sidecar.log")
    if any(mark in value for mark in "?#%"):
        raise BadValue("must have a path without ?, # and %")
    return value


def log_file(target: str) -> str | None:
    """The path of the file that a log's target names; None if it names a stream."""
    return target.removeprefix("file://") if target.startswith("file://") else None


def parse_redirect(value: str) -> str:
    """A local path, or an http(s) URL, for `logout.redirect_to`."""
    if value.startswith("/"):
        return parse_local_target(value)
    remedy = "use a local path such as /login, or a URL whose origin is in logout.allowed_origins"
    split = _split(value, remedy)
    target = value[value.index(split.netloc, len(split.scheme) + 3) + len(split.netloc) :]
    if target and not target.startswith(("/", "?", "#")):
        raise BadValue("must be a local path or a URL", remedy)
    return f"{split.scheme}://{_authority(split, default_port=_PORTS[split.scheme])}{target or '/'}"


def parse_cookie_path(value: str) -> str:
    """A Path attribute (RFC 6265 section 4.1.1): absolute, no `;`, no controls."""
    if not re.fullmatch(r"/[ -:<-~]*", value, re.ASCII):
        raise BadValue("must be a path that begins with / and has no ;")
    return value


def parse_same_site(value: str) -> str:
    """A SameSite attribute as it is written."""
    same_site = SAME_SITES.get(value.lower())
    if same_site is None:
        raise BadValue("must be lax, strict or none")
    return same_site


def parse_domain(value: str) -> str:
    """A Domain attribute without its leading dot (RFC 6265 section 5.2.3), lower-cased."""
    domain = value.removeprefix(".").lower()
    if not _HOSTNAME.fullmatch(domain) or re.fullmatch(r"[0-9.]+", domain):
        raise BadValue(
            "must be a cookie domain, without a port", "use a parent domain such as example.com"
        )
    return domain


def parse_token(value: str) -> str:
    """A cookie or field name: an RFC 9110 token."""
    if not _TOKEN.fullmatch(value):
        raise BadValue("must be a valid name", "use only letters, digits and !#$%&'*+-.^_`|~")
    return value


def parse_cookie_name(value: str) -> str:
    """A cookie's name: a token, of which something is left without `__Host-` or `__Secure-`."""
    name = parse_token(value)
    if unprefixed((name,)) == ("",):
        raise BadValue("must have a name behind its prefix", "use __Host-session, for example")
    return name


def parse_field_name(value: str) -> str:
    """The name of a request field that a route may rule on, in lower case.

    Not one that the sidecar writes or takes away, nor one that an upstream may take for it.
    """
    name = parse_token(value).lower()
    if is_own_field(name.encode()):
        raise BadValue(
            "must not be, or read like, a field that only the sidecar writes or removes",
            "remove it",
        )
    return name


def parse_identity_field(value: str) -> str:
    """The name of a field that the sidecar fills with a claim, as it is written.

    Only letters, digits and `-`: of a client, all other spellings of such a name are kept back.
    """
    lower = parse_field_name(value)
    if not re.fullmatch(r"[a-z0-9-]+", lower):
        raise BadValue("must be a field name of letters, digits and -", "use X-User, for example")
    if is_request_field(lower.encode()):
        raise BadValue("must not be a field that says something else", "use X-User, for example")
    return value


def parse_name(value: str) -> str:
    """An upstream's name: short enough and plain enough for logs and metrics."""
    if not _NAME.fullmatch(value):
        raise BadValue("must be a valid name", "use at most 63 letters, digits, -, _ and .")
    return value


def parse_query_name(value: str) -> str:
    """The name of a query parameter that needs no escaping (RFC 3986 section 2.3)."""
    if not _QUERY_NAME.fullmatch(value):
        raise BadValue("must be a parameter name", "use only letters, digits, -, ., _ and ~")
    return value


def parse_member_path(value: object) -> tuple[str, ...]:
    """Where a member stands: `user.accessToken`, or a list where names hold dots of their own."""
    parts = tuple(value.split(".")) if isinstance(value, str) else value
    if isinstance(parts, list):
        parts = tuple(parts)
    if (
        not isinstance(parts, tuple)
        or not parts
        or not all(isinstance(p, str) and p for p in parts)
    ):
        raise BadValue("must be names joined by dots, or a list of names")
    return parts
