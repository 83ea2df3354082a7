"""Readers of the settings that describe a device by itself: its ends, keys and probe.

Each function is one accepted form; anything else is a ValueError that says what was expected.
"""

from __future__ import annotations

import ipaddress

from updown.model import values

ANY = "any"


def local(value: str) -> str:
    """Our own end of a VTI; no `any`: with both ends any it would be the kernel's fallback device."""
    found = values.address(value)
    if ipaddress.ip_address(found).is_unspecified:
        raise ValueError("an address of this machine is expected; a VTI with local any is the kernel's own")
    return found


def remote(value: str) -> str:
    """The peer's end of a VTI, or any."""
    if value == ANY:
        return ANY
    found = values.address(value)
    return ANY if ipaddress.ip_address(found).is_unspecified else found


def key(value: str) -> int:
    """A mark as 5, 0x5 or 5/0xffffffff; the mask is dropped. 0 is none, so it is no key."""
    head, slash, mask = value.partition("/")
    if slash and not values.is_hex(mask[2:] if mask[:2] in ("0x", "0X") else mask):
        raise ValueError("a mark such as 5, 0x5 or 5/0xffffffff is expected")
    return positive(head, "a mark of 1 to 4294967295, such as 5, 0x5 or 5/0xffffffff, is expected")


def if_id(value: str) -> int:
    """An XFRM interface's id, as 42 or 0x2a."""
    return positive(value, "an if_id of 1 to 4294967295, such as 42 or 0x2a, is expected")


def positive(value: str, expected: str) -> int:
    """A number of 1 to 4294967295, decimal or hexadecimal."""
    digits = value[2:] if value[:2] in ("0x", "0X") else ""
    try:
        found = int(digits, 16) if values.is_hex(digits) else values.number(value)
    except ValueError:
        raise ValueError(expected) from None
    if not found:
        raise ValueError(expected)
    return found


def probe(value: str) -> str:
    """The far address that is pinged through the device; `no` is none."""
    if value == "no":
        return ""
    found = values.address(value)
    far = ipaddress.ip_address(found)
    if far.is_unspecified or far.is_loopback or far.is_multicast:
        raise ValueError("the address of the far end inside the tunnel is expected; `no` is for none")
    return found
