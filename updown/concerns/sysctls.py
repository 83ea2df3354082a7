"""Per-device sysctls: what libreswan's users count on, on devices we made, written only where they differ.

disable_xfrm is never touched: on a VTI it stops all traffic (contracts: peers-and-field 5.6). IPv6 has no rp_filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter

from updown.concerns import addresses
from updown.concerns.device_request import Tunnel
from updown.concerns.mtu import IPV6_LEAST
from updown.model.concern import Concern
from updown.model.objects import Address, netns_of, placed
from updown.model.operations import Operation, Reason
from updown.model.resources import FOLLOW_ALL, Left, Sysctl
from updown.settings.keys import BY_KIND, Settings


def wants(tunnel: Tunnel) -> tuple[Sysctl, ...]:
    """Those of the devices we make, and of any device for its addresses."""
    made = [want.link for want in tunnel.devices if not want.by_daemon]
    each = [want for link in made for want in device_sysctls(tunnel.settings, link.name, link.kind)]
    return (*each, *address_sysctls(addresses.wants(tunnel)))


def device_sysctls(settings: Settings, device: str, kind: str) -> tuple[Sysctl, ...]:
    """disable_policy, forwarding and accept_redirects for both families, rp_filter and send_redirects for IPv4, accept_ra for
    IPv6; a setting of `keep` wants nothing. keep_addr_on_down where the device is set down at times. A VTI checks what comes in
    against its policy by itself (net/ipv4/ip_vti.c vti_rcv_cb). An XFRM interface leaves that to the stack
    (net/xfrm/xfrm_interface_core.c xfrmi_rcv_cb), so there disable_policy would let a peer send from any address."""
    by_kind = None if kind == "xfrm" else 1
    policy = by_kind if settings.disable_policy == BY_KIND else settings.disable_policy
    ignored = settings.accept_ra == FOLLOW_ALL and settings.forwarding != 1
    wanted: tuple[tuple[str, str, object], ...] = (
        ("ipv4", "disable_policy", policy),
        ("ipv4", "forwarding", settings.forwarding),
        ("ipv6", "disable_policy", policy),
        ("ipv6", "forwarding", settings.forwarding),
        ("ipv4", "rp_filter", settings.rp_filter),
        ("ipv4", "send_redirects", settings.send_redirects),
        ("ipv4", "accept_redirects", settings.accept_redirects),
        ("ipv6", "accept_redirects", settings.accept_redirects),
        ("ipv6", "accept_ra", "0" if ignored else settings.accept_ra),
        ("ipv6", "keep_addr_on_down", 1 if settings.link == "follow" else None),
    )
    each = [(conf(family, device, key), value) for family, key, value in wanted if value not in (None, "keep")]
    return tuple(Sysctl(device, path, str(value)) for path, value in each)


def address_sysctls(given: Iterable[Address]) -> tuple[Sysctl, ...]:
    """addr_gen_mode 1 (none) where a link-local address is given, so that the device has that one alone."""
    devices = dict.fromkeys(address.device for address in given if addresses.is_link_local(address))
    return tuple(Sysctl(device, conf("ipv6", device, "addr_gen_mode"), "1") for device in devices)


def conf(family: str, device: str, key: str) -> str:
    """The file of one device's sysctl."""
    return f"net/{family}/conf/{device}/{key}"


def all_of(device: str, key: str = "rp_filter") -> str:
    """The file of `all`'s value where `device` is."""
    return conf("ipv4", placed("all", netns_of(device)), key)


def paths_read(want: Sysctl) -> tuple[str, ...]:
    """The files to read before `diff` can decide."""
    follows = want.value == FOLLOW_ALL and not want.path.endswith("/accept_ra")
    return (want.path, all_of(want.device)) if follows else (want.path,)


def diff(want: Sysctl, by: str, left: Left) -> list[Operation]:
    """The write that is needed, if any. A family the kernel lacks has no file."""
    values = left.things.get("sysctl", {})
    present = values.get(want.path)
    value = want.value
    if present is None:
        return []
    if value == FOLLOW_ALL and want.path.endswith("/accept_ra"):
        if present != "2":  # where it forwards, the kernel heeds 2 alone (include/net/ipv6.h ipv6_accept_ra)
            return []
        value = "0"
    elif value == FOLLOW_ALL:
        # effective is the larger of `all` and the device's: 0 cannot work where `all` is 1, 2 (loose) can
        everywhere = values.get(all_of(want.device))
        value = "2" if everywhere == "1" else "0"
        if everywhere == "2" and present in ("0", "2"):
            return []
    if present == value:
        return []
    reason = Reason(want.path.rpartition("/")[2], by)
    return [Operation("sysctl", want._replace(value=value), want._replace(value=present), reason)]


def default_path(want: Sysctl) -> str:
    """The file whose value a new device starts with."""
    _, family, _, _, key = want.path.split("/")
    return conf(family, placed("default", netns_of(want.device)), key)


def initial_value(path: str, device: str, values: Mapping[str, str | None], mtu: int) -> str | None:
    """What a device's sysctl is once the device is made with this MTU: IPv6 has none with less than 1280 bytes."""
    no_ipv6 = 0 < mtu < IPV6_LEAST and path.startswith("net/ipv6/")
    return None if no_ipv6 else values.get(default_path(Sysctl(device, path, "")))


def command(operation: Operation) -> str:
    """`sysctl -w`."""
    want: Sysctl = operation.subject
    return f"{write_command(want.device, want.path)}={want.value}"


def write_command(device: str, path: str) -> str:
    """The command that writes a device's sysctl, up to the value."""
    netns = netns_of(device)
    return f"ip netns exec {netns} sysctl -w {path.replace(f'@{netns}', '', 1)}" if netns else f"sysctl -w {path}"


def told(operation: Operation) -> str:
    """For `check`."""
    want, had = operation.subject, operation.before
    return f"{want.device}: {want.path} is {had.value if had else ''}, wanted {want.value}"


CONCERN = Concern("sysctl", Sysctl, attrgetter("path"), wants, diff=diff, command=command, told=told)
