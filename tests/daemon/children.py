"""The connections of the tests' charons: swanctl.conf and ipsec.conf from one end to the other, and our settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.daemon.charon import Charon, Tree
from tests.daemon.connections import EAST, EAST6, WEST, WEST6
from tests.daemon.endpoint import HOOK, WORTHLESS
from tests.daemon.nodes import wait_for

THIRD = "198.51.100.3"
VTI = "[connection *]\ninterface = vti{mark}\nrouting = yes\n"
IPSEC = "[connection *]\ninterface = ipsec{if_id}\nrouting = yes\n"
MARK5 = {"mark_in": "5", "mark_out": "5"}
UNIQUE = {"mark_in": "%unique", "mark_out": "%unique"}
SECRETS: Tree = {"ike-any": {"secret": f'"{WORTHLESS}"'}}
IPSEC_SECRETS = f': PSK "{WORTHLESS}"\n'


class End(NamedTuple):
    name: str
    address: str
    net: str
    """Behind it; of several, blanks and commas between."""
    host: str
    """The node's own address there."""


MOON = End("moon.example", WEST, "10.1.0.0/24", "10.1.0.1")
SUN = End("sun.example", EAST, "10.2.0.0/24", "10.2.0.1")
MOON_6 = End("moon.example", WEST6, "fd00:1::/64", "fd00:1::1")
SUN_6 = End("sun.example", EAST6, "fd00:2::/64", "fd00:2::1")


def child(here: End, there: End, **options: str) -> Tree:
    return {
        "local_ts": here.net,
        "remote_ts": there.net,
        "esp_proposals": "aes128gcm16-ecp256, aes128gcm16",
        "updown": HOOK,
        **options,
    }


def connection(here: End, there: End, children: Tree, **options: str) -> Tree:
    return {
        "version": "2",
        "local_addrs": here.address,
        "remote_addrs": there.address,
        "proposals": "aes128gcm16-prfsha256-ecp256",
        "local": {"auth": "psk", "id": here.name},
        "remote": {"auth": "psk", "id": there.name},
        "children": children,
        **options,
    }


def configuration(connections: Tree, **sections: Tree) -> Tree:
    return {"connections": connections, "secrets": SECRETS, **sections}


def one_child(here: End, there: End, **options: str) -> Tree:
    """The connection t with one child net."""
    return configuration({"t": connection(here, there, {"net": child(here, there, **options)})})


def conn(here: End, there: End, **options: str) -> Mapping[str, str]:
    """The same for ipsec.conf; left is the local end."""
    return {
        "keyexchange": "ikev2",
        "authby": "psk",
        "ike": "aes128gcm16-prfsha256-ecp256!",
        "esp": "aes128gcm16!",
        "left": here.address,
        "leftid": here.name,
        "leftsubnet": here.net,
        "leftupdown": f'"{HOOK}"',
        "right": there.address,
        "rightid": there.name,
        "rightsubnet": there.net,
        "auto": "add",
        **options,
    }


def initiated(node: Charon, name: str = "net", route: str = SUN.net, device: str = "vti5") -> None:
    """The child is up and the hook done at both ends: the responder's is before it answers."""
    node.initiate(name)
    wait_for(lambda: route in node.routed_into(device), f"{node.name}'s route to {route}")
