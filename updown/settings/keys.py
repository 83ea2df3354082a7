"""The keys of the settings: what each may say, what it is where nothing is said. docs/settings.md is this table for people."""

from __future__ import annotations

from collections.abc import Callable

from updown.model import values
from updown.model.objects import MAIN_TABLE
from updown.model.record import Any, NamedTuple
from updown.settings import parsers
from updown.settings.parsers import StaticRoute, StaticRule

BY_KIND = -1
"""disable_policy where nothing is said: 1 on a VTI, left alone on an XFRM interface (concerns/sysctls.py)."""

LOCK_WAIT = 5.0
"""Seconds that an event waits for the lock; strongSwan's starter kills charon after 8 (src/starter/invokecharon.c)."""


class Settings(NamedTuple):
    """What holds for one connection and device. None: not said, so the daemon's word or the documented default counts."""

    interface: str | None = None  # a device name or a template with {mark}, {if_id}, {connection}, ...
    kind: str | None = None  # vti or xfrm; None: marks make a VTI, if_ids an XFRM interface
    external: bool = False  # one XFRM interface for all if_ids
    parent: str = ""  # the device below an XFRM interface, or auto; empty: none
    shared: bool = False
    template: bool | None = None  # None: what the daemon says of the connection
    routing: bool = False
    delete: str = "rule"  # rule, last, never
    address: tuple[str, ...] = ()
    mtu: int = 0  # bytes; 0: the daemon's mtu=, else the kernel's choice; AUTO
    mss: str = "no"  # no, clamp, or bytes
    table: int = MAIN_TABLE
    metric: int = 0  # 0: the daemon's metric, else the kernel's default
    multipath: bool = False
    route: tuple[StaticRoute, ...] = ()  # beside those for the remote selector
    rule: tuple[StaticRule, ...] = ()  # that lead to `table`
    source: tuple[str, ...] | None = None  # what the routes prefer, one of a family; None: one within the selector; (): none
    vrf: str = ""  # a VRF device, which is there beforehand
    netns: str = ""  # a network namespace, likewise
    disable_policy: int | None = BY_KIND  # None: leave alone
    forwarding: int | None = 1
    rp_filter: str = "auto"  # auto, 0, 1, 2, keep
    accept_ra: str = "auto"  # likewise
    send_redirects: int | None = 0
    accept_redirects: int | None = 0
    local: str = ""  # a VTI's own end, whatever the connection says
    remote: str = ""  # an address, or any
    mark: int = 0  # both of the next two
    mark_in: int = 0
    mark_out: int = 0
    if_id: int = 0
    link: str = "keep"  # keep, or follow: down while no tunnel is up
    multicast: bool | None = None  # None: leave alone
    probe: str = ""  # the far address that `vti-updown probe` pings
    lock_wait: float = LOCK_WAIT  # seconds, 0 to 60; of all connections at once


NUMBERS = ("mark", "mark_out", "mark_in", "if_id", "if_id_out", "if_id_in")
PLACEHOLDERS = (*NUMBERS, *(f"{name}:x" for name in NUMBERS), "connection")
"""What may stand in braces; `:x` is a number in hexadecimal."""


def interface(value: str) -> str:
    """A device name, or a template whose placeholders are in braces."""
    bare = sample(value, "0")
    parsers.tunnel_name(value) if bare == value else values.device_name(bare)
    return value


def sample(template: str, instead: str) -> str:
    """A template with something in place of each placeholder."""
    bare = template
    for placeholder in PLACEHOLDERS:
        bare = bare.replace("{" + placeholder + "}", instead)
    if "{" in bare or "}" in bare:
        names = "{" + "}, {".join((*NUMBERS, "connection")) + "}"
        raise ValueError(f"placeholders are {names}, and {{mark:x}} and the like in hexadecimal")
    return bare


def templated(read: Callable[[str], Any], as_template: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """What `read` takes; or a template of it, which is read once its placeholders have values."""

    def reading(value: str) -> Any:
        bare = sample(value, "1")
        found = read(bare)
        return found if bare == value else as_template(value)

    return reading


KEYS: dict[str, Callable[[str], Any]] = {
    "interface": interface,
    "kind": values.choice("vti", "xfrm"),
    "external": values.yes_no,
    "parent": parsers.or_auto("auto", values.device_name),
    "shared": values.yes_no,
    "template": parsers.or_auto(None, values.yes_no),  # auto: what the daemon says
    "routing": values.yes_no,
    "delete": values.choice("rule", "last", "never"),
    "address": templated(parsers.addresses, lambda value: (value,)),
    "mtu": parsers.or_auto(values.AUTO, values.mtu),
    "mss": parsers.mss,
    "table": parsers.table,
    "metric": values.number,
    "multipath": values.yes_no,
    "route": parsers.routes,
    "rule": parsers.rules,
    "source": parsers.sources,
    "vrf": templated(values.device_name),
    "netns": templated(parsers.namespace),
    "disable_policy": parsers.or_auto(BY_KIND, parsers.switch),
    "forwarding": parsers.switch,
    "rp_filter": values.choice("auto", "0", "1", "2", "keep"),
    "accept_ra": values.choice("auto", "0", "1", "2", "keep"),
    "send_redirects": parsers.switch,
    "accept_redirects": parsers.switch,
    "local": parsers.local,
    "remote": parsers.remote,
    "mark": parsers.key,
    "mark_in": parsers.key,
    "mark_out": parsers.key,
    "if_id": parsers.if_id,
    "link": values.choice("keep", "follow"),
    "multicast": parsers.on_off,
    "probe": parsers.probe,
    "lock_wait": parsers.seconds,
}

ALIASES = {"mark": ("mark", "mark_in", "mark_out")}
"""Fields that a key says besides its own name's."""

TEMPLATES: dict[str, Callable[[str], Any]] = {
    "address": parsers.addresses,
    "vrf": values.device_name,
    "netns": parsers.namespace,
}
"""Keys beside `interface` that may have placeholders, and how they are read once these have values."""

LISTS = ("address", "route", "rule")
"""Keys whose values may go on in indented lines below."""

DEFAULTS_ONLY = ("lock_wait",)
"""Keys of [defaults] alone: what they say is needed before the connection's own lines count."""
