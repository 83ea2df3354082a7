"""strongSwan: variables -> context, for 5.9.8 and 6, which send the same.

Sources: src/libcharon/plugins/updown/updown_listener.c, and recordings of a live charon (tests/recordings). The quirks undone
here are listed in docs/strongswan.md."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import partial

from updown.daemons.table import NEEDED, OPTIONAL, STRICT, Row, context_of, drop_the_peers, read_table
from updown.model import values
from updown.model.context import Context, Selector, Verb, parse_verb
from updown.model.errors import Notice, Refused
from updown.model.objects import family
from updown.model.record import Any


def verb(value: str) -> Verb:
    """up or down, -host or -client, -v6 or not; raises Refused for any other."""
    found = parse_verb(value)
    if found.steps not in (("up",), ("down",)) or not found.scope:
        raise Refused(f"PLUTO_VERB: strongSwan has no verb {value!r}", "it sends up and down, -host and -client")
    return found


def protection(value: str) -> str:
    """esp or ah, in the capitals that libreswan gives."""
    return values.choice("esp", "ah")(value).upper()


TABLE: tuple[Row, ...] = (
    Row("PLUTO_VERB", "verb", verb, NEEDED),
    Row("PLUTO_CONNECTION", "connection", str, NEEDED),
    Row("PLUTO_UNIQUEID", "unique_id", values.number, NEEDED),
    Row("PLUTO_ME", "me", values.address, NEEDED),
    Row("PLUTO_PEER", "peer", values.address, NEEDED),
    Row("PLUTO_MY_CLIENT", "my_network", values.network, NEEDED),
    Row("PLUTO_MY_PROTOCOL", "my_protocol", values.protocol, STRICT),
    Row("PLUTO_MY_PORT", "my_port", values.port, STRICT),
    Row("PLUTO_PEER_CLIENT", "peer_network", values.network, NEEDED),
    Row("PLUTO_PEER_PROTOCOL", "peer_protocol", values.protocol, STRICT),
    Row("PLUTO_PEER_PORT", "peer_port", values.port, STRICT),
    Row("PLUTO_MARK_IN", "mark_in", values.mark, STRICT),
    Row("PLUTO_MARK_OUT", "mark_out", values.mark, STRICT),
    Row("PLUTO_IF_ID_IN", "if_id_in", values.number, STRICT),
    Row("PLUTO_IF_ID_OUT", "if_id_out", values.number, STRICT),
    Row("PLUTO_INTERFACE", "underlay", values.daemon_device, OPTIONAL),
    Row("PLUTO_REQID", "reqid", values.number, OPTIONAL),
    Row("PLUTO_PROTO", "sa_type", protection, OPTIONAL),
    Row("PLUTO_UDP_ENC", "encapsulation_port", partial(values.number, most=65535), OPTIONAL),
    Row("PLUTO_IPCOMP", "compressed", values.flag, OPTIONAL),
    Row("PLUTO_HOST_ACCESS", "host_access", values.flag, OPTIONAL),
    Row("PLUTO_MY_SOURCEIP", "first_source", values.host_address, OPTIONAL),
    Row("PLUTO_PEER_SOURCEIP", "first_peer_source", values.address, OPTIONAL),
    Row("PLUTO_MY_ID", "my_id", str, OPTIONAL),
    Row("PLUTO_PEER_ID", "peer_id", str, OPTIONAL),
    Row("PLUTO_XAUTH_ID", "username", str, OPTIONAL),
    Row("PLUTO_VERSION", "version", str, OPTIONAL),
)

SERIES = {
    "PLUTO_MY_SOURCEIP4_": "virtual_addresses",
    "PLUTO_MY_SOURCEIP6_": "virtual_addresses",
    "PLUTO_PEER_SOURCEIP4_": "peer_virtual_addresses",
    "PLUTO_PEER_SOURCEIP6_": "peer_virtual_addresses",
    "PLUTO_DNS4_": "dns_servers",
    "PLUTO_DNS6_": "dns_servers",
}
"""Numbered variables, PREFIX1, PREFIX2, ..., whose addresses a field collects in the order of their numbers."""


def read(environ: Mapping[str, str]) -> Context:
    """The context of a strongSwan call; raises Refused with the name of the variable that is missing or bad."""
    fields, warnings = read_table(TABLE, environ)
    drop_the_peers(fields, warnings, {"PLUTO_MY_SOURCEIP": "first_source"})
    collected: dict[str, tuple[str, ...]] = dict.fromkeys(SERIES.values(), ())
    for prefix, field in SERIES.items():
        found, more = read_series(prefix, environ, fields["peer"])
        collected[field] += found
        warnings += more
    for field, first in (("virtual_addresses", "first_source"), ("peer_virtual_addresses", "first_peer_source")):
        alone = (fields[first],) if first in fields else ()
        collected[field] = tuple(dict.fromkeys(collected[field] or alone))
    my_client = Selector(fields["my_network"], fields.get("my_protocol", 0), fields.get("my_port", "0"))
    peer_client = Selector(fields["peer_network"], fields.get("peer_protocol", 0), fields.get("peer_port", "0"))
    derived: dict[str, Any] = {
        **collected,
        "dns_servers": tuple(dict.fromkeys(collected["dns_servers"])),  # a server may be told twice
        "daemon": "strongswan",
        "generation": 0,
        "warnings": tuple(warnings),
        "my_client": my_client,
        "peer_client": peer_client,
        "child": True,  # there is no call without one: traps are never told of
        "way_unknown": "underlay" in fields and fields["underlay"] is None,
        "source_address": source_of(my_client, collected["virtual_addresses"]),
    }
    return context_of(fields, derived)


def read_series(prefix: str, environ: Mapping[str, str], peer: str) -> tuple[tuple[str, ...], list[Notice]]:
    """The addresses of one series in the order of their numbers, and warnings. Of ours none is the peer's outer one."""
    ends = {name: name[len(prefix) :] for name in environ if name.startswith(prefix)}
    names = [name for name, end in ends.items() if end.isascii() and end.isdigit() and len(end) < 4]
    names.sort(key=lambda name: int(ends[name]))
    ours = SERIES[prefix] == "virtual_addresses"
    read = values.host_address if ours else values.address
    fields, warnings = read_table(tuple(Row(name, name, read, OPTIONAL) for name in names), environ)
    if ours:
        fields["peer"] = peer
        drop_the_peers(fields, warnings, dict(zip(names, names)))
    return tuple(fields[name] for name in names if name in fields), warnings


def source_of(mine: Selector, assigned: tuple[str, ...]) -> str | None:
    """The assigned address that this pair of selectors sends from: one in our selector, else the first of its family. The one
    without a number is the first of any family, so it may not fit."""
    networks = [ipaddress.ip_network(prefix) for prefix in mine.network.prefixes]
    fit = [address for address in assigned if family(address) == mine.family]
    inside = [address for address in fit if any(ipaddress.ip_address(address) in network for network in networks)]
    return next(iter(inside + fit), None)
