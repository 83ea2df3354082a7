"""Ways to break a working tunnel, or never to get one: what is done, and the code that `check` has for it. docs/check.md shows
them, tests/kernel/test_breaking.py does each and mends it as `check` says."""

from __future__ import annotations

from typing import NamedTuple

from tests.kit.machine import EAST, THIRD, WEST

SECOND_EAST = "198.51.100.22"
PROBE_NET = "10.77.0.0/16"


class Breaking(NamedTuple):
    """`commands` are for a shell in the gateway, `@NAME` is a method of the test's gateway. `by_hand`: what is done where the
    mend is a line of the daemon's file, or says what to do: it then has `says` in it. `gone`: nothing of the tunnel is left
    once it is mended."""

    how: str
    code: str
    commands: tuple[str, ...]
    by_hand: tuple[str, ...] = ()
    says: str = ""
    gone: bool = False


def changed(remote: str = EAST, key: int = 5) -> str:
    return f"ip link change vti5 type vti local {WEST} remote {remote} key {key}"


FLUSH = ("ip xfrm state flush", "ip xfrm policy flush")

BREAKINGS = (
    Breaking("the device is deleted", "device-missing", ("ip link del vti5",)),
    Breaking("the device is set down", "device-differs", ("ip link set vti5 down",)),
    Breaking("the device gets another key", "device-differs", (changed(key=6),)),
    Breaking("the device gets another far end", "device-differs", (changed(THIRD),)),
    Breaking("the device gets another MTU", "device-differs", ("ip link set vti5 mtu 1280",)),
    Breaking("the device's alias is taken away", "device-differs", ("ip link set vti5 alias ''",)),
    Breaking("its address is removed", "address-missing", ("ip addr del 10.99.0.1/30 dev vti5",)),
    Breaking("its route is removed", "route-missing", ("ip route del 10.2.0.0/24",)),
    Breaking("its route is given another MTU", "route-differs", ("ip route change 10.2.0.0/24 dev vti5 proto 160 mtu 1200",)),
    Breaking("somebody puts a route in its place", "route-missing", ("ip route replace 10.2.0.0/24 dev eth0",)),
    Breaking("the device does not forward", "sysctl-differs", ("sysctl -qw net.ipv4.conf.vti5.forwarding=0",)),
    Breaking("other policies are asked for the device", "sysctl-differs", ("sysctl -qw net.ipv4.conf.vti5.disable_policy=0",)),
    Breaking("all devices filter by the way back", "sysctl-differs", ("sysctl -qw net.ipv4.conf.all.rp_filter=1",)),
    Breaking(
        "the same, and `rp_filter = keep`",
        "rp-filter-strict",
        ("@keep_rp_filter", "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.vti5.rp_filter=0"),
    ),
    Breaking("the device does not encrypt", "disable-xfrm", ("sysctl -qw net.ipv4.conf.vti5.disable_xfrm=1",)),
    Breaking("this machine does not forward", "forwarding-off", ("@forget_forwarding",)),
    Breaking(
        "the device of the local network does not forward", "forwarding-off", ("sysctl -qw net.ipv4.conf.lan0.forwarding=0",)
    ),
    Breaking("the tunnel's own end is removed from this machine", "address-gone", (f"ip addr del {WEST}/32 dev eth0",)),
    Breaking("charon routes by itself", "charon-route", ("ip route add 10.2.0.0/24 dev eth0 table 220",)),
    Breaking("another tunnel to the same network comes up", "route-waits", ("@second_tunnel",)),
    Breaking(
        "a device of ours is left over",
        "device-left-over",
        (f"ip link add vti8 type vti local {WEST} remote {THIRD} key 8", "ip link set vti8 alias vti-updown"),
    ),
    Breaking("a route of ours is left over", "route-left-over", ("ip route add 10.50.0.0/24 dev lan0 proto 160",)),
    Breaking("SAs and policies are flushed, and no daemon runs", "claim-without-tunnel", FLUSH, gone=True),
    Breaking("the same under a daemon that has the tunnel up", "sa-missing", ("@pluto_runs", "ip xfrm state flush")),
    Breaking("the policies alone are flushed", "policy-missing", ("@pluto_runs", "ip xfrm policy flush")),
    Breaking("marks of incoming packets are others", "keys-differ", ("@other_mark_in",), ("@associate",), "equal marks"),
    Breaking(
        "marks of leaving packets are others", "keys-differ", ("@pluto_runs", "@other_mark_out"), ("@associate",), "equal marks"
    ),
    Breaking("the peer moves, and its daemon does not tell", "ends-moved", ("@peer_moves",)),
    Breaking("policies have an if_id that no interface has", "if-id-without-device", ("@if_id_policy",)),
    Breaking("a device for one peer takes a shared one's packets", "device-shadowed", ("@shadow",)),
    Breaking("the ledger is lost", "tunnel-uncounted", ("@pluto_runs", "rm -r {net}")),
    Breaking("nobody names a device for strongSwan's child", "no-interface", ("@charon_child", "@no_names")),
    Breaking("nobody names a device for libreswan's marks", "no-interface", ("@pluto_marks",)),
    Breaking("the device's name is taken", "device-taken", ("@charon_child", "@named_ipsec7", "ip link add ipsec7 type dummy")),
    Breaking("the hook is not configured", "hook-not-called", ("@pluto_without_hook",), ("@renew x",), "leftupdown="),
    Breaking("pluto says nothing", "daemon-silent", ("@pluto_hangs",), ("@nobody_runs",)),
    Breaking("charon leaves out what it is at work with", "not-looked-at", ("@charon_busy",), ("@nobody_runs",)),
    Breaking("the ledger is overwritten", "ledger-damaged", ("echo nonsense, and not a little of it >{net}/ledger",)),
    Breaking("events got no lock and wait", "events-wait", ("@spooled_event",)),
    Breaking("everybody may write the state directory", "state-writable", ("chmod 777 {state}",)),
    Breaking("the state directory is another user's", "state-writable", ("chown 1234 {state}",)),
    Breaking("everybody may write the ledger", "state-writable", ("chmod 666 {net}/ledger",)),
    Breaking("the file system of the state directory is full", "state-full", ("dd if=/dev/zero of={state}/fill bs=64k || :",)),
    Breaking("it is read-only", "state-read-only", ("mount -o remount,ro {state}",)),
    Breaking("everybody may write the settings", "settings-writable", ("chmod 666 {config}",)),
    Breaking("a group may write the folder of the settings", "settings-writable", ("chgrp 1234 {etc}", "chmod 770 {etc}")),
    Breaking("the settings have a mistake", "settings-mistake", ("echo 'mtuu = 1400' >>{config}",), ("@plain",), "correct "),
    Breaking("the settings are edited under a tunnel", "settings-edited", ("@mtu_1300",)),
    Breaking("they do not fit it any more", "settings-do-not-fit", ("@mark_7",), ("@plain",), "give both the same"),
    Breaking("a made device's section is changed", "made-differs", ("@made", "@made_smaller")),
    Breaking("a made device's section is removed", "made-undescribed", ("@made", "@plain")),
    Breaking(
        "the settings name the kernel's own device",
        "fallback-device",
        ("@names_fallback",),
        ("@unname_fallback",),
        "another name",
    ),
    Breaking("systemd-networkd configures the device", "managed-by-other", ("@networkd_manages",)),
    Breaking("NetworkManager configures the device", "managed-by-other", ("@network_manager_manages",)),
    Breaking("packets find a policy and no SA", "xfrm-stat", ("@no_sa_behind",)),
    Breaking("the peer sends by an SA that is over here", "xfrm-stat", ("@unknown_spi",)),
)
