"""The key `listen`: one address, or a list of addresses, each with TLS of its own if need be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from pydantic import BeforeValidator, Field, WithJsonSchema

from sidecar.core.config.faults import BadValue
from sidecar.core.config.fields import SCALAR, FilePath, ListenAddress, Section, setting
from sidecar.core.config.values import Listen

OldestTls: TypeAlias = Literal["1.2", "1.3"]

_ADDRESS: str = "host:port, :port, [v6]:port or unix:/path"


def _version(value: object) -> object:
    """YAML reads 1.3 as a number."""
    if str(value) not in get_args(OldestTls):
        raise BadValue("unknown version of TLS", 'use "1.2" or "1.3"')
    return str(value)


class Tls(Section):
    """The certificate of a listener, and what its clients must show."""

    cert: FilePath = Field(description="PEM file of the certificate chain.")
    key: FilePath = Field(description="PEM file of the certificate's private key.")
    client_ca: FilePath | None = setting(
        None,
        "PEM file of the authorities by one of which each client's certificate must be issued; "
        "null asks for none.",
    )
    min_version: Annotated[
        OldestTls,
        BeforeValidator(_version),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "enum": ["1.2", "1.3"]},
                    {"type": "number", "enum": [1.2, 1.3]},
                ]
            }
        ),
    ] = setting("1.2", "The oldest version of TLS that is spoken.")


class ListenerSection(Section):
    """One address to serve on."""

    address: ListenAddress = Field(
        description="host:port, [v6]:port or unix:/path; :port is IPv4 and IPv6, and "
        "unix:/path|0660 sets the mode of the socket's file."
    )
    tls: Tls | None = setting(
        None,
        "Certificate of this listener. If it is left out, the top-level `tls` holds, but not for a "
        "Unix socket among several listeners; null serves plain HTTP.",
    )

    proxy_protocol: bool = setting(
        False,
        "Whether each connection begins with a PROXY header (version 1 or 2) of a peer in "
        "trusted_proxies, which names the client.",
    )

    @property
    def is_short(self) -> bool:
        """Whether it is an address and nothing else."""
        return self.model_fields_set == {"address"}

    def __str__(self) -> str:
        return str(self.address)


def _as_list(value: object) -> object:
    """One address stands for a list of one."""
    if isinstance(value, SCALAR):
        return [value]
    if isinstance(value, list | tuple):
        return value
    raise BadValue("must be an address, or a list of listeners", f"use {_ADDRESS}")


def _as_listener(value: object) -> object:
    """An address in short; the address itself is validated with its key."""
    if isinstance(value, SCALAR):
        return {"address": value}
    if isinstance(value, dict | ListenerSection):
        return value
    raise BadValue("must be an address, or a mapping that has one", f"use {_ADDRESS}")


_Item: TypeAlias = Annotated[
    ListenerSection,
    BeforeValidator(_as_listener, json_schema_input_type=ListenAddress | ListenerSection),
]
_Items: TypeAlias = Annotated[list[_Item], Field(min_length=1)]
Listeners: TypeAlias = Annotated[
    tuple[_Item, ...],
    Field(min_length=1),
    BeforeValidator(_as_list, json_schema_input_type=ListenAddress | _Items),
]


class PublicListener(msgspec.Struct, frozen=True):
    """A listener as it holds: the TLS that others leave to the top level is its own here."""

    key: str
    """Of the configuration: `listen`, or `listen[1]` if there are several."""
    address: Listen
    tls: Tls | None
    tls_key: str
    proxy_protocol: bool = False

    @property
    def scheme(self) -> str:
        """What clients speak to it."""
        return "http" if self.tls is None else "https"


def listeners_at(*addresses: Listen) -> tuple[ListenerSection, ...]:
    """Listeners on these addresses, as they are written in short."""
    return tuple(ListenerSection.model_construct({"address"}, address=one) for one in addresses)


def resolved(sections: tuple[ListenerSection, ...], tls: Tls | None) -> tuple[PublicListener, ...]:
    """What each listener amounts to under the top-level `tls`."""
    names = ["listen"] if len(sections) == 1 else [f"listen[{n}]" for n in range(len(sections))]
    is_alone = len(sections) == 1
    return tuple(
        _resolved(key, one, tls, is_alone=is_alone)
        for key, one in zip(names, sections, strict=True)
    )


def _resolved(
    key: str, section: ListenerSection, tls: Tls | None, *, is_alone: bool
) -> PublicListener:
    is_common = takes_common_tls(section.model_fields_set, section.address, is_alone=is_alone)
    own, at = (tls, "tls") if is_common else (section.tls, f"{key}.tls")
    return PublicListener(key, section.address, own, at, section.proxy_protocol)


def takes_common_tls(written: Iterable[Any], address: Listen, *, is_alone: bool) -> bool:
    """Whether the top-level `tls` holds for a listener with these keys, which may be the only one.

    Who reaches a Unix socket is on this machine, so TLS beside others is not meant for it.
    """
    return "tls" not in written and (is_alone or address.unix_path is None)


def addresses(listeners: Iterable[ListenerSection]) -> str:
    """All of them in one line."""
    return ", ".join(map(str, listeners))
