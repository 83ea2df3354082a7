"""Per-device sysctls: what libreswan's users count on, on devices we made, written only where they differ.

disable_xfrm is never touched: on a VTI it stops all traffic (contracts: peers-and-field 5.6). IPv6 has no rp_filter.
"""

from typing import List, Optional, Tuple

from updown.desired import FOLLOW_ALL, Sysctl
from updown.observed import Observed
from updown.operations import Operation
from updown.settings import BY_KIND, Settings


def wants(settings: Settings, device: str, kind: str) -> Tuple[Sysctl, ...]:
    """disable_policy and forwarding for both families, rp_filter for IPv4; a setting of `keep` wants nothing.

    A VTI checks what comes in against its policy by itself (net/ipv4/ip_vti.c vti_rcv_cb). An XFRM interface leaves that to the
    stack (net/xfrm/xfrm_interface_core.c xfrmi_rcv_cb), so there disable_policy would let a peer send from any address.
    """
    found: List[Sysctl] = []
    policy = settings.disable_policy
    if policy == BY_KIND:
        policy = None if kind == "xfrm" else 1
    for family in ("ipv4", "ipv6"):
        for key, value in (("disable_policy", policy), ("forwarding", settings.forwarding)):
            if value is not None:
                found.append(Sysctl(device, f"net/{family}/conf/{device}/{key}", str(value)))
    if settings.rp_filter != "keep":
        found.append(Sysctl(device, f"net/ipv4/conf/{device}/rp_filter", settings.rp_filter))
    return tuple(found)


def needed(want: Sysctl) -> Tuple[str, ...]:
    """The files to read before `plan` can decide."""
    if want.value == FOLLOW_ALL:
        return (want.path, "net/ipv4/conf/all/rp_filter")
    return (want.path,)


def plan(want: Sysctl, observed: Observed, fresh: bool, claim: str) -> Optional[Operation]:
    """The write that is needed, if any. A family the kernel lacks has no file. `fresh`: the device is not made yet, so its
    values will be those of `default`."""
    present = observed.sysctls.get(default_path(want) if fresh else want.path)
    if present is None:
        return None
    value = want.value
    if value == FOLLOW_ALL:
        # effective is the larger of `all` and the device's: 0 cannot work where `all` is 1, 2 (loose) can
        value = "2" if observed.sysctls.get("net/ipv4/conf/all/rp_filter") == "1" else "0"
        if observed.sysctls.get("net/ipv4/conf/all/rp_filter") == "2" and present in ("0", "2"):
            return None
    if present == value:
        return None
    return Operation("sysctl", want._replace(value=value), want._replace(value=present), f"{claim}: {why(want)}")


def default_path(want: Sysctl) -> str:
    """The file whose value a new device starts with."""
    net, family, conf, _, key = want.path.split("/")
    return "/".join((net, family, conf, "default", key))


def why(want: Sysctl) -> str:
    """One reason for each key."""
    return {
        "disable_policy": "other, unmarked policies must not drop what the tunnel brings",
        "forwarding": "packets pass between the tunnel and the networks behind us",
        "rp_filter": "the way back may differ from the way in",
    }[want.path.rsplit("/", 1)[1]]
