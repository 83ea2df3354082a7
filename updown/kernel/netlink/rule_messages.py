"""rtnetlink requests and answers: policy rules as the bytes of their messages. No I/O.

Layouts and numbers: include/uapi/linux/fib_rules.h. What is raised: see link_messages.py."""

from __future__ import annotations

import struct

from updown.kernel.netlink import wire
from updown.kernel.netlink.link_messages import CHANGE, family_number
from updown.kernel.netlink.route_messages import table_number
from updown.kernel.netlink.wire import Request
from updown.model.objects import Rule

NEW_RULE, DELETE_RULE, GET_RULE = 32, 33, 34

_RULE = struct.Struct("=BBBBBBBBI")  # family, two lengths, TOS, table, two reserved, action, flags
_DST, _SRC, _IIFNAME, _PRIORITY, _FWMARK, _TABLE, _FWMASK, _PROTOCOL = 1, 2, 3, 6, 10, 15, 16, 21
_OIFNAME, _TUN_ID, _SUPPRESS, _L3MDEV, _UID_RANGE, _IP_PROTO, _SPORT, _DPORT = 17, 12, 14, 19, 20, 22, 23, 24
_OTHER_CONDITIONS = (_TUN_ID, _OIFNAME, _UID_RANGE, _DPORT)
_UDP = b"\x11"
_PORTS = struct.Struct("=HH")  # struct fib_rule_port_range: first, last
_TO_TABLE, _INVERT = 1, 2  # FR_ACT_TO_TBL, FIB_RULE_INVERT
_NOTHING = 0xFFFFFFFF  # suppresses no route


def rule_add(rule: Rule) -> Request:
    """A rule to look into a table; EEXIST if its like is there (Linux 4.16; before, a second one)."""
    return Request(NEW_RULE, CHANGE | wire.CREATE | wire.EXCLUSIVE, _rule(rule))


def rule_delete(rule: Rule) -> Request:
    """Removal of the rule that has all of this."""
    return Request(DELETE_RULE, CHANGE, _rule(rule))


def rules_get(family: int) -> Request:
    """A dump of family 4 or 6."""
    return Request(GET_RULE, wire.REQUEST | wire.DUMP, _RULE.pack(family_number(family), 0, 0, 0, 0, 0, 0, 0, 0))


def _rule(rule: Rule) -> bytes:
    packed, length = wire.split_prefix(rule.source) if rule.source else (b"", 0)
    to, width = wire.split_prefix(rule.destination) if rule.destination else (b"", 0)
    flags = _INVERT if rule.inverted else 0
    payload = _RULE.pack(family_number(rule.family), width, length, 0, table_number(rule.table), 0, 0, _TO_TABLE, flags)
    payload += wire.attribute(_SRC, packed) if length else b""
    payload += wire.attribute(_DST, to) if width else b""
    payload += wire.attribute_text(_IIFNAME, rule.iif) if rule.iif else b""
    payload += wire.attribute_u32(_PRIORITY, rule.priority) + wire.attribute_u32(_TABLE, rule.table)
    if rule.fwmask:
        payload += wire.attribute_u32(_FWMARK, rule.fwmark) + wire.attribute_u32(_FWMASK, rule.fwmask)
    if rule.source_port:
        ports = _PORTS.pack(rule.source_port, rule.source_port)
        payload += wire.attribute(_IP_PROTO, _UDP) + wire.attribute(_SPORT, ports)
    return payload + wire.attribute(_PROTOCOL, bytes((rule.protocol,)))


def decode_rule(payload: bytes) -> Rule | None:
    """The rule of an RTM_NEWRULE message; None for one that does, or asks, something else than ours may."""
    if len(payload) < _RULE.size:
        raise wire.malformed("rule")
    family, width, length, tos, table, _, _, action, flags = _RULE.unpack_from(payload)
    found = wire.attributes(payload, _RULE.size)
    if action != _TO_TABLE or tos or any(kind in found for kind in _OTHER_CONDITIONS):
        return None
    if found.get(_L3MDEV, b"\0") != b"\0" or (_SUPPRESS in found and wire.u32(found, _SUPPRESS) != _NOTHING):
        return None
    port, last = _PORTS.unpack(found.get(_SPORT, bytes(_PORTS.size))[: _PORTS.size])
    if (_IP_PROTO in found or _SPORT in found) and not (found.get(_IP_PROTO, b"")[:1] == _UDP and port == last != 0):
        return None
    source, to = wire.address(found, _SRC), wire.address(found, _DST)
    return Rule(
        family=6 if family == family_number(6) else 4,
        device="",
        table=wire.u32(found, _TABLE) or table,
        priority=wire.u32(found, _PRIORITY),
        source=f"{source}/{length}" if source and length else "",
        iif=wire.text(found, _IIFNAME),
        fwmark=wire.u32(found, _FWMARK),
        fwmask=wire.u32(found, _FWMASK),
        protocol=found.get(_PROTOCOL, b"\0")[0],
        destination=f"{to}/{width}" if to and width else "",
        inverted=bool(flags & _INVERT),
        source_port=port,
    )
